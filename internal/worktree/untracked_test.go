package worktree

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// newTracked makes a web root that holds a tree of three directories.
func newTracked(t *testing.T) (*Worktree, *Plan) {
	t.Helper()
	origin := gittest.Bare(t)
	commits := gittest.Commits(t, origin, gittest.Files("index", "x", "a/one", "1", "a/b/two", "2", "c/three", "3"))
	s := newSite(t, origin)
	plan, st := s.stage(t, gittest.TreesOf(t, origin, commits)[0], nil)
	s.finish(t, st)
	return s.Worktree, plan
}

func below(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, path); rel != "." {
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRemoveUntracked(t *testing.T) {
	t.Parallel()
	w, plan := newTracked(t)
	tracked := below(t, w.Dir)
	outside := filepath.Join(gittest.Dir(t), "outside")
	write(t, filepath.Join(outside, "precious"), "x")
	write(t, filepath.Join(w.Dir, "stray"), "x")
	write(t, filepath.Join(w.Dir, "a/b/stray"), "x")
	write(t, filepath.Join(w.Dir, "new/deep/stray"), "x")
	write(t, filepath.Join(w.Dir, "uploads/mine"), "x")
	write(t, filepath.Join(w.Dir, "app/cache/mine"), "x")
	write(t, filepath.Join(w.Dir, "app/stray"), "x")
	if err := os.Symlink(outside, filepath.Join(w.Dir, "c/link")); err != nil {
		t.Fatal(err)
	}
	mkdir(t, filepath.Join(w.Dir, "new/closed"), 0o755)
	write(t, filepath.Join(w.Dir, "new/closed/stray"), "x")
	if err := os.Chmod(filepath.Join(w.Dir, "new/closed"), 0); err != nil {
		t.Fatal(err)
	}
	stamps, err := w.RemoveUntracked(t.Context(), plan, &Stamps{}, []string{"uploads", "app/cache", "not/there"})
	if err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(tracked), "uploads", "uploads/mine", "app", "app/cache", "app/cache/mine")
	slices.Sort(want)
	got := below(t, w.Dir)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the web root has %q, want %q", got, want)
	}
	if read(t, filepath.Join(outside, "precious")) != "x" {
		t.Error("what a symlink led to is gone")
	}
	if dirs := slices.Sorted(maps.Keys(stamps.Dirs)); !slices.Equal(dirs, []string{"", "a", "a/b", "app", "c"}) {
		t.Errorf("the stamps are those of %q", dirs)
	}
}

// TestStamps believes stamps only as far as they prove something.
func TestStamps(t *testing.T) {
	t.Parallel()
	w, plan := newTracked(t)
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{"a", "a/b", "c", ""} {
		if err := os.Chtimes(filepath.Join(w.Dir, dir), old, old); err != nil {
			t.Fatal(err)
		}
	}
	noted, err := w.RemoveUntracked(t.Context(), plan, &Stamps{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	noted.Written += 2 * tick // as if it had been noted later: ctimes cannot be set
	file := filepath.Join(w.StateDir, "directories")
	if err := noted.Write(file); err != nil {
		t.Fatal(err)
	}
	stamps, err := ReadStamps(file)
	if err != nil || !maps.Equal(stamps.Dirs, noted.Dirs) || stamps.Written != noted.Written {
		t.Fatalf("%+v is read as %+v, %v", noted, stamps, err)
	}
	untouched := func(except string, want bool) {
		t.Helper()
		if got, err := w.Untouched(stamps, except); err != nil || got != want {
			t.Errorf("untouched but for %q: %t, %v", except, got, err)
		}
	}
	untouched("none", true)
	// A file that comes and goes unseen by the stamps stays: that they vouch for
	// a directory is what they are for.
	write(t, filepath.Join(w.Dir, "c/stray"), "x")
	untouched("none", false)
	untouched("c", true)
	at := stamps.Dirs["c"]
	if err := w.Renew(stamps, "c"); err != nil || stamps.Dirs["c"] == at {
		t.Fatalf("renewing: %v", err)
	}
	untouched("none", true)
	stamps.Written += int64(time.Hour)
	if _, err := w.RemoveUntracked(t.Context(), plan, stamps, nil); err != nil {
		t.Fatal(err)
	}
	if read(t, filepath.Join(w.Dir, "c/stray")) != "x" {
		t.Error("a directory was listed that the stamps vouch for")
	}
	stamps.Written = max(stamps.Dirs["c"].Modified, stamps.Dirs["c"].Changed) + tick
	if _, err := w.RemoveUntracked(t.Context(), plan, stamps, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(w.Dir, "c/stray")); !os.IsNotExist(err) {
		t.Errorf("a directory was not listed that had changed a moment before it was noted: %v", err)
	}
	if err := os.RemoveAll(filepath.Join(w.Dir, "a/b")); err != nil {
		t.Fatal(err)
	}
	untouched("a", false) // a/b is gone
	for _, text := range []string{"", "x\n", "12\n1 2\n"} {
		write(t, file, text)
		if s, err := ReadStamps(file); err != nil || len(s.Dirs) > 0 {
			t.Errorf("%q is read as %+v, %v", text, s, err)
		}
	}
}
