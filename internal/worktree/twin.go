package worktree

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/index"
)

// A Twin is another web root, which may hold the same files.
type Twin struct {
	Dir   string
	Index *index.Index // of what it holds
	Known Known        // what the records say of it
}

// meetTwin finds out whether the twin's contents were converted as those that
// are to be staged will be: then the same blob at the same path is the same file.
func (s *Staged) meetTwin(ctx context.Context) error {
	twin, ours := s.worktree.Twin, s.plan.conversions
	if twin == nil || twin.Known.Conversions != s.plan.Conversions {
		return nil
	}
	objects := s.worktree.Repo.Objects(ctx)
	defer objects.Close()
	theirs, err := s.worktree.conversionsOf(objects, ours.rules, entriesOf(twin.Index), twin.Known.source(twin.Known.Tree))
	if errors.Is(err, git.ErrNoObject) {
		return nil // its commit has been pruned
	}
	if err != nil {
		return err
	}
	s.twinAlike = theirs.dir == ours.dir && slices.Equal(theirs.files, ours.files)
	return nil
}

// twinTime is the modification time that the staged file has in the twin, nil
// where it is not there or is another one. The contents decide where the same blob
// may have been converted in another way there, or the index has no size, for git
// to look again: who has the file of that time and size takes it for the same.
func (s *Staged) twinTime(at place, write *Write, size int64) *unix.Timespec {
	twin := s.worktree.Twin
	if twin == nil {
		return nil
	}
	i, found := twin.Index.Find(write.Path)
	if !found || twin.Index.Item(i) != write.Item {
		return nil
	}
	there := twin.Index.Stat(i)
	sized := there.Size == uint32(size)
	if there.MTimeSec == 0 || !sized && there.Size != 0 {
		return nil
	}
	if !(sized && s.twinAlike) && !twin.holds(at, write.Path) {
		return nil
	}
	return &unix.Timespec{Sec: int64(there.MTimeSec), Nsec: int64(there.MTimeNsec)}
}

// holds tells whether a file of the twin holds what the staged one does.
func (t *Twin) holds(staged place, path string) bool {
	dir, err := openRoot(t.Dir)
	if err != nil {
		return false
	}
	defer dir.close()
	return sameContent(filepath.Join(staged.stage.path, staged.path), dir, path, make([]byte, 1<<14))
}
