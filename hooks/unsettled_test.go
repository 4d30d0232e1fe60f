package hooks_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/gittest"
	"bluegreen/internal/simulator"
)

// TestSettlingObstructed puts one thing after the other into the way of the recovery
// of a promotion, moves its tag elsewhere, and breaks the command that is run in the
// end: the traffic stays where it is proven, and what could not be done is said.
func TestSettlingObstructed(t *testing.T) {
	t.Parallel()
	w := promotionKilling{bin: buildWithFaults(t), args: byTag}.newWalker(t)
	n := w.find("promotion: ref moved")
	w.killedAt(n)
	w.blue.obstruct([]obstacle{
		{"what was deployed is not readable", damages("bluegreen/deployed.json"), "journal is damaged"},
		{"a directory is where the marker was", func(s *server) func() {
			marker := filepath.Join(s.www, markerFile)
			must(t, os.Rename(marker, marker+".away"))
			must(t, os.Mkdir(marker, 0o755))
			return func() {
				must(t, os.Remove(marker))
				must(t, os.Rename(marker+".away", marker))
			}
		}, "a directory is there"},
		{"a directory is where the next record is written", occupies("srv.git/bluegreen/next-deployed.json"), "next-deployed.json"},
		{"a directory is where the history was", occupies("srv.git/bluegreen/history.jsonl"), "history"},
	})
	if w.owner() != "blue" || w.posts()-w.baseline != 1 {
		t.Errorf("%s has the IP after %d requests", w.owner(), w.posts()-w.baseline)
	}
	w.blue.run(w.blue.git, "git", "update-ref", "refs/tags/release-2", w.old)
	w.add(w.blue, "[[command]]\nat = \"promoted\"\nrun = [\"/bin/sh\", \"-c\", \"exit 7\"]\n")
	status, out := w.recover()
	w.says(out, `(?m)^success: .* has succeeded: interrupted, then completed: blue has 203\.0\.113\.10; .*refs/tags/release-2`)
	w.says(out, `(?m)^warning: promoted command: "/bin/sh" exited with status 7$`)
	if status != 0 || w.blue.ref("refs/tags/release-2") != w.old || w.owner() != "blue" || w.unfinished() != nil {
		t.Errorf("status %d, the tag is at %s, %s has the IP\n%s", status, w.blue.ref("refs/tags/release-2"), w.owner(), out)
	}
	if got := w.blue.since(w.events); !slices.Equal(got, []string{"promote succeeded", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}
	w.holdsMarked(w.blue, w.new)

	// Back to green by the operator's command, which dies, too.
	events := len(w.blue.history())
	env := w.blue.noteSteps()
	if status, out := w.blue.status(env, w.blue.git, "bluegreen", "rollback"); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	die := w.blue.stepOf("promotion: asked")
	w.operate(w.blue, 0, `is live: 203\.0\.113\.10 moved from green to blue`, "promote")
	if status, out := w.blue.status([]string{die}, w.blue.git, "bluegreen", "rollback"); status != 128+9 || w.owner() != "green" {
		t.Fatalf("status %d, %s has the IP\n%s", status, w.owner(), out)
	}
	w.operate(w.blue, 0, `has succeeded: interrupted, then completed: green has 203\.0\.113\.10$`, "recover")
	if got := w.blue.since(events); !slices.Equal(got, []string{"rollback succeeded", "promote succeeded", "rollback succeeded", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}
	w.holdsMarked(w.blue, w.new)

	// A stranger has it when the recovery looks.
	w.add(w.blue, "[[command]]\nat = \"rolled-back\"\nrun = [\"/bin/sh\", \"-c\", \"exit 8\"]\n")
	w.reset()
	w.killedAt(n - 1)
	w.AddDroplet(42, "stranger", "fra1")
	w.SetOwner(reservedIP, 42)
	posts := w.posts()
	w.operate(w.blue, 0, `has failed: interrupted; another \(it belongs to droplet 42.*\) has 203\.0\.113\.10$`, "recover")
	if w.owner() != "another" || w.posts() != posts || w.blue.ref("refs/tags/release-2") != "" {
		t.Errorf("%s has the IP, the tag is at %q", w.owner(), w.blue.ref("refs/tags/release-2"))
	}
}

// TestOwnerHidden takes from the token what it needs to see who has the IP. That is
// nobody's proof that another has it: what may have the traffic stays, until it can
// be told. A promotion that begins then is refused.
func TestOwnerHidden(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	stays := func(w *promotionWalker) {
		w.Helper()
		if got := w.blue.since(w.events); w.owner() != "blue" || w.posts()-w.baseline != 1 || len(got) > 0 || w.unfinished() == nil || w.blue.read("www/index.html") != "v2\n" {
			w.Errorf("%s has the IP after %d requests, the web root holds %q, the history says %q", w.owner(), w.posts()-w.baseline, w.blue.read("www/index.html"), got)
		}
	}
	recovers := func(w *promotionWalker) {
		w.Helper()
		w.operate(w.blue, 3, `^error: the interrupted promotion.* could not be settled: it cannot be told who has 203\.0\.113\.10: .*droplet:read$`, "recover")
		stays(w)
		w.ClearScript()
		w.operate(w.blue, 0, `^success: .*interrupted, then completed: blue has 203\.0\.113\.10$`, "recover")
		w.holdsMarked(w.blue, w.new)
	}
	t.Run("after a crash", func(t *testing.T) {
		t.Parallel()
		w := promotionKilling{bin: bin, args: byOption, deploys: true}.newWalker(t)
		w.killedAt(w.find("promotion: asked"))
		w.hideDroplet()
		recovers(w)
	})
	for _, args := range [][]string{byTag, byOption} {
		t.Run("on the way back, "+args[0], func(t *testing.T) {
			t.Parallel()
			w := promotionKilling{bin: bin, args: args, deploys: slices.Equal(args, byOption)}.newWalker(t)
			w.breakOutside()
			w.Script(post(simulator.Fault{Apply: true, Do: func(c *simulator.Cloud) {
				c.Script(get(ipAlone, simulator.Fault{Do: func(*simulator.Cloud) { w.hideDroplet() }}))
			}})...)
			status, out := w.push(nil, "blue", args...)
			w.matches(out, `^error: the outside does not see the release: .*; and 203\.0\.113\.10 stays with blue: .*droplet:read`)
			if status != 1 {
				t.Errorf("status %d\n%s", status, out)
			}
			stays(w)
			w.outside.SetDown(false)
			recovers(w)
		})
	}
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		w := promotionKilling{bin: bin, args: byTag}.newWalker(t)
		w.hideDroplet()
		before := w.state(w.blue)
		status, out := w.push(nil, "blue", byTag...)
		w.matches(out, `^error: 203\.0\.113\.10 is not ours to move: .*droplet:read$`)
		if got := w.blue.since(w.events); status != 1 || w.posts() != 0 || !slices.Equal(got, []string{"promote refused"}) {
			t.Errorf("status %d after %d requests, the history says %q\n%s", status, w.posts(), got, out)
		}
		w.unchanged(w.blue, before)
		w.operate(w.blue, 1, `^error: it cannot be told who has 203\.0\.113\.10: .*droplet:read$`, "rollback")
	})
}

// TestBranchElsewhereMeanwhile: where the release that came with a promotion has got
// the traffic, it stays, also when somebody has moved the branch elsewhere before the
// recovery came to that. The branch is left where it is.
func TestBranchElsewhereMeanwhile(t *testing.T) {
	t.Parallel()
	w := promotionKilling{bin: buildWithFaults(t), args: byOption, deploys: true}.newWalker(t)
	w.killedAt(w.find("promotion: asked"))
	other := w.blue.run(w.blue.git, "git", "commit-tree", "-p", w.old, "-m", "theirs", w.old+"^{tree}")
	w.blue.run(w.blue.git, "git", "update-ref", "refs/heads/master", other)
	w.blue.obstruct([]obstacle{{"a directory is where the history was", occupies("srv.git/bluegreen/history.jsonl"), "history"}})
	w.operate(w.blue, 0, `^success: [0-9a-f]{7} is deployed; of its promotion: interrupted, then completed: blue has 203\.0\.113\.10$`, "recover")
	if w.owner() != "blue" || w.blue.ref("refs/heads/master") != other || w.unfinished() != nil {
		t.Errorf("%s has the IP, master is at %s", w.owner(), w.blue.ref("refs/heads/master"))
	}
	for _, e := range w.blue.history()[w.events:] {
		if e["event"] == "deploy" && (e["result"] != "succeeded" || !regexp.MustCompile(`; but .*refs/heads/master`).MatchString(e["reason"].(string))) {
			t.Errorf("the history says %v", e)
		}
	}
	if d := diff(w.blue.fresh(w.new), w.blue.web(false).without(filepath.Dir(markerFile), markerFile)); d != "" {
		t.Errorf("the web root is not the new commit:\n%s", d)
	}
}

// newProvider makes a server whose traffic a program of the operator's moves: who
// has it is in the file owner. assign is of sh, and is given the environment.
func newProvider(t *testing.T, assign, more string) *server {
	t.Helper()
	s := newServer(t, "", "", allHooks...)
	must(t, os.WriteFile(filepath.Join(s.dir, "owner"), []byte("green\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(s.dir, "assign"), []byte("cd "+s.dir+"\n"+assign+"\n"), 0o644))
	s.configure(fmt.Sprintf("%s[promotion]\nprovider = \"command\"\ntimeout = \"1s\"\nowner = [\"cat\", %q]\nassign = [\"/bin/sh\", %q, \"{to}\"]\n",
		more, filepath.Join(s.dir, "owner"), filepath.Join(s.dir, "assign")))
	s.commit(map[string]string{"page": "1"})
	s.pushed("master")
	s.run(s.dev, "git", "tag", "release-1")
	return s
}

// unseen is a check of the outside that fails at once, and a command that cannot
// be run when the promotion has been taken back.
const unseen = `[[health]]
name = "production"
at = "promoted"
command = ["/bin/sh", "-c", "exit 1"]
within = "1s"
interval = "1s"
[[command]]
at = "rolled-back"
run = ["/bin/sh", "-c", "exit 9"]
`

// TestProgramMovesBack: where the outside does not see the release, the operator's
// program moves the traffic back, too; where it cannot, or nobody can tell, that is
// said, and never that it is back.
func TestProgramMovesBack(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, assign, last string
		unknown            bool
		warns              string
	}{
		{"it does", `echo $1 >owner`, `^error: the outside does not see the release: .*; the traffic is back with green$`, false, ""},
		{"the marker cannot be written", `echo $1 >owner; test $1 = blue || { rm www/release.json; mkdir www/release.json; }`,
			`^error: the outside does not see the release: .*; the traffic is back with green$`, false, `warning: writing the marker "release.json": a directory is there`},
		{"nobody can tell", `if test $1 = blue; then echo $1 >owner; else mv owner away; fi`,
			`^error: the outside does not see the release: .*; and moving the traffic back: nobody can tell where the traffic is`, true, ""},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			s := newProvider(t, row.assign, "marker = \"release.json\"\n"+unseen)
			status, out := s.push(nil, "release-1")
			if status != 1 || !regexp.MustCompile(row.last).MatchString(lastLine(out)) || s.ref("refs/tags/release-1") != "" {
				t.Errorf("status %d, want %q, the tag is at %q\n%s", status, row.last, s.ref("refs/tags/release-1"), out)
			}
			if row.unknown {
				must(t, os.WriteFile(filepath.Join(s.dir, "owner"), []byte("green\n"), 0o644))
				if status, out := s.status(nil, s.git, "bluegreen", "recover"); status != 0 || !strings.Contains(out, "has failed: interrupted; green has the traffic") {
					t.Errorf("recover: status %d\n%s", status, out)
				}
				return
			}
			if got := s.read("owner"); got != "green\n" || s.last()["result"] != "failed" {
				t.Errorf("%q has the traffic, the history says %v", got, s.last())
			}
			if !strings.Contains(out, `warning: rolled-back command: "/bin/sh" exited with status 9`) || !strings.Contains(out, row.warns) {
				t.Errorf("not all is said that went wrong\n%s", out)
			}
		})
	}
}

// TestTakenAwayMeanwhile promotes where the traffic is already, and has another take
// it while the outside is asked: who has it is said, once.
func TestTakenAwayMeanwhile(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"release-1"}, {"-o", "live", "-o", "promote", "master"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			s := newProvider(t, "", "")
			owner := filepath.Join(s.dir, "owner")
			must(t, os.WriteFile(owner, []byte("blue\n"), 0o644))
			must(t, appendTo(filepath.Join(s.git, "bluegreen.toml"), fmt.Sprintf(
				"[[health]]\nname = \"production\"\nat = \"promoted\"\ncommand = [\"/bin/sh\", \"-c\", \"echo green >%s; exit 1\"]\nwithin = \"1s\"\ninterval = \"1s\"\n", owner)))
			if args[0] == "-o" {
				s.commit(map[string]string{"page": "2"})
			}
			status, out := s.push(nil, args...)
			if last := lastLine(out); status != 1 || strings.Count(last, "green has the traffic") != 1 || !strings.HasSuffix(last, "; green has the traffic") {
				t.Errorf("status %d, the last line is %q\n%s", status, last, out)
			}
			if got := s.read("www/page"); got != "1" || s.last()["result"] != "failed" {
				t.Errorf("the web root holds %q, the history says %v", got, s.last())
			}
		})
	}
}

// TestProgramStillRuns: while the operator's program may still move the traffic, a
// recovery decides nothing, whether it has waited for as long as a move may take or
// is told to end before.
func TestProgramStillRuns(t *testing.T) {
	t.Parallel()
	s := newProvider(t, "", "")
	g := s.newGate()
	must(t, os.WriteFile(filepath.Join(s.dir, "assign"), fmt.Appendf(nil, "%s; echo $1 >%s/owner\n", g.Script, s.dir), 0o644))
	config := s.read("srv.git/bluegreen.toml")
	patient := strings.Replace(config, `timeout = "1s"`, `timeout = "2m"`, 1)
	must(t, os.WriteFile(filepath.Join(s.git, "bluegreen.toml"), []byte(patient), 0o644))
	push, _ := s.start("release-1")
	g.wait()
	s.until("the record names the process", func() bool {
		return strings.Contains(s.read("srv.git/bluegreen/promotion.json"), `"process":`)
	})
	s.must(syscall.Kill(s.holder(), syscall.SIGKILL))
	push.Wait()

	recovery := s.command(s.git, "bluegreen", "recover")
	stderr, err := recovery.StderrPipe()
	s.must(err)
	s.must(recovery.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "finding out what became of the promotion") {
	}
	s.must(recovery.Process.Signal(syscall.SIGTERM))
	for lines.Scan() {
	}
	if status := s.exitStatus(recovery.Wait()); status != 3 {
		t.Errorf("told to end, it ends with status %d", status)
	}
	must(t, os.WriteFile(filepath.Join(s.git, "bluegreen.toml"), []byte(config), 0o644))
	status, out := s.status(nil, s.git, "bluegreen", "recover")
	if status != 3 || !strings.Contains(out, "the program that does it is still running (process ") {
		t.Errorf("status %d\n%s", status, out)
	}
	if got := s.since(1); len(got) > 0 || s.ref("refs/tags/release-1") != "" {
		t.Errorf("the history says %q, the tag is at %q", got, s.ref("refs/tags/release-1"))
	}
	g.pass()
	s.until("the program has ended", func() bool { return s.read("owner") == "blue\n" })
	if said := s.recovers(); !strings.Contains(said, "has succeeded: interrupted, then completed: blue has the traffic") {
		t.Errorf("it says\n%s", said)
	}
}

// stopAtGate starts a recovery, tells it to end while somebody whom it waits for
// stands at the gate, does then what may be nil, and returns its exit status and
// what it printed.
func (g *gate) stopAtGate(signal syscall.Signal, then func()) (status int, out string) {
	g.Helper()
	recovery := g.command(g.git, "bluegreen", "recover")
	var printed strings.Builder
	recovery.Stdout, recovery.Stderr = &printed, &printed
	g.must(recovery.Start())
	g.wait()
	g.must(recovery.Process.Signal(signal))
	if then != nil {
		then()
	}
	status = g.exitStatus(recovery.Wait())
	return status, printed.String()
}

// recoverThrough runs a recovery, and lets what it asks through the gate.
func (g *gate) recoverThrough() (status int, out string) {
	g.Helper()
	g.pass() // one who comes later finds the gate open
	return g.status(nil, g.git, "bluegreen", "recover")
}

// asks is a check that stands at the gate.
func (g *gate) asks(at string) string {
	return fmt.Sprintf("[[health]]\nname = \"gate\"\nat = %q\ncommand = [\"/bin/sh\", \"-c\", %q]\ntimeout = \"1m\"\nwithin = \"1m\"\n", at, g.Script)
}

// TestRecoveryStopped tells recoveries to end while they ask what decides. They
// decide nothing: the traffic and the release stay, and the next one goes on. What
// has been decided is done to its end.
func TestRecoveryStopped(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	t.Run("the outside", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{byTag, byOption} {
			w := promotionKilling{bin: bin, args: args, deploys: slices.Equal(args, byOption)}.newWalker(t)
			w.killedAt(w.find("promotion: asked"))
			g := w.blue.newGate()
			w.add(w.blue, g.asks("promoted"))
			status, out := g.stopAtGate(syscall.SIGINT, nil)
			w.says(out, `(?m)^error: the interrupted promotion.* could not be settled: stopped before it was decided: `)
			if got := w.blue.since(w.events); status != 3 || w.owner() != "blue" || w.posts()-w.baseline != 1 || len(got) > 0 || w.unfinished() == nil {
				t.Errorf("status %d, %s has the IP after %d requests, the history says %q\n%s", status, w.owner(), w.posts()-w.baseline, got, out)
			}
			status, out = g.recoverThrough()
			w.says(out, `interrupted, then completed: blue has 203\.0\.113\.10`)
			if status != 0 || w.owner() != "blue" || w.posts()-w.baseline != 1 {
				t.Errorf("status %d, %s has the IP\n%s", status, w.owner(), out)
			}
			w.holdsMarked(w.blue, w.new)
		}
	})
	t.Run("what was decided", func(t *testing.T) {
		t.Parallel()
		w := promotionKilling{bin: bin, args: byTag}.newWalker(t)
		w.killedAt(w.find("promotion: asked"))
		g := w.blue.newGate()
		gittest.Script(t, filepath.Join(w.blue.git, "hooks/reference-transaction"), "#!/bin/sh\ntest $1 = prepared || exit 0\n"+g.Script+"\n")
		w.add(w.blue, "[[command]]\nat = \"promoted\"\nrun = [\"touch\", \""+filepath.Join(w.blue.dir, "ran")+"\"]\n")
		status, out := g.stopAtGate(syscall.SIGTERM, g.pass)
		w.says(out, `(?m)^success: .*interrupted, then completed: blue has 203\.0\.113\.10$`)
		if status != 0 || w.blue.ref("refs/tags/release-2") != w.new || w.recordedTag() != "release-2" || w.blue.read("ran") != "" {
			t.Errorf("status %d, the tag is at %q\n%s", status, w.blue.ref("refs/tags/release-2"), out)
		}
		w.holdsMarked(w.blue, w.new)
	})
	t.Run("a release that git has moved the branch to", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, bin, "", afterGit...)
		s.commit(map[string]string{"page": "1"})
		env := s.noteSteps()
		if status, out := s.push(env, "master"); status != 0 {
			t.Fatalf("status %d\n%s", status, out)
		}
		commit := s.commit(map[string]string{"page": "2"})
		s.push([]string{s.stepOf("activated")}, "master")
		g, events := s.newGate(), len(s.history())
		s.configure(g.asks("deployed"))
		status, out := g.stopAtGate(syscall.SIGHUP, nil)
		if got := s.since(events); status != 3 || !strings.Contains(out, "stopped before it was decided: ") || len(got) > 0 || s.read("www/page") != "2" {
			t.Errorf("status %d, the web root holds %q, the history says %q\n%s", status, s.read("www/page"), got, out)
		}
		if status, out = g.recoverThrough(); status != 0 || !strings.Contains(out, "is deployed: its ref had moved before the crash") {
			t.Errorf("status %d\n%s", status, out)
		}
		s.holds(commit)
	})
}
