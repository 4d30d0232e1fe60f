package release

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/index"
)

// newSiteOf is newSite, and the trees of n commits, each with a file more.
func newSiteOf(t *testing.T, n int) (s *site, trees []git.OID) {
	t.Helper()
	origin := gittest.Bare(t)
	var history []gittest.Tree
	files := []string{"a", "1"}
	for i := range n {
		files = append(files, "d/"+strings.Repeat("x", i+1), "1")
		history = append(history, gittest.Files(files...))
	}
	for _, name := range gittest.TreesOf(t, origin, gittest.Commits(t, origin, history...)) {
		trees = append(trees, parse(t, name))
	}
	return newSite(t, origin), trees
}

// TestShareInterrupted: a crash between the two steps with which a path of the
// live release becomes shared loses nothing of it.
func TestShareInterrupted(t *testing.T) {
	t.Parallel()
	s, trees := newSiteOf(t, 4)
	s.Keep = 2
	s.deploy(trees[0], "", nil)
	s.Shared = []string{"up/loads"}
	mine, place := filepath.Join(s.Link, "up/loads/mine"), filepath.Join(s.Dir, SharedDir, "up/loads")
	s.must(os.MkdirAll(filepath.Dir(mine), 0o755))
	s.must(os.WriteFile(mine, []byte("mine"), 0o644))
	// The link was made, and not exchanged.
	s.must(errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), os.Symlink(shortcut("up/loads"), place)))
	for _, tree := range trees[1:] {
		s.deploy(tree, "", nil)
		if data, err := os.ReadFile(mine); err != nil || string(data) != "mine" {
			t.Fatalf("what was there is %q, %v", data, err)
		}
	}
	if st, err := os.Lstat(place); err != nil || !st.IsDir() {
		t.Errorf("the place outside is %v, %v", st, err)
	}
}

// TestShareNowhere: while the place outside leads nowhere, what a release has
// there itself is not removed for the link.
func TestShareNowhere(t *testing.T) {
	t.Parallel()
	s, trees := newSiteOf(t, 3)
	s.deploy(trees[0], "", nil)
	s.deploy(trees[1], "", nil)
	mine, place := filepath.Join(s.Dir, "1/uploads/mine"), filepath.Join(s.Dir, SharedDir, "uploads")
	s.must(errors.Join(os.Mkdir(filepath.Dir(mine), 0o755), os.WriteFile(mine, []byte("mine"), 0o644)))
	s.must(errors.Join(os.Mkdir(filepath.Dir(place), 0o755), os.Symlink(filepath.Join(s.Dir, "not mounted"), place)))
	s.Shared, s.Keep = []string{"uploads"}, 2
	rel, err := s.Choose(trees[2], "")
	s.must(err)
	plan, err := rel.Plan(t.Context(), s.source(trees[2]))
	s.must(err)
	_, err = rel.Bring(t.Context(), plan, "test", nil)
	s.must(err)
	if err := rel.Share(t.Context(), plan); err == nil {
		t.Errorf("release %s was linked", rel.Name)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
	s.must(os.Mkdir(filepath.Join(s.Dir, "not mounted"), 0o755))
	s.must(rel.Share(t.Context(), plan))
}

// TestDamagedIndex: what the disk has done to the index of the live release keeps
// nobody from deploying another commit, nor the same one, and is mended.
func TestDamagedIndex(t *testing.T) {
	t.Parallel()
	s, trees := newSiteOf(t, 3)
	s.Keep = 2
	var live *Release
	for i, tree := range []git.OID{trees[0], trees[1], trees[1], trees[2], trees[0]} {
		if i > 0 {
			s.must(os.WriteFile(live.Worktree.Index(), []byte("garbage"), 0o644))
		}
		live = s.deploy(tree, "", nil)
	}
	if x, _, err := index.ReadKnown(live.Worktree.Index(), s.Site.Repo.Dir, s.Site.Repo.HashSize(), index.Mark{}); err != nil || x.Len() != 2 {
		t.Errorf("the index at last: %v", err)
	}
}

// ordinary makes the test's thread an ordinary user's, as far as modes go, where
// root plays the tests. The thread ends with the test.
func ordinary(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
	sets[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
	if err := unix.Capset(&header, &sets[0]); err != nil {
		t.Fatal(err)
	}
}

// TestSurplus: a release that is not kept any more goes, also where a build has
// made directories that forbid it; and one that cannot go now goes later.
func TestSurplus(t *testing.T) {
	t.Parallel()
	ordinary(t)
	s, trees := newSiteOf(t, 5)
	for _, tree := range trees[:4] { // the live one is 1 then
		s.deploy(tree, "", nil)
	}
	s.deploy(trees[4], "", func(dir string) { // 2
		s.must(os.MkdirAll(filepath.Join(dir, "cache/mod"), 0o755))
		s.must(os.WriteFile(filepath.Join(dir, "cache/mod/go.mod"), nil, 0o444))
		s.must(errors.Join(os.Chmod(filepath.Join(dir, "cache/mod"), 0o555), os.Chmod(filepath.Join(dir, "cache"), 0o555)))
	})
	s.deploy(trees[3], "", nil)
	s.Keep = 1
	s.must(os.Chmod(s.Dir, 0o555))
	if err := s.Surplus(); err == nil {
		t.Error("releases were removed from a directory that forbids it")
	}
	s.must(os.Chmod(s.Dir, 0o755))
	s.must(s.Surplus())
	for _, dir := range []string{s.Dir, filepath.Dir(s.stateDir("1"))} {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "1" {
			t.Errorf("%q holds %v, %v", dir, left, err)
		}
	}
}

// TestBringInterrupted: a crash at any moment of bringing a release to another
// commit leaves one of which nothing is known, and which is made anew.
func TestBringInterrupted(t *testing.T) {
	t.Parallel()
	s, trees := newSiteOf(t, 3)
	s.Keep = 2
	s.deploy(trees[0], "", nil)
	s.deploy(trees[1], "", nil)
	rel, err := s.Choose(trees[2], "")
	s.must(err)
	plan, err := rel.Plan(t.Context(), s.source(trees[2]))
	s.must(err)
	unknown := func(when string) {
		t.Helper()
		after, err := s.At(rel.Worktree.Dir)
		s.must(err)
		if tree, known := after.Known(); known {
			t.Errorf("%s, release %s is known to hold %s", when, after.Name, tree)
		}
	}
	_, err = rel.Bring(t.Context(), plan, "test", func(int) { unknown("when files are written") })
	s.must(err)
	unknown("when it was brought")
	s.must(rel.Share(t.Context(), plan))
	s.must(rel.Seal())
	unknown("when it was sealed")

	// Also what it has lost since is there again.
	s.must(os.Remove(filepath.Join(rel.Worktree.Dir, "a")))
	if again := s.deploy(trees[0], "", nil); again.Name != rel.Name {
		t.Fatalf("release %s was chosen, want %s", again.Name, rel.Name)
	}
	if data, err := os.ReadFile(filepath.Join(s.Link, "a")); err != nil || string(data) != "1" {
		t.Errorf("a is %q, %v", data, err)
	}
}
