package hooks_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestKilledAtEveryStep kills the programs with SIGKILL at each step of their
// work, also the recovery at each of its own: what recovery then leaves is
// exactly one commit, the new one only if its ref has moved.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	bin := buildWithFaults(t)
	for _, k := range killings() {
		k.bin = bin
		t.Run(k.name, k.walk)
	}
}

// killings are the ways to deploy.
func killings() []killing {
	return []killing{
		{name: "proc-receive", hooks: allHooks, converts: true, needs: "ref moved", recovery: true},
		{name: "proc-receive, fails", hooks: []string{"proc-receive"}, fails: true, needs: "undo put", recovery: true},
		{name: "post-receive", hooks: []string{"post-receive"}, needs: "index written"},
		{name: "post-receive, fails", hooks: []string{"post-receive"}, fails: true, needs: "undo put"},
		{name: "bluegreen deploy", hooks: allHooks, operator: true, needs: "index written"},
		{name: "releases", hooks: allHooks, releases: true, needs: "link switched", recovery: true},
		{name: "releases, fails", hooks: []string{"proc-receive"}, releases: true, fails: true, needs: "link switched", recovery: true},
		{name: "releases, bluegreen deploy", hooks: allHooks, releases: true, operator: true, needs: "link switched"},
		{name: "releases, a path becomes shared", hooks: allHooks, releases: true, shares: true, needs: "shared path moved out"},
	}
}

// buildWithFaults builds the programs, once, with the steps compiled in.
func buildWithFaults(t testing.TB) string {
	t.Helper()
	bin, err := programsWithFaults()
	must(t, err)
	return bin
}

// programsDir names the directory for programs that are built once for all
// tests.
const programsDir = "BLUEGREEN_TEST_PROGRAMS"

var programsWithFaults = sync.OnceValues(func() (bin string, err error) {
	bin = os.Getenv(programsDir)
	return bin, buildPrograms(bin, "-tags=faults")
})

func buildPrograms(bin, flag string) error {
	build := exec.Command("go", "build", flag, "-buildvcs=false", "-o", bin+"/",
		"./pre-receive", "./proc-receive", "./post-receive", "../install/bluegreen")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// A killing is one way to deploy, to be killed in.
type killing struct {
	name     string
	bin      string
	disk     string // newServerOn's
	hooks    []string
	converts bool   // git's checkout changes contents
	fails    bool   // the check finds the new commit broken
	operator bool   // bluegreen deploy instead of a push
	releases bool   // whole releases instead of files in place
	shares   bool   // the live release has something where a path is to be shared
	needs    string // a step that must be among those that are walked
	recovery bool   // kill the recovery, too
}

// A walker is a server on which deployments are killed, time and again.
type walker struct {
	*server
	killing
	old, new         string
	oldSite, newSite listing
}

func (k killing) newWalker(t *testing.T) *walker {
	config := "[[command]]\nat = \"rolled-back\"\nrun = [\"/bin/true\"]\n"
	if k.releases {
		config = "releases = \"RELEASES\"\nkeep = 2\n" + config
	}
	if k.fails {
		config += "[[health]]\ncommand = [\"/bin/sh\", \"-c\", \"! test -e broken\"]\ninterval = \"20s\"\nwithin = \"20s\"\n"
	}
	w := &walker{server: newServerOn(t, k.disk, k.bin, config, k.hooks...), killing: k}
	if k.releases {
		w.must(os.Remove(w.www))
		w.configure(strings.ReplaceAll(config, "RELEASES", w.releasesDir()))
	}
	w.old = w.commit(map[string]string{"page": "old", "gone": "x", "tofile/a": "x", "tofile/b": "x", "todir": "x", "run": "#!", "deep/er/gone": "x", "same": "same", "link": "x", "converted": "x\n"})
	w.pushed("master")
	w.must(os.Chmod(filepath.Join(w.dev, "run"), 0o755))
	w.must(os.Remove(filepath.Join(w.dev, "link")))
	w.must(os.Symlink("same", filepath.Join(w.dev, "link")))
	attributes := "* text=auto\n"
	if k.converts {
		attributes = "converted eol=crlf\n" // nothing else changes it
	}
	w.new = w.commit(map[string]string{"page": "new", "gone": "-", "tofile": "file now", "todir": "-", "todir/inner": "x", "deep/er/gone": "-", "broken": "x", "more/files/a": "x", ".gitattributes": attributes})
	if k.operator {
		w.status(nil, w.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	}
	switch {
	case k.shares:
		w.must(os.Mkdir(filepath.Join(w.www, "uploads"), 0o755))
		w.configure("shared = [\"uploads\"]\n" + strings.ReplaceAll(config, "RELEASES", w.releasesDir()))
		fallthrough
	case !k.releases:
		w.must(os.WriteFile(filepath.Join(w.www, w.untracked()), []byte("mine"), 0o644))
	}
	w.oldSite = w.fresh(w.old)
	var err error
	w.newSite, err = checkout(w.env, filepath.Join(w.dev, ".git"), w.new, "022", w.dir) // the server does not have it
	w.must(err)
	return w
}

// untracked is a file in the web root that is nobody's but the site's, "" for
// none.
func (k killing) untracked() string {
	switch {
	case k.shares:
		return "uploads/mine"
	case k.releases:
		return ""
	}
	return "untracked"
}

// tracked lists the web root without the file that nobody tracks, which must be
// there.
func (w *walker) tracked(what string) listing {
	if w.untracked() == "" {
		return w.web(false)
	}
	if data, err := os.ReadFile(filepath.Join(w.www, w.untracked())); err != nil || string(data) != "mine" {
		w.Errorf("%s: the file that nobody tracks holds %q, %v", what, data, err)
	}
	return w.web(false).without(w.untracked())
}

// releasesDir is where the releases are, if the server has them.
func (w *walker) releasesDir() string { return filepath.Join(filepath.Dir(w.www), "releases") }

// deploy deploys the new commit under the given faults. It returns the steps
// that the programs took.
func (w *walker) deploy(dieAt int) (status int, steps []string, out string) {
	env, path := w.faults(dieAt)
	if w.operator {
		status, out = w.status(env, w.git, "bluegreen", "deploy", w.new)
	} else {
		status, out = w.push(env, "+"+w.new+":refs/heads/master")
	}
	return status, w.steps(path), out
}

// recover runs bluegreen recover under the given faults.
func (w *walker) recover(dieAt int) (status int, steps []string, out string) {
	env, path := w.faults(dieAt)
	status, out = w.status(env, w.git, "bluegreen", "recover")
	return status, w.steps(path), out
}

func (w *walker) faults(dieAt int) (env []string, path string) {
	path = filepath.Join(w.dir, "steps")
	os.Remove(path)
	return []string{"BLUEGREEN_STEPS=" + path, fmt.Sprintf("BLUEGREEN_DIE_AT=%d", dieAt)}, path
}

func (w *walker) steps(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		w.Fatal(err)
	}
	return strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
}

// walk counts the steps of a deployment, then kills one at each of them; and
// after one of each name, the recovery at each of its own.
func (k killing) walk(t *testing.T) {
	t.Parallel()
	scout := k.newWalker(t)
	status, steps, out := scout.deploy(0)
	if (status == 0) != k.succeeds() || !slices.Contains(steps, k.needs) {
		t.Fatalf("a deployment without a fault: status %d, steps %q\n%s", status, steps, out)
	}
	scout.restore()

	work := make(chan func(*walker))
	var wg sync.WaitGroup
	for range 2 {
		w := k.newWalker(t)
		wg.Go(func() {
			for job := range work {
				if !t.Failed() { // one is enough to read
					job(w)
				}
			}
			if out := w.run(w.git, "git", "fsck", "--no-dangling", "--no-progress"); out != "" {
				w.Errorf("after all that, git fsck: %s", out)
			}
		})
	}
	for i, name := range steps {
		if amid(steps, i) && i%3 != 0 && os.Getenv(everyStep) == "" {
			continue
		}
		first := slices.Index(steps, name) == i
		work <- func(w *walker) { w.killed(steps[:i+1], first) }
		if first && k.recovery {
			work <- func(w *walker) { w.recoveryKilled(steps[:i+1]) }
		}
	}
	close(work)
	wg.Wait()
}

// everyStep is the environment variable with which the walks are killed at
// each of many equal steps, too, not at the first, the last and some between.
const everyStep = "BLUEGREEN_EVERY_STEP"

// amid tells whether a step is one of equal ones, and neither the first nor the
// last.
func amid(steps []string, i int) bool {
	return i > 0 && i < len(steps)-1 && steps[i-1] == steps[i] && steps[i+1] == steps[i]
}

// succeeds tells whether the client of a deployment is told that it did.
func (k killing) succeeds() bool { return !k.fails || k.hooks[0] == "post-receive" }

// restore brings the old commit back, by the shorter way.
func (w *walker) restore() {
	if !w.operator {
		w.run(w.git, "git", "update-ref", "refs/heads/master", w.old)
	}
	w.run(w.git, "bluegreen", "deploy", w.old)
	if !w.releases {
		return
	}
	live, err := filepath.EvalSymlinks(w.www)
	w.must(err)
	if own := filepath.Join(live, "uploads"); w.shares && os.Remove(own) == nil { // a link: what is shared becomes the release's again
		w.must(os.Rename(filepath.Join(w.releasesDir(), "shared/uploads"), own))
	}
	// The other release would have what the next deployment is to write.
	all, err := filepath.Glob(filepath.Join(w.releasesDir(), "*"))
	w.must(err)
	for _, dir := range all {
		if dir != live {
			w.must(os.RemoveAll(dir))
			w.must(os.RemoveAll(filepath.Join(w.git, "bluegreen/releases", filepath.Base(dir))))
		}
	}
}

// killed kills a deployment at the last of its first steps, recovers, and looks
// at what is left. If more is set, it pushes once more.
func (w *walker) killed(first []string, more bool) {
	what := w.kill(first)
	held := w.recovered(what)
	if want := w.outcome(first); held != want {
		w.Errorf("%s: the web root holds %s, want %s", what, held, want)
	}
	if more && !w.operator {
		w.pushMore(what)
	}
	w.restore()
}

// pushMore pushes the new commit if it is not there, else the old one: that
// works as it would have without the kill.
func (w *walker) pushMore(what string) (works bool) {
	commit, site, succeeds := w.new, w.newSite, w.succeeds()
	if w.ref("refs/heads/master") == w.new {
		commit, site, succeeds = w.old, w.oldSite, true
	} else if w.fails {
		site = w.oldSite
	}
	status, out := w.push(nil, "+"+commit+":refs/heads/master")
	if works = (status == 0) == succeeds; !works {
		w.Errorf("%s: the next push: status %d\n%s", what, status, out)
	}
	if got := w.tracked(what + ", pushed again"); !maps.Equal(got, site) {
		w.Errorf("%s, pushed again:\n%s", what, diff(site, got))
		works = false
	}
	return works
}

// recoveryKilled kills the recovery of a killed deployment at its first step,
// the next recovery at its second, and so on until one gets through.
func (w *walker) recoveryKilled(first []string) {
	what := w.kill(first) + ", and each recovery"
	for at := 1; ; at++ {
		status, steps, out := w.recover(at)
		if len(steps) < at {
			break // it had no such step
		}
		if status != 128+9 || len(steps) != at {
			w.Errorf("%s: recovery killed at step %d: status %d, steps %q\n%s", what, at, status, steps, out)
			return
		}
	}
	w.recovered(what)
	w.restore()
}

func (w *walker) kill(first []string) (what string) {
	what = fmt.Sprintf("killed at step %d, %q", len(first), first[len(first)-1])
	if _, steps, out := w.deploy(len(first)); !slices.Equal(steps, first) {
		w.Errorf("%s: the steps were %q\n%s", what, steps, out)
	}
	return what
}

// outcome is the commit that the web root must hold after a deployment was
// killed that had taken the steps, and was recovered.
func (w *walker) outcome(steps []string) string {
	decisive := "ref moved"
	switch {
	case w.operator:
		decisive = "committing" // found healthy, and there is no ref to ask
	case w.hooks[0] == "post-receive":
		decisive = "intent recorded" // git has moved the ref already
	}
	if !w.fails && slices.Contains(steps, decisive) {
		return w.new
	}
	return w.old
}

// recovered recovers, and returns the commit that the web root then holds.
func (w *walker) recovered(what string) (held string) {
	if status, out := w.status(nil, w.git, "bluegreen", "recover"); status != 0 {
		w.Errorf("%s: bluegreen recover: status %d\n%s", what, status, out)
	}
	return w.verify(what)
}

// verify checks the promise: the tracked files are one commit's, and all that
// is recorded says which. It returns that commit.
func (w *walker) verify(what string) (held string) {
	at := w.ref("refs/heads/master")
	site := w.tracked(what)
	switch {
	case maps.Equal(site, w.oldSite):
		held = w.old
	case maps.Equal(site, w.newSite):
		held = w.new
	default:
		w.Errorf("%s: the web root is neither commit's; against the old one:\n%s\nagainst the new one:\n%s",
			what, diff(w.oldSite, site), diff(w.newSite, site))
		return ""
	}
	switch {
	case w.operator && at != w.old:
		w.Errorf("%s: the branch has moved", what)
	case !w.operator && w.hooks[0] != "post-receive" && held != at:
		w.Errorf("%s: the web root holds %s, and master is at %s", what, held, at)
	}
	w.settled(held)
	if status, out := w.status(nil, w.git, "bluegreen", "status", "--json"); status != 0 ||
		!strings.Contains(out, fmt.Sprintf(`"commit": %q`, held)) || !strings.Contains(out, `"unfinished": null`) || !strings.Contains(out, `"drift": []`) {
		w.Errorf("%s: bluegreen status: %d, want %s\n%s", what, status, held, out)
	}
	if said := w.lastDeployed(); said != held {
		w.Errorf("%s: the web root holds %s, and the history says %s", what, held, said)
	}
	return held
}

// lastDeployed is what the history says last of what the web root holds.
func (w *walker) lastDeployed() string {
	for _, e := range slices.Backward(w.history()) {
		if e["event"] == "deploy" && e["result"] == "succeeded" {
			return e["commit"].(string)
		}
	}
	return ""
}
