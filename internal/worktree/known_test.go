package worktree

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// knownSite is a site that was deployed to, with what the records say, and the
// trees of its three commits. The last one is not deployed.
func knownSite(t *testing.T) (s *site, known Known, commits, trees []string) {
	t.Helper()
	repo := gittest.Bare(t)
	commits = gittest.Commits(t, repo,
		gittest.Files("a", "old\n", "b", "x\n", "d/e", "x\n", "gone", "x\n"),
		gittest.Files("a", "x\n", "b", "x\n", "d/e", "x\n", "d/f", "x\n"),
		gittest.Files("a", "x\n", "b", "y\n", "d/e", "x\n", "new/g", "x\n"))
	trees = gittest.TreesOf(t, repo, commits)
	s = newSite(t, repo)
	for _, tree := range trees[:2] {
		_, st := s.stageFrom(t, tree, known)
		known = s.finish(t, st)
	}
	checkout(t, s.theirRepo, s.theirs, commits[1])
	return s, known, commits, trees
}

// TestKnownIndex: while the index is the one that was written, the records are
// believed, and nothing is computed of it.
func TestKnownIndex(t *testing.T) {
	t.Parallel()
	s, known, _, trees := knownSite(t)
	known.Tree = oid(t, trees[2]) // which is not what the index says
	plan, err := s.Plan(t.Context(), known.Tree, known)
	must(t, err)
	if len(plan.Writes) > 0 || len(plan.Deletes) > 0 || plan.Held != known.Tree {
		t.Errorf("the index was compared: %q, %q", plan.Paths(), plan.Deletes)
	}
	if held, err := s.HeldTree(known); err != nil || held != known.Tree {
		t.Errorf("held: %s, %v", held, err)
	}
}

// TestUnknownIndex: whoever else has been at the index, what the records say of
// it is not believed.
func TestUnknownIndex(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(t *testing.T, repo, dir string, commits []string)
		held   int // the commit that the index says is there then
	}{
		"git has looked": {func(t *testing.T, repo, dir string, _ []string) {
			must(t, os.Chtimes(filepath.Join(dir, "a"), time.Unix(1e9, 0), time.Unix(1e9, 0)))
			gittest.Git(t, "/", "--git-dir="+repo, "--work-tree="+dir, "status")
		}, 1},
		"git has checked out": {func(t *testing.T, repo, dir string, commits []string) {
			checkout(t, repo, dir, commits[0])
		}, 0},
		"git has read a tree": {func(t *testing.T, repo, _ string, commits []string) {
			gittest.Git(t, "/", "--git-dir="+repo, "read-tree", commits[0])
		}, 0},
		"a backup is back": {func(t *testing.T, repo, dir string, commits []string) {
			checkout(t, repo, dir, commits[0])
			backup := read(t, filepath.Join(repo, "index"))
			checkout(t, repo, dir, commits[1])
			must(t, os.WriteFile(filepath.Join(repo, "index"), []byte(backup), 0o666))
		}, 0},
		"it is gone": {func(t *testing.T, repo, _ string, _ []string) {
			must(t, os.Remove(filepath.Join(repo, "index")))
		}, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, known, commits, trees := knownSite(t)
			test.change(t, s.Repo.Dir, s.Dir, commits)
			test.change(t, s.theirRepo, s.theirs, commits)
			plan, st := s.stageFrom(t, trees[2], known)
			want := git.OID{}
			if test.held >= 0 {
				want = oid(t, trees[test.held])
			}
			if plan.Held != want {
				t.Errorf("the web root holds %s, want %s", plan.Held, want)
			}
			s.finish(t, st)
			checkout(t, s.theirRepo, s.theirs, commits[2])
			s.same(t)
			s.lists(t, commits[2])
		})
	}
}

// TestDamagedIndex: what the disk has done to the index is noticed, and the
// records say what the web root holds.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	s, known, commits, trees := knownSite(t)
	data := []byte(read(t, s.Index()))
	data[len(data)/2] ^= 1
	must(t, os.WriteFile(s.Index(), data, 0o666))
	if _, err := s.HeldTree(known); err == nil {
		t.Error("it is believed")
	}
	_, st := s.stageFrom(t, trees[2], known)
	s.finish(t, st)
	checkout(t, s.theirRepo, s.theirs, commits[2])
	s.same(t)
	s.agrees(t, commits[2], false)
}

// TestKnownTreeGone: the repository need not have the tree that the web root
// holds: git removes what no ref leads to.
func TestKnownTreeGone(t *testing.T) {
	t.Parallel()
	s, known, commits, trees := knownSite(t)
	held := known.Tree.String()
	must(t, os.Remove(filepath.Join(s.Repo.Dir, "objects", held[:2], held[2:])))
	plan, st := s.stageFrom(t, trees[2], known)
	if paths := plan.Paths(); !slices.Equal(paths, []string{"b", "new/g"}) || plan.Held != known.Tree {
		t.Errorf("held %s, writes %q", plan.Held, paths)
	}
	s.finish(t, st)
	checkout(t, s.theirRepo, s.theirs, commits[2])
	s.same(t)
	s.agrees(t, commits[2], false)
}

// TestIndexKept: where nothing is to be said that the index does not say, it is
// not written again.
func TestIndexKept(t *testing.T) {
	t.Parallel()
	s, known, commits, trees := knownSite(t)
	for _, verify := range []bool{false, true} {
		s.Verify = verify
		must(t, os.Chtimes(s.Index(), known.Index.Written, known.Index.Written))
		before, err := os.Stat(s.Index())
		must(t, err)
		_, st := s.stageFrom(t, trees[1], known)
		if again := s.finish(t, st); again != known {
			t.Errorf("verify %v: the records say something else: %v", verify, again)
		}
		if after, err := os.Stat(s.Index()); err != nil || !os.SameFile(before, after) {
			t.Errorf("verify %v: another index was written: %v", verify, err)
		}
	}
	s.agrees(t, commits[1], false)
	// One that somebody else wrote is written again, so that it is known.
	gittest.Git(t, "/", "--git-dir="+s.Repo.Dir, "read-tree", commits[1])
	_, st := s.stageFrom(t, trees[1], known)
	again := s.finish(t, st)
	if _, same, err := s.readIndex(s.Repo.Objects(t.Context()), again); err != nil || !same {
		t.Errorf("it is not known: %v", err)
	}
}

// TestSplitIndex: of many files the index is split, git reads it, and each
// deployment writes what differs, until that is too much.
func TestSplitIndex(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(81, 40)
	origin := gittest.Bare(t)
	commits := gittest.Commits(t, origin, history...)
	s := newSite(t, origin)
	s.splitFrom = 1
	trees := gittest.TreesOf(t, s.Repo.Dir, commits)
	known := Known{}
	kept := 0
	for i, commit := range commits {
		s.Verify = i%3 == 1
		checkout(t, s.theirRepo, s.theirs, commit)
		before := s.shared(t)
		_, st := s.stageFrom(t, trees[i], known)
		known = s.finish(t, st)
		s.same(t)
		s.agrees(t, commit, false)
		s.lists(t, commit)
		after := s.shared(t)
		if len(after) > 1+i/7 { // git does not remove its own at once
			t.Fatalf("commit %d: shared files %q", i, after)
		}
		if slices.Equal(before, after) {
			kept++
		}
		if _, same, err := s.readIndex(s.Repo.Objects(t.Context()), known); err != nil || !same && len(history[i]) > 0 {
			t.Fatalf("commit %d: the index is not known: %v", i, err)
		}
		if i%7 == 6 { // somebody else has it written
			must(t, os.Chtimes(filepath.Join(s.Repo.Dir, "config"), time.Now(), time.Now()))
			gittest.Git(t, "/", "--git-dir="+s.Repo.Dir, "--work-tree="+s.Dir, "update-index", "--force-write-index")
		}
	}
	if kept == 0 || kept == len(commits) {
		t.Errorf("of %d times the shared file was kept %d times", len(commits), kept)
	}
	s.gone(t, known, trees[0])
}

// gone makes sure that without the shared file the records count, and that the
// index is in order after that.
func (s *site) gone(t *testing.T, known Known, tree string) {
	t.Helper()
	for _, path := range s.shared(t) {
		must(t, os.Remove(path))
	}
	plan, st := s.stageFrom(t, tree, known)
	if plan.Held != known.Tree {
		t.Errorf("held %s, the records say %s", plan.Held, known.Tree)
	}
	s.finish(t, st)
	if status := s.git(t, "ls-files", "--stage"); status == "" {
		t.Error("git finds no index")
	}
}

func (s *site) shared(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.Repo.Dir, "sharedindex.*"))
	must(t, err)
	return paths
}

// TestSplitIndexForbidden: core.splitIndex says no.
func TestSplitIndexForbidden(t *testing.T) {
	t.Parallel()
	s, known, commits, trees := knownSite(t)
	s.splitFrom = 1
	for _, step := range []struct {
		forbid string
		files  int
	}{{"true", 1}, {"false", 0}, {"true", 1}} {
		gittest.Git(t, s.Repo.Dir, "config", "core.splitIndex", step.forbid)
		var err error
		s.Repo, err = git.Open(s.Repo.Dir, gittest.Environ())
		must(t, err)
		for _, i := range []int{2, 1} {
			_, st := s.stageFrom(t, trees[i], known)
			known = s.finish(t, st)
			s.lists(t, commits[i])
		}
		if files := s.shared(t); len(files) != step.files {
			t.Errorf("core.splitIndex = %s: shared files %q", step.forbid, files)
		}
	}
}

// TestSizesRemembered: where nothing is known of the files, their sizes are
// asked for once.
func TestSizesRemembered(t *testing.T) {
	t.Parallel()
	s, known, commits, trees := knownSite(t)
	must(t, s.ClaimTree(s.Repo.Objects(t.Context()), known.Tree))
	_, st := s.stageFrom(t, trees[2], Known{})
	s.finish(t, st)
	x, _, err := s.readIndex(s.Repo.Objects(t.Context()), Known{})
	must(t, err)
	for i := range x.Len() {
		if x.Size(i) == 0 {
			t.Errorf("%q: its size is not known", x.Path(i))
		}
	}
	checkout(t, s.theirRepo, s.theirs, commits[2])
	s.same(t)
	s.lists(t, commits[2])
	must(t, appendTo(filepath.Join(s.Dir, "a"), "more\n"))
	if changed := s.git(t, "diff-files", "--name-only"); !strings.Contains(changed, "a\n") {
		t.Errorf("git finds changed: %q", changed)
	}
	s.Verify = true
	if plan := s.deploy(t, trees[2], nil); !slices.Equal(plan.Paths(), []string{"a"}) {
		t.Errorf("repaired: %q", plan.Paths())
	}
}
