package hooks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPromotionKilledAtEveryStep kills the programs with SIGKILL at each step
// of a promotion, recovers, and holds what is said against what the API says.
func TestPromotionKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	for _, k := range []promotionKilling{
		{name: "tag", args: []string{"release-2"}, needs: "promotion: asked"},
		{name: "tag, the outside does not see it", args: []string{"release-2"}, broken: true, needs: "promotion: returning"},
		{name: "branch and tag at once", args: []string{"--atomic", "master", "release-2"}, deploys: true, needs: "ref moved"},
		{name: "option, the outside does not see it", args: []string{"-o", "promote", "master"}, deploys: true, broken: true, needs: "undoing"},
	} {
		k.bin = bin
		t.Run(strings.ReplaceAll(k.name, " ", "-"), k.walk)
	}
}

// A promotionKilling is one way to promote, to be killed in.
type promotionKilling struct {
	name, bin string
	args      []string // of git push blue
	deploys   bool     // the new commit comes with the same push
	broken    bool     // the outside does not see the release
	needs     string   // a step that must be among those that are walked
}

// A promotionWalker is a cloud in which promotions are killed, time and again.
type promotionWalker struct {
	*cloud
	promotionKilling
	old, new string
	baseline int // requests for a move before this round
	events   int // and events in the history
}

func (k promotionKilling) newWalker(t *testing.T) *promotionWalker {
	w := &promotionWalker{cloud: newCloud(t, k.bin, "", allHooks...), promotionKilling: k}
	w.old = w.first
	w.new = w.blue.commit(map[string]string{"index.html": "v2\n"})
	w.blue.run(w.blue.dev, "git", "tag", "release-2")
	w.reset()
	return w
}

// reset makes it as it was before the push: the IP is with green, and blue
// holds the commit that it holds before.
func (w *promotionWalker) reset() {
	w.outside.SetDown(false)
	w.SetOwner(reservedIP, greenDroplet)
	held := w.new
	if w.deploys {
		held = w.old
	}
	w.blue.run(w.blue.git, "git", "update-ref", "-d", "refs/tags/release-2")
	w.blue.status(nil, w.blue.dev, "git", "push", "-q", "blue", "HEAD:refs/heads/side")
	w.blue.run(w.blue.git, "git", "update-ref", "refs/heads/master", held)
	w.blue.run(w.blue.git, "bluegreen", "deploy", held)
	if w.broken {
		w.outside.SetDown(true)
	}
	w.baseline, w.events = w.posts(), len(w.blue.history())
}

func (w *promotionWalker) promote(dieAt int) (status int, steps []string, out string) {
	path := filepath.Join(w.blue.dir, "steps")
	os.Remove(path)
	status, out = w.push([]string{"BLUEGREEN_STEPS=" + path, fmt.Sprintf("BLUEGREEN_DIE_AT=%d", dieAt)}, "blue", w.args...)
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	return status, strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' }), out
}

// walk divides the steps among several clouds: most of a promotion is waiting.
func (k promotionKilling) walk(t *testing.T) {
	t.Parallel()
	w := k.newWalker(t)
	status, steps, out := w.promote(0)
	if (status == 0) == k.broken || !slices.Contains(steps, k.needs) {
		t.Fatalf("without a fault: status %d, steps %q\n%s", status, steps, out)
	}
	const clouds = 3
	for first := range clouds {
		t.Run(fmt.Sprintf("%d", first+1), func(t *testing.T) {
			t.Parallel()
			w := k.newWalker(t)
			for i := first; i < len(steps) && !t.Failed(); i += clouds { // one failure is enough to read
				w.reset()
				w.killed(steps[:i+1])
			}
		})
	}
}

// killed dies at the last of these steps, recovers, and looks.
func (w *promotionWalker) killed(steps []string) {
	w.Helper()
	what := fmt.Sprintf("killed at step %d, %q", len(steps), steps[len(steps)-1])
	status, taken, out := w.promote(len(steps))
	if len(taken) != len(steps) || status == 0 && !slices.Contains(steps, "ref moved") && !slices.Contains(steps, "promotion: ref moved") {
		w.Errorf("%s: status %d, steps %q, want %q\n%s", what, status, taken, steps, out)
		return
	}
	recovered, out := w.blue.status(nil, w.blue.git, "bluegreen", "recover")
	if recovered != 0 {
		w.Errorf("%s: recover: status %d\n%s", what, recovered, out)
	}
	w.secret(out)
	w.verify(what, out)
}

// verify holds all that the server says against the API and the web root.
func (w *promotionWalker) verify(what, said string) {
	w.Helper()
	fail := func(format string, args ...any) {
		w.Helper()
		w.Errorf("%s: %s\n%s", what, fmt.Sprintf(format, args...), said)
	}
	out := w.blue.run(w.blue.git, "bluegreen", "status", "--json")
	var status struct {
		Commit, Ref_commit, Live_environment string
		Live                                 bool
		Unfinished                           any
		Drift                                []string
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		fail("status: %v\n%s", err, out)
		return
	}
	owner := w.owner()
	if status.Live_environment != owner || status.Live != (owner == "blue") || status.Unfinished != nil || len(status.Drift) > 0 {
		fail("the API says %s, and status\n%s", owner, out)
	}
	if w.broken && owner != "green" || w.Unassigns() != 0 {
		fail("%s has the IP", owner)
	}
	if asked := w.posts() - w.baseline; asked > 2 || asked > 1 && !w.broken {
		fail("the IP was asked for %d times", asked)
	}
	tag, tagged := w.blue.ref("refs/tags/release-2"), slices.Contains(w.args, "release-2")
	if tagged && (tag == w.new) != (owner == "blue") {
		fail("%s has the IP, and the tag is at %q", owner, tag)
	}
	held := w.new
	if w.deploys && owner != "blue" {
		held = w.old
	}
	if status.Commit != held || w.blue.ref("refs/heads/master") != held {
		fail("%s has the IP, blue holds %s and master is at %s", owner, status.Commit, w.blue.ref("refs/heads/master"))
	}
	marker := w.blue.run(w.blue.www, "cat", ".well-known/release.json")
	var deployed struct{ Tag string }
	if err := json.Unmarshal([]byte(w.blue.run(w.blue.git, "cat", "bluegreen/deployed.json")), &deployed); err != nil {
		fail("deployed.json: %v", err)
	}
	if !strings.Contains(marker, fmt.Sprintf(`"commit":%q`, held)) || !strings.Contains(marker, fmt.Sprintf(`"tag":%q`, deployed.Tag)) ||
		owner == "blue" && tagged && deployed.Tag != "release-2" {
		fail("%s has the IP, blue holds %s, and the marker says %s", owner, held, marker)
	}
	if d := diff(w.blue.fresh(held), w.blue.web(false).without(".well-known", ".well-known/release.json")); d != "" {
		fail("the web root is not %s:\n%s", held, d)
	}
	w.blue.settled(held)
	last := map[string]any{}
	for _, e := range w.blue.history()[w.events:] {
		if e["event"] == "promote" {
			last = e
		}
	}
	if (owner == "blue") != (last["result"] == "succeeded") {
		fail("%s has the IP, and the history says %v", owner, last)
	}
}
