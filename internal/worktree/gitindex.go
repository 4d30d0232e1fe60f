package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

// PrepareIndex writes the index of what the web root now holds beside git's,
// durably. What is left to SwitchIndex needs no room on the disk. The mark is
// that of the index that will be git's.
func (s *Staged) PrepareIndex() (Mark, error) {
	edits := s.plan.edits()
	s.keepsIndex = len(edits) == 0 && s.plan.mark.Sum != ""
	if s.keepsIndex {
		s.shared = s.plan.mark.Shared
		return s.plan.mark, nil // git's says all of it already
	}
	mark, err := s.worktree.prepareIndex(s.plan.base, edits, s.plan.splits)
	s.shared = mark.Shared
	return mark, err
}

// Indexed tells that the index was read, and is the one that the records know.
func (p *Plan) Indexed() bool { return p.mark.Sum != "" }

// SwitchIndex makes the prepared index git's. A warning is returned when git's
// own lock on the index was in the way.
func (s *Staged) SwitchIndex() (warning string, err error) {
	if !s.keepsIndex {
		if warning, err = s.worktree.switchIndex(); err != nil {
			return warning, err
		}
	}
	return warning, s.worktree.tendShared(s.plan.former, s.shared)
}

// PrepareIndexOf is PrepareIndex for a web root whose index is another file
// already, which is never changed in place.
func (w *Worktree) PrepareIndexOf(file string) error {
	next := w.nextIndex()
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("preparing the index: %w", err)
	}
	if err := os.Link(file, next); err != nil {
		return fmt.Errorf("preparing the index: %w", err)
	}
	return durable.SyncDir(w.StateDir)
}

// SwitchToPrepared is SwitchIndex for PrepareIndexOf.
func (w *Worktree) SwitchToPrepared() (warning string, err error) { return w.switchIndex() }

// tendShared removes the file that the index before was based on, if the one
// that is git's now is not, and that one's it makes look new: git removes shared
// files that are two weeks old when it writes another one.
func (w *Worktree) tendShared(before, now index.SharedMark) error {
	if before.Sum != "" && before != now {
		if err := os.Remove(w.sharedIndex(before)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing what the index before was based on: %w", err)
		}
	}
	if now.Sum != "" {
		if err := os.Chtimes(w.sharedIndex(now), time.Time{}, time.Now()); err != nil {
			return fmt.Errorf("keeping what the index is based on: %w", err)
		}
	}
	return nil
}

// ClaimTree writes an index that says that the web root holds the tree, when
// the deployment that knew more is gone. Every file will be compared by
// content once.
func (w *Worktree) ClaimTree(objects tree.Objects, root git.OID) error {
	x, err := indexOf(objects, root)
	if err == nil {
		_, err = w.prepareIndex(x, nil, false)
	}
	if err == nil {
		_, err = w.switchIndex()
	}
	return err
}

// ourLock is what our own index.lock, a symlink, leads to: so one that a crash
// left behind is known from git's. A file's contents would come later to the
// disk than its name; a power cut between left a lock that nobody knew.
const ourLock = "bluegreen"

// indexLockWait is how long another git command may hold the index. It is only
// "git status" refreshing what it remembers of the files, and takes
// milliseconds; a lock older than that was left behind.
const indexLockWait = time.Second

func (w *Worktree) nextIndex() string { return filepath.Join(w.StateDir, "index") }

// forgetIndex removes an index that a crashed deployment has prepared, and the
// lock that it took to make it git's.
func (w *Worktree) forgetIndex() error {
	lock := w.Index() + ".lock"
	if isOurLock(lock) {
		if err := os.Remove(lock); err != nil {
			return fmt.Errorf("removing the lock of the index that was left: %w", err)
		}
	}
	for _, path := range []string{w.nextIndex(), w.nextShared()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing what was left of an index: %w", err)
		}
		if err := durable.CleanUp(path); err != nil {
			return err
		}
	}
	return nil
}

func isOurLock(path string) bool {
	target, err := os.Readlink(path)
	return err == nil && target == ourLock
}

func (w *Worktree) nextShared() string { return filepath.Join(w.StateDir, "sharedindex") }

// prepareIndex writes the index that x is with edits. Where it is to be split,
// and shares too little with the one before, all of it becomes the part that
// later ones share.
func (w *Worktree) prepareIndex(x *index.Index, edits []index.Entry, split bool) (mark Mark, err error) {
	write := x.Write
	switch {
	case split && x.CanShare(edits):
		write = x.WriteSplit
	case split:
		shared, err := w.writeShared(x, edits)
		if err != nil {
			return Mark{}, err
		}
		write = func(out io.Writer, _ []index.Entry) (Mark, error) {
			return index.WriteShared(out, shared, w.Repo.HashSize())
		}
	}
	err = durable.WriteFile(w.nextIndex(), 0o666, func(out io.Writer) error {
		mark, err = write(out, edits)
		return err
	})
	if err != nil {
		return Mark{}, err
	}
	st, err := os.Stat(w.nextIndex())
	if err != nil {
		return Mark{}, fmt.Errorf("looking at the prepared index: %w", err)
	}
	mark.Written = st.ModTime()
	fault.Step("index prepared")
	return mark, nil
}

// writeShared writes the file that split indexes are based on, and gives it the
// name that git looks for.
func (w *Worktree) writeShared(x *index.Index, edits []index.Entry) (index.SharedMark, error) {
	temp := w.nextShared()
	var mark Mark
	err := durable.WriteFile(temp, 0o666, func(out io.Writer) (err error) {
		mark, err = x.Write(out, edits)
		return err
	})
	if err != nil {
		return index.SharedMark{}, err
	}
	shared := index.SharedMark{Sum: mark.Sum, CRC: mark.CRC, Totals: x.TotalsWith(edits)}
	if !x.Mentions(attributesName) && !slices.ContainsFunc(edits, func(e index.Entry) bool { return strings.Contains(e.Path, attributesName) }) {
		shared.Unmentioned = attributesName
	}
	if err := os.Rename(temp, w.sharedIndex(shared)); err != nil {
		return shared, fmt.Errorf("writing the index: %w", err)
	}
	return shared, durable.SyncDir(w.Repo.Dir)
}

func (w *Worktree) sharedIndex(mark index.SharedMark) string {
	return filepath.Join(w.Repo.Dir, mark.SharedName())
}

// splitFrom is from how many files on an index is split: writing the whole of
// it, with its checksum, takes some milliseconds then.
const splitFrom = 10_000

// splits tells whether the next index is to be split, which the configuration
// may forbid, as it forbids git to.
func (w *Worktree) splits(ctx context.Context, p *Plan) (bool, error) {
	if p.base.Len()-len(p.touched)+len(p.Writes) < cmp.Or(w.splitFrom, splitFrom) {
		return false, nil
	}
	cfg, err := w.Repo.Config(ctx)
	return err == nil && (len(cfg["core.splitindex"]) == 0 || cfg.Bool("core.splitindex")), err
}

func (w *Worktree) switchIndex() (warning string, err error) {
	lock := w.Index() + ".lock"
	locked, err := w.takeIndexLock(lock)
	if err != nil {
		return "", fmt.Errorf("locking the index: %w", err)
	}
	if locked {
		defer os.Remove(lock)
	} else {
		warning = fmt.Sprintf("%q was left behind by another git command; if none is running, remove it", lock)
	}
	if err := os.Rename(w.nextIndex(), w.Index()); err != nil {
		return "", fmt.Errorf("writing the index: %w", err)
	}
	fault.Step("index written")
	// Where both are links to one file, renaming does nothing (rename(2)).
	if err := os.Remove(w.nextIndex()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("writing the index: %w", err)
	}
	return warning, durable.SyncDir(filepath.Dir(w.Index()))
}

// takeIndexLock takes git's lock on the index, as git does; in one step, so that
// a crash leaves no lock that nobody knows.
func (w *Worktree) takeIndexLock(path string) (bool, error) {
	for deadline := time.Now().Add(indexLockWait); ; {
		err := os.Symlink(ourLock, path)
		if err == nil || !errors.Is(err, os.ErrExist) {
			return err == nil, err
		}
		if isOurLock(path) {
			return true, nil // the deployment that made it is dead: we hold its lock
		}
		if time.Now().After(deadline) {
			return false, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
}
