package hooks_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/simulator"
)

// TestLiveWhileWaiting pushes the branch while a promotion to the same
// environment runs: when the push gets its turn, it would change production.
func TestLiveWhileWaiting(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	g := c.blue.newGate()
	c.add(c.blue, fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", g.Script))
	c.dev("tag", "release-2")
	promotion := c.blue.command(c.blue.dev, "git", "push", "blue", "release-2")
	must(t, promotion.Start())
	g.wait()
	c.blue.commit(map[string]string{"index.html": "v3\n"})
	waiting := c.blue.command(c.blue.dev, "git", "push", "-o", "wait=1m", "blue", "master")
	stderr, err := waiting.StderrPipe()
	must(t, err)
	must(t, waiting.Start())
	var out string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		if out += lines.Text() + "\n"; strings.Contains(lines.Text(), "remote: waiting: ") {
			g.pass()
		}
	}
	status := c.blue.exitStatus(waiting.Wait())
	must(t, promotion.Wait())
	if status != 1 || c.owner() != "blue" || c.blue.ref("refs/heads/master") != second {
		t.Errorf("status %d, %s has the IP, master is at %s\n%s", status, c.owner(), c.blue.ref("refs/heads/master"), out)
	}
	c.matches(out, `^error: blue is live: `)
	c.holdsMarked(c.blue, second)
}

// TestPromoteOptionRecorded looks for the refusals of the push option in the
// history.
func TestPromoteOptionRecorded(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "signers = \"/etc/hosts\"", allHooks...)
	commit := c.blue.commit(map[string]string{"index.html": "v2\n"})
	events := len(c.blue.history())
	status, out := c.push(nil, "blue", "-o", "promote", "master")
	if got := c.blue.since(events); status != 1 || !slices.Equal(got, []string{"deploy refused"}) || c.blue.last()["commit"] != commit {
		t.Errorf("status %d, the history says %q\n%s", status, got, out)
	}
}

// TestAtomicRefusalRecorded: the promotion that an atomic push asks for is in
// the history also when it is refused with its deployment.
func TestAtomicRefusalRecorded(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	wholePush{args: []string{"--atomic", "master", "HEAD~1:refs/tags/release-@"}, status: 1,
		last: `^error: "release-@" is [0-9a-f]{7}, but this push deploys [0-9a-f]{7}`, events: []string{"deploy refused", "promote refused"}}.numbered(1).play(c)
}

// TestCommitOfAnnotatedTag: the history names the commit, not the tag's object.
func TestCommitOfAnnotatedTag(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	commit := c.blue.commit(map[string]string{"index.html": "-"})
	c.dev("tag", "-a", "-m", "x", "release-2")
	c.dev("tag", "-a", "-m", "x", "release-3")
	for _, args := range [][]string{{"master", "release-2"}, {"release-2", "release-3"}} {
		status, out := c.push(nil, "blue", args...)
		if last := c.blue.last(); status != 1 || last["event"] != "promote" || last["result"] != "refused" || last["commit"] != commit {
			t.Errorf("git push %q: status %d, the history says %v, want %s\n%s", args, status, last, commit, out)
		}
	}
}

// TestTagStays: a release keeps the tag that it was promoted with when the
// operator moves the traffic to it again.
func TestTagStays(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	if status, out := c.push(nil, "blue", "release-2"); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	c.SetOwner(reservedIP, greenDroplet)
	c.operate(c.blue, 0, "^success: ", "rollback") // it was taken away from here
	if m := c.marker(c.blue); m.Tag != "release-2" {
		t.Errorf("after a rollback the marker says %+v", m)
	}
	c.SetOwner(reservedIP, greenDroplet)
	c.dev("tag", "release-2b")
	if status, out := c.push(nil, "blue", "release-2b"); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	c.operate(c.blue, 0, "^success: ", "promote")
	if m := c.marker(c.blue); m.Tag != "release-2b" {
		t.Errorf("after a promotion the marker says %+v", m)
	}
}

// TestTagSeenFromOutside asks the outside for the tag, which the marker spells
// as JSON may, and the check as it is.
func TestTagSeenFromOutside(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.edit(c.blue, `body = '"commit":"{commit}"'`, `body = '"tag":"{tag}"'`)
	c.deploy(map[string]string{"index.html": "v2\n"})
	for _, name := range []string{"release-2", "release-a&b", "release-<3>"} {
		c.SetOwner(reservedIP, greenDroplet)
		c.dev("tag", name)
		if status, out := c.push(nil, "blue", name); status != 0 || c.owner() != "blue" {
			t.Errorf("%s: status %d, %s has the IP\n%s", name, status, c.owner(), out)
		}
	}
}

// TestRollbackAmongThree: green had the IP once, then red, now blue: before blue
// it was red, which green's history does not say.
func TestRollbackAmongThree(t *testing.T) {
	t.Parallel()
	const red = 3164496
	c := newCloud(t, "", "", allHooks...)
	c.AddDroplet(red, "red", "fra1")
	c.edit(c.green, "droplets = { ", fmt.Sprintf("droplets = { red = %d, ", red))
	c.SetOwner(reservedIP, blueDroplet)
	c.operate(c.green, 0, "^success: ", "promote")
	c.SetOwner(reservedIP, red)
	c.SetOwner(reservedIP, blueDroplet)
	c.operate(c.green, 1, "^error: going back is impossible: ", "rollback")
	if c.owner() != "blue" {
		t.Errorf("%s has the IP", c.owner())
	}
}

// TestTokenFileMended: the error says what to type, for each file that must not
// be used.
func TestTokenFileMended(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	for name, make := range map[string]func() error{
		"empty":   func() error { return os.WriteFile(c.token, nil, 0o600) },
		"symlink": func() error { return os.Symlink("/etc/hosts", c.token) },
		"FIFO":    func() error { return syscall.Mkfifo(c.token, 0o600) },
		"missing": func() error { return nil },
		"wide":    func() error { return os.WriteFile(c.token, []byte(canary), 0o644) },
	} {
		must(t, os.RemoveAll(c.token))
		must(t, make())
		status, out := c.bluegreen(c.blue, "promote")
		if status != 1 || !regexp.MustCompile(`(?m)(^hint: .*|run .*)(install|chmod|rm|umask|mv) .*`+regexp.QuoteMeta(c.token)).MatchString(out) {
			t.Errorf("%s: status %d, and it does not say what to type:\n%s", name, status, out)
		}
	}
}

// TestPromotionAgainByPostReceive: where git has stored the tag, pushing it
// again does nothing, so another way must be said.
func TestPromotionAgainByPostReceive(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.rewire("post-receive")
	c.deploy(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-old", c.first)
	_, out := c.push(nil, "blue", "release-old")
	c.says(out, "hint: .*(bluegreen promote|git push -f|--force|another tag|a new tag)")
	c.dev("tag", "release-2")
	c.breakOutside()
	_, out = c.push(nil, "blue", "release-2")
	c.says(out, "hint: .*(bluegreen promote|git push -f|--force|another tag|a new tag)")
}

// TestTagWithPreReceiveAlone: nothing here moves traffic, which is said.
func TestTagWithPreReceiveAlone(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.rewire("pre-receive")
	c.dev("tag", "release-1")
	status, out := c.push(nil, "blue", "release-1")
	if status == 0 && c.owner() == "green" && len(remoteLines(out)) == 0 {
		t.Errorf("the tag is stored, no traffic moves, and nothing is said\n%s", out)
	}
}

// TestShortTimeout: an answer of 500 to the request leaves the IP with green, as
// every reading says; that is known also after less than the default timeout.
func TestShortTimeout(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.edit(c.blue, `timeout = "20s"`, `timeout = "4s"`)
	c.Script(post(simulator.Fault{Status: http.StatusInternalServerError})...)
	c.operate(c.blue, 1, `^error: 203\.0\.113\.10 did not move to blue`, "promote")
}

// TestRolledBackTag: what the commands of one promotion are told is the same
// from its beginning to its end.
func TestRolledBackTag(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	dir := t.TempDir()
	for _, at := range []string{"promoting", "rolled-back"} {
		c.add(c.blue, fmt.Sprintf("[[command]]\nat = %q\nrun = [\"/bin/sh\", \"-c\", %q]\n", at,
			`printf %s "$BLUEGREEN_TAG" >`+filepath.Join(dir, at)))
	}
	c.blue.commit(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	c.breakOutside()
	if status, out := c.push(nil, "blue", "--atomic", "master", "release-2"); status != 1 {
		t.Errorf("status %d\n%s", status, out)
	}
	for _, at := range []string{"promoting", "rolled-back"} {
		if got, err := os.ReadFile(filepath.Join(dir, at)); string(got) != "release-2" {
			t.Errorf("%s sees the tag %q: %v", at, got, err)
		}
	}
}

// TestOtherPromotionRunning: a push that finds another promotion of the IP on
// this machine is refused, as the history says.
func TestOtherPromotionRunning(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	g := c.blue.newGate()
	c.add(c.blue, fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", g.Script))
	c.dev("tag", "release-2")
	c.dev("tag", "release-1", c.first)
	promotion := c.blue.command(c.blue.dev, "git", "push", "blue", "release-2")
	must(t, promotion.Start())
	g.wait()
	status, out := c.push(nil, "green", "-o", "wait=0s", "release-1")
	c.matches(out, `^error: .*promotion of 203\.0\.113\.10`)
	if last := c.green.last(); status != 1 || c.green.ref("refs/tags/release-1") != "" || last["event"] != "promote" || last["result"] != "refused" {
		t.Errorf("status %d, the history says %v\n%s", status, last, out)
	}
	g.pass()
	must(t, promotion.Wait())
	if c.owner() != "blue" {
		t.Errorf("%s has the IP", c.owner())
	}
}

// TestTakenWhileProving has another server take the IP from the one that holds
// it already, while that asks the outside: its error says who has it now.
func TestTakenWhileProving(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	g := c.blue.newGate()
	c.add(c.blue, fmt.Sprintf("[[health]]\nname = \"slow\"\nat = \"promoted\"\ncommand = [\"/bin/sh\", \"-c\", %q]\ntimeout = \"5s\"\nwithin = \"5s\"\ninterval = \"5s\"\n", g.Script+"; exit 1"))
	c.SetOwner(reservedIP, blueDroplet)
	c.dev("tag", "release-2")
	cmd := c.blue.command(c.blue.dev, "git", "push", "blue", "release-2")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	g.wait()
	c.SetOwner(reservedIP, greenDroplet)
	g.pass()
	if status := c.blue.exitStatus(cmd.Wait()); status != 1 || c.owner() != "green" {
		t.Errorf("status %d, %s has the IP", status, c.owner())
	}
	c.matches(out.String(), `^error: .*green has (203|it)`)
	if strings.Contains(out.String(), "production served blue until") {
		t.Errorf("it was green for all but a moment\n%s", out.String())
	}
}
