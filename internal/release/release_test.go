package release

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/worktree"
)

// A site has releases of ours beside a web root that git itself keeps, each with
// a repository of its own, clones of one origin.
type site struct {
	*testing.T
	*Releases
	theirs, theirRepo string
}

func newSite(t *testing.T, origin string) *site {
	t.Helper()
	dir := gittest.Dir(t)
	repo, err := git.Open(gittest.Clone(t, origin), gittest.Environ())
	s := &site{T: t, theirs: filepath.Join(dir, "theirs"), theirRepo: gittest.Clone(t, origin)}
	s.must(err)
	w := worktree.Worktree{Repo: repo, StateDir: filepath.Join(repo.Dir, "bluegreen"), Dir: filepath.Join(dir, "www"),
		Symlinks: "any", MaxFiles: 1e6, MaxBytes: 1e10}
	s.Releases = &Releases{Dir: filepath.Join(dir, "releases"), Link: w.Dir, Keep: 3, Site: w}
	s.must(os.Mkdir(s.theirs, 0o755))
	s.must(os.Mkdir(w.StateDir, 0o700))
	s.must(s.Make())
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// deploy brings a release to the tree of a commit and makes it live. build may be
// nil.
func (s *site) deploy(root git.OID, digest string, build func(dir string)) *Release {
	s.Helper()
	source := s.source(root)
	rel, err := s.Choose(source.Tree, digest)
	s.must(err)
	plan, err := rel.Plan(s.Context(), source)
	s.must(err)
	if rel.Live {
		repair, err := rel.Repair(s.Context(), plan, "test", nil)
		s.must(err)
		s.must(repair.Activate())
		_, err = repair.PrepareIndex()
		s.must(err)
		_, err = repair.SwitchIndex()
		s.must(err)
		s.must(repair.Discard())
		return rel
	}
	if rel.Ready(plan) {
		s.must(rel.Use(plan, digest))
	} else {
		_, err := rel.Bring(s.Context(), plan, "test", nil)
		s.must(err)
		s.must(rel.Share(s.Context(), plan))
		s.must(rel.Seal())
		if build != nil {
			build(rel.Worktree.Dir)
		}
		s.must(rel.Finish(plan, digest))
	}
	change, err := rel.Switch(source.Tree)
	s.must(err)
	s.must(change.Activate())
	_, err = change.PrepareIndex()
	s.must(err)
	_, err = change.SwitchIndex()
	s.must(err)
	s.must(change.Discard())
	return rel
}

func (s *site) source(root git.OID) worktree.Source {
	s.Helper()
	objects := s.Site.Repo.Objects(s.Context())
	defer objects.Close()
	source, err := s.Site.Source(objects, root)
	s.must(err)
	return source
}

// same holds what is served against what git has checked out.
func (s *site) same(commit string) {
	s.Helper()
	gittest.Head(s, s.theirRepo, commit)
	s.must(os.RemoveAll(s.theirs))
	s.must(os.Mkdir(s.theirs, 0o755))
	s.must(os.RemoveAll(filepath.Join(s.theirRepo, "index")))
	gittest.Git(s, s.theirRepo, "--work-tree="+s.theirs, "checkout", "-q", "-f")
	live, err := filepath.EvalSymlinks(s.Link)
	s.must(err)
	if d := gittest.Snap(s, s.theirs, false).Diff(gittest.Snap(s, live, false)); d != "" {
		s.Fatalf("%s is not %s:\n%s", live, commit, d)
	}
	gittest.Head(s, s.Site.Repo.Dir, commit)
	if out := gittest.Git(s, s.Site.Repo.Dir, "--work-tree="+s.Link, "status", "--porcelain"); out != "" {
		s.Fatalf("git status of %s:\n%s", commit, out)
	}
}

// TestHistory deploys made-up histories, and now and then goes back, repairs, or
// starts from a release that somebody has been at: what is served is what git
// writes into an empty directory.
func TestHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			history, _ := gittest.History(seed+100, 30)
			origin := gittest.Bare(t)
			commits := gittest.Commits(t, origin, history...)
			trees := gittest.TreesOf(t, origin, commits)
			s := newSite(t, origin)
			s.Site.Verify = seed > 0
			chance := rand.New(rand.NewPCG(seed, 1))
			for i := range commits {
				at := i
				if chance.IntN(5) == 0 {
					at = max(0, i-chance.IntN(4))
				}
				s.disturb(chance)
				s.deploy(parse(t, trees[at]), "", nil)
				s.same(commits[at])
			}
		})
	}
}

// disturb changes an idle release as people and crashes do.
func (s *site) disturb(chance *rand.Rand) {
	s.Helper()
	live, err := s.Live()
	s.must(err)
	name := strconv.Itoa(1 + chance.IntN(3))
	dir := filepath.Join(s.Dir, name)
	if live == nil || name == live.Name || !exists(dir) {
		return
	}
	switch chance.IntN(4) {
	case 0:
		s.must(os.WriteFile(filepath.Join(dir, "stray"), []byte("x"), 0o644))
	case 1: // a crash after the mark
		s.must(os.Remove(filepath.Join(s.stateDir(name), heldFile)))
		entries, err := os.ReadDir(dir)
		s.must(err)
		for _, e := range entries {
			s.must(os.RemoveAll(filepath.Join(dir, e.Name())))
			break
		}
	case 2: // another directory of that name
		s.must(os.Rename(dir, dir+".old"))
		s.must(os.Mkdir(dir, 0o755))
		s.must(os.RemoveAll(dir + ".old"))
	case 3:
		s.must(os.MkdirAll(filepath.Join(dir, ".stray"), 0o755))
	}
}

func parse(t *testing.T, name string) git.OID {
	t.Helper()
	oid, err := git.ParseOID(name)
	if err != nil {
		t.Fatal(err)
	}
	return oid
}

// TestChoose uses the releases in turn, and gives up what is worth least.
func TestChoose(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	commits := gittest.Commits(t, origin, gittest.Files("a", "1"), gittest.Files("a", "2"), gittest.Files("a", "3"),
		gittest.Files("a", "4"), gittest.Files("a", "5"), gittest.Files("a", "6"))
	var trees []git.OID
	for _, name := range gittest.TreesOf(t, origin, commits) {
		trees = append(trees, parse(t, name))
	}
	s := newSite(t, origin)
	chosen := func(tree git.OID, build, want string) {
		t.Helper()
		rel, err := s.Choose(tree, build)
		s.must(err)
		if rel.Name != want {
			t.Errorf("release %s was chosen, want %s", rel.Name, want)
		}
	}
	for n, want := range []string{"1", "2", "3", "1"} {
		chosen(trees[n], "", want)
		s.deploy(trees[n], "", nil)
	}
	chosen(trees[4], "", "2") // the oldest
	chosen(trees[2], "", "3") // which holds it already
	chosen(trees[3], "", "1") // which is live
	chosen(trees[3], "another build", "2")
	s.deploy(trees[2], "", nil) // back to 3: the oldest is 2 still
	chosen(trees[4], "", "2")
	s.deploy(trees[1], "", nil) // back to 2: now it is 1
	chosen(trees[4], "", "1")

	// One that was tried and not kept is no way back.
	rel, err := s.Choose(trees[4], "")
	s.must(err)
	plan, err := rel.Plan(t.Context(), worktree.Source{Tree: trees[4]})
	s.must(err)
	_, err = rel.Bring(t.Context(), plan, "test", nil)
	s.must(err)
	s.must(rel.Share(t.Context(), plan))
	s.must(rel.Seal())
	s.must(rel.Finish(plan, ""))
	chosen(trees[5], "", "1")
	chosen(trees[4], "", "1")
	// Nor is one of which nothing is known.
	s.must(os.Remove(filepath.Join(s.stateDir("3"), heldFile)))
	chosen(trees[5], "", "3")
	// One that is not there takes nothing from anybody.
	s.Keep = 4
	s.must(os.RemoveAll(filepath.Join(s.Dir, "3")))
	s.must(os.Remove(filepath.Join(s.stateDir("1"), heldFile)))
	s.must(os.RemoveAll(filepath.Join(s.Dir, "1")))
	chosen(trees[5], "", "1")
}

// TestBuilt goes back to a built release as it is, and builds anew for another
// commit, from what is the commit's alone.
func TestBuilt(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	commits := gittest.Commits(t, origin, gittest.Files("a", "1", "d/b", "1"), gittest.Files("a", "2", "d/b", "1"), gittest.Files("a", "3", "d/b", "1"))
	s := newSite(t, origin)
	builds := 0
	build := func(dir string) {
		builds++
		if exists(filepath.Join(dir, "made")) || exists(filepath.Join(dir, "d/made")) {
			t.Error("what another build has made is there")
		}
		for _, name := range []string{"made", "d/made", "d/b"} { // also a file of the commit's
			s.must(os.WriteFile(filepath.Join(dir, name), []byte("built"), 0o644))
		}
	}
	var trees []git.OID
	for _, name := range gittest.TreesOf(t, origin, commits) {
		trees = append(trees, parse(t, name))
	}
	s.Keep = 2
	for _, step := range []struct {
		tree   int
		builds int
	}{{0, 1}, {1, 2}, {0, 2}, {1, 2}, {2, 3}, {1, 3}, {0, 4}} {
		s.deploy(trees[step.tree], "digest", build)
		if builds != step.builds {
			t.Fatalf("tree %d: %d builds, want %d", step.tree, builds, step.builds)
		}
		for _, name := range []string{"made", "d/made", "d/b"} {
			if data, err := os.ReadFile(filepath.Join(s.Link, name)); err != nil || string(data) != "built" {
				t.Fatalf("tree %d: %s is %q, %v", step.tree, name, data, err)
			}
		}
	}
}

// TestModified holds that a file has one modification time in all releases while
// it holds the same, and another one when conversions alone have changed it: also
// to something as long, or who has it cached would keep it.
func TestModified(t *testing.T) {
	t.Parallel()
	const upper = "*.up filter=upper\n"
	tests := []struct {
		name          string
		before, after string // .gitattributes
		smudge        string // the filter of the second
		same          bool
	}{
		{"not converted", "", "", "tr a-z A-Z", true},
		{"for git to look at", "", "", "tr a-z A-Z", true},
		{"converted alike", upper, upper, "tr a-z A-Z", true},
		{"by other words", upper, "*.up filter=upper\n*.html ident\n", "tr a-z A-Z", true},
		{"by a filter that does the same", upper, upper, "tr a-z 'A-Z'", true},
		{"from now on", "", upper, "tr a-z A-Z", false},
		{"no more", upper, "", "tr a-z A-Z", false},
		{"by another filter", upper, upper, "tr a-z B-ZA", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			origin := gittest.Bare(t)
			commits := gittest.Commits(t, origin, gittest.Files("a.up", "abc\n", "plain", "1\n", ".gitattributes", test.before),
				gittest.Files("a.up", "abc\n", "plain", "1\n", "new", "", ".gitattributes", test.after))
			s := newSite(t, origin)
			modified := map[string]time.Time{}
			for i, tree := range gittest.TreesOf(t, origin, commits) {
				gittest.Git(t, s.Site.Repo.Dir, "config", "filter.upper.smudge", []string{"tr a-z A-Z", test.smudge}[i])
				var err error
				s.Site.Repo, err = git.Open(s.Site.Repo.Dir, gittest.Environ())
				s.must(err)
				rel := s.deploy(parse(t, tree), "", nil)
				if test.name == "for git to look at" { // as if they were as new as the index
					s.must(os.Chtimes(rel.Worktree.Index(), time.Time{}, time.Now().Add(-time.Hour)))
					s.deploy(parse(t, tree), "", nil)
				}
				for _, name := range []string{"a.up", "plain"} {
					st, err := os.Stat(filepath.Join(rel.Worktree.Dir, name))
					s.must(err)
					if same := st.ModTime().Equal(modified[name]); i > 0 && same != (test.same || name == "plain") {
						t.Errorf("%s is of %s, then of %s", name, modified[name], st.ModTime())
					}
					modified[name] = st.ModTime()
				}
			}
		})
	}
}

// TestUndoneSwitch takes a switch back whose index had been prepared: nothing of
// it is left.
func TestUndoneSwitch(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	commits := gittest.Commits(t, repo, gittest.Files("a", "old\n"), gittest.Files("a", "new\n"))
	trees := gittest.TreesOf(t, repo, commits)
	s := newSite(t, repo)
	s.deploy(parse(t, trees[0]), "", nil)
	before := s.deploy(parse(t, trees[1]), "", nil)
	rel, err := s.At(filepath.Join(s.Dir, "1"))
	s.must(err)
	change, err := rel.Switch(parse(t, trees[0]))
	s.must(err)
	s.must(change.Activate())
	_, err = change.PrepareIndex()
	s.must(err)
	s.must(change.Undo())
	s.must(change.Discard())
	if live, err := s.Live(); err != nil || live.Name != before.Name {
		t.Errorf("live is %v, %v", live, err)
	}
	if left, err := os.ReadDir(s.Site.StateDir); err != nil || len(left) != 1 || left[0].Name() != "releases" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
