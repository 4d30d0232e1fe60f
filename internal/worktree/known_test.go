package worktree

import (
	"os"
	"path/filepath"
	"slices"
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
