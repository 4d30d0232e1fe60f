package hooks_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// nobody is the account that owns the repositories which root looks at here.
const nobody = 65534

// newForeign makes a server that is nobody's, for root to work on. Its check and
// its command write down who they are, with a word of each.
func newForeign(t *testing.T, hooks ...string) (s *server, ran string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s = newServer(t, "", "", hooks...)
	home := filepath.Join(s.dir, "home")
	ran = filepath.Join(home, "ran")
	note := func(word string) string {
		return `["sh", "-c", "echo ` + word + ` $(id -u) $(id -G) $HOME $SECRET $DIGITALOCEAN_TOKEN >>` + ran + `"]` + "\n"
	}
	s.configure("[[health]]\ncommand = " + note("check") + "[[command]]\nrun = " + note("command"))
	s.must(os.Chmod(filepath.Dir(s.dir), 0o755))
	s.commit(map[string]string{"index.html": "v1\n"})
	s.run(s.dev, "git", "push", "-q", "srv", "master")
	if err := os.Remove(ran); err != nil && len(hooks) > 0 {
		t.Fatal(err)
	}
	s.env = append(s.env, "SECRET=of-root", "DIGITALOCEAN_TOKEN="+canary)
	s.give(s.git, s.www, home)
	return s, ran
}

// give makes what is there nobody's, but for what it is to keep root's.
func (s *server) give(paths ...string) {
	s.Helper()
	s.run(s.dir, "chown", append([]string{"-hR", "nobody:"}, paths...)...)
}

// roots lists what is root's below some directories.
func (s *server) roots(dirs ...string) (found []string) {
	s.Helper()
	for _, dir := range dirs {
		s.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Sys().(*syscall.Stat_t).Uid != nobody {
				found = append(found, path)
			}
			return err
		}))
	}
	return found
}

// TestRoot has root run each command on another account's repository: it is
// that account which does the work. Nothing of that account's is run as root,
// and nothing of root's is left in it.
func TestRoot(t *testing.T) {
	t.Parallel()
	s, ran := newForeign(t, allHooks...)
	for _, test := range []struct {
		args   []string
		status int
		ran    string // the words, in order
	}{
		{[]string{"status"}, 0, "check"},
		{[]string{"status", "--json"}, 0, "check"},
		{[]string{"check"}, 0, "check"},
		{[]string{"check", "--json"}, 0, "check"},
		{[]string{"history"}, 0, ""},
		{[]string{"plan"}, 0, ""},
		{[]string{"promote"}, 1, ""}, // there is no [promotion]
		{[]string{"rollback"}, 1, ""},
		{[]string{"recover"}, 0, ""},
		{[]string{"doctor", "--json"}, 0, "check"},
		{[]string{"deploy", "master"}, 0, "command check"},
	} {
		status, out := s.status(nil, s.dir, "bluegreen", append([]string{"--repo", s.git}, test.args...)...)
		if status != test.status || strings.Contains(out, canary) {
			t.Errorf("%q: status %d\n%s", test.args, status, out)
		}
		text, err := os.ReadFile(ran)
		if err != nil && test.ran != "" {
			t.Errorf("%q: %v", test.args, err)
		}
		var words []string
		for line := range strings.Lines(string(text)) {
			word, who, _ := strings.Cut(line, " ")
			if words = append(words, word); who != "65534 65534 /nonexistent\n" {
				t.Errorf("%q: the %s ran as %q", test.args, word, who)
			}
		}
		if got := strings.Join(words, " "); got != test.ran {
			t.Errorf("%q: ran %q, want %q", test.args, got, test.ran)
		}
		os.Remove(ran)
	}
	if found := s.roots(s.git, s.www); len(found) > 0 {
		t.Errorf("root has left %q", found)
	}
	if e := s.last(); e["event"] != "deploy" || e["pusher"] != "ada" {
		t.Errorf("the history ends with %v", e)
	}
}

// TestRootAndGit: a program that the repository's own configuration names is
// run as its account, too.
func TestRootAndGit(t *testing.T) {
	t.Parallel()
	s, ran := newForeign(t, allHooks...)
	for _, setting := range [][]string{
		{"remote.evil.promisor", "true"}, {"remote.evil.url", "ext::sh -c echo% git% $(id% -u)% >>" + ran}, {"protocol.ext.allow", "always"},
	} {
		s.run(s.dir, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "git", "--git-dir", s.git, "config", setting[0], setting[1])
	}
	s.status(nil, s.dir, "bluegreen", "--repo", s.git, "plan", strings.Repeat("1", 40))
	text, err := os.ReadFile(ran)
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if line != "git 65534\n" {
			t.Errorf("ran as %q", line)
		}
	}
}

// TestRootIsLedAstray: where somebody else could put another repository in the
// place of the one that root has named, root looks at neither.
func TestRootIsLedAstray(t *testing.T) {
	t.Parallel()
	s, ran := newForeign(t, allHooks...)
	dir := filepath.Join(s.dir, "open")
	s.must(os.Mkdir(dir, 0o755))
	moved := filepath.Join(dir, "srv.git")
	s.must(os.Rename(s.git, moved))
	link := filepath.Join(s.dir, "link")
	s.must(os.Symlink(moved, link))
	try := func(hint string) { // "" where root is to become the owner
		t.Helper()
		for _, command := range [][]string{{"check"}, {"recover"}, {"doctor", "--fix"}} {
			status, out := s.status(nil, s.dir, "bluegreen", append([]string{"--repo", link}, command...)...)
			refused := strings.Contains(out, "others may put something else in its place")
			if refused != (hint != "") || refused && (status != 1 || !strings.Contains(out, "hint: "+hint+"\nerror: ")) {
				t.Errorf("%q: status %d\n%s", command, status, out)
			}
		}
		if _, err := os.Lstat(ran); (err == nil) != (hint == "") {
			t.Errorf("something ran: %v", err == nil)
		}
		os.Remove(ran)
	}
	try("")
	asOwner := "sudo -u nobody bluegreen --repo " + moved + " …"
	s.must(os.Chmod(dir, 0o777))
	try(asOwner)
	s.must(os.Chmod(dir, 0o777|os.ModeSticky))
	try("")
	s.must(os.Chmod(dir, 0o775))
	s.must(os.Chown(dir, 0, 12345))
	try(asOwner)
	s.must(os.Chmod(dir, 0o755))
	try("")
	s.must(os.Chown(dir, 12345, 0))
	try(asOwner)
	s.must(os.Chown(dir, nobody, 0))
	try("")
	s.run(s.dir, "chown", "-R", "root:", moved)
	try("chown root: " + dir + " && chmod go-w " + dir)
	s.must(os.Remove(link))
	if status, out := s.status(nil, s.dir, "bluegreen", "--repo", link, "check"); status != 2 || !strings.Contains(out, "no such file") {
		t.Errorf("without a repository: status %d\n%s", status, out)
	}
}

// TestDoctorOfRoot has root examine another account's repository and mend it:
// hooks that only root can mend before it becomes that account, and the rest
// as that account.
func TestDoctorOfRoot(t *testing.T) {
	t.Parallel()
	s, _ := newForeign(t)
	program, err := os.Executable()
	must(t, err)
	data, err := os.ReadFile(program)
	must(t, err)
	hooks := filepath.Join(s.git, "hooks")
	must(t, os.Chown(hooks, 0, 0))
	for name, mode := range map[string]fs.FileMode{"pre-receive": 0o700, "post-receive": 0o644} {
		must(t, os.WriteFile(filepath.Join(hooks, name), data, mode))
		must(t, os.Chmod(filepath.Join(hooks, name), mode))
	}
	must(t, os.Chown(filepath.Join(hooks, "post-receive"), nobody, nobody))
	_, e := s.doctor(t, "--fix")
	var fixes []string
	for _, m := range e.Mended {
		fixes = append(fixes, m.Fix)
		if m.Error != "" {
			t.Errorf("%+v", m)
		}
	}
	for _, want := range []string{"chmod a+rx " + hooks + "/pre-receive", "chmod a+rx " + hooks + "/post-receive", "sudo -u nobody git -C " + s.git + " config --replace-all core.fsync all"} {
		if !slices.Contains(fixes, want) {
			t.Errorf("%q was not mended, but %q", want, fixes)
		}
	}
	for _, found := range e.amiss() {
		if !strings.Contains(found, "no proc-receive") && !strings.HasPrefix(found, "health: warning: nothing has been deployed yet") {
			t.Error(found)
		}
	}
	if found := s.roots(s.git); !slices.Equal(found, []string{hooks, hooks + "/pre-receive"}) {
		t.Errorf("root's is %q", found)
	}
}
