package install

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/command"
	"bluegreen/internal/gittest"
	"bluegreen/internal/install/authorized"
	"bluegreen/internal/install/host"
)

// Where a first installation puts things.
const (
	home = "/home/deploy"
	repo = home + "/sample_app"
	toml = repo + "/bluegreen.toml"
	keys = home + "/.ssh/authorized_keys"
)

// accountID is the account's, where root plays the tests. An ordinary user
// plays root and the account both.
const accountID = 54321

// A server is a system in a throw-away root. Its git and visudo are this
// machine's; of apt-get and useradd it has what an installation can tell of
// them. It starts with root alone, and no web server.
type server struct {
	testing.TB
	root     string
	programs string   // the four that are to be installed
	ran      []string // commands, as they were asked for
	// instead gives what is run in a command's place, nil for the command; may
	// be nil.
	instead func(argv []string) []string
}

func newServer(t testing.TB) *server {
	t.Helper()
	dir := gittest.Dir(t)
	// The account must get through to its home.
	must(t, os.Chmod(filepath.Dir(dir), 0o711))
	must(t, os.Chmod(dir, 0o711))
	programs, err := filepath.Abs("testdata/first")
	must(t, err)
	s := &server{TB: t, root: filepath.Join(dir, "root"), programs: programs}
	for _, dir := range []string{"/", "/etc", "/home", "/root", "/usr", "/usr/bin", "/usr/sbin", "/usr/local", "/usr/local/bin", "/var"} {
		s.mkdir(dir, 0o755)
	}
	must(t, os.Symlink("usr/bin", s.path("/bin")))
	s.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	s.write("/usr/bin/apt-get", aptGet, 0o755)
	s.write("/usr/sbin/useradd", userAdd, 0o755)
	s.write("/usr/sbin/sshd", "", 0o755)
	return s
}

// aptGet installs packages: an empty file for each of their programs.
const aptGet = `
case $* in *update) exit 0 ;; esac
for package; do
	case $package in
	git) programs="/usr/bin/git" ;;
	sudo) programs="/usr/bin/sudo /usr/sbin/visudo" ;;
	apache2 | nginx) programs="/usr/sbin/$package" && mkdir -p "$ROOT/var/www/html" ;;
	*) continue ;;
	esac
	for program in $programs; do : >"$ROOT$program" && chmod 755 "$ROOT$program"; done
done
`

const userAdd = `
for name; do :; done
echo "$name:x:$ACCOUNT::/home/$name:/bin/sh" >>"$ROOT/etc/passwd"
echo "$name:*:::::::" >>"$ROOT/etc/shadow"
mkdir -p "$ROOT/home/$name" && chmod 755 "$ROOT/home/$name" && chown "$ACCOUNT" "$ROOT/home/$name"
`

// account is the one that pushes come in as.
func account() host.Account {
	a := host.Account{Name: "deploy", UID: accountID, GID: accountID, Home: home}
	if os.Geteuid() != 0 {
		a.UID, a.GID = os.Geteuid(), os.Getegid()
	}
	return a
}

// enter runs the server's programs as it is seen from outside.
func (s *server) enter(as *host.Account, argv []string) []string {
	s.ran = append(s.ran, command.Line(argv))
	if s.instead != nil {
		if other := s.instead(argv); other != nil {
			return other
		}
	}
	a := account()
	inside := []string{"env", "ROOT=" + s.root, fmt.Sprintf("ACCOUNT=%d:%d", a.UID, a.GID)}
	if as != nil {
		inside = append(inside, "HOME="+s.path(as.Home), "GIT_CONFIG_SYSTEM="+s.path("/etc/gitconfig"))
		if os.Geteuid() == 0 {
			inside = slices.Concat([]string{"chroot", fmt.Sprintf("--userspec=%d:%d", as.UID, as.GID), fmt.Sprintf("--groups=%d", as.GID), "/"}, inside)
		}
	}
	path := (&host.Host{Root: s.root}).Program(argv[0])
	switch {
	case path == "":
		return []string{s.path("/there/is/no/" + argv[0])}
	case argv[0] != "git" && argv[0] != "visudo":
		return slices.Concat(inside, []string{"sh", "-eu", s.path(path)}, argv[1:])
	}
	for _, arg := range argv {
		arg = strings.Replace(arg, "--git-dir=/", "--git-dir="+s.root+"/", 1)
		if strings.HasPrefix(arg, "/") {
			arg = s.root + arg
		}
		inside = append(inside, arg)
	}
	return inside
}

// options are those that most tests want: one key, and programs.
func (s *server) options() Options {
	return Options{Root: s.root, HostName: "blue", Programs: s.programs, Version: "the first", Keys: []string{s.key("ann")}}
}

func (s *server) prepare(o Options) *Installation {
	s.Helper()
	i, err := New(o)
	if err != nil {
		s.Fatal(err)
	}
	i.host.Enter = s.enter
	return i
}

// install installs, and returns the lines of what was done.
func (s *server) install(o Options) []string {
	s.Helper()
	i := s.prepare(o)
	return s.do(&i.Work)
}

func (s *server) do(w *Work) []string {
	s.Helper()
	lines, err := try(w)
	if err != nil {
		s.Fatal(err)
	}
	return lines
}

func try(w *Work) ([]string, error) {
	var lines []string
	n, err := w.Do(context.Background(), func(step Step, change Change) {
		lines = append(lines, step.Name+": "+change.What)
	})
	if n != len(lines) {
		err = fmt.Errorf("%d changes were made, and %d are told of: %w", n, len(lines), err)
	}
	return lines, err
}

// plan returns the lines of what would be done.
func (s *server) plan(w *Work) []string {
	s.Helper()
	steps, err := w.Plan(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	var lines []string
	for _, step := range steps {
		for _, change := range step.Changes {
			lines = append(lines, step.Name+": "+change.What)
		}
	}
	return lines
}

func (s *server) removal(repo string) *Removal {
	s.Helper()
	r, err := Uninstall(s.root, repo)
	if err != nil {
		s.Fatal(err)
	}
	r.host.Enter = s.enter
	return r
}

func (s *server) uninstall() []string {
	s.Helper()
	return s.do(&s.removal(repo).Work)
}

// path is where a path of the server's is.
func (s *server) path(path string) string { return filepath.Join(s.root, path) }

func (s *server) read(path string) string {
	s.Helper()
	text, err := os.ReadFile(s.path(path))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// write makes a file of root's.
func (s *server) write(path, text string, perm fs.FileMode) {
	s.Helper()
	must(s, os.WriteFile(s.path(path), []byte(text), perm))
	must(s, os.Chmod(s.path(path), perm))
}

// mkdir makes a directory of root's, and those above it.
func (s *server) mkdir(path string, perm fs.FileMode) {
	s.Helper()
	if above := filepath.Dir(path); path != "/" {
		if _, err := os.Stat(s.path(above)); err != nil {
			s.mkdir(above, 0o755)
		}
	}
	if err := os.Mkdir(s.path(path), perm); !errors.Is(err, fs.ErrExist) {
		must(s, err)
	}
	must(s, os.Chmod(s.path(path), perm))
}

// give makes the account own all at a path.
func (s *server) give(path string) {
	s.Helper()
	a := account()
	must(s, filepath.WalkDir(s.path(path), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.UID, a.GID)
	}))
}

// git runs git as the account, as an operator would.
func (s *server) git(args ...string) string {
	s.Helper()
	a := account()
	argv := s.enter(&a, append([]string{"git"}, args...))
	s.ran = s.ran[:len(s.ran)-1]
	c := exec.Command(argv[0], argv[1:]...)
	c.Dir = "/"
	c.Env = gittest.Environ()
	out, err := c.Output()
	if err != nil {
		s.Fatalf("git %q: %v", args, err)
	}
	return string(out)
}

// A snapshot tells what there is at each path: type, permissions, owner,
// content or target.
func (s *server) snapshot() gittest.Snapshot {
	s.Helper()
	snap := gittest.Snap(s, s.root, false)
	for path, what := range snap {
		st, err := os.Lstat(s.path(path))
		must(s, err)
		if path == LogPath[1:] {
			what, _, _ = strings.Cut(what, " ") // it has the time in it
			what += fmt.Sprintf(" %04o", st.Mode().Perm())
		}
		uid, gid := ids(st)
		snap[path] = fmt.Sprintf("%s of %d:%d", what, uid, gid)
	}
	return snap
}

// key makes the file of a public key.
func (s *server) key(name string) string {
	file := filepath.Join(filepath.Dir(s.root), name+".pub")
	must(s, os.WriteFile(file, []byte(publicKey(name)+" "+name+"@laptop\n"), 0o644))
	return file
}

// publicKey makes a key that is always the same for a name.
func publicKey(name string) string {
	seed := append([]byte(name), make([]byte, ed25519.SeedSize)...)[:ed25519.SeedSize]
	var blob []byte
	for _, part := range [][]byte{[]byte("ssh-ed25519"), ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)} {
		blob = append(binary.BigEndian.AppendUint32(blob, uint32(len(part))), part...)
	}
	return "ssh-ed25519 " + base64.StdEncoding.EncodeToString(blob)
}

// keyLine is the line that binds a key to pushes to repo.
func keyLine(t testing.TB, name, repo string) string {
	t.Helper()
	found, err := authorized.ParsePublic(publicKey(name) + " " + name + "@laptop")
	must(t, err)
	return found[0].Line(repo)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// same fails where got is not want.
func same(t testing.TB, what string, want, got gittest.Snapshot) {
	t.Helper()
	if diff := want.Diff(got); diff != "" {
		t.Errorf("%s:\n%s", what, diff)
	}
}

// furnish makes a bare server one with packages, the account, a web root and
// an empty repository.
func (s *server) furnish() *server {
	s.Helper()
	for _, program := range []string{"/usr/bin/git", "/usr/bin/sudo", "/usr/sbin/visudo", "/usr/sbin/apache2"} {
		s.write(program, "", 0o755)
	}
	a := account()
	s.write("/etc/passwd", s.read("/etc/passwd")+fmt.Sprintf("deploy:x:%d:%d::%s:/bin/sh\n", a.UID, a.GID, home), 0o644)
	s.mkdir(home, 0o755)
	s.mkdir("/var/www/html", 0o755)
	s.give(home)
	s.give("/var/www/html")
	s.git("init", "--quiet", "--bare", "--initial-branch=master", repo)
	return s
}

// hook is the tutorial's.
const hook = `#!/bin/bash
while read oldrev newrev ref
do
    if [[ $ref =~ .*/master$ ]]; then
        git --work-tree=/var/www/html --git-dir=/home/deploy/sample_app checkout -f
    fi
done
`

// tutorial makes the server one that was set up by the tutorial, and used.
func (s *server) tutorial() *server {
	s.Helper()
	s.furnish()
	s.write(repo+"/hooks/post-receive", hook, 0o775)
	s.write(repo+"/hooks/update", "#!/bin/sh\nexit 0\n", 0o755)
	commit := s.git("--git-dir="+repo, "commit-tree", "-m", "first", strings.TrimSpace(s.git("--git-dir="+repo, "mktree", "--missing")))
	s.git("--git-dir="+repo, "update-ref", "refs/heads/master", strings.TrimSpace(commit))
	s.write(repo+"/index", "DIRC, as git has left it", 0o664)
	for _, setting := range [][]string{
		{"core.fsync", "committed"}, {"receive.fsckObjects", "false"}, {"receive.denyDeletes", "true"},
		{"core.hooksPath", "hooks"},
	} {
		s.git("config", "--file", repo+"/config", setting[0], setting[1])
	}
	s.write("/var/www/html/index.html", "<h1>App</h1>\n", 0o664)
	s.mkdir("/var/www/html/uploads", 0o775)
	s.write("/var/www/html/uploads/cat.jpg", "untracked", 0o600)
	s.mkdir(home+"/.ssh", 0o700)
	s.write(keys, "# developers\n"+publicKey("ann")+" ann\n"+publicKey("bob")+" bob\n", 0o600)
	for _, path := range []string{repo, "/var/www/html", home} {
		s.give(path)
	}
	return s
}

// rootID and accountIDs are owners as snapshots have them.
func rootID() string {
	root := host.Superuser()
	return fmt.Sprintf("%d:%d", root.UID, root.GID)
}

func accountIDs() string {
	a := account()
	return fmt.Sprintf("%d:%d", a.UID, a.GID)
}

func ids(st fs.FileInfo) (uid, gid int) {
	owner := st.Sys().(*syscall.Stat_t)
	return int(owner.Uid), int(owner.Gid)
}
