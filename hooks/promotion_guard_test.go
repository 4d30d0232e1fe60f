package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bluegreen/internal/gittest"
	"bluegreen/internal/simulator"
)

// TestNobodyHadIt promotes where the IP has no place to go back to, and the
// outside does not see the release: it stays, and nobody knows what to make of
// it until the outside does.
func TestNobodyHadIt(t *testing.T) {
	t.Parallel()
	c := newCloud(t, buildWithFaults(t), "", allHooks...)
	commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
	c.SetOwner(reservedIP, 0)
	c.breakOutside()
	events := len(c.blue.history())
	status, out := c.push(nil, "blue", "-o", "promote", "master")
	c.matches(out, `^error: the outside does not see the release: .*; and 203\.0\.113\.10 stays with blue: nobody had it before$`)
	c.says(out, `hint: .*"bluegreen recover" asks the outside again`)
	// What the traffic gets stays, also while nothing can be decided.
	stays := func(got, want int) {
		t.Helper()
		if u := c.unfinished(); got != want || c.owner() != "blue" || c.posts() != 1 || c.blue.ref("refs/heads/master") != c.first || u["event"] != "promote" {
			t.Errorf("status %d, %s has the IP after %d requests, master is at %s, unfinished is %v", got, c.owner(), c.posts(), c.blue.ref("refs/heads/master"), u)
		}
		if got := c.blue.since(events); len(got) > 0 || c.blue.read("www/index.html") != "v2\n" || c.marker(c.blue).Commit != commit {
			t.Errorf("the history says %q, the web root holds %q", got, c.blue.read("www/index.html"))
		}
	}
	stays(status, 1)
	status, out = c.recover()
	c.says(out, `(?m)^error: the interrupted promotion.* could not be settled: .*203\.0\.113\.10 stays with blue: nobody had it before$`)
	stays(status, 3)
	c.outside.SetDown(false)
	c.operate(c.blue, 0, `^success: `+commit[:7]+` is deployed; of its promotion: interrupted, then completed: blue has 203\.0\.113\.10$`, "recover")
	if got := c.blue.since(events); !slices.Equal(got, []string{"deploy succeeded", "recover succeeded", "promote succeeded", "recover succeeded"}) {
		t.Errorf("the history says %q", got)
	}
	if c.owner() != "blue" || c.posts() != 1 || c.blue.ref("refs/heads/master") != commit || c.unfinished() != nil {
		t.Errorf("%s has the IP after %d requests, master is at %s", c.owner(), c.posts(), c.blue.ref("refs/heads/master"))
	}
	c.holdsMarked(c.blue, commit)
}

// TestLiveOnItsWay pushes the branch while the IP may be on its way: nobody can
// tell whether that changes production.
func TestLiveOnItsWay(t *testing.T) {
	t.Parallel()
	c := newCloud(t, buildWithFaults(t), "", allHooks...)
	c.SetLocked(reservedIP, true)
	c.blue.commit(map[string]string{"index.html": "v2\n"})
	before, events := c.state(c.blue), len(c.blue.history())
	status, out := c.push(nil, "blue", "master")
	c.matches(out, `^error: nobody can tell whether blue is live: it may be on its way: 203\.0\.113\.10 is locked$`)
	c.says(out, `hint: .*git push -o live`)
	if got := c.blue.since(events); status != 1 || !slices.Equal(got, []string{"deploy refused"}) {
		t.Errorf("status %d, the history says %q\n%s", status, got, out)
	}
	c.unchanged(c.blue, before)
	c.SetLocked(reservedIP, false)
	if status, out := c.push(nil, "blue", "master"); status != 0 {
		t.Errorf("status %d\n%s", status, out)
	}
}

// TestLiveSincePreReceive has the traffic come here between pre-receive and
// proc-receive: the update hook, which is asked between them, promotes.
func TestLiveSincePreReceive(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	c := newCloud(t, bin, "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	update := filepath.Join(c.blue.git, "hooks/update")
	gittest.Script(t, update, fmt.Sprintf("#!/bin/sh\nexec %s promote\n", filepath.Join(bin, "bluegreen")))
	c.blue.commit(map[string]string{"index.html": "v3\n"})
	status, out := c.push(nil, "blue", "master")
	c.matches(out, `^error: blue is live: it has 203\.0\.113\.10, and this push would change production$`)
	c.says(out, `hint: .*git push -o live`)
	c.says(out, `! \[remote rejected\] master -> master \(blue is live`)
	if last := c.blue.last(); status != 1 || c.owner() != "blue" || c.blue.ref("refs/heads/master") != second || last["event"] != "deploy" || last["result"] != "refused" {
		t.Errorf("status %d, %s has the IP, master is at %s, the history says %v", status, c.owner(), c.blue.ref("refs/heads/master"), last)
	}
	c.holdsMarked(c.blue, second)
	must(t, os.Remove(update))
	if status, out := c.push(nil, "blue", "-o", "live", "master"); status != 0 || c.blue.read("www/index.html") != "v3\n" {
		t.Errorf("status %d\n%s", status, out)
	}
}

// TestRollbackTold: what is asked and run for a move to the other environment
// is told of that one, of whose release nothing is known here.
func TestRollbackTold(t *testing.T) {
	t.Parallel()
	c := newCloud(t, buildWithFaults(t), "", allHooks...)
	told := filepath.Join(c.blue.dir, "told")
	c.add(c.blue, fmt.Sprintf("[[health]]\nname = \"smoke\"\nat = \"promoted\"\ncommand = [\"/bin/sh\", \"-c\", %q]\n[[command]]\nat = \"promoted\"\nrun = [\"/bin/sh\", \"-c\", %q]\n",
		`echo "check $BLUEGREEN_ENVIRONMENT/$BLUEGREEN_COMMIT/$BLUEGREEN_TAG" >>`+told, `echo "command $BLUEGREEN_ENVIRONMENT/$BLUEGREEN_COMMIT/$BLUEGREEN_TAG" >>`+told))
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	if status, out := c.push(nil, "blue", "release-2"); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	hears := func(want string) {
		t.Helper()
		if got := c.blue.read("told"); got != fmt.Sprintf("check %s\ncommand %[1]s\n", want) {
			t.Errorf("they are told %q, want %q", got, want)
		}
		os.Remove(told)
	}
	hears("blue/" + second + "/release-2")
	c.operate(c.blue, 0, "^(success|warning): green is live: ", "rollback")
	hears("green//")
	c.operate(c.blue, 0, "^success: "+second[:7]+" is live: ", "rollback")
	hears("blue/" + second + "/")
	if c.owner() != "blue" || c.marker(c.blue).Tag != "release-2" {
		t.Errorf("%s has the IP, and the marker says %+v", c.owner(), c.marker(c.blue))
	}
}

// TestStaleRefLock promotes while a lock is in the way of the ref that is to
// move at the end: the traffic would move there and back for nothing.
func TestStaleRefLock(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	for _, row := range []struct {
		lock string
		args []string
	}{
		{"refs/tags/release-2", []string{"release-2"}},
		{"refs/heads/master", []string{"-o", "promote", "master"}},
		{"refs/tags/release-2", []string{"--atomic", "master", "release-2"}},
		{"refs/heads/master", []string{"--atomic", "master", "release-2"}},
	} {
		t.Run(strings.Join(row.args, " ")+" "+filepath.Base(row.lock), func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, bin, "", allHooks...)
			commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
			if len(row.args) == 1 {
				c.blue.run(c.blue.dev, "git", "push", "-q", "blue", "master")
			}
			c.dev("tag", "release-2")
			before, events := c.state(c.blue), len(c.blue.history())
			lock := filepath.Join(c.blue.git, row.lock+".lock")
			must(t, os.MkdirAll(filepath.Dir(lock), 0o755))
			must(t, os.WriteFile(lock, nil, 0o644))
			status, out := c.push(nil, "blue", row.args...)
			c.matches(out, `^error: .*"`+row.lock+`" is locked by another git process; if none is running, remove "`+row.lock+`\.lock" on the server`)
			if status != 1 || c.posts() != 0 {
				t.Errorf("status %d after %d requests\n%s", status, c.posts(), out)
			}
			for _, e := range c.blue.since(events) {
				if !strings.HasSuffix(e, " refused") {
					t.Errorf("the history says %q", e)
				}
			}
			must(t, os.Remove(lock))
			c.unchanged(c.blue, before)
			if status, out := c.push(nil, "blue", row.args...); status != 0 || c.owner() != "blue" {
				t.Errorf("again: status %d, %s has the IP\n%s", status, c.owner(), out)
			}
			c.holdsMarked(c.blue, commit)
		})
	}
}

// A stumble is a promotion that does not go as it should, and ends as it must.
type stumble struct {
	name   string
	args   []string // of git push blue; the commit comes with the options
	play   func(c *cloud)
	status int    // of git push
	posts  int    // requests for a move
	last   string // a pattern for the last line
	stays  bool   // the traffic, although the promotion failed
}

// ipAlone matches the readings of the IP, and not those of its actions.
const ipAlone = "/v2/reserved_ips/*"

// staleAfterPost has one reading of the IP say what was before the request for
// a move, after others that say what is.
func (c *cloud) staleAfterPost(others int) {
	c.Script(post(simulator.Fault{Apply: true, Do: func(s *simulator.Cloud) {
		s.Script(get(ipAlone, simulator.Fault{Skip: others, Body: fmt.Sprintf(
			`{"reserved_ip":{"ip":%q,"locked":false,"region":{"slug":"fra1"},"droplet":{"id":%d,"name":"green"}}}`, reservedIP, greenDroplet)}))
	}})...)
}

var stumbles = []stumble{
	{name: "the way back is refused twice", args: byTag, status: 1, posts: 4, last: `; 203\.0\.113\.10 is back with green$`,
		play: func(c *cloud) {
			c.breakOutside()
			c.Script(post(simulator.Fault{Status: 429, Skip: 1, Times: 2, Header: map[string]string{"Retry-After": "3"}})...)
		}},
	{name: "the way back is refused for good", args: byTag, status: 1, posts: 4, last: `; and 203\.0\.113\.10 stays with blue: .*403`, stays: true,
		play: func(c *cloud) {
			c.breakOutside()
			c.Script(post(simulator.Fault{Status: 403, Skip: 1, Times: 3})...)
		}},
	// The first reading after the request sees that the IP has moved, the second
	// one makes sure after the proof.
	{name: "a stale reading of the end", args: byTag, posts: 1, last: moved, play: func(c *cloud) { c.staleAfterPost(0) }},
	{name: "a stale reading of the proof", args: byTag, posts: 1, last: moved, play: func(c *cloud) { c.staleAfterPost(1) }},
	{name: "a stale reading of the proof, with the option", args: byOption, posts: 1, last: `^success: [0-9a-f]{7} is live`, play: func(c *cloud) { c.staleAfterPost(1) }},
}

// TestPromotionStumbles plays them all, each in a cloud of its own. They mostly
// wait: so they wait together.
func TestPromotionStumbles(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	var wg sync.WaitGroup
	for _, s := range stumbles {
		wg.Go(func() {
			t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) { s.run(newCloud(t, bin, "", allHooks...)) })
		})
	}
	wg.Wait()
}

func (s stumble) run(c *cloud) {
	commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	if slices.Equal(s.args, byTag) {
		c.blue.run(c.blue.dev, "git", "push", "-q", "blue", "master")
	}
	before, events := c.state(c.blue), len(c.blue.history())
	s.play(c)
	status, out := c.push(nil, "blue", s.args...)
	if status != s.status || c.posts() != s.posts || c.Scripted() != 0 || c.Unassigns() != 0 {
		c.Errorf("status %d after %d requests, want %d after %d; %d faults are left\n%s", status, c.posts(), s.status, s.posts, c.Scripted(), out)
	}
	c.matches(out, s.last)
	if s.stays {
		c.says(out, `hint: .*production is served from here: mend it, or run "bluegreen promote" on the server that should have it`)
		before["owner"] = "blue"
	}
	if s.status != 0 {
		c.unchanged(c.blue, before)
		if got := c.blue.since(events); !slices.Equal(got, []string{"promote failed"}) {
			c.Errorf("the history says %q", got)
		}
		return
	}
	if last := c.blue.last(); c.owner() != "blue" || last["event"] != "promote" || last["result"] != "succeeded" {
		c.Errorf("%s has the IP, the history says %v", c.owner(), last)
	}
	c.holdsMarked(c.blue, commit)
}

// TestShutdownWhileMoving asks the hook to end while its request is on its way,
// which is then carried out: it goes back or goes on, and says which.
func TestShutdownWhileMoving(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	for _, args := range [][]string{byTag, byOption, atOnce} {
		for _, proven := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/%v", args[0], proven), func(t *testing.T) {
				t.Parallel()
				c := newCloud(t, bin, "", allHooks...)
				if !proven {
					config := c.blue.read("srv.git/bluegreen.toml")
					from, to := strings.Index(config, "[[health]]\nname = \"production\""), strings.Index(config, "[promotion]")
					must(t, os.WriteFile(filepath.Join(c.blue.git, "bluegreen.toml"), []byte(config[:from]+config[to:]), 0o644))
				}
				commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
				c.dev("tag", "release-2")
				if slices.Equal(args, byTag) {
					c.blue.run(c.blue.dev, "git", "push", "-q", "blue", "master")
				}
				before := c.state(c.blue)
				asked, told := make(chan struct{}), make(chan struct{})
				c.Script(post(simulator.Fault{Do: func(*simulator.Cloud) { close(asked); <-told }})...)
				push := c.blue.command(c.blue.dev, "git", append([]string{"push", "blue"}, args...)...)
				var out strings.Builder
				push.Stdout, push.Stderr = &out, &out
				must(t, push.Start())
				<-asked
				must(t, syscall.Kill(c.blue.holder(), syscall.SIGTERM))
				close(told)
				status := c.blue.exitStatus(push.Wait())
				last := c.blue.last()
				if stayed := c.owner() == "blue"; stayed != (status == 0) || !stayed && c.owner() != "green" || stayed != (last["result"] == "succeeded") || c.unfinished() != nil {
					t.Errorf("status %d, %s has the IP, the history says %v, unfinished is %v\n%s", status, c.owner(), last, c.unfinished(), out.String())
				}
				if proven && status != 1 {
					t.Errorf("the outside was not asked to the end, and the status is %d\n%s", status, out.String())
				}
				if status != 0 {
					c.matches(out.String(), `^error: .* is back with green$`)
					c.unchanged(c.blue, before)
					return
				}
				c.matches(out.String(), `^(success|warning): .* is live: 203\.0\.113\.10 moved from green to blue`)
				c.holdsMarked(c.blue, commit)
			})
		}
	}
}

// TestOwnerPrintsNoName has the operator's program print what is no
// environment's name: nothing is moved, and nobody is said to be live.
func TestOwnerPrintsNoName(t *testing.T) {
	t.Parallel()
	s := newServer(t, buildWithFaults(t), "", allHooks...)
	owner, asked := filepath.Join(s.dir, "owner"), filepath.Join(s.dir, "asked")
	s.must(os.WriteFile(owner, []byte("green\n"), 0o644))
	s.configure(fmt.Sprintf("[promotion]\nprovider = \"command\"\nowner = [\"cat\", %q]\nassign = [\"/bin/sh\", \"-c\", \"echo $1 | tee -a %s >%s\", \"sh\", \"{to}\"]\n", owner, asked, owner))
	s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	s.run(s.dev, "git", "tag", "release-1")
	for _, text := range []string{"--help\n", "-green\n", "gre\x1b[31men\n", "green\nblue\n", "green blue\n", strings.Repeat("x", 70000)} {
		t.Run(fmt.Sprintf("%.12q", text), func(t *testing.T) {
			s.must(os.WriteFile(owner, []byte(text), 0o644))
			status, out := s.push(nil, "release-1") // looks for what is raw
			if status != 1 || !strings.Contains(lastLine(out), "asking who has the traffic: ") || s.ref("refs/tags/release-1") != "" {
				t.Errorf("status %d, the tag is at %q\n%s", status, s.ref("refs/tags/release-1"), out)
			}
			for _, command := range []string{"promote", "rollback"} {
				status, out := s.status(nil, s.git, "bluegreen", command)
				if wrong := rawControls("remote:" + strings.ReplaceAll(out, "\n", "\nremote:")); status == 0 || wrong != "" {
					t.Errorf("%s: status %d, printed %q\n%s", command, status, wrong, out)
				}
			}
			if out := s.run(s.git, "bluegreen", "status", "--json"); !strings.Contains(out, `"live": null`) || !strings.Contains(out, `"live_environment": null`) {
				t.Errorf("status says\n%s", out)
			}
			if data, err := os.ReadFile(asked); err == nil {
				t.Errorf("the program was asked to move the traffic to %q", data)
			}
		})
	}
}
