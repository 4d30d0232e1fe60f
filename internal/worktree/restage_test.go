package worktree

import (
	"os"
	"path/filepath"
	"testing"

	"bluegreen/internal/gittest"
)

// TestRestage stages what a process staged that died: in the state directory,
// and in a web root whose files inherit a group.
func TestRestage(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]os.FileMode{"state directory": 0o755, "web root": 0o775 | os.ModeSetgid} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := gittest.Bare(t)
			commits := gittest.Commits(t, origin, gittest.Files("page", "old\n"), gittest.Files("page", "new\n", "more", "x\n"))
			trees := gittest.TreesOf(t, origin, commits)
			w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
			w.Verify = true
			mkdir(t, w.Dir, mode)
			w.deploy(t, trees[0], nil)

			_, staged := w.stage(t, trees[1], nil)
			must(t, staged.Activate()) // and then it died
			plan, err := w.Plan(t.Context(), oid(t, trees[0]), Known{})
			must(t, err)
			again, err := w.Restage(t.Context(), plan, "test", nil)
			must(t, err)
			w.finish(t, again)
			if read(t, filepath.Join(w.Dir, "page")) != "old\n" {
				t.Error("the web root is not as it was before")
			}
			for _, pattern := range []string{filepath.Join(w.StateDir, "stage-*"), filepath.Join(w.Dir, ".bluegreen*")} {
				if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
					t.Errorf("%q is left, %v", left, err)
				}
			}
		})
	}
}

// TestCleanUpIndex removes what a deployment leaves that dies, or cannot remove
// it, while it makes its index git's; what git leaves stays.
func TestCleanUpIndex(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
	lock := w.Index() + ".lock"
	for _, stays := range []bool{false, true} {
		if stays {
			write(t, lock, "DIRC")
		} else {
			must(t, os.Symlink(ourLock, lock))
		}
		for _, path := range []string{w.nextIndex(), w.nextShared() + ".new"} {
			write(t, path, "")
		}
		must(t, w.CleanUp())
		if _, err := os.Lstat(lock); (err == nil) != stays {
			t.Errorf("the lock of another than us is %v: %v", stays, err)
		}
		if left, err := filepath.Glob(filepath.Join(w.StateDir, "*index*")); err != nil || len(left) > 0 {
			t.Errorf("%q is left, %v", left, err)
		}
	}
}
