package worktree

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// newChange makes a web root that holds one tree, and stages another.
func newChange(t *testing.T, old, next gittest.Tree) (*Worktree, *Staged) {
	t.Helper()
	origin := gittest.Bare(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin, old, next))
	w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	_, staged := w.stage(t, trees[1], nil)
	return w, staged
}

// isGone checks that there is nothing at a path.
func isGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%s is there: %v", path, err)
	}
}

// TestDeletedMeanwhile: what a deployment is to delete, and somebody has deleted
// before it, is nothing to fail on; and when it goes back, nothing to bring back.
func TestDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]string{"the file": "d/gone", "its directory": "d"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, staged := newChange(t, gittest.Files("page", "old\n", "d/gone", "x\n"), gittest.Files("page", "new\n"))
			must(t, os.RemoveAll(filepath.Join(w.Dir, remove)))
			must(t, staged.Activate())
			isGone(t, filepath.Join(w.Dir, "d"))
			if got := read(t, filepath.Join(w.Dir, "page")); got != "new\n" {
				t.Errorf("the page is %q", got)
			}
			must(t, staged.Undo())
			must(t, staged.Discard())
			isGone(t, filepath.Join(w.Dir, "d/gone"))
			if got := read(t, filepath.Join(w.Dir, "page")); got != "old\n" {
				t.Errorf("gone back, the page is %q", got)
			}
		})
	}
}

// TestDirectoryOfNewFileGone: a deployment goes back also where somebody has
// removed the directory that it had put a new file into.
func TestDirectoryOfNewFileGone(t *testing.T) {
	t.Parallel()
	w, staged := newChange(t, gittest.Files("page", "old\n"), gittest.Files("page", "new\n", "new", "x\n"))
	d := filepath.Join(w.Dir, "d")
	mkdir(t, d, 0o755) // theirs, so that the file is put by itself
	origin := w.Repo.Dir
	tree := gittest.TreesOf(t, origin, gittest.Commits(t, origin, gittest.Files("page", "new\n", "d/new", "x\n")))[0]
	must(t, staged.Discard())
	_, staged = w.stage(t, tree, nil)
	must(t, staged.Activate())
	must(t, os.RemoveAll(d))
	must(t, staged.Undo())
	must(t, staged.Discard())
	if got := read(t, filepath.Join(w.Dir, "page")); got != "old\n" {
		t.Errorf("gone back, the page is %q", got)
	}
	isGone(t, filepath.Join(d, "new"))
}

// TestFileLeftInRemovedDirectory: a file that a program makes in a directory that
// it has open, when the deployment has removed that already, is not lost: the
// recovery of the deployment finds it, and brings the directory back.
func TestFileLeftInRemovedDirectory(t *testing.T) {
	t.Parallel()
	w, staged := newChange(t, gittest.Files("page", "old\n", "d/gone", "x\n"), gittest.Files("page", "new\n"))
	d, err := os.OpenRoot(filepath.Join(w.Dir, "d"))
	must(t, err)
	defer d.Close()
	must(t, w.Activate(staged.Record))
	isGone(t, filepath.Join(w.Dir, "d"))
	must(t, d.WriteFile("theirs", []byte("x\n"), 0o644))
	must(t, w.Activate(staged.Record))
	if got := read(t, filepath.Join(w.Dir, "d/theirs")); got != "x\n" {
		t.Errorf("it holds %q", got)
	}
	isGone(t, filepath.Join(w.Dir, "d/gone"))
	must(t, staged.Discard())
	if got := read(t, filepath.Join(w.Dir, "d/theirs")); got != "x\n" {
		t.Errorf("when all is over it holds %q", got)
	}
}

// TestReplacedAtOnce: what somebody puts in the place of a file that has just been
// deployed is not taken for that file: the next deployment repairs it.
func TestReplacedAtOnce(t *testing.T) {
	t.Parallel()
	w, staged := newChange(t, gittest.Files("page", "old\n"), gittest.Files("page", "new\n"))
	w.Verify = true
	page := filepath.Join(w.Dir, "page")
	must(t, w.Activate(staged.Record))
	st, err := os.Stat(page)
	must(t, err)
	must(t, os.Rename(page, page+".away")) // so that its inode stays in use
	write(t, page, "bad\n")
	must(t, os.Chtimes(page, st.ModTime(), st.ModTime()))
	w.finish(t, staged)
	if plan := w.deploy(t, staged.Record.Tree.String(), nil); plan.Repairs != 1 {
		t.Errorf("%d files repaired", plan.Repairs)
	}
	if got := read(t, page); got != "new\n" {
		t.Errorf("the page is %q", got)
	}
}

// TestMountedThere: an empty directory that something is mounted on stays, and the
// deployment that would remove it succeeds.
func TestMountedThere(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount something")
	}
	w, staged := newChange(t, gittest.Files("page", "old\n", "d/gone", "x\n"), gittest.Files("page", "new\n"))
	must(t, staged.Discard())
	must(t, os.Remove(filepath.Join(w.Dir, "d/gone"))) // which it was mounted over
	_, staged = w.stage(t, staged.Record.Tree.String(), nil)
	// The thread alone sees the mount, and ends with this goroutine.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
				return err
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return err
			}
			d := filepath.Join(w.Dir, "d")
			if err := unix.Mount("none", d, "tmpfs", 0, "size=64k"); err != nil {
				return err
			}
			return w.Activate(staged.Record)
		}()
	}()
	if err := <-done; err != nil {
		if strings.HasPrefix(err.Error(), "activating") {
			t.Fatal(err)
		}
		t.Skipf("nothing can be mounted here: %v", err)
	}
	if st, err := os.Stat(filepath.Join(w.Dir, "d")); err != nil || !st.IsDir() {
		t.Errorf("what was mounted on is gone: %v", err)
	}
	if got := read(t, filepath.Join(w.Dir, "page")); got != "new\n" {
		t.Errorf("the page is %q", got)
	}
	must(t, staged.Discard())
}

// TestStagedInFormerWebRoot: what a deployment has left in a web root that the
// configuration does not name any more is found and removed there.
func TestStagedInFormerWebRoot(t *testing.T) {
	t.Parallel()
	origin, dir := gittest.Bare(t), gittest.Dir(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin, gittest.Files("page", "x\n")))
	w := newWorktree(t, origin, filepath.Join(dir, "former"))
	mkdir(t, w.Dir, 0o755|os.ModeSetgid)
	_, staged := w.stage(t, trees[0], nil) // and then it died
	stage := string(staged.Record.Stages[0].Path)
	if filepath.Dir(stage) != w.Dir {
		t.Fatalf("staged in %q", stage)
	}
	now := newWorktree(t, origin, filepath.Join(dir, "now"))
	must(t, now.CleanUp())
	isGone(t, stage)
	isGone(t, filepath.Join(now.StateDir, stageNote))
}

// TestOneOfTwoDiscarded: the note of what is staged in the web root stays until
// all of that is gone, so that a crash of the one leaves nothing that nobody knows.
func TestOneOfTwoDiscarded(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin, gittest.Files("page", "x\n")))
	w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
	mkdir(t, w.Dir, 0o755|os.ModeSetgid)
	var staged []*Staged
	for _, id := range []string{"one", "one-recovery"} {
		plan, err := w.Plan(t.Context(), oid(t, trees[0]), Known{})
		must(t, err)
		s, err := w.Stage(t.Context(), plan, id, nil)
		must(t, err)
		staged = append(staged, s)
	}
	must(t, staged[1].Discard())
	left := string(staged[0].Record.Stages[0].Path)
	if _, err := os.Lstat(left); err != nil {
		t.Errorf("the other one is gone: %v", err)
	}
	must(t, w.CleanUp())
	isGone(t, left)
	isGone(t, filepath.Join(w.StateDir, stageNote))
}

// TestDamagedStageNote: where it cannot be read what is staged in the web root,
// nothing more is staged there, and nothing that is noted is forgotten.
func TestDamagedStageNote(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin, gittest.Files("page", "x\n")))
	w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
	mkdir(t, w.Dir, 0o755|os.ModeSetgid)
	plan, err := w.Plan(t.Context(), oid(t, trees[0]), Known{})
	must(t, err)
	note := filepath.Join(w.StateDir, stageNote)
	write(t, note, "[\"/srv/www/.blue")
	was := listing(t, w.Dir, w.StateDir)
	for name, do := range map[string]func() error{
		"stage":    func() error { _, err := w.Stage(t.Context(), plan, "test", nil); return err },
		"restage":  func() error { _, err := w.Restage(t.Context(), plan, "test", nil); return err },
		"clean up": w.CleanUp,
		"discard":  func() error { return w.Discard(Record{Stages: []Stage{{Path: "/srv/www/.bluegreen-x"}}}) },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), `"stages.json": unexpected end of JSON input`) {
			t.Errorf("%s: %v", name, err)
		}
		unchanged(t, was, w.Dir, w.StateDir)
	}
	must(t, os.Remove(note))
	_, staged := w.stage(t, trees[0], nil)
	must(t, staged.Discard())
}

// TestClaimedTreeMissing: a recovery that cannot read what the web root must hold
// leaves the index as it is.
func TestClaimedTreeMissing(t *testing.T) {
	t.Parallel()
	w, staged := newChange(t, gittest.Files("page", "old\n"), gittest.Files("page", "new\n"))
	must(t, staged.Discard())
	before := read(t, w.Index())
	objects := w.Repo.Objects(t.Context())
	defer objects.Close()
	missing := git.OIDFromBytes([]byte(strings.Repeat("\xee", 20)))
	if err := w.ClaimTree(objects, missing); err == nil {
		t.Error("a tree that is not there was claimed")
	}
	if read(t, w.Index()) != before {
		t.Error("the index has changed")
	}
}
