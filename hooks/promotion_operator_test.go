package hooks_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"bluegreen/internal/simulator"
)

// bluegreen runs the operator's command on an environment.
func (c *cloud) bluegreen(s *server, args ...string) (int, string) {
	c.Helper()
	status, out := s.status(nil, s.git, "bluegreen", args...)
	c.secret(out)
	return status, out
}

// operate runs the operator's command, which must end with a status and, as its
// last line, what matches a pattern.
func (c *cloud) operate(s *server, status int, last string, args ...string) {
	c.Helper()
	got, out := c.bluegreen(s, args...)
	lines := strings.FieldsFunc(strings.TrimSpace(out), func(r rune) bool { return r == '\n' || r == '\r' }) // progress covers itself
	if got != status || !regexp.MustCompile(last).MatchString(lines[len(lines)-1]) {
		c.Errorf("bluegreen %q: status %d, want %d and %q\n%s", args, got, status, last, out)
	}
}

// live is what status --json says of who is live.
func (c *cloud) live(s *server) (live *bool, environment *string) {
	c.Helper()
	var status map[string]json.RawMessage
	out := s.run(s.git, "bluegreen", "status", "--json")
	must(c, json.Unmarshal([]byte(out), &status))
	for key, v := range map[string]any{"live": &live, "live_environment": &environment} {
		if status[key] == nil {
			c.Errorf("the status has no %q:\n%s", key, out)
			continue
		}
		must(c, json.Unmarshal(status[key], v))
	}
	return live, environment
}

// traffic checks what the newest event says of the traffic.
func (c *cloud) traffic(s *server, event, result, from, to, tag string) {
	c.Helper()
	last := s.last()
	if last["event"] != event || last["result"] != result || last["from"] != from || last["to"] != to || last["tag"] != tag ||
		last["ip"] != reservedIP || last["environment"] != s.name && s.name != "" || result == "succeeded" && last["action_id"] == 0. {
		c.Errorf("the history says %v; want %s %s from %s to %s, tag %q", last, event, result, from, to, tag)
	}
}

// TestOperatorPromotes moves the traffic there and back with the operator's
// command, on either server.
func TestOperatorPromotes(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	owned := func(by string) {
		t.Helper()
		if c.owner() != by || c.Unassigns() != 0 {
			t.Errorf("%s has the IP, and not %s", c.owner(), by)
		}
		for name, s := range map[string]*server{"blue": c.blue, "green": c.green} {
			if live, environment := c.live(s); live == nil || *live != (name == by) || environment == nil || *environment != by {
				t.Errorf("%s has the IP, and on %s status says %v, %v", by, name, live, environment)
			}
		}
	}
	owned("green")
	c.operate(c.blue, 1, `^error: going back is impossible: the history here does not say who had 203\.0\.113\.10 before green$`, "rollback")
	owned("green")

	c.operate(c.blue, 0, `^success: [0-9a-f]{7} is live: 203\.0\.113\.10 moved from green to blue`, "promote")
	owned("blue")
	c.traffic(c.blue, "promote", "succeeded", "green", "blue", "")
	if last := c.blue.last(); last["commit"] != second || last["pusher"] != "ada" {
		t.Errorf("the history says %v", last)
	}
	c.operate(c.blue, 0, `^success: [0-9a-f]{7} is live: 203\.0\.113\.10 was with blue already`, "promote")

	// Back, by the history here. Green cannot be asked before: nothing but its
	// address in the cloud is known, which leads nowhere here.
	c.operate(c.blue, 0, `^(success|warning): green is live: 203\.0\.113\.10 moved from blue to green`, "rollback")
	owned("green")
	c.traffic(c.blue, "rollback", "succeeded", "blue", "green", "")
	// And back from there: what was before is blue.
	c.operate(c.blue, 0, `^success: [0-9a-f]{7} is live: 203\.0\.113\.10 moved from green to blue`, "rollback")
	owned("blue")
	c.traffic(c.blue, "rollback", "succeeded", "green", "blue", "")

	// Green has had it, and gets it back by its own command.
	c.dev("tag", "release-1", c.first)
	if status, out := c.push(nil, "green", "release-1"); status != 0 {
		t.Errorf("status %d\n%s", status, out)
	}
	owned("green")
	c.traffic(c.green, "promote", "succeeded", "blue", "green", "release-1")
	c.operate(c.blue, 0, `^success: `, "promote")
	owned("blue")
	c.operate(c.green, 0, `^success: [0-9a-f]{7} is live: 203\.0\.113\.10 moved from blue to green`, "rollback")
	owned("green")
	c.traffic(c.green, "rollback", "succeeded", "blue", "green", c.green.last()["tag"].(string))
	c.holdsMarked(c.green, c.first)
	c.holdsMarked(c.blue, second)

	var events []map[string]any
	must(t, json.Unmarshal([]byte(c.green.run(c.green.git, "bluegreen", "history", "--json")), &events))
	for _, field := range []string{"time", "event", "environment", "ref", "commit", "previous", "result", "reason", "pusher", "options", "duration_ms", "phases", "files",
		"ip", "from", "to", "tag", "action_id"} {
		if _, there := events[len(events)-1][field]; !there {
			t.Errorf("history --json has no %q in %v", field, events[len(events)-1])
		}
	}
}

// TestOperatorRefused asks for moves that cannot, or must not, take place.
func TestOperatorRefused(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})

	c.breakOutside()
	before := c.state(c.blue)
	c.operate(c.blue, 1, `^error: the outside does not see the release: .*; 203\.0\.113\.10 is back with green$`, "promote")
	c.unchanged(c.blue, before)
	c.traffic(c.blue, "promote", "failed", "green", "blue", "")
	c.outside.SetDown(false)

	c.operate(c.blue, 0, `^success: `, "promote")
	before = c.state(c.blue)
	c.SetDropletStatus(greenDroplet, "off")
	posts := c.posts()
	c.operate(c.blue, 1, `^error: droplet 3164495 \(green\) is off$`, "rollback")
	c.traffic(c.blue, "rollback", "refused", "", "green", "")
	c.SetDropletStatus(greenDroplet, "active")
	if c.posts() != posts {
		t.Error("it was asked for")
	}
	c.unchanged(c.blue, before)

	c.breakOutside()
	c.operate(c.blue, 1, `^error: the outside does not see the release: .*; 203\.0\.113\.10 is back with blue$`, "rollback")
	c.unchanged(c.blue, before)
	c.traffic(c.blue, "rollback", "failed", "blue", "green", "")
	c.outside.SetDown(false)

	c.AddDroplet(42, "stranger", "fra1")
	c.SetOwner(reservedIP, 42)
	for _, command := range []string{"promote", "rollback"} {
		c.operate(c.blue, 1, `^error: 203\.0\.113\.10 is not ours to move: it belongs to droplet 42`, command)
	}
	if live, environment := c.live(c.blue); live == nil || *live || environment != nil || c.owner() != "another" {
		t.Errorf("status says %v, %v", live, environment)
	}
	c.SetOwner(reservedIP, 0)
	c.operate(c.blue, 1, `^error: going back is impossible: nobody has 203\.0\.113\.10$`, "rollback")
	c.operate(c.blue, 0, `^success: [0-9a-f]{7} is live: 203\.0\.113\.10, which nobody had, moved to blue`, "promote")
	c.operate(c.blue, 1, `^error: going back is impossible: nobody had 203\.0\.113\.10 before blue$`, "rollback")

	c.apiDown()
	c.nobodyTells(c.blue)
	if live, environment := c.live(c.blue); live != nil || environment != nil {
		t.Errorf("nobody can tell, and status says %v, %v", live, environment)
	}
	c.operate(c.blue, 1, `^error: it cannot be told who has 203\.0\.113\.10: .*401`, "rollback")
	c.operate(c.blue, 1, `^error: it cannot be told who has 203\.0\.113\.10: .*401`, "promote")
	c.ClearScript()

	for _, args := range [][]string{{"promote", "green"}, {"rollback", "--hard"}, {"promote", "--wait", "soon"}, {"--repo", t.TempDir(), "promote"}} {
		c.operate(c.blue, 2, `^error: `, args...)
	}
	c.edit(c.blue, "timeout =", "bakes = 1\ntimeout =")
	for _, command := range []string{"promote", "rollback", "status"} {
		c.operate(c.blue, 2, `^error: .*bluegreen\.toml:\d+: promotion\.bakes`, command)
	}
	c.blue.configure("")
	for _, command := range []string{"promote", "rollback"} {
		c.operate(c.blue, 1, `^error: promotion is not set up here$`, command)
	}
}

// TestOutcomeUnknown has an action that never ends: a person must look, and the
// text says at what.
func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.edit(c.blue, `timeout = "20s"`, `timeout = "2s"`)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	c.Script(post(simulator.Fault{ActionStatus: "in-progress"})...)
	c.operate(c.blue, 3, `^error: nobody can tell where 203\.0\.113\.10 is \(action \d+\)`, "promote")
	var status struct {
		Unfinished map[string]any
	}
	must(t, json.Unmarshal([]byte(c.blue.run(c.blue.git, "bluegreen", "status", "--json")), &status))
	action := fmt.Sprint(int(c.actionID(status.Unfinished)))
	if u := status.Unfinished; u["event"] != "promote" || u["commit"] != second || u["from"] != "green" || u["to"] != "blue" {
		t.Errorf("status says %v", u)
	}
	c.operate(c.blue, 3, `^error: .*action `+action, "recover")
	c.dev("tag", "release-2")
	pushed, out := c.push(nil, "blue", "release-2")
	c.matches(out, `^error: .*action `+action)
	c.says(out, `hint: .*bluegreen recover`)
	if pushed != 1 || c.blue.ref("refs/tags/release-2") != "" || c.posts() != 1 {
		t.Errorf("status %d after %d requests\n%s", pushed, c.posts(), out)
	}
}

// actionID is the number of the action of what is unfinished.
func (c *cloud) actionID(unfinished map[string]any) float64 {
	c.Helper()
	id, ok := unfinished["action_id"].(float64)
	if !ok || id == 0 {
		c.Errorf("no action in %v", unfinished)
	}
	return id
}

// A race is two servers that ask for the IP in the same moment.
type race struct {
	name     string
	machines int // on one they wait for each other
	owner    int // of the IP, before
	rounds   int
}

const redDroplet = 3164496

// TestTwoPromoteAtOnce runs the races. They mostly wait: so they wait together.
func TestTwoPromoteAtOnce(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 4)
	for _, r := range []race{
		{"the IP is with one of them", 2, blueDroplet, 5},
		{"the IP is with a third", 2, redDroplet, 5},
		{"one machine", 1, redDroplet, 2},
	} {
		for range r.rounds {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				t.Run(strings.ReplaceAll(r.name, " ", "-"), r.run)
			})
		}
	}
	wg.Wait()
}

func (r race) run(t *testing.T) {
	c := newCloud(t, "", "", allHooks...)
	c.AddDroplet(redDroplet, "red", "fra1")
	for _, s := range []*server{c.blue, c.green} {
		c.edit(s, "droplets = { ", fmt.Sprintf("droplets = { red = %d, ", redDroplet))
	}
	if r.machines == 2 { // the lock's name has the address in it
		c.edit(c.green, fmt.Sprintf("api_url = %q", c.api), fmt.Sprintf("api_url = %q", c.api+"/"))
	}
	c.deploy(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-blue")
	c.dev("tag", "release-green", c.first)
	c.SetOwner(reservedIP, r.owner)
	sides := []struct {
		*server
		name    string
		droplet int
	}{{c.blue, "blue", blueDroplet}, {c.green, "green", greenDroplet}}
	var wg sync.WaitGroup
	status, out := [2]int{}, [2]string{}
	for i, side := range sides {
		wg.Go(func() { status[i], out[i] = c.push(nil, side.name, "release-"+side.name) })
	}
	wg.Wait()
	owner := c.owner()
	if owner != "blue" && owner != "green" || c.Unassigns() != 0 {
		t.Errorf("%s has the IP, after %d unassigns", owner, c.Unassigns())
	}
	for i, side := range sides {
		had := r.owner == side.droplet || slices.ContainsFunc(c.Moves(), func(m simulator.Move) bool { return m.To == side.droplet && m.ActionID != 0 })
		succeeded, tagged := strings.HasPrefix(lastLine(out[i]), "success: "), side.ref("refs/tags/release-"+side.name) != ""
		if succeeded != (status[i] == 0) || succeeded != tagged || succeeded && !had || owner == side.name && !succeeded {
			t.Errorf("%s has the IP, and %s: status %d, the tag is there: %v\n%s", owner, side.name, status[i], tagged, out[i])
		}
		if !succeeded && !raceLost.MatchString(lastLine(out[i])) {
			t.Errorf("%s does not say who has the IP: %q", side.name, lastLine(out[i]))
		}
		if last := side.last(); (last["result"] == "succeeded") != succeeded {
			t.Errorf("the history of %s says %v", side.name, last)
		}
		left, err := leftovers(side.git, side.www)
		must(t, err)
		if len(left) > 0 {
			t.Errorf("left behind on %s: %q", side.name, left)
		}
	}
}

// raceLost is what the one says that has not got the IP, or not kept it.
var raceLost = regexp.MustCompile(`^error: .*(blue|green|red) has |^error: .*(is back with|pending event)|` +
	`^error: the outside does not see the release: .*(blue|green)`)

// TestPusherGoneWhilePromoting kills the pusher while a command waits, before
// the traffic moves: the promotion goes on to its end.
func TestPusherGoneWhilePromoting(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{allHooks, {"post-receive"}} {
		for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGHUP} {
			t.Run(fmt.Sprintf("%d hooks/%s", len(hooks), signal), func(t *testing.T) {
				t.Parallel()
				c := newCloud(t, "", "", allHooks...)
				c.rewire(hooks...)
				second := c.deploy(map[string]string{"index.html": "v2\n"})
				g := c.blue.newGate()
				c.add(c.blue, fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", g.Script))
				c.dev("tag", "release-2")
				cmd := c.blue.command(c.blue.dev, "git", "push", "blue", "release-2")
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				must(t, cmd.Start())
				g.wait()
				if signal == syscall.SIGKILL { // to hooks, too, it cannot be outlived
					must(t, cmd.Process.Kill())
				} else {
					must(t, syscall.Kill(-cmd.Process.Pid, signal))
				}
				cmd.Wait()
				if c.posts() != 0 || !c.blue.locked() {
					t.Errorf("%d requests, and the lock is held: %v", c.posts(), c.blue.locked())
				}
				g.pass()
				c.blue.waitFree()
				if c.owner() != "blue" || c.posts() != 1 || c.blue.ref("refs/tags/release-2") != second {
					t.Errorf("%s has the IP after %d requests, the tag is at %q", c.owner(), c.posts(), c.blue.ref("refs/tags/release-2"))
				}
				c.traffic(c.blue, "promote", "succeeded", "green", "blue", "release-2")
				if m := c.marker(c.blue); m.Tag != "release-2" {
					t.Errorf("the marker says %+v", m)
				}
				c.holdsMarked(c.blue, second)
			})
		}
	}
}

// TestShutdownWhilePromoting asks the hook to end before the traffic moves, and
// while the outside is asked: it goes back.
func TestShutdownWhilePromoting(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"promoting", "promoted"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "", "", allHooks...)
			second := c.deploy(map[string]string{"index.html": "v2\n"})
			g := c.blue.newGate()
			if at == "promoting" {
				c.add(c.blue, fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", g.Script))
			} else {
				c.add(c.blue, fmt.Sprintf("[[health]]\nname = \"slow\"\nat = \"promoted\"\ncommand = [\"/bin/sh\", \"-c\", %q]\ntimeout = \"1m\"\nwithin = \"1m\"\n", g.Script))
			}
			c.dev("tag", "release-2")
			before := c.state(c.blue)
			cmd := c.blue.command(c.blue.dev, "git", "push", "blue", "release-2")
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			must(t, cmd.Start())
			g.wait()
			if moved := c.owner() == "blue"; moved != (at == "promoted") {
				t.Errorf("%s has the IP", c.owner())
			}
			must(t, syscall.Kill(c.blue.holder(), syscall.SIGTERM))
			if status := c.blue.exitStatus(cmd.Wait()); status != 1 || !strings.HasPrefix(lastLine(out.String()), "error: ") {
				t.Errorf("status %d\n%s", status, out.String())
			}
			c.unchanged(c.blue, before)
			c.holdsMarked(c.blue, second)
			c.traffic(c.blue, "promote", "failed", "green", "blue", "release-2")
		})
	}
}

// TestProviderCommand promotes, and goes back, with two programs in the place
// of the API.
func TestProviderCommand(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	owner := filepath.Join(s.dir, "owner")
	s.run(s.dir, "sh", "-c", "echo green >"+owner)
	s.configure(fmt.Sprintf("marker = \"release.json\"\n[promotion]\nprovider = \"command\"\nowner = [\"cat\", %q]\nassign = [\"/bin/sh\", \"-c\", %q, \"sh\", \"{to}\"]\n",
		owner, `echo "$1" >`+owner))
	read := func() string { return strings.TrimSpace(s.read("owner")) }
	commit := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	s.run(s.dev, "git", "tag", "release-1")
	status, out := s.push(nil, "release-1")
	if status != 0 || read() != "blue" || !strings.HasPrefix(lastLine(out), `success: "release-1" (`+commit[:7]+`) is live: the traffic moved from green to blue, the outside was not asked`) {
		t.Errorf("status %d, %s has the traffic\n%s", status, read(), out)
	}
	if last := s.last(); last["ip"] != "" || last["from"] != "green" || last["to"] != "blue" || last["action_id"] != 0. {
		t.Errorf("the history says %v", last)
	}
	s.commit(map[string]string{"page": "two"})
	status, out = s.push(nil, "master")
	if status != 1 || !strings.HasPrefix(lastLine(out), "error: blue is live: it has the traffic") {
		t.Errorf("status %d\n%s", status, out)
	}
	if status, out := s.status(nil, s.git, "bluegreen", "rollback"); status != 0 || read() != "green" {
		t.Errorf("rollback: status %d, %s has the traffic\n%s", status, read(), out)
	}
}
