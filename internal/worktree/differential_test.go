package worktree

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// TestDifferential deploys made-up histories, commit after commit, in each kind
// of repository and by each strategy, and holds the web root against what the
// server's own git writes into an empty directory: contents, modes, links. What
// the repository's index says must be what git finds.
func TestDifferential(t *testing.T) {
	t.Parallel()
	for i, run := range differentialRuns() {
		t.Run(run.kind.name+"/"+run.strategy.name, func(t *testing.T) {
			t.Parallel()
			differ(t, run.kind, run.strategy, differentialSeed+uint64(i), differentialCommits)
		})
	}
}

// With these the histories have every kind of change.
const (
	differentialSeed    = 42
	differentialCommits = 10
)

type differentialRun struct {
	kind     repositoryKind
	strategy strategy
}

// differentialRuns has every kind of repository, and every strategy; the fuzz
// target has all that they make together.
func differentialRuns() []differentialRun {
	var runs []differentialRun
	for i := range max(len(repositoryKinds), 2*len(strategies)) { // a git may not know a kind
		runs = append(runs, differentialRun{repositoryKinds[i%len(repositoryKinds)], strategies[i%len(strategies)]})
	}
	return runs
}

// FuzzDifferential is TestDifferential with histories of any seed.
func FuzzDifferential(f *testing.F) {
	f.Fuzz(func(t *testing.T, seed uint64, kind, strategy uint8) {
		differ(t, repositoryKinds[int(kind)%len(repositoryKinds)], strategies[int(strategy)%len(strategies)], seed, 4)
	})
}

// TestAttributeHistory holds that the histories have every kind of change.
func TestAttributeHistory(t *testing.T) {
	t.Parallel()
	done := map[string]int{}
	for i := range differentialRuns() {
		_, more := gittest.AttributeHistory(differentialSeed+uint64(i), differentialCommits)
		for kind, n := range more {
			done[kind] += n
		}
	}
	replaceAll := []string{"many", "nothing", "back", "empty tree"} // are not made here
	for _, kind := range append(gittest.Kinds(), gittest.AttributeKinds()...) {
		if done[kind] == 0 && !slices.Contains(replaceAll, kind) {
			t.Errorf("no history has a change of the kind %q", kind)
		}
	}
}

// A repositoryKind is a way to store a repository.
type repositoryKind struct {
	name string
	init []string // flags of "git init"
	// pack stores what a repository has in its own way, and may return another
	// one that has the same.
	pack func(t *testing.T, repo string, commits []string) string
}

var repositoryKinds = []repositoryKind{
	{name: "plain", pack: func(t *testing.T, repo string, commits []string) string {
		gittest.Git(t, repo, "config", "fetch.unpackLimit", "100000")
		loose := gittest.Bare(t)
		gittest.Git(t, loose, "config", "fetch.unpackLimit", "100000")
		gittest.Git(t, loose, "fetch", "-q", repo, "+refs/heads/*:refs/heads/*")
		return loose
	}},
	{name: "packed", pack: func(t *testing.T, repo string, commits []string) string {
		gittest.Git(t, repo, "repack", "-q", "-a", "-d", "--depth=50", "--window=50")
		gittest.Git(t, repo, "pack-refs", "--all")
		return repo
	}},
	{name: "alternates", pack: func(t *testing.T, repo string, commits []string) string {
		return gittest.Clone(t, repo, "--shared")
	}},
	{name: "SHA-256", init: []string{"--object-format=sha256"}},
	{name: "reftable", init: []string{"--ref-format=reftable"}},
	{name: "multi-pack-index", pack: func(t *testing.T, repo string, commits []string) string {
		gittest.Git(t, repo, "config", "core.multiPackIndex", "true")
		objects := gittest.Git(t, repo, "rev-list", "--objects", "--no-object-names", commits[len(commits)/2])
		gittest.Run(t, repo, nil, objects, "pack-objects", "-q", "objects/pack/pack")
		gittest.Git(t, repo, "multi-pack-index", "write")
		return repo
	}},
	{name: "replace refs", pack: func(t *testing.T, repo string, commits []string) string {
		// A commit, a tree and some blobs take the place of others. Two of a history
		// may be the same, which git does not accept.
		trees := gittest.TreesOf(t, repo, commits)
		gittest.Try(repo, nil, "", "replace", commits[1], commits[3])
		gittest.Try(repo, nil, "", "replace", trees[len(trees)/2], trees[0])
		seen := map[string]bool{}
		for _, line := range strings.Split(gittest.Git(t, repo, "ls-tree", "-r", commits[len(commits)-1]), "\n") {
			if fields := strings.Fields(line); len(fields) > 2 && fields[0] != gittest.Gitlink && fields[0] != gittest.Symlink && len(seen) < 4 && !seen[fields[2]] {
				seen[fields[2]] = true
				gittest.Git(t, repo, "replace", fields[2], gittest.Object(t, repo, "blob", "replaced\n"+fields[2]))
			}
		}
		return repo
	}},
	{name: "shared", init: []string{"--shared=0660"}},
}

// A strategy is a way in which commits get into a web root.
type strategy struct {
	name string
	// new prepares it. deploy then brings the web root to a commit with that
	// tree, and returns what is known of the web root from then on.
	new func(t *testing.T, w *Worktree) (deploy func(t *testing.T, tree git.OID) Known)
	// status tells that git status on the repository's index says the truth
	// about the web root.
	status bool
	// settled tells that settings stay as they are: nobody could know what they
	// were.
	settled bool
}

var strategies = []strategy{
	{name: "in place", status: true, new: func(t *testing.T, w *Worktree) func(*testing.T, git.OID) Known {
		w.Verify = true
		return remembering(w)
	}},
	{name: "in place, not verified", status: true, new: func(t *testing.T, w *Worktree) func(*testing.T, git.OID) Known {
		deploy := remembering(w)
		return func(t *testing.T, tree git.OID) Known {
			t.Helper()
			known := deploy(t, tree)
			gittest.SettleIndex(t, w.Index()) // else unchanged files are marked for git to look at again
			return known
		}
	}},
	{name: "without records", status: true, settled: true, new: func(t *testing.T, w *Worktree) func(*testing.T, git.OID) Known {
		w.Verify = true
		return func(t *testing.T, tree git.OID) Known {
			t.Helper()
			w.deploy(t, tree.String(), nil)
			return Known{}
		}
	}},
	{name: "in place, index split", status: true, new: func(t *testing.T, w *Worktree) func(*testing.T, git.OID) Known {
		w.Verify, w.splitFrom = true, 3
		return remembering(w)
	}},
	{name: "subdirectory", new: func(t *testing.T, w *Worktree) func(*testing.T, git.OID) Known {
		w.Verify, w.Subdirectory = true, gittest.Subdirectory
		return remembering(w)
	}},
}

// remembering deploys in place, with the records of the deployment before.
func remembering(w *Worktree) func(t *testing.T, tree git.OID) Known {
	var known Known
	return func(t *testing.T, tree git.OID) Known {
		t.Helper()
		plan, err := w.Plan(t.Context(), tree, known)
		if err != nil {
			t.Fatalf("planning: %v", err)
		}
		staged, err := w.Stage(t.Context(), plan, "test", nil)
		if err != nil {
			t.Fatalf("staging: %v", err)
		}
		known = w.finish(t, staged)
		known.Root, known.Subdirectory, known.Conversions = tree, w.Subdirectory, plan.Conversions
		return known
	}
}

func differ(t *testing.T, kind repositoryKind, strategy strategy, seed uint64, n int) {
	t.Helper()
	history, _ := gittest.AttributeHistory(seed, n)
	if kind.name == "SHA-256" {
		for _, tree := range history {
			maps.DeleteFunc(tree, func(_ string, node gittest.Node) bool { return node.Mode == gittest.Gitlink })
		}
	}
	w, commits, environ := differentialSite(t, kind, strategy, history)
	deploy := strategy.new(t, w)
	random := rand.New(rand.NewPCG(seed, 1))
	trees := gittest.TreesOf(t, w.Repo.Dir, commits)
	for i, commit := range commits {
		setting := ""
		if i > 0 && random.IntN(2) == 0 && !strategy.settled {
			setting = gittest.ChangeSettings(t, w.Repo.Dir, environ, random)
		}
		known := deploy(t, oid(t, trees[i]))
		theirs := filepath.Join(gittest.Dir(t), "fresh")
		gittest.FreshCheckout(t, w.Repo.Dir, environ, theirs, commit)
		want := gittest.Snap(t, filepath.Join(theirs, filepath.FromSlash(w.Subdirectory)), false)
		if diff := want.Diff(gittest.Snap(t, w.Dir, false)); diff != "" {
			t.Errorf("our web root is not what git checkout -f makes:\n%s", diff)
		}
		if strategy.status {
			if said := gittest.Status(t, w.Repo.Dir, environ, w.Dir); said != "" {
				t.Errorf("git status --porcelain: %s", said)
			}
		}
		if drift, err := w.Drift(t.Context(), known); err != nil || len(drift) > 0 {
			t.Errorf("drift %q, %v", drift, err)
		}
		if t.Failed() {
			t.Fatalf("at commit %d, seed %d, after %q", i, seed, setting)
		}
		os.RemoveAll(theirs)
	}
}

// differentialSite makes a repository of a kind with a history, and an empty
// web root.
func differentialSite(t *testing.T, kind repositoryKind, strategy strategy, history []gittest.Tree) (w *Worktree, commits, environ []string) {
	t.Helper()
	dir := gittest.Dir(t)
	repo := filepath.Join(dir, "repo.git")
	if _, err := gittest.Try("/", nil, "", append(append([]string{"init", "-q", "--bare", "-b", "master"}, kind.init...), repo)...); err != nil {
		t.Skipf("this git does not know the kind: %v", err)
	}
	if strategy.name == "subdirectory" {
		history = gittest.Below(history)
	}
	commits = gittest.Commits(t, repo, history...)
	if kind.pack != nil {
		repo = kind.pack(t, repo, commits)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	filters := append(gittest.Filters(), "filter.process.process", "GORACE=atexit_sleep_ms=0 "+program+" "+filterArgument)
	for i := 0; i < len(filters); i += 2 {
		gittest.Git(t, repo, "config", filters[i], filters[i+1])
	}
	environ = append(gittest.Environ(), "XDG_CONFIG_HOME="+filepath.Join(dir, "xdg"))
	w = newWorktree(t, repo, filepath.Join(dir, "www"))
	if w.Repo, err = git.Open(repo, environ); err != nil {
		t.Fatal(err)
	}
	return w, commits, environ
}

// filterArgument has the test binary play a filter that stays.
const filterArgument = "play-filter-process"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == filterArgument {
		if err := playFilter(bufio.NewReader(os.Stdin), os.Stdout); err != nil && err != io.EOF {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// playFilter speaks git's protocol for filters that stay: what it is given it
// returns with the path in front.
func playFilter(in *bufio.Reader, out io.Writer) error {
	say := func(packets ...string) {
		for _, p := range packets {
			if p == "" {
				io.WriteString(out, "0000")
			} else {
				fmt.Fprintf(out, "%04x%s", len(p)+4, p)
			}
		}
	}
	hear := func() ([]string, error) {
		var packets []string
		for {
			head := make([]byte, 4)
			if _, err := io.ReadFull(in, head); err != nil {
				return nil, err
			}
			size, err := strconv.ParseUint(string(head), 16, 16)
			if err != nil || size == 0 {
				return packets, err
			}
			packet := make([]byte, size-4)
			if _, err := io.ReadFull(in, packet); err != nil {
				return nil, err
			}
			packets = append(packets, string(packet))
		}
	}
	for _, answer := range [][]string{{"git-filter-server\n", "version=2\n", ""}, {"capability=smudge\n", ""}} {
		if _, err := hear(); err != nil {
			return err
		}
		say(answer...)
	}
	for {
		command, err := hear()
		if err != nil {
			return err
		}
		content, err := hear()
		if err != nil {
			return err
		}
		var data bytes.Buffer
		data.WriteString(strings.Join(command[1:2], ""))
		for _, packet := range content {
			data.WriteString(packet)
		}
		say("status=success\n", "")
		for chunk := range slices.Chunk(data.Bytes(), 60000) {
			say(string(chunk))
		}
		say("", "")
	}
}
