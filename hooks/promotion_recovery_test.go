package hooks_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/simulator"
)

// An interruption is a promotion that is killed, what happens until somebody
// recovers it, and what the recovery must make of it.
type interruption struct {
	name    string
	hooks   []string // on blue; nil for all
	args    []string // of git push blue
	deploys bool     // the commit comes with the same push
	step    string   // that the hook is killed at
	faults  []simulator.Fault
	before  func(c *cloud) // the recovery
	owner   string         // at the end
	posts   int            // requests for a move, all in all
	kept    bool           // the new commit is in the web root
	events  []string       // that the recovery adds to the history
	ran     []string       // the operator's commands, before and after
	says    string         // a pattern for the recovery's last line
	never   string         // a pattern for what it must not say
}

var (
	byTag      = []string{"release-2"}
	atOnce     = []string{"--atomic", "master", "release-2"}
	byOption   = []string{"-o", "promote", "master"}
	afterGit   = []string{"post-receive"}
	greenHas   = func(c *cloud) { c.SetOwner(reservedIP, greenDroplet) }
	copying    = func(c *cloud) { c.AddDropletPending(blueDroplet) }
	unanswered = post(simulator.Fault{Reset: true})
)

var interruptions = []interruption{
	// Before the request, or where it was refused, nothing was promoted: the
	// release that came for it goes.
	{name: "post-receive, before the request", hooks: afterGit, args: byOption, deploys: true, step: "promotion: intent recorded",
		owner: "green", events: []string{"deploy failed", "recover succeeded", "promote failed", "recover succeeded"}, ran: []string{"promoting", "rolled-back"},
		says: `^success: the web root is as it was before [0-9a-f]{7}; of its promotion: interrupted; green has 203\.0\.113\.10$`, never: `is live|is deployed|has succeeded`},
	{name: "post-receive, the request refused", hooks: afterGit, args: byOption, deploys: true, step: "promotion: asked", faults: post(simulator.Fault{Status: 403}),
		owner: "green", posts: 1, events: []string{"deploy failed", "recover succeeded", "promote failed", "recover succeeded"}, ran: []string{"promoting", "rolled-back"},
		says: `^success: the web root is as it was before [0-9a-f]{7}; of its promotion: interrupted; green has 203\.0\.113\.10$`, never: `is live|is deployed|has succeeded`},
	{name: "tag, prepared", args: byTag, step: "promotion: prepared",
		owner: "green", kept: true, events: []string{"promote failed", "recover succeeded"}, ran: []string{"rolled-back"},
		says: `^success: the promotion that was interrupted at .* has failed: interrupted before the traffic was asked for$`},
	// What the droplet does beside is not waited for.
	{name: "tag, not carried out, the droplet is being copied", args: byTag, step: "promotion: asked", faults: unanswered, before: copying,
		owner: "green", posts: 1, kept: true, events: []string{"promote failed", "recover succeeded"}, ran: []string{"promoting", "rolled-back"},
		says: `^success: the promotion that was interrupted at .* has failed: interrupted; green has 203\.0\.113\.10$`, never: `waiting|pending`},

	// After it, the outside decides.
	{name: "tag, carried out, the droplet is being copied", args: byTag, step: "promotion: asked", before: copying,
		owner: "blue", posts: 1, kept: true, events: []string{"promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `^success: the promotion that was interrupted at .* has succeeded: interrupted, then completed: blue has 203\.0\.113\.10$`, never: `waiting|pending`},
	{name: "option, carried out", args: byOption, deploys: true, step: "promotion: asked",
		owner: "blue", posts: 1, kept: true, events: []string{"deploy succeeded", "recover succeeded", "promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `^success: [0-9a-f]{7} is deployed; of its promotion: interrupted, then completed: blue has 203\.0\.113\.10$`},
	// Nothing was said yet, and no ref of the push has moved: it goes back.
	{name: "option, proven, the outside is down", args: byOption, deploys: true, step: "promotion: proven", before: (*cloud).breakOutside,
		owner: "green", posts: 2, events: []string{"deploy failed", "recover succeeded", "promote failed", "recover succeeded"}, ran: []string{"promoting", "promoted", "rolled-back"},
		says: `^success: the web root is as it was before [0-9a-f]{7}; of its promotion: interrupted; the outside does not see the release: .*; 203\.0\.113\.10 is back with green$`},
	{name: "post-receive, a tag, carried out, the outside is down", hooks: afterGit, args: byTag, step: "promotion: asked", before: (*cloud).breakOutside,
		owner: "green", posts: 2, kept: true, events: []string{"promote failed", "recover succeeded"}, ran: []string{"promoting", "rolled-back"},
		says: `has failed: interrupted; the outside does not see the release: .*; 203\.0\.113\.10 is back with green$`},

	// Once the refs have moved it had succeeded, whatever became of it since.
	{name: "atomic, succeeded, the outside is down", args: atOnce, deploys: true, step: "ref moved", before: (*cloud).breakOutside,
		owner: "blue", posts: 1, kept: true, events: []string{"deploy succeeded", "recover succeeded", "promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `^success: [0-9a-f]{7} is deployed: its ref had moved before the crash; of its promotion: interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
	{name: "atomic, succeeded, green has it again", args: atOnce, deploys: true, step: "ref moved", before: greenHas,
		owner: "green", posts: 1, kept: true, events: []string{"deploy succeeded", "recover succeeded", "promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `^success: [0-9a-f]{7} is deployed: its ref had moved before the crash; of its promotion: interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
	{name: "option, succeeded, the outside is down", args: byOption, deploys: true, step: "ref moved", before: (*cloud).breakOutside,
		owner: "blue", posts: 1, kept: true, events: []string{"deploy succeeded", "recover succeeded", "promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
	{name: "tag, succeeded, the outside is down", args: byTag, step: "promotion: ref moved", before: (*cloud).breakOutside,
		owner: "blue", posts: 1, kept: true, events: []string{"promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `^success: the promotion that was interrupted at .* has succeeded: interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
	{name: "tag, succeeded, green has it again", args: byTag, step: "promotion: ref moved", before: greenHas,
		owner: "green", posts: 1, kept: true, events: []string{"promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `^success: the promotion that was interrupted at .* has succeeded: interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
	// Where git has moved them before, it is the proof that counts.
	{name: "post-receive, a tag, proven, the outside is down", hooks: afterGit, args: byTag, step: "promotion: proven", before: (*cloud).breakOutside,
		owner: "blue", posts: 1, kept: true, events: []string{"promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `has succeeded: interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
	{name: "post-receive, proven, green has it again", hooks: afterGit, args: byOption, deploys: true, step: "promotion: proven", before: greenHas,
		owner: "green", posts: 1, kept: true, events: []string{"deploy succeeded", "recover succeeded", "promote succeeded", "recover succeeded"}, ran: []string{"promoting", "promoted"},
		says: `interrupted after it had succeeded$`, never: `is live|has 203|then completed`},
}

// TestPromotionInterrupted plays them all, each in a cloud of its own. They
// mostly wait: so they wait together.
func TestPromotionInterrupted(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 6)
	for _, i := range interruptions {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			t.Run(strings.ReplaceAll(i.name, " ", "-"), func(t *testing.T) { i.play(t, bin) })
		})
	}
	wg.Wait()
}

func (i interruption) play(t *testing.T, bin string) {
	w := promotionKilling{bin: bin, args: i.args, deploys: i.deploys}.newWalker(t)
	if i.hooks != nil {
		w.rewire(i.hooks...)
	}
	n := w.find(i.step)
	ran := w.noteCommands()
	w.Script(i.faults...)
	w.killedAt(n)
	if i.before != nil {
		i.before(w.cloud)
	}
	status, out := w.recover()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if last := lines[len(lines)-1]; status != 0 || !regexp.MustCompile(i.says).MatchString(last) || i.never != "" && regexp.MustCompile(i.never).MatchString(out) {
		t.Errorf("status %d, want 0, %q as the last line, and never %q\n%s", status, i.says, i.never, out)
	}
	if got := w.posts() - w.baseline; w.owner() != i.owner || got != i.posts || w.Unassigns() != 0 {
		t.Errorf("%s has the IP after %d requests, want %s after %d\n%s", w.owner(), got, i.owner, i.posts, out)
	}
	if got := w.blue.since(w.events); !slices.Equal(got, i.events) {
		t.Errorf("the history says %q, want %q\n%s", got, i.events, out)
	}
	if got := ran(); !slices.Equal(got, i.ran) {
		t.Errorf("the commands %q ran, want %q\n%s", got, i.ran, out)
	}
	i.verify(w)
	w.operate(w.blue, 0, "^success: there was nothing to recover$", "recover")
}

// verify looks at the refs, the web root and the records.
func (i interruption) verify(w *promotionWalker) {
	w.Helper()
	held, branch, tag := w.old, w.old, ""
	moved := slices.Equal(i.hooks, afterGit) // by git, before the hook ran
	if i.kept {
		held = w.new
	}
	if i.kept || moved {
		branch = w.new
	}
	tagged := slices.Contains(i.args, "release-2")
	if tagged && slices.Contains(i.events, "promote succeeded") {
		tag = "release-2"
	}
	if at := w.blue.ref("refs/heads/master"); at != branch {
		w.Errorf("master is at %s, want %s", at, branch)
	}
	if at := w.blue.ref("refs/tags/release-2"); (at == w.new) != (tag != "" || tagged && moved) {
		w.Errorf("the tag is at %q", at)
	}
	w.holdsMarked(w.blue, held)
	if m := w.marker(w.blue); m.Tag != tag {
		w.Errorf("the marker has the tag %q, want %q", m.Tag, tag)
	}
	if got := w.recordedTag(); got != tag {
		w.Errorf("the release is recorded with the tag %q, want %q", got, tag)
	}
}

// find promotes without a fault, makes it as it was before, and returns the
// number of a step.
func (w *promotionWalker) find(step string) int {
	w.Helper()
	_, steps, out := w.promote(0)
	n := slices.Index(steps, step) + 1
	if n == 0 {
		w.Fatalf("there is no step %q in %q\n%s", step, steps, out)
	}
	w.blue.run(w.blue.git, "bluegreen", "deploy", w.old) // so that the tag is forgotten
	w.reset()
	return n
}

// killedAt promotes, and kills the hook at a step.
func (w *promotionWalker) killedAt(n int) {
	w.Helper()
	if status, taken, out := w.promote(n); len(taken) != n {
		w.Fatalf("not killed at step %d: status %d, steps %q\n%s", n, status, taken, out)
	}
}

// recover runs bluegreen recover on blue. What progress it showed is on lines of
// its own.
func (c *cloud) recover() (status int, out string) {
	c.Helper()
	status, out = c.bluegreen(c.blue, "recover")
	return status, strings.ReplaceAll(out, "\r", "\n")
}

// noteCommands adds a command for each moment of a promotion to blue, and
// returns what tells which have run.
func (c *cloud) noteCommands() (ran func() []string) {
	c.Helper()
	path := filepath.Join(c.blue.dir, "ran")
	for _, at := range []string{"promoting", "promoted", "rolled-back"} {
		c.add(c.blue, fmt.Sprintf("[[command]]\nat = %q\nrun = [\"/bin/sh\", \"-c\", \"echo %s >>%s\"]\n", at, at, path))
	}
	return func() []string {
		c.Helper()
		data, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			c.Fatal(err)
		}
		return strings.Fields(string(data))
	}
}

// recordedTag is the tag that blue's records say the release was promoted with.
func (c *cloud) recordedTag() string {
	c.Helper()
	var deployed struct{ Tag string }
	must(c, json.Unmarshal([]byte(c.blue.read("srv.git/bluegreen/deployed.json")), &deployed))
	return deployed.Tag
}

// unfinished is the interrupted operation that blue's status tells of, nil for
// none.
func (c *cloud) unfinished() map[string]any {
	c.Helper()
	var status struct{ Unfinished map[string]any }
	must(c, json.Unmarshal([]byte(c.blue.run(c.blue.git, "bluegreen", "status", "--json")), &status))
	return status.Unfinished
}

// TestConfigurationChangedMeanwhile changes what an interrupted promotion was
// about: with another configuration nothing is settled, and nothing is asked
// for, until the old one is back.
func TestConfigurationChangedMeanwhile(t *testing.T) {
	t.Parallel()
	const other = "203.0.113.99"
	bin := buildWithFaults(t)
	for _, row := range []struct {
		name   string
		change func(c *cloud)
		says   string
	}{
		{"another IP", func(c *cloud) {
			c.AddIP(other, "fra1", 0)
			c.SetOwner(reservedIP, greenDroplet) // so that blue may take the other one
			c.SetOwner(other, blueDroplet)
			c.edit(c.blue, fmt.Sprintf("ip = %q", reservedIP), fmt.Sprintf("ip = %q", other))
		}, `the configuration is about the promotion of 203\.0\.113\.99`},
		{"no promotion", func(c *cloud) {
			text, _, _ := strings.Cut(c.blue.read("srv.git/bluegreen.toml"), "[[health]]\nname = \"production\"")
			must(c, os.WriteFile(filepath.Join(c.blue.git, "bluegreen.toml"), []byte(text), 0o644))
		}, `there is no \[promotion\] in the configuration any more`},
		{"another name", func(c *cloud) {
			c.edit(c.blue, `environment = "blue"`, `environment = "teal"`)
			c.edit(c.blue, "droplets = { blue =", "droplets = { teal =")
		}, ``},
		{"the names swapped", func(c *cloud) {
			c.edit(c.blue, `environment = "blue"`, `environment = "green"`)
			c.edit(c.blue, fmt.Sprintf("{ blue = %d, green = %d }", blueDroplet, greenDroplet), fmt.Sprintf("{ blue = %d, green = %d }", greenDroplet, blueDroplet))
		}, ``},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := promotionKilling{bin: bin, args: byTag}.newWalker(t)
			w.killedAt(w.find("promotion: asked"))
			config := w.blue.read("srv.git/bluegreen.toml")
			row.change(w.cloud)
			owner, moves, marker := w.owner(), len(w.Moves()), w.blue.read("www/"+markerFile)
			for range 2 { // the first changes nothing either
				status, out := w.recover()
				if status != 3 || w.posts()-w.baseline != 1 || w.owner() != owner || len(w.Moves()) != moves {
					t.Errorf("status %d, %s has the IP after %d requests\n%s", status, w.owner(), w.posts()-w.baseline, out)
				}
				w.says(out, `(?m)^error: the interrupted promotion of "release-2".* could not be settled: .*`+row.says)
				w.says(out, `(?m)^hint: put it back as it was, run "bluegreen recover", then change it$`)
			}
			if got := w.blue.since(w.events); len(got) > 0 || w.blue.ref("refs/tags/release-2") != "" {
				t.Errorf("the history says %q, the tag is at %q", got, w.blue.ref("refs/tags/release-2"))
			}
			if got := w.blue.read("www/" + markerFile); got != marker {
				t.Errorf("the marker says %q, and said %q", got, marker)
			}
			if t.Failed() {
				return // there is nothing left to settle
			}
			must(t, os.WriteFile(filepath.Join(w.blue.git, "bluegreen.toml"), []byte(config), 0o644))
			w.SetOwner(reservedIP, blueDroplet)
			w.operate(w.blue, 0, "has succeeded: interrupted, then completed: blue has 203", "recover")
			interruption{args: byTag, kept: true, events: []string{"promote succeeded"}}.verify(w)
			if got := w.blue.since(w.events); !slices.Equal(got, []string{"promote succeeded", "recover succeeded"}) {
				t.Errorf("the history says %q", got)
			}
		})
	}
}

// TestKilledAfterUndoing kills the hook when its deployment has been undone, because
// a ref could not move, and its promotion is about to be ended. The traffic was here
// before, so nothing can be read off it: what was undone has failed all the same.
func TestKilledAfterUndoing(t *testing.T) {
	t.Parallel()
	c := newCloud(t, buildWithFaults(t), "", allHooks...)
	c.SetOwner(reservedIP, blueDroplet)
	ran := c.noteCommands()
	c.add(c.blue, fmt.Sprintf("[[health]]\nname = \"somebody moves the tag\"\nat = \"promoted\"\ncommand = [\"git\", \"--git-dir\", %q, \"update-ref\", \"refs/tags/release-2\", %q]\n", c.blue.git, c.first))
	c.blue.commit(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	push := func(env ...string) {
		t.Helper()
		c.blue.run(c.blue.git, "git", "update-ref", "-d", "refs/tags/release-2")
		if status, out := c.push(env, "blue", "-o", "live", "--atomic", "master", "release-2"); status != 1 {
			t.Fatalf("status %d\n%s", status, out)
		}
	}
	push(c.blue.noteSteps()...)
	c.matches("remote: "+c.blue.last()["reason"].(string), "its ref could not move")
	events, before := len(c.blue.history()), ran()
	push(c.blue.stepOf("promotion: history written"))
	c.operate(c.blue, 0, `^success: the promotion that was interrupted at .* has failed: interrupted after it had been undone$`, "recover")
	if got := c.blue.since(events); !slices.Equal(got, []string{"deploy failed", "promote failed", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}
	if got := ran()[len(before):]; !slices.Equal(got, []string{"rolled-back"}) {
		t.Errorf("the commands %q ran", got)
	}
	if tag := c.marker(c.blue).Tag; tag != "" || c.recordedTag() != "" || c.blue.ref("refs/heads/master") != c.first || c.owner() != "blue" || c.posts() != 0 {
		t.Errorf("the marker has the tag %q, and the record %q; master is at %s", tag, c.recordedTag(), c.blue.ref("refs/heads/master"))
	}
	c.holdsMarked(c.blue, c.first)
	c.operate(c.blue, 0, "^success: there was nothing to recover$", "recover")
}

// TestRequestCarriedOutLate kills the hook while its request is on its way, and
// has the cloud carry that out between two readings of the recovery.
func TestRequestCarriedOutLate(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	for _, args := range [][]string{byTag, byOption} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, bin, "", allHooks...)
			c.edit(c.blue, `timeout = "20s"`, `timeout = "2m"`)
			commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
			c.dev("tag", "release-2")
			if slices.Equal(args, byTag) {
				c.blue.run(c.blue.dev, "git", "push", "-q", "blue", "master")
			}
			events := len(c.blue.history())
			asked := make(chan struct{})
			c.Script(post(simulator.Fault{Hang: true, Do: func(*simulator.Cloud) { close(asked) }})...)
			push := c.blue.command(c.blue.dev, "git", append([]string{"push", "blue"}, args...)...)
			must(t, push.Start())
			<-asked
			must(t, syscall.Kill(c.blue.holder(), syscall.SIGKILL))
			push.Wait()
			c.Script(get(ipAlone, simulator.Fault{Skip: 1, Do: func(s *simulator.Cloud) { s.SetOwner(reservedIP, blueDroplet) }}))
			status, out := c.recover()
			if status != 0 || c.owner() != "blue" || c.posts() != 1 || c.Scripted() != 0 {
				t.Errorf("status %d, %s has the IP after %d requests\n%s", status, c.owner(), c.posts(), out)
			}
			c.says(out, `(?m)^success: .*interrupted, then completed: blue has 203\.0\.113\.10$`)
			if got := c.blue.since(events); !slices.Contains(got, "promote succeeded") || slices.ContainsFunc(got, func(e string) bool { return strings.HasSuffix(e, "failed") }) {
				t.Errorf("the history says %q", got)
			}
			if c.blue.ref("refs/heads/master") != commit {
				t.Errorf("master is at %s", c.blue.ref("refs/heads/master"))
			}
			c.holdsMarked(c.blue, commit)
		})
	}
}

// TestProgramOutlivesHook kills the hook while the operator's own program moves
// the traffic. The recovery does not ask who has it before that has ended.
func TestProgramOutlivesHook(t *testing.T) {
	t.Parallel()
	s := newServer(t, buildWithFaults(t), "", allHooks...)
	g := s.newGate()
	log := filepath.Join(s.dir, "log")
	s.must(os.WriteFile(filepath.Join(s.dir, "owner"), []byte("green\n"), 0o644))
	s.configure(fmt.Sprintf("[promotion]\nprovider = \"command\"\nowner = [\"/bin/sh\", \"-c\", %q]\nassign = [\"/bin/sh\", \"-c\", %q, \"sh\", \"{to}\"]\n",
		fmt.Sprintf("echo owner >>%s; cat %s/owner", log, s.dir),
		fmt.Sprintf("%s; echo $1 >%s/owner; echo assigned >>%s", g.Script, s.dir, log)))
	commit := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	s.run(s.dev, "git", "tag", "release-1")
	push, _ := s.start("release-1")
	g.wait()
	s.until("the record names the process", func() bool {
		return strings.Contains(s.read("srv.git/bluegreen/promotion.json"), `"process":`)
	})
	s.must(syscall.Kill(s.holder(), syscall.SIGKILL))
	push.Wait()
	s.must(os.Remove(log))
	recovery := s.command(s.git, "bluegreen", "recover")
	stderr, err := recovery.StderrPipe()
	s.must(err)
	s.must(recovery.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "finding out what became of the promotion") {
	}
	// While the program stands at the gate, nobody asks: that is all that there
	// is to be seen of it, so it is looked for a while.
	late, tick := time.After(500*time.Millisecond), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-tick.C:
			if _, err := os.Stat(log); err == nil {
				t.Error("it was asked while the program ran")
				waiting = false
			}
		case <-late:
			waiting = false
		}
	}
	g.pass()
	var out string
	for lines.Scan() {
		out += lines.Text() + "\n"
	}
	status := s.exitStatus(recovery.Wait())
	if got := s.read("log"); status != 0 || !strings.HasPrefix(got, "assigned\nowner\n") || s.read("owner") != "blue\n" {
		t.Errorf("status %d, %q\n%s", status, got, out)
	}
	if !strings.Contains(out, "has succeeded: interrupted, then completed: blue has the traffic") {
		t.Errorf("it says\n%s", out)
	}
	if s.ref("refs/tags/release-1") != commit {
		t.Errorf("the tag is at %q", s.ref("refs/tags/release-1"))
	}
	if got := s.since(1); !slices.Equal(got, []string{"promote succeeded", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}
}

// TestKilledWhilePreparing kills the hook while a command runs, after the
// marker has got the tag: nothing was asked for, so the tag goes again.
func TestKilledWhilePreparing(t *testing.T) {
	t.Parallel()
	c := newCloud(t, buildWithFaults(t), "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	g := c.blue.newGate()
	c.add(c.blue, fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", g.Script))
	ran := c.noteCommands()
	c.dev("tag", "release-2")
	before, events := c.state(c.blue), len(c.blue.history())
	push := c.blue.command(c.blue.dev, "git", "push", "blue", "release-2")
	must(t, push.Start())
	g.wait()
	if m := c.marker(c.blue); m.Tag != "release-2" {
		t.Errorf("the marker says %+v", m)
	}
	must(t, syscall.Kill(c.blue.holder(), syscall.SIGKILL))
	push.Wait()
	if u := c.unfinished(); u["event"] != "promote" || u["tag"] != "release-2" {
		t.Errorf("status says %v", u)
	}
	g.pass()
	c.operate(c.blue, 0, "^success: the promotion that was interrupted at .* has failed: interrupted before the traffic was asked for$", "recover")
	if got := ran(); !slices.Equal(got, []string{"rolled-back"}) {
		t.Errorf("the commands %q ran", got)
	}
	if got := c.blue.since(events); !slices.Equal(got, []string{"promote failed", "recover succeeded"}) || c.unfinished() != nil || c.posts() != 0 {
		t.Errorf("the history says %q, status says %v, after %d requests", got, c.unfinished(), c.posts())
	}
	if m := c.marker(c.blue); m.Tag != "" || c.recordedTag() != "" {
		t.Errorf("the marker says %+v, and the records %q", m, c.recordedTag())
	}
	c.holdsMarked(c.blue, second)
	c.unchanged(c.blue, before)
}

// TestHistoryWrittenLate promotes while the history cannot be written. That it
// succeeded is not forgotten when another environment is promoted meanwhile.
func TestHistoryWrittenLate(t *testing.T) {
	t.Parallel()
	c := newCloud(t, buildWithFaults(t), "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	events := len(c.blue.history())
	c.dev("tag", "release-2")
	history := filepath.Join(c.blue.git, "bluegreen/history.jsonl")
	must(t, os.Rename(history, history+".aside"))
	must(t, os.Mkdir(history, 0o755))
	status, out := c.push(nil, "blue", "release-2")
	c.matches(out, `^warning: "release-2" .* is live: .*; but not all records could be written: `)
	if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/release-2") != second {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	must(t, os.Remove(history))
	must(t, os.Rename(history+".aside", history))
	c.dev("tag", "release-1", c.first)
	if status, out := c.push(nil, "green", "release-1"); status != 0 || c.owner() != "green" {
		t.Fatalf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	posts := c.posts()
	c.operate(c.blue, 0, "^success: the promotion that was interrupted at .* has succeeded: interrupted after it had succeeded$", "recover")
	if got := c.blue.since(events); !slices.Equal(got, []string{"promote succeeded", "recover succeeded"}) || c.posts() != posts || c.owner() != "green" {
		t.Errorf("the history says %q, %s has the IP after %d requests", got, c.owner(), c.posts()-posts)
	}
	if c.blue.ref("refs/tags/release-2") != second || c.marker(c.blue).Tag != "release-2" {
		t.Errorf("the tag is at %q, the marker says %+v", c.blue.ref("refs/tags/release-2"), c.marker(c.blue))
	}
	c.holdsMarked(c.blue, second)
}

// TestRollbackAfterCrash goes back at once after the hook was killed: what it
// goes back from is settled first.
func TestRollbackAfterCrash(t *testing.T) {
	t.Parallel()
	w := promotionKilling{bin: buildWithFaults(t), args: byTag}.newWalker(t)
	w.killedAt(w.find("promotion: asked"))
	if w.owner() != "blue" {
		t.Fatalf("%s has the IP", w.owner())
	}
	w.operate(w.blue, 0, `^(success|warning): green is live: 203\.0\.113\.10 moved from blue to green`, "rollback")
	if got := w.blue.since(w.events); !slices.Equal(got, []string{"promote succeeded", "recover succeeded", "rollback succeeded"}) || w.owner() != "green" {
		t.Errorf("the history says %q, %s has the IP", got, w.owner())
	}
	interruption{args: byTag, kept: true, events: []string{"promote succeeded"}}.verify(w)
}
