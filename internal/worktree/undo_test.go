package worktree

import (
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// TestUndo activates and undoes random deployments over random damage, and
// finds every inode where it was.
func TestUndo(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(21, 62)
	s := newUndoSite(t, 22, history)
	for range 20 {
		from, to := s.vandal.IntN(len(history)), s.vandal.IntN(len(history))
		staged := s.prepare(t, from, to, 10)
		if err := staged.Activate(); err != nil {
			t.Fatalf("activating: %v", err)
		}
		for path, node := range history[to] {
			if st, err := os.Lstat(filepath.Join(s.Dir, path)); err != nil || st.IsDir() != (node.Mode == gittest.Gitlink) {
				t.Fatalf("%q is not there when it is activated: %v", path, err)
			}
		}
		if err := staged.worktree.Undo(staged.Record); err != nil {
			t.Fatalf("undoing: %v", err)
		}
		if err := staged.Discard(); err != nil {
			t.Fatalf("discarding: %v", err)
		}
		s.isBack(t)
	}
}

// TestCutShort stops activations and undoings after each of their operations,
// as a crash does, and goes on in both directions.
func TestCutShort(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(31, 62)
	for _, tree := range history {
		for path := range tree {
			if strings.HasPrefix(path, "many/") {
				delete(tree, path) // there are enough others, and many steps
			}
		}
	}
	s := newUndoSite(t, 32, history)
	kinds, stages := map[string]int{}, 0
	random := rand.New(rand.NewPCG(33, 33))
	// As many deployments as it takes to have cut every kind of step.
	for n := 0; n < 5 || stages < 2 || kinds[Put] < 5 || kinds[Take] < 5 || kinds[Rmdir] < 5; n++ {
		if n == 40 {
			t.Fatalf("steps %v in %d deployments, of up to %d stages", kinds, n, stages)
		}
		staged := s.prepare(t, s.vandal.IntN(len(history)), s.vandal.IntN(len(history)), 6)
		full := staged.Record
		stages = max(stages, len(full.Stages))
		must(t, staged.worktree.Activate(full))
		after := listing(t, s.Dir)
		must(t, staged.worktree.Undo(full))
		s.isBackBut(t, full.Stages)
		for k, op := range full.Operations {
			kinds[op.Kind]++
			head, tail := full, full
			head.Operations, tail.Operations = full.Operations[:k], full.Operations[k:]
			if k%2 == 1 { // what is new comes first: any of them may have been done
				head.Operations = slices.DeleteFunc(slices.Clone(full.Operations), func(Operation) bool { return random.IntN(2) == 0 })
			}

			must(t, staged.worktree.Activate(head))
			must(t, staged.worktree.Undo(full))
			s.isBackBut(t, full.Stages)

			must(t, staged.worktree.Activate(head))
			must(t, staged.worktree.Activate(full))
			must(t, staged.worktree.Activate(full))
			unchanged(t, after, s.Dir)

			must(t, staged.worktree.Undo(tail))
			must(t, staged.worktree.Activate(full))
			unchanged(t, after, s.Dir)

			must(t, staged.worktree.Undo(tail))
			must(t, staged.worktree.Undo(full))
			must(t, staged.worktree.Undo(full))
			s.isBackBut(t, full.Stages)
		}
		must(t, staged.Discard())
		if err := staged.worktree.Undo(full); len(full.Operations) > 0 && !errors.Is(err, ErrMoved) {
			t.Errorf("without its stage: %v", err)
		}
		s.isBack(t)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An undoSite is a web root and what it held before the last deployment.
type undoSite struct {
	*Worktree
	vandal  *vandal
	history []gittest.Tree
	trees   []string
	before  gittest.Snapshot // with the repository's index and state directory
	outside gittest.Snapshot
}

func newUndoSite(t *testing.T, seed uint64, history []gittest.Tree) *undoSite {
	t.Helper()
	origin, dir := gittest.Bare(t), gittest.Dir(t)
	s := &undoSite{history: history, Worktree: newWorktree(t, origin, filepath.Join(dir, "web"))}
	s.Verify = true
	s.trees = gittest.TreesOf(t, origin, gittest.Commits(t, origin, history...))
	s.vandal = newVandal(t, seed, filepath.Join(dir, "outside"), s.Dir)
	return s
}

// prepare deploys one tree, lets the vandal have its way, and stages another.
func (s *undoSite) prepare(t *testing.T, from, to, damages int) *Staged {
	t.Helper()
	s.deploy(t, s.trees[from], nil)
	must(t, s.CleanUp())
	s.vandal.strike(t, damages, s.history[from], s.history[to])
	for i, dir := range slices.Sorted(maps.Keys(directories(s.history[from]))) {
		if i%5 == 0 && s.vandal.reaches(dir, "dir") { // what is put there needs another stage
			must(t, os.Chmod(filepath.Join(s.Dir, dir), 0o775|os.ModeSetgid))
		}
	}
	s.before = s.all(t)
	s.outside = listing(t, s.vandal.outside)
	_, staged := s.stage(t, s.trees[to], nil)
	return staged
}

func (s *undoSite) all(t *testing.T) gittest.Snapshot {
	t.Helper()
	all := listing(t, s.Dir, s.StateDir)
	all["index"] = gittest.Snap(t, s.Repo.Dir, true)["index"]
	return all
}

// isBack holds the web root against what it was before, when all is over.
func (s *undoSite) isBack(t *testing.T) {
	t.Helper()
	must(t, s.CleanUp())
	s.isBackBut(t, nil)
}

// isBackBut is isBack while the stages are still there.
func (s *undoSite) isBackBut(t *testing.T, stages []Stage) {
	t.Helper()
	now := s.all(t)
	for path := range now {
		for _, stage := range stages {
			dir := s.stagePath(stage)
			if path == dir || strings.HasPrefix(path, dir+"/") || path == filepath.Join(s.StateDir, stageNote) {
				delete(now, path)
			}
		}
	}
	if diff := s.before.Diff(now); diff != "" {
		t.Fatalf("not as it was:\n%s", diff)
	}
	unchanged(t, s.outside, s.vandal.outside)
}

// TestRecordOnDisk undoes what the journal's JSON says, as after a crash, for
// every name that may be deployed.
func TestRecordOnDisk(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"plain": "a b", "UTF-8": "grüße/é", "HTML": "<&>\u2028", "invalid UTF-8": "bad\xff", "Latin-1 directory": "caf\xe9/menu",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := gittest.Bare(t)
			trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin,
				gittest.Files(path, "old\n", "deleted/"+path, "x\n"), gittest.Files(path, "new\n", "added/"+path, "y\n")))
			w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
			w.deploy(t, trees[0], nil)
			before := listing(t, w.Dir)
			_, staged := w.stage(t, trees[1], nil)
			data, err := json.Marshal(staged.Record)
			must(t, err)
			var onDisk Record
			must(t, json.Unmarshal(data, &onDisk))
			must(t, staged.Activate())
			after := listing(t, w.Dir)
			must(t, staged.worktree.Activate(onDisk)) // recovery forwards: done already
			unchanged(t, after, w.Dir)
			must(t, staged.worktree.Undo(onDisk))
			unchanged(t, before, w.Dir)
			must(t, staged.worktree.Activate(onDisk))
			unchanged(t, after, w.Dir)
		})
	}
}

// TestEmptiedDirectory: a directory that is emptied comes back as it was; one
// that somebody makes again, or uses at the same time, is left to them.
func TestEmptiedDirectory(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin, gittest.Files("d/e/f", "x\n"), gittest.Files("g", "y\n")))
	tests := []struct {
		name     string
		between  func(t *testing.T, d string) // activation and undoing
		notAsWas string
	}{
		{"nobody", func(t *testing.T, d string) {}, ""},
		{"made again", func(t *testing.T, d string) { mkdir(t, d, 0o700) }, "d"},
		{"used again", func(t *testing.T, d string) { write(t, filepath.Join(d, "theirs"), "x\n") }, "d"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorktree(t, gittest.Clone(t, origin), filepath.Join(gittest.Dir(t), "web"))
			w.deploy(t, trees[0], nil)
			d := filepath.Join(w.Dir, "d")
			mkdir(t, d, 0o751)
			before := gittest.Snap(t, w.Dir, true)
			_, staged := w.stage(t, trees[1], nil)
			must(t, staged.Activate())
			if _, err := os.Lstat(d); err == nil {
				t.Error("an emptied directory stays")
			}
			test.between(t, d)
			must(t, staged.worktree.Undo(staged.Record))
			must(t, staged.worktree.Undo(staged.Record))
			must(t, staged.Discard())
			after := gittest.Snap(t, w.Dir, true)
			if test.notAsWas != "" {
				delete(after, "d/theirs")
				before[test.notAsWas] = after[test.notAsWas]
			}
			if diff := before.Diff(after); diff != "" {
				t.Errorf("not as it was:\n%s", diff)
			}
		})
	}
}

// TestUndoAfterOthers: what somebody changes between the two is set right
// where the deployment had displaced something, and left alone elsewhere.
func TestUndoAfterOthers(t *testing.T) {
	t.Parallel()
	origin := gittest.Bare(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin,
		gittest.Files("changed", "old\n", "deleted", "old\n", "d/deleted", "old\n"),
		gittest.Files("changed", "new\n", "created", "new\n", "replaced", "new\n")))
	w := newWorktree(t, origin, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	_, staged := w.stage(t, trees[1], nil)
	must(t, staged.Activate())
	at := func(name string) string { return filepath.Join(w.Dir, name) }
	must(t, os.Remove(at("changed")))
	must(t, os.Remove(at("created")))
	must(t, os.Remove(at("replaced")))
	write(t, at("replaced"), "theirs\n")
	write(t, at("deleted"), "theirs\n")
	write(t, at("d/theirs"), "theirs\n")
	must(t, staged.worktree.Undo(staged.Record))
	must(t, staged.Discard())
	for name, want := range map[string]string{"changed": "old\n", "deleted": "old\n", "d/deleted": "old\n",
		"d/theirs": "theirs\n", "replaced": "theirs\n"} {
		if got := read(t, at(name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	if _, err := os.Lstat(at("created")); err == nil {
		t.Error("what was created, and removed, is there")
	}
}

// TestSwappedForSymlink: a directory that turns into a symlink after planning
// leads nothing out of the web root.
func TestSwappedForSymlink(t *testing.T) {
	t.Parallel()
	origin, dir := gittest.Bare(t), gittest.Dir(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin,
		gittest.Files("d/f", "old\n", "d/g", "old\n"), gittest.Files("d/f", "new\n"), gittest.Files("d/sub/f", "new\n")))
	for i, tree := range trees[1:] {
		w := newWorktree(t, origin, filepath.Join(dir, string(rune('a'+i))))
		must(t, os.RemoveAll(w.Index()))
		w.deploy(t, trees[0], nil)
		outside := filepath.Join(dir, "outside")
		write(t, filepath.Join(outside, "f"), "outside\n")
		write(t, filepath.Join(outside, "g"), "outside\n")
		was := listing(t, outside)
		_, staged := w.stage(t, tree, nil)
		must(t, os.Rename(filepath.Join(w.Dir, "d"), filepath.Join(dir, "moved"+w.Dir[len(dir)+1:])))
		must(t, os.Symlink(outside, filepath.Join(w.Dir, "d")))
		if err := staged.Activate(); err == nil {
			t.Error("an activation through a symlink succeeded")
		}
		unchanged(t, was, outside)
		if err := staged.worktree.Undo(staged.Record); err != nil {
			t.Logf("undoing: %v", err)
		}
		unchanged(t, was, outside)
		must(t, staged.Discard())
	}
}

// TestStageSwapped: where a symlink has come to stand above a stage in the web
// root, nothing is removed through it.
func TestStageSwapped(t *testing.T) {
	t.Parallel()
	origin, dir := gittest.Bare(t), gittest.Dir(t)
	trees := gittest.TreesOf(t, origin, gittest.Commits(t, origin, gittest.Files("d/f", "old\n"), gittest.Files("d/f", "new\n")))
	w := newWorktree(t, origin, filepath.Join(dir, "web"))
	w.deploy(t, trees[0], nil)
	d, outside := filepath.Join(w.Dir, "d"), filepath.Join(dir, "outside")
	mkdir(t, d, 0o755|os.ModeSetgid)
	for name, remove := range map[string]func(*Staged) error{"discard": (*Staged).Discard, "clean up": func(s *Staged) error { return s.worktree.CleanUp() }} {
		_, staged := w.stage(t, trees[1], nil)
		stage := staged.Record.Stages[len(staged.Record.Stages)-1]
		if filepath.Dir(string(stage.Path)) != d {
			t.Fatalf("staged in %q", stage.Path)
		}
		write(t, filepath.Join(outside, filepath.Base(string(stage.Path)), "f"), "outside\n")
		was := listing(t, outside)
		must(t, os.Rename(d, filepath.Join(dir, "moved")))
		must(t, os.Symlink(outside, d))
		if err := remove(staged); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		unchanged(t, was, outside)
		must(t, os.Remove(d))
		must(t, os.Rename(filepath.Join(dir, "moved"), d))
		must(t, os.RemoveAll(string(stage.Path)))
	}
}

func TestUnknownOperation(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	mkdir(t, filepath.Join(dir, "web"), 0o755)
	mkdir(t, filepath.Join(dir, "stage"), 0o755)
	w := &Worktree{StateDir: dir}
	inode := func(name string) uint64 {
		r, err := openRoot(filepath.Join(dir, name))
		must(t, err)
		defer r.close()
		n, err := r.inode()
		must(t, err)
		return n
	}
	r := Record{Directory: Path(filepath.Join(dir, "web")), Inode: inode("web"),
		Stages: []Stage{{Path: "stage", Inode: inode("stage")}}, Operations: []Operation{{Kind: "burn", Path: "x"}}}
	for name, do := range map[string]func(Record) error{"activate": w.Activate, "undo": w.Undo} {
		if err := do(r); err == nil || !strings.Contains(err.Error(), `unknown operation "burn"`) {
			t.Errorf("%s: %v", name, err)
		}
		other := r
		other.Operations = []Operation{{Kind: Put, Path: "x", Stage: 1}}
		if err := do(other); err == nil || !strings.Contains(err.Error(), "names no stage") {
			t.Errorf("%s: %v", name, err)
		}
		other = r
		other.Inode++ // another filesystem is mounted there, or none
		if err := do(other); !errors.Is(err, ErrMoved) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, w.Activate(Record{Directory: "/nonexistent"})) // nothing to do is nothing done
	must(t, w.Undo(Record{Directory: "/nonexistent"}))
	must(t, w.Discard(Record{Operations: r.Operations}))
}
