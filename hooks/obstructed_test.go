package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An obstacle keeps a recovery from its work until somebody takes it away.
type obstacle struct {
	name string
	put  func(s *server) (away func())
	says string // in what the recovery prints
}

// damages replaces a file of the repository, which need not be there, by text that
// is no record.
func damages(file string) func(s *server) func() {
	return func(s *server) func() {
		s.Helper()
		path := filepath.Join(s.git, file)
		before, err := os.ReadFile(path)
		s.must(os.WriteFile(path, []byte(`{"commit":"12`), 0o600))
		return func() {
			if err != nil {
				s.must(os.Remove(path))
				return
			}
			s.must(os.WriteFile(path, before, 0o600))
		}
	}
}

// occupies puts a directory that is not empty in the place of a file, which need
// not be there.
func occupies(file string) func(s *server) func() {
	return func(s *server) func() {
		s.Helper()
		path := filepath.Join(s.dir, file)
		there := os.Rename(path, path+".away") == nil
		s.must(os.MkdirAll(filepath.Join(path, "full"), 0o755))
		return func() {
			s.must(os.RemoveAll(path))
			if there {
				s.must(os.Rename(path+".away", path))
			}
		}
	}
}

// loses takes a loose object away.
func loses(revision string) func(s *server) func() {
	return func(s *server) func() {
		s.Helper()
		name := s.run(s.git, "git", "rev-parse", revision)
		path := filepath.Join(s.git, "objects", name[:2], name[2:])
		s.must(os.Rename(path, path+".away"))
		return func() { s.must(os.Rename(path+".away", path)) }
	}
}

// obstruct recovers with each of the obstacles in the way, one after the other: it
// says that, ends with status 3, and forgets nothing.
func (s *server) obstruct(obstacles []obstacle) {
	s.Helper()
	for _, o := range obstacles {
		away := o.put(s)
		status, out := s.status(nil, s.git, "bluegreen", "recover")
		if status != 3 || !strings.Contains(out, "could not be ") || !strings.Contains(out, o.says) {
			s.Errorf("%s: status %d, want 3 and %q\n%s", o.name, status, o.says, out)
		}
		away()
	}
}

// recovers recovers, which must work, and returns what is printed.
func (s *server) recovers() string {
	s.Helper()
	status, out := s.status(nil, s.git, "bluegreen", "recover")
	if status != 0 || !strings.Contains(out, "success: ") || strings.Contains(out, "nothing to recover") {
		s.Errorf("recover: status %d\n%s", status, out)
	}
	return out
}

// stepOf returns the number of a step of what a program did that was told to write
// its steps down.
func (s *server) stepOf(name string) string {
	s.Helper()
	n := slices.Index(strings.Split(s.read("steps"), "\n"), name) + 1
	if n == 0 {
		s.Fatalf("there is no step %q in %q", name, s.read("steps"))
	}
	s.must(os.Remove(filepath.Join(s.dir, "steps")))
	return fmt.Sprintf("BLUEGREEN_DIE_AT=%d", n)
}

func (s *server) noteSteps() []string {
	return []string{"BLUEGREEN_STEPS=" + filepath.Join(s.dir, "steps")}
}

// holdsBeside is holds where a marker is beside the commit's files.
func (s *server) holdsBeside(commit, marker string) {
	s.Helper()
	if d := diff(s.fresh(commit), s.web(false).without(marker)); d != "" {
		s.Errorf("the web root is not %s:\n%s", commit, d)
	}
	s.settled(commit)
	if got := s.read(filepath.Join("www", marker)); !strings.Contains(got, commit) {
		s.Errorf("the marker says %s", got)
	}
}

// TestRecoveryObstructed puts one thing after the other into the way of a recovery
// that goes back, and of one that goes on. As soon as the last one is gone, the web
// root is one commit, and the history has each event once.
func TestRecoveryObstructed(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "marker = \"release.json\"\n", allHooks...)
	old := s.commit(map[string]string{"page": "1", "gone": "x"})
	s.pushed("master")
	next := s.commit(map[string]string{"page": "2", "gone": "-", "more": "x"})
	s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	deploys := func(env []string, commit string) int {
		t.Helper()
		status, _ := s.status(env, s.git, "bluegreen", "deploy", commit)
		return status
	}
	deploys(s.noteSteps(), next)
	activating := s.stepOf("activate put")
	deploys(nil, old)
	if status := deploys([]string{activating}, next); status != 128+9 {
		t.Fatalf("it did not die: status %d", status)
	}
	events := len(s.history())
	s.obstruct([]obstacle{
		{"what was deployed is not readable", damages("bluegreen/deployed.json"), "journal is damaged"},
		{"a directory is where the marker was", occupies("www/release.json"), `writing the marker "release.json": a directory is there`},
		{"the note of stages is not readable", damages("bluegreen/stages.json"), "looking for leftovers"},
		{"a directory is where the next index is written", occupies("srv.git/bluegreen/index"), "could not be recovered: "},
		{"a directory is where the history was", occupies("srv.git/bluegreen/history.jsonl"), "history"},
		{"a directory is where the next record is written", occupies("srv.git/bluegreen/next-deployed.json"), "ending the journal"},
	})
	if said := s.recovers(); !strings.Contains(said, "the web root is as it was before "+next[:7]) {
		t.Errorf("it says\n%s", said)
	}
	s.holdsBeside(old, "release.json")
	if got := s.since(events); !slices.Equal(got, []string{"deploy failed", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}

	s.push(s.noteSteps(), "master")
	die := s.stepOf("ref moved")
	last := s.commit(map[string]string{"page": "3", "gone": "x", "more": "-"})
	if status, out := s.push([]string{die}, "master"); status == 0 || s.ref("refs/heads/master") != last {
		t.Fatalf("it did not die after the ref had moved: status %d\n%s", status, out)
	}
	events = len(s.history())
	s.obstruct([]obstacle{
		{"a tree of the new commit is lost", loses(last + "^{tree}"), "could not be recovered: "},
		{"a directory is where the marker is", occupies("www/release.json"), `writing the marker "release.json": a directory is there`},
		{"a directory is where the next record is written", occupies("srv.git/bluegreen/next-deployed.json"), "next-deployed.json"},
		{"a directory is where the record is", occupies("srv.git/bluegreen/deployed.json"), "deployed.json"},
		{"a directory is where the history was", occupies("srv.git/bluegreen/history.jsonl"), "history"},
	})
	if said := s.recovers(); !strings.Contains(said, last[:7]+" is deployed: its ref had moved before the crash") {
		t.Errorf("it says\n%s", said)
	}
	s.holdsBeside(last, "release.json")
	if got := s.since(events); !slices.Equal(got, []string{"deploy succeeded", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}

	// A marker that the release before did not have cannot go.
	s.configure("")
	s.push(nil, "-f", "HEAD~1:master")
	s.configure("marker = \"release.json\"\n")
	if status := deploys([]string{activating}, last); status != 128+9 {
		t.Fatalf("it did not die: status %d", status)
	}
	s.obstruct([]obstacle{{"a directory is where the marker is", occupies("www/release.json"), `removing the marker "release.json": a directory is there`}})
	s.recovers()
	s.holds(next)
}

// TestPushRecovers: the push that follows a crash settles it, before the gate lets
// anything in; where that is not possible, and no other hook would say so, the gate
// refuses the push.
func TestPushRecovers(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "pre-receive", "post-receive")
	s.commit(map[string]string{"page": "1"})
	s.pushed("master")
	s.commit(map[string]string{"page": "2"})
	s.push(s.noteSteps(), "master")
	die := s.stepOf("activate put")
	s.commit(map[string]string{"page": "3"})
	s.push([]string{die}, "master")
	third := s.ref("refs/heads/master")
	fourth := s.commit(map[string]string{"page": "4"})
	events := len(s.history())
	away := occupies("srv.git/bluegreen/next-deployed.json")(s)
	status, out := s.push(nil, "master")
	if status != 1 || !strings.Contains(lastLine(out), "next-deployed.json") || s.ref("refs/heads/master") != third {
		t.Errorf("status %d, master is at %s\n%s", status, s.ref("refs/heads/master"), out)
	}
	if got := s.since(events); !slices.Equal(got, []string{"deploy refused"}) {
		t.Errorf("the history says %q", got)
	}
	away()
	status, out = s.push(nil, "master")
	if status != 0 || !strings.Contains(out, "the deployment of "+third[:7]+" that was interrupted at") {
		t.Errorf("status %d\n%s", status, out)
	}
	s.holds(fourth)
	if got := s.since(events); !slices.Equal(got, []string{"deploy refused", "deploy succeeded", "recover succeeded", "deploy succeeded"}) {
		t.Errorf("the history says %q", got)
	}
}

// TestStoredPushRecovers: a push that is only stored settles what a crash
// interrupted, too, in whichever hook comes first; where that is not possible it is
// stored, and a warning says what is unfinished.
func TestStoredPushRecovers(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{allHooks, {"post-receive"}, {"proc-receive"}} {
		t.Run(strings.Join(hooks, " "), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "", "", hooks...)
			old := s.commit(map[string]string{"page": "1"})
			s.pushed("master")
			next := s.commit(map[string]string{"page": "2"})
			s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
			s.status(s.noteSteps(), s.git, "bluegreen", "deploy", next)
			die := s.stepOf("activate put")
			s.status(nil, s.git, "bluegreen", "deploy", old)
			s.status([]string{die}, s.git, "bluegreen", "deploy", next)
			if got := s.read("www/page"); got != "2" {
				t.Fatalf("it did not die amid the deployment: the page is %q", got)
			}
			away := damages("bluegreen/deployed.json")(s)
			status, out := s.push(nil, "HEAD:refs/tags/v1")
			if status != 0 || s.ref("refs/tags/v1") != next || !strings.Contains(out, "warning: an interrupted deployment could not be recovered: ") ||
				!strings.Contains(out, "is damaged") || !strings.Contains(out, "hint: on the server: keep a copy of that record") {
				t.Errorf("it cannot be recovered: status %d\n%s", status, out)
			}
			away()
			status, out = s.push(nil, "HEAD:refs/tags/v2")
			if status != 0 || !strings.Contains(out, "the deployment of "+next[:7]+" that was interrupted at") {
				t.Errorf("status %d\n%s", status, out)
			}
			s.settled(old)
			if d := diff(s.fresh(old), s.web(false)); d != "" {
				t.Errorf("the web root is not as before:\n%s", d)
			}
		})
	}
}

// TestDamagedRecorded: an attempt that ends at a damaged record has begun nothing,
// and is in the history.
func TestDamagedRecorded(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{allHooks, {"post-receive"}} {
		s := newServer(t, "", "", hooks...)
		one := s.commit(map[string]string{"page": "1"})
		s.pushed("master")
		two := s.commit(map[string]string{"page": "2"})
		events := len(s.history())
		away := damages("bluegreen/deployed.json")(s)
		if _, out := s.push(nil, "master"); !strings.Contains(lastLine(out), "error: the records of this server are damaged: ") {
			t.Errorf("%q say\n%s", hooks, out)
		}
		if got := s.since(events); !slices.Equal(got, []string{"deploy failed"}) {
			t.Errorf("%q: the history says %q", hooks, got)
		} else if last := s.last(); last["commit"] != two || !strings.Contains(last["reason"].(string), "deployed.json") {
			t.Errorf("%q: the history says %v", hooks, last)
		}
		away()
		if d := diff(s.fresh(one), s.web(false)); d != "" {
			t.Errorf("the web root is not as before:\n%s", d)
		}
	}
}

// TestOldTreeUnknown: where it cannot be told any more what the branch put into the
// web root before, the gate looks at all of what is pushed.
func TestOldTreeUnknown(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	one := s.commit(map[string]string{"page": "1", "site/page": "1"})
	s.pushed("master")
	unknown := strings.Repeat("1", len(zeros))
	if status, out := s.hook(hookRun{name: "pre-receive", stdin: unknown + " " + one + " refs/heads/master\n"}); status != 0 {
		t.Errorf("the commit before is unknown: status %d\n%s", status, out)
	}
	s.configure("symlinks = \"none\"\n")
	s.must(os.Symlink("page", filepath.Join(s.dev, "site/link")))
	two := s.commit(map[string]string{"page": "2"})
	s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	status, out := s.hook(hookRun{name: "pre-receive", stdin: unknown + " " + two + " refs/heads/master\n"})
	if status != 1 || !strings.Contains(out, "site/link") {
		t.Errorf("the commit before is unknown, and this one has a symlink: status %d\n%s", status, out)
	}

	// The branch had no such directory before the configuration named it.
	s.commit(map[string]string{"site/link": "-", "new/page": "3"})
	s.configure("subdirectory = \"new\"\n")
	if status, out := s.push(nil, "master"); status != 0 {
		t.Errorf("status %d\n%s", status, out)
	}
	if got := s.read("www/page"); got != "3" {
		t.Errorf("the page is %q", got)
	}
}

// TestLeftoversStay: what cannot be removed of an earlier crash is said, and keeps
// nobody from deploying.
func TestLeftoversStay(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	one := s.commit(map[string]string{"page": "1"})
	for _, o := range []obstacle{
		{"a record that was being written", occupies("srv.git/bluegreen/transaction.json.new"), "removing what was left of writing"},
		{"the note of stages", damages("bluegreen/stages.json"), "looking for leftovers"},
		{"an index", occupies("srv.git/bluegreen/index"), "removing what was left of an index"},
		{"an index that was being written", occupies("srv.git/bluegreen/index.new"), "removing what was left of writing"},
	} {
		s.must(os.MkdirAll(filepath.Join(s.git, "bluegreen"), 0o700))
		away := o.put(s)
		status, out := s.status(nil, s.git, "bluegreen", "recover")
		if status != 0 || !strings.Contains(out, "warning: "+o.says) {
			t.Errorf("%s: status %d\n%s", o.name, status, out)
		}
		away()
	}
	s.pushed("master")
	s.holds(one)
}

// TestRecoverySubdirectory: a recovery that goes back writes what is converted as the
// attributes above the deployed directory say, which are of the commit before.
func TestRecoverySubdirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "subdirectory = \"site\"\n", allHooks...)
	s.commit(map[string]string{".gitattributes": "*.txt eol=crlf\n", "site/a.txt": "a\n", "site/b.txt": "b\n"})
	s.pushed("master")
	s.commit(map[string]string{".gitattributes": "", "site/a.txt": "aa\n"})
	s.push(s.noteSteps(), "master")
	die := s.stepOf("activate put")
	s.push(nil, "-f", "HEAD~1:master")
	if status, _ := s.push([]string{die}, "master"); status == 0 {
		t.Fatal("it did not die")
	}
	for _, name := range []string{"a.txt", "b.txt"} { // as if the disk had lost them
		s.must(os.Remove(filepath.Join(s.www, name)))
	}
	s.recovers()
	for name, want := range map[string]string{"a.txt": "a\r\n", "b.txt": "b\r\n"} {
		if got := s.read("www/" + name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
}

// TestRepairInterrupted: a release that is served, and was being repaired when the
// machine died, is its commit again after the recovery. So is the one before, when
// the link was being switched, as soon as its place is free.
func TestRepairInterrupted(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	s.must(os.Remove(s.www))
	s.configure(fmt.Sprintf("releases = %q\n", filepath.Join(s.dir, "releases")))
	one := s.commit(map[string]string{"page": "1", "other": "1"})
	s.pushed("master")
	damage := func() {
		for _, name := range []string{"page", "other"} {
			s.must(os.WriteFile(filepath.Join(s.www, name), []byte("changed"), 0o644))
		}
	}
	damage()
	s.status(s.noteSteps(), s.git, "bluegreen", "deploy", one)
	die := s.stepOf("activate put")
	damage()
	if status, out := s.status([]string{die}, s.git, "bluegreen", "deploy", one); status != 128+9 {
		t.Fatalf("it did not die: status %d\n%s", status, out)
	}
	s.recovers()
	s.holds(one)

	two := s.commit(map[string]string{"page": "2"})
	s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	s.status(s.noteSteps(), s.git, "bluegreen", "deploy", two)
	die = s.stepOf("link switched")
	s.status(nil, s.git, "bluegreen", "deploy", one)
	three := s.commit(map[string]string{"page": "3"})
	s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	if status, out := s.status([]string{die}, s.git, "bluegreen", "deploy", three); status != 128+9 || s.read("www/page") != "3" {
		t.Fatalf("it did not die when the link was switched: status %d\n%s", status, out)
	}
	s.obstruct([]obstacle{{"a directory is where the former link was", occupies(".www.bluegreen"), "removing the former link"}})
	s.recovers()
	s.holds(one)
}
