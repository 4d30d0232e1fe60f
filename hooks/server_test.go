package hooks_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// patience is how long a test waits for what must happen. It is not a bound on
// speed: a busy machine takes its time.
const patience = 60 * time.Second

var allHooks = []string{"pre-receive", "proc-receive", "post-receive"}

// A server is a bare repository with hooks, its web root, and a developer's
// repository with the remote "srv".
type server struct {
	testing.TB
	dir, git, www, dev string
	name               string // the environment's; "" is "blue"
	env                []string
	bin                string    // where the programs are; "" for those that the test binary plays
	sites              *sync.Map // what git writes for a commit: a listing
}

// played stands for the programs that the test binary plays, with the race
// detector if it has that. They take several times as long.
const played = "played"

// newServer makes a server with the hooks. config goes after the lines that
// say where the web root is. With "" for bin the programs are built, once.
func newServer(t testing.TB, bin, config string, hooks ...string) *server {
	t.Helper()
	return newServerOn(t, "", bin, config, hooks...)
}

// newServerOn is newServer with the repository and the web root in a directory
// that is there, disk, unless that is "". All else is beside it.
func newServerOn(t testing.TB, disk, bin, config string, hooks ...string) *server {
	t.Helper()
	switch bin {
	case "":
		bin = buildWithFaults(t)
	case played:
		bin = ""
	}
	dir := t.TempDir()
	disk = cmp.Or(disk, dir)
	s := &server{TB: t, dir: dir, bin: bin, sites: &sync.Map{}, git: filepath.Join(disk, "srv.git"), www: filepath.Join(disk, "www"), dev: filepath.Join(dir, "dev")}
	home := filepath.Join(dir, "home")
	for _, d := range []string{home, s.www} {
		s.must(os.Mkdir(d, 0o755))
	}
	s.env = hermetic(home)
	repositories, err := emptyRepositories()
	s.must(err)
	for _, path := range []string{s.git, s.dev} {
		s.must(os.CopyFS(path, os.DirFS(filepath.Join(repositories, filepath.Base(path)))))
	}
	s.must(appendTo(filepath.Join(s.dev, ".git/config"), remote("srv", s.git)))
	s.must(installHooks(s.git, bin, hooks...))
	s.configure(config)
	return s
}

// emptyRepositories makes a bare repository srv.git without hooks and a
// repository dev, once, to be copied.
var emptyRepositories = sync.OnceValues(func() (dir string, err error) {
	dir = filepath.Join(os.Getenv(programsDir), "repositories")
	for _, args := range [][]string{{"--bare", filepath.Join(dir, "srv.git")}, {filepath.Join(dir, "dev")}} {
		if _, err := gittest.Try("/", nil, "", append([]string{"init", "-q", "-b", "master"}, args...)...); err != nil {
			return "", err
		}
	}
	hooks := filepath.Join(dir, "srv.git/hooks")
	return dir, errors.Join(os.RemoveAll(hooks), os.Mkdir(hooks, 0o755))
})

// remote is what git's configuration says of a remote.
func remote(name, url string) string {
	return fmt.Sprintf("[remote %q]\n\turl = %q\n\tfetch = +refs/heads/*:refs/remotes/%s/*\n", name, url, name)
}

func (s *server) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// configure writes bluegreen.toml. Keys of [deploy] may come first.
func (s *server) configure(config string) {
	s.Helper()
	text := fmt.Sprintf("environment = %q\n[deploy]\ndirectory = %q\n%s", cmp.Or(s.name, "blue"), s.www, config)
	s.must(os.WriteFile(filepath.Join(s.git, "bluegreen.toml"), []byte(text), 0o644))
}

// command prepares a program in the server's environment.
func (s *server) command(dir, name string, args ...string) *exec.Cmd {
	if s.bin != "" && slices.Contains([]string{"bluegreen", "pre-receive", "proc-receive", "post-receive"}, name) {
		name = filepath.Join(s.bin, name)
	}
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, slices.Clone(s.env)
	return cmd
}

// run runs a program that must succeed and returns what it printed.
func (s *server) run(dir, name string, args ...string) string {
	s.Helper()
	var stderr bytes.Buffer
	cmd := s.command(dir, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

// status runs a program with more in its environment, and returns its exit
// status (128 and more for a signal) and all that it printed.
func (s *server) status(env []string, dir, name string, args ...string) (int, string) {
	s.Helper()
	cmd := s.command(dir, name, args...)
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	return s.exitStatus(err), string(out)
}

func (s *server) exitStatus(err error) int {
	s.Helper()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		s.Fatal(err)
	case exit.Sys().(syscall.WaitStatus).Signaled():
		return 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
	}
	return exit.ExitCode()
}

// push runs git push in the developer's repository.
func (s *server) push(env []string, args ...string) (int, string) {
	s.Helper()
	status, out := s.status(env, s.dev, "git", append([]string{"push", "srv"}, args...)...)
	if wrong := rawControls(out); wrong != "" {
		s.Errorf("git push printed %s", wrong)
	}
	return status, out
}

// pushed pushes what must succeed.
func (s *server) pushed(args ...string) {
	s.Helper()
	if status, out := s.push(nil, args...); status != 0 || !strings.Contains(out, "remote: success:") {
		s.Fatalf("git push %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
}

// commit removes the files whose content is "-", writes the others, and
// commits. It returns the commit's name.
func (s *server) commit(files map[string]string) string {
	s.Helper()
	for path, content := range files {
		if content == "-" {
			s.must(os.RemoveAll(filepath.Join(s.dev, path)))
		}
	}
	for path, content := range files {
		if content == "-" {
			continue
		}
		full := filepath.Join(s.dev, path)
		s.must(os.RemoveAll(full))
		s.must(os.MkdirAll(filepath.Dir(full), 0o755))
		s.must(os.WriteFile(full, []byte(content), 0o644))
	}
	s.run(s.dev, "git", "add", "-A")
	s.run(s.dev, "git", "commit", "-q", "--allow-empty", "-m", "a change")
	head, err := os.ReadFile(filepath.Join(s.dev, ".git/HEAD"))
	s.must(err)
	if branch, ok := strings.CutPrefix(string(head), "ref: "); ok {
		head, err = os.ReadFile(filepath.Join(s.dev, ".git", strings.TrimSpace(branch)))
		s.must(err)
	}
	return strings.TrimSpace(string(head))
}

// ref returns where a ref of the server is, "" when it is not there.
func (s *server) ref(name string) string {
	s.Helper()
	loose, err := os.ReadFile(filepath.Join(s.git, name)) // spares a process, a thousand times
	if oid := strings.TrimSpace(string(loose)); err == nil && len(oid) == len(zeros) {
		return oid
	}
	return s.run(s.git, "git", "for-each-ref", "--format=%(objectname)", name)
}

// fresh lists what git writes for a commit.
func (s *server) fresh(commit string) listing {
	s.Helper()
	if l, ok := s.sites.Load(commit); ok {
		return l.(listing)
	}
	l, err := checkout(s.env, s.git, commit, "022", s.dir)
	s.must(err)
	s.sites.Store(commit, l)
	return l
}

// web lists the web root.
func (s *server) web(identity bool) listing {
	s.Helper()
	l, err := list(s.www, identity)
	s.must(err)
	return l
}

// holds checks that the web root is commit's, that the index says so too, and
// that nothing was left behind.
func (s *server) holds(commit string) {
	s.Helper()
	if d := diff(s.fresh(commit), s.web(false)); d != "" {
		s.Errorf("the web root is not %s:\n%s", commit, d)
	}
	s.settled(commit)
}

// settled is what must be true of a repository whose web root holds commit,
// beside the files.
func (s *server) settled(commit string) {
	s.Helper()
	finders := [][]string{{"diff", "--no-renames", "--name-status", commit, "--"}, {"diff", "--cached", "--name-status", commit, "--"}}
	if head, err := os.ReadFile(filepath.Join(s.git, "HEAD")); err == nil && string(head) == "ref: refs/heads/master\n" && s.ref("refs/heads/master") == commit {
		finders = [][]string{{"status", "--porcelain", "--untracked-files=no"}} // both at once
	}
	for _, find := range finders {
		if changed := s.run(s.www, "git", append([]string{"--git-dir", s.git, "--work-tree", s.www, "--no-optional-locks"}, find...)...); changed != "" {
			s.Errorf("git %s finds the web root changed:\n%s", find[0], changed)
		}
	}
	left, err := leftovers(s.git, s.www)
	s.must(err)
	if len(left) > 0 {
		s.Errorf("left behind: %q", left)
	}
}

// history reads the history and checks what holds of any: that each
// transaction is in it once.
func (s *server) history() []map[string]any {
	s.Helper()
	events, err := readHistory(s.git)
	s.must(err)
	ids := map[any]bool{}
	for _, e := range events {
		if ids[e["id"]] {
			s.Errorf("the history has %v twice", e["id"])
		}
		ids[e["id"]] = true
	}
	return events
}

// last returns the newest event.
func (s *server) last() map[string]any {
	s.Helper()
	events := s.history()
	if len(events) == 0 {
		s.Fatal("the history is empty")
	}
	return events[len(events)-1]
}

// waitFree waits until nobody holds the lock of the deployments.
func (s *server) waitFree() {
	s.Helper()
	f, err := os.Open(filepath.Join(s.git, "bluegreen/lock"))
	s.must(err)
	defer f.Close()
	s.until("the lock is free", func() bool { return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil })
}

// locked tells whether somebody deploys.
func (s *server) locked() bool {
	s.Helper()
	f, err := os.Open(filepath.Join(s.git, "bluegreen/lock"))
	s.must(err)
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// until waits for what can be seen only by looking.
func (s *server) until(what string, is func() bool) {
	s.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-late.C:
			s.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// A gate is where a program that a deployment runs tells that it has come, and
// waits to be let through.
type gate struct {
	*server
	arrived, open *os.File
	Script        string // of sh
}

func (s *server) newGate() *gate {
	s.Helper()
	g := &gate{server: s}
	arrived, open := filepath.Join(s.dir, "arrived"), filepath.Join(s.dir, "open")
	for path, f := range map[string]**os.File{arrived: &g.arrived, open: &g.open} {
		s.must(unix.Mkfifo(path, 0o600))
		var err error
		*f, err = os.OpenFile(path, os.O_RDWR, 0) // for both, so that opening never waits
		s.must(err)
		s.Cleanup(func() { (*f).Close() })
	}
	g.Script = fmt.Sprintf("echo here >%s; read _ <%s", arrived, open)
	return g
}

// wait waits until somebody is at the gate.
func (g *gate) wait() {
	g.Helper()
	g.must(g.arrived.SetReadDeadline(time.Now().Add(patience)))
	if _, err := io.ReadFull(g.arrived, make([]byte, len("here\n"))); err != nil {
		g.Fatalf("nobody came to the gate: %v", err)
	}
}

// pass lets one through.
func (g *gate) pass() {
	g.Helper()
	_, err := g.open.WriteString("go\n")
	g.must(err)
}

// start starts git push in a process group of its own. What it prints goes to
// the buffer, which is complete when the process has been waited for.
func (s *server) start(args ...string) (*exec.Cmd, *bytes.Buffer) {
	s.Helper()
	cmd := s.command(s.dev, "git", append([]string{"push", "srv"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// When the client is killed, hooks may hold the pipe on.
	cmd.WaitDelay = patience
	s.must(cmd.Start())
	return cmd, &out
}
