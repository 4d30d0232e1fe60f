package worktree

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/index"
)

// Staged deployments are written beside the web root, and can be activated and
// undone.
type Staged struct {
	Record Record
	// Warnings are what git had to say of conversions that did not fail.
	Warnings []string

	worktree *Worktree
	plan     *Plan
	// singles maps the place in the plan's writes of a file that is put by
	// itself to its operation: the rename changes the file's ctime.
	singles map[int]int
	// keepsIndex tells that git's index need not be written anew.
	keepsIndex bool
	shared     index.SharedMark // what the next index is based on
	// twinAlike tells that contents were converted alike in the twin.
	twinAlike bool

	id     string
	stages []*root // opened, as in Record.Stages
}

// Stage writes what p changes beside the web root and, unless Unsynced, makes it
// durable. progress, which may be nil, is told how many files are done, from
// several goroutines. After an error it removes what it wrote, as far as it can;
// CleanUp removes the rest, and what is left when the process dies.
func (w *Worktree) Stage(ctx context.Context, p *Plan, id string, progress func(done int)) (*Staged, error) {
	s := &Staged{worktree: w, plan: p, Warnings: slices.Clone(p.said), singles: map[int]int{}, id: id, Record: Record{Directory: Path(w.Dir), Tree: p.Tree,
		Root: p.source.Root, Subdirectory: Path(p.source.Dir)}}
	if len(p.Writes) == 0 && len(p.Deletes) == 0 {
		return s, nil
	}
	if err := w.enoughRoom(p); err != nil {
		return nil, err
	}
	web, err := openRoot(w.Dir)
	if err != nil {
		return nil, err
	}
	defer web.close()
	err = s.fill(ctx, web, progress)
	for _, stage := range s.stages {
		stage.close()
	}
	if err != nil {
		s.Discard()
		return nil, err
	}
	return s, nil
}

func (s *Staged) fill(ctx context.Context, web *root, progress func(int)) error {
	var err error
	if s.Record.Inode, err = web.inode(); err != nil {
		return err
	}
	places, err := s.place(web)
	if err != nil {
		return err
	}
	if err := s.meetTwin(ctx); err != nil {
		return err
	}
	fault.Step("placed")
	if err := s.write(ctx, places, progress); err != nil {
		return err
	}
	fault.Step("written")
	for i := range s.Record.Operations {
		op := &s.Record.Operations[i]
		if op.Kind != Put {
			continue
		}
		st, absent, err := s.stages[op.Stage].lstat(op.Slot)
		if err != nil || absent {
			return fmt.Errorf("staging %q: it is gone again: %w", op.Path, err)
		}
		op.Inode, op.Birth = st.Ino, birth(s.stages[op.Stage].fd, op.Slot)
	}
	fault.Step("staged")
	return nil
}

// reserveBytes and reserveInodes are left free.
const reserveBytes, reserveInodes = 16 << 20, 256

// enoughRoom refuses what would fill the disk, with room left for the web
// server and for our own records.
func (w *Worktree) enoughRoom(p *Plan) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(w.Dir, &fs); err != nil {
		return fmt.Errorf("looking for free space in %q: %w", w.Dir, err)
	}
	blocks := int64(len(p.Writes)) // each file ends in a block of its own
	need := p.Bytes + p.reserve + blocks*fs.Bsize/2
	if free := int64(fs.Bavail) * fs.Bsize; len(p.Writes) > 0 && need+reserveBytes > free {
		return fmt.Errorf("not enough room in %q: %d bytes are needed, %d are free", w.Dir, need+reserveBytes, free)
	}
	if fs.Files > 0 && len(p.Writes) > 0 && uint64(len(p.Writes))+reserveInodes > fs.Ffree {
		return fmt.Errorf("not enough inodes in %q: %d are needed, %d are free", w.Dir, len(p.Writes)+reserveInodes, fs.Ffree)
	}
	return nil
}

const (
	// stagePrefix begins the names of stage directories in the repository.
	stagePrefix = "stage-"
	// stageNote lists the stage directories in the web root: CleanUp must know
	// them from directories of the site's.
	stageNote = "stages.json"
)

// addStage makes a stage directory, in the directory dir of the web root or,
// where that is nil, in the state directory.
func (s *Staged) addStage(dir *string, web *root) (int, error) {
	w := s.worktree
	name, parent := stagePrefix+s.id, w.StateDir
	path := Path(name)
	in, err := openRoot(parent)
	if dir != nil {
		name = ".bluegreen-" + s.id
		path = Path(filepath.Join(w.Dir, *dir, name))
		in.close()
		in, err = web.sub(*dir)
	}
	if err != nil {
		return 0, err
	}
	defer in.close()
	if dir != nil {
		if err := w.noteStage(path, true); err != nil {
			return 0, err
		}
	}
	if err := unix.Mkdirat(in.fd, name, 0o700); err != nil {
		if dir != nil {
			w.noteStage(path, false) // it is not our directory
		}
		return 0, fmt.Errorf("making a directory for staged files in %q: %w", in.path, err)
	}
	stage, err := in.sub(name)
	if err != nil {
		// Who discards knows of those alone that are open.
		if unix.Unlinkat(in.fd, name, unix.AT_REMOVEDIR) == nil && dir != nil {
			w.noteStage(path, false)
		}
		return 0, err
	}
	s.stages = append(s.stages, stage)
	inode, err := stage.inode()
	s.Record.Stages = append(s.Record.Stages, Stage{Path: path, Inode: inode})
	return len(s.stages) - 1, err
}

// noteStage writes down, durably, that the web root is about to have the stage
// directory at path, or that it has not. Those of a recovery are noted beside
// those of what it recovers.
func (w *Worktree) noteStage(path Path, there bool) error {
	paths, err := w.notedStages()
	if err != nil {
		return err
	}
	noted := len(paths)
	paths = slices.DeleteFunc(paths, func(p Path) bool { return p == path })
	if !there && len(paths) == noted {
		return nil
	}
	note := filepath.Join(w.StateDir, stageNote)
	if there {
		paths = append(paths, path)
	} else if len(paths) == 0 {
		return durable.Remove(note)
	}
	return durable.WriteFile(note, 0o600, func(out io.Writer) error {
		return json.NewEncoder(out).Encode(paths)
	})
}

// notedStages returns what noteStage wrote down.
func (w *Worktree) notedStages() ([]Path, error) {
	note, err := os.ReadFile(filepath.Join(w.StateDir, stageNote))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var paths []Path
	if err == nil {
		err = json.Unmarshal(note, &paths)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for leftovers: %q: %w", stageNote, err)
	}
	return paths, nil
}

// stagePath returns where a stage lies: the repository may have been moved
// since it was recorded.
func (w *Worktree) stagePath(s Stage) string {
	if filepath.IsAbs(string(s.Path)) {
		return string(s.Path)
	}
	return filepath.Join(w.StateDir, string(s.Path))
}

// Discard removes what was staged, or what the web root held before.
func (s *Staged) Discard() error { return s.worktree.Discard(s.Record) }

// Discard removes what a record that has been activated for good, or undone, has
// beside the web root: stage directories, or what is kept of a link; and an index
// that was prepared and not used.
func (w *Worktree) Discard(r Record) error {
	for _, stage := range r.Stages {
		if err := w.removeStage(r, stage); err != nil {
			return fmt.Errorf("removing staged files: %w", err)
		}
	}
	if r.Link != nil {
		if err := r.Link.Discard(); err != nil {
			return err
		}
	}
	if err := w.forgetStages(r); err != nil {
		return err
	}
	if err := os.Remove(w.nextIndex()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing a prepared index: %w", err)
	}
	return nil
}

// CleanUp removes the stage directories of deployments that died before they
// touched the web root. The caller holds the lock and has recovered.
func (w *Worktree) CleanUp() error {
	var r Record
	noted, err := w.notedStages()
	if err != nil {
		return err
	}
	for _, path := range noted {
		r.Stages = append(r.Stages, Stage{Path: path})
	}
	entries, err := os.ReadDir(w.StateDir)
	if err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	if err := w.forgetIndex(); err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), stagePrefix) || strings.HasPrefix(e.Name(), scratchPrefix) && leftBehind(e) {
			r.Stages = append(r.Stages, Stage{Path: Path(e.Name())})
		}
	}
	return w.Discard(r)
}

// Restage is Stage where a process that is dead now may have staged under the
// same id: what is left of that goes first. It is for what is repeated until it
// succeeds, and leads to the same each time, so that nothing displaced by it is
// wanted back.
func (w *Worktree) Restage(ctx context.Context, p *Plan, id string, progress func(done int)) (*Staged, error) {
	left := Record{Stages: []Stage{{Path: Path(stagePrefix + id)}}}
	noted, err := w.notedStages()
	if err != nil {
		return nil, err
	}
	for _, path := range noted {
		if filepath.Base(string(path)) == ".bluegreen-"+id {
			left.Stages = append(left.Stages, Stage{Path: path})
		}
	}
	if err := w.Discard(left); err != nil {
		return nil, err
	}
	return w.Stage(ctx, p, id, progress)
}

// removeStage removes a stage directory with whatever it holds. One in the web
// root that only a symlink leads to is not where it was made: it is gone.
func (w *Worktree) removeStage(r Record, stage Stage) error {
	base, rel := w.StateDir, string(stage.Path)
	if filepath.IsAbs(rel) {
		base, rel = w.beneathWhat(r, rel)
	}
	at, err := openRoot(base)
	if err == nil {
		_, _, err = at.parent(rel)
		at.close()
	}
	if errors.Is(err, os.ErrNotExist) || isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	beneath, err := os.OpenRoot(base)
	if err != nil {
		return err
	}
	defer beneath.Close()
	return RemoveBeneath(beneath, rel)
}

// beneathWhat cuts the path of a stage in a web root into that web root and the
// rest. Of one that is a web root no more, or not ours, only the stage's own
// name is the rest.
func (w *Worktree) beneathWhat(r Record, path string) (base, rel string) {
	for _, base := range []string{string(r.Directory), w.Dir} {
		if rel, beneath := strings.CutPrefix(path, base+"/"); beneath && base != "" {
			return base, rel
		}
	}
	return filepath.Dir(path), filepath.Base(path)
}

// forgetStages drops the note of stages that have been removed, where there are
// no others: that needs no room on the disk.
func (w *Worktree) forgetStages(r Record) error {
	if !slices.ContainsFunc(r.Stages, func(s Stage) bool { return filepath.IsAbs(string(s.Path)) }) {
		return nil
	}
	noted, err := w.notedStages()
	if err != nil {
		return err
	}
	for _, path := range noted {
		if !slices.ContainsFunc(r.Stages, func(s Stage) bool { return s.Path == path }) {
			return nil
		}
	}
	return durable.Remove(filepath.Join(w.StateDir, stageNote))
}
