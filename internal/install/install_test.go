package install

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// TestInstall sets a server up that has nothing. The plan has named all of it,
// and changed nothing; done again it does nothing, and changes nothing.
func TestInstall(t *testing.T) {
	t.Parallel()
	for _, web := range []string{"apache", "nginx", "none"} {
		t.Run(web, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			o := s.options()
			o.Web = web
			s.cloud(&o)
			before := s.snapshot()
			plan := s.plan(&s.prepare(o).Work)
			same(t, "the plan has changed something", before, s.snapshot())
			if len(s.ran) > 0 {
				t.Errorf("the plan has run %q", s.ran)
			}
			s.install(o)
			s.named(strings.Join(plan, "\n"), before)
			installed := gittest.Snap(t, s.root, true)
			if again := s.install(o); len(again) > 0 {
				t.Errorf("done again it does %q", again)
			}
			same(t, "done again", installed, gittest.Snap(t, s.root, true))
			s.rootsOwn()
			s.owned(rootID(), TokenPath, BrokerPath(repo), rules)
		})
	}
}

// named looks whether a plan names each file that there was not before, and
// each command that has changed something. What useradd, apt-get and git init
// make they name.
func (s *server) named(plan string, before gittest.Snapshot) {
	s.Helper()
	for path := range s.snapshot() {
		inside, found := strings.CutPrefix("/"+path, repo+"/")
		switch {
		case before[path] != "", strings.Contains(plan, "/"+path):
		case found && inside != "bluegreen.toml" && !strings.HasSuffix(inside, "-receive"):
		case slices.Contains([]string{"etc/shadow", "usr/bin/git", "usr/bin/sudo", "usr/sbin/visudo", "usr/sbin/apache2", "usr/sbin/nginx"}, path):
		default:
			s.Errorf("the plan does not name /%s", path)
		}
	}
	for _, command := range s.ran {
		what, settings := strings.CutPrefix(command, "git config --file "+repo+"/config ")
		what = strings.NewReplacer("--replace-all ", "", "--add ", "", "refs/tags", "refs/heads/master, refs/tags").Replace(what)
		switch {
		case strings.Contains(command, " --list ") || strings.Contains(command, " --get-all ") || strings.Contains(command, "git version"):
		case strings.HasPrefix(command, "visudo -c ") && strings.Contains(plan, ", checked by visudo -c first"):
		case settings && strings.Contains(plan, "run git config "+what), strings.Contains(plan, "run "+strings.Replace(command, "--quiet ", "", 1)):
		default:
			s.Errorf("the plan does not name the command %s", command)
		}
	}
}

// rootsOwn looks at what the account must not be able to write.
func (s *server) rootsOwn() {
	s.Helper()
	for _, path := range []string{
		CommandPath, ProgramsDir, ProgramsDir + "/pre-receive", ProgramsDir + "/proc-receive", ProgramsDir + "/post-receive",
		repo + "/hooks", toml, home + "/.ssh", keys, LogPath, RecordPath(repo), UnitPath(repo), WantsPath(repo),
	} {
		st, err := os.Lstat(s.path(path))
		must(s, err)
		if uid, _ := ids(st); uid != os.Geteuid() || st.Mode().Type() != fs.ModeSymlink && st.Mode().Perm()&0o022 != 0 {
			s.Errorf("%s is of %d, with %v", path, uid, st.Mode())
		}
	}
}

// TestUpgrade exchanges the programs, by renames: what runs goes on with the
// file that it has.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	s.install(o)
	running, err := os.Open(s.path(ProgramsDir + "/proc-receive"))
	must(t, err)
	defer running.Close()
	s.upgraded(&o)
	if lines := s.install(o); len(lines) != 4 {
		t.Errorf("an upgrade does %q", lines)
	}
	old := make([]byte, 100)
	n, err := running.Read(old)
	must(t, err)
	if now := s.read(ProgramsDir + "/proc-receive"); !strings.Contains(string(old[:n]), "the first") || !strings.Contains(now, "the second") {
		t.Errorf("what runs is %q, and what is there %q", old[:n], now)
	}
}

// TestLog notes each change, with nothing in it that another one could be taken
// for.
func TestLog(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.git("config", "--file", repo+"/config", "core.fsync", "none\n2030-01-01T00:00:00Z uninstall sample_app: forged")
	lines := s.install(s.options())
	log := strings.Split(strings.TrimSuffix(s.read(LogPath), "\n"), "\n")
	if len(log) != len(lines)-1 { // but for the first: there was no log yet
		t.Fatalf("%d changes, and in the log:\n%s", len(lines), s.read(LogPath))
	}
	for i, line := range log {
		_, done, _ := strings.Cut(lines[i+1], ": ")
		if _, noted, found := strings.Cut(line, "Z install sample_app: "); !found || noted != strings.ReplaceAll(done, "\n", "?") {
			t.Errorf("the log has %q for %q", line, done)
		}
	}
}

// TestAdopted takes the tutorial's server over: nothing of it is lost, and
// uninstall gives all of it back.
func TestAdopted(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	s.write(toml, "# mine\nenvironment = \"live\"\n", 0o664)
	s.give(toml)
	before := s.snapshot()
	s.install(s.options())
	adopted := s.snapshot()
	kept := repo[1:] + "/hooks/post-receive"
	if got, want := adopted[kept+".before-bluegreen"], before[kept]; got != want {
		t.Errorf("the old hook is %q, want %q", got, want)
	}
	for path, what := range before {
		switch path {
		case kept, repo[1:] + "/hooks", repo[1:] + "/config", toml[1:], keys[1:], filepath.Dir(keys)[1:]:
			continue // taken over
		}
		if adopted[path] != what {
			t.Errorf("/%s is %q, and was %q", path, adopted[path], what)
		}
	}
	if got, want := s.read(keys), "# developers\n"+keyLine(t, "ann", repo)+"\n"+publicKey("bob")+" bob\n"; got != want {
		t.Errorf("the keys are\n%s\nwant\n%s", got, want)
	}
	s.rootsOwn()
	s.uninstall()
	s.gaveBack(before)
}

// gaveBack looks whether a server is as it was before its installation, but for
// what uninstall leaves: directories, which may have been made on the way, the
// log, and what git has written into its configuration, whose values a test of
// their own looks at.
func (s *server) gaveBack(before gittest.Snapshot) {
	s.Helper()
	after := s.snapshot()
	for path, what := range after {
		if before[path] == "" && (path == LogPath[1:] || strings.HasPrefix(what, "d")) {
			delete(after, path)
		}
	}
	after[repo[1:]+"/config"] = before[repo[1:]+"/config"]
	same(s, "uninstall has left", before, after)
}

// TestCancelled stops when it is told to, before the first change too.
func TestCancelled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := s.snapshot()
	if n, err := s.prepare(s.options()).Do(ctx, func(Step, Change) {}); n != 0 || err == nil {
		t.Errorf("%d changes were made: %v", n, err)
	}
	same(t, "what is there", before, s.snapshot())
}

// TestOneAtATime lets nobody else install meanwhile.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first, second := s.prepare(s.options()), s.prepare(s.options())
	tried := false
	n, err := first.Do(context.Background(), func(Step, Change) {
		if tried {
			return
		}
		tried = true
		if made, err := try(&second.Work); len(made) != 0 || err == nil || !strings.Contains(err.Error(), "set-up by bluegreen of "+s.root) {
			t.Errorf("a second installation makes %q: %v", made, err)
		}
	})
	if n == 0 || !tried || err != nil {
		t.Errorf("%d changes were made: %v", n, err)
	}
}

// TestPreparedTooEarly lets an installation that was prepared before another
// one find what that one has recorded.
func TestPreparedTooEarly(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	early := s.prepare(s.options())
	s.install(s.options())
	record := s.read(RecordPath(repo))
	if lines := s.do(&early.Work); len(lines) > 0 {
		t.Errorf("it does %q", lines)
	}
	if got := s.read(RecordPath(repo)); got != record {
		t.Errorf("the record is\n%s\nwant\n%s", got, record)
	}
	early = s.prepare(s.options())
	s.write(toml, strings.ReplaceAll(s.read(toml), `"master"`, `"main"`), 0o644)
	s.do(&early.Work)
	s.is(repo+"/HEAD", "refs/heads/main")
}
