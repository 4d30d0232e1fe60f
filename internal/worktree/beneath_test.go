package worktree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// TestWalkBeneath holds the way without openat2 against that with it.
func TestWalkBeneath(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	write(t, filepath.Join(dir, "web/d/e/f"), "x\n")
	mkdir(t, filepath.Join(dir, "outside/e"), 0o755)
	must(t, os.Symlink("../outside", filepath.Join(dir, "web/out")))
	must(t, os.Symlink("e", filepath.Join(dir, "web/d/in")))
	web, err := openRoot(filepath.Join(dir, "web"))
	must(t, err)
	defer web.close()
	for path, opens := range map[string]bool{"d": true, "d/e": true, "d/e/f": false, "d/e/f/g": false, "d/in": false, "d/none": false, "none/d": false, "out": false, "out/e": false} {
		var inodes []uint64
		for _, open := range []func(int, string) (int, error){openBeneath, walkBeneath} {
			fd, err := open(web.fd, path)
			if (err == nil) != opens || err != nil && !isAbsent(err) {
				t.Errorf("%s: %v", path, err)
			}
			if err == nil {
				var st unix.Stat_t
				must(t, unix.Fstat(fd, &st))
				must(t, unix.Close(fd))
				inodes = append(inodes, st.Ino)
			}
		}
		if len(inodes) == 2 && inodes[0] != inodes[1] {
			t.Errorf("%s: two directories", path)
		}
	}
}

// TestUndoWithoutDirectory: what was displaced comes back also where somebody has
// removed its directory since, and the one above.
func TestUndoWithoutDirectory(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin,
		gittest.Files("d/e/f", "old\n", "d/e/gone", "old\n"), gittest.Files("d/e/f", "new\n", "d/e/g", "new\n")))
	w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	_, staged := w.stage(t, trees[1], nil)
	must(t, staged.Activate())
	must(t, os.RemoveAll(filepath.Join(w.Dir, "d")))
	must(t, staged.Undo())
	must(t, staged.Discard())
	for _, name := range []string{"d/e/f", "d/e/gone"} {
		if got := read(t, filepath.Join(w.Dir, name)); got != "old\n" {
			t.Errorf("%s holds %q", name, got)
		}
	}
	if _, err := os.Lstat(filepath.Join(w.Dir, "d/e/g")); err == nil {
		t.Error("what was created, and removed, is there")
	}
}

// TestSyncFilesystems: each filesystem below a root that was written to is synced,
// once, also those that are mounted there.
func TestSyncFilesystems(t *testing.T) {
	t.Parallel()
	r, err := openRoot("/")
	must(t, err)
	defer r.close()
	dirs := map[string]bool{"": true, "none/there": true}
	want := map[uint64]bool{}
	for _, dir := range []string{"", "usr", "usr/bin", "dev", "proc", "proc/sys", "sys"} {
		var st unix.Stat_t
		if err := unix.Stat("/"+dir, &st); err == nil {
			dirs[dir], want[st.Dev] = true, true
		}
	}
	if len(want) < 2 {
		t.Skip("nothing is mounted below /")
	}
	got := map[uint64]int{}
	must(t, r.syncFilesystems(dirs, func(fd int) error {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		got[st.Dev]++
		return err
	}))
	for dev := range want {
		if got[dev] != 1 {
			t.Errorf("filesystem %#x was synced %d times", dev, got[dev])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d filesystems were synced, want %d", len(got), len(want))
	}
	broken := func(int) error { return unix.EIO }
	if err := r.syncFilesystems(dirs, broken); !errors.Is(err, unix.EIO) {
		t.Errorf("a disk that fails: %v", err)
	}
}
