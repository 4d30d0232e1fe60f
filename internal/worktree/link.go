package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
)

// A Link is a symlink that is switched from one release to another. Its target
// is what has been done so far, so that a switch can be cut off at any moment
// and begun again, in either direction.
type Link struct {
	Path Path `json:"path"`
	From Path `json:"from"` // its target before, "" where it was not there
	To   Path `json:"to"`
}

// activate switches the link to the new release, durably.
func (l *Link) activate() error {
	if err := l.set(l.From, l.To); err != nil {
		return fmt.Errorf("activating: %w", err)
	}
	return nil
}

// undo switches the link back, durably.
func (l *Link) undo() error {
	if err := l.set(l.To, l.From); err != nil {
		return fmt.Errorf("going back: %w", err)
	}
	return nil
}

// set changes the target, which is from or already to. One that is neither was
// set by somebody else: it is left alone.
func (l *Link) set(from, to Path) error {
	now, err := os.Readlink(string(l.Path))
	switch {
	case errors.Is(err, os.ErrNotExist):
		now = ""
	case err != nil:
		return fmt.Errorf("%w: %w", err, ErrMoved)
	}
	switch Path(now) {
	case to:
		return durable.SyncDir(filepath.Dir(string(l.Path)))
	case from:
	default:
		return fmt.Errorf("%q leads to %q, which is %w", l.Path, now, ErrMoved)
	}
	if err := l.move(string(from), string(to)); err != nil {
		return err
	}
	fault.Step("link switched")
	return durable.SyncDir(filepath.Dir(string(l.Path)))
}

// temp is where the next link is made, beside its place, and where the one before
// is kept.
func (l *Link) temp() string {
	dir, name := filepath.Split(string(l.Path))
	return filepath.Join(dir, "."+name+".bluegreen")
}

// move makes the link lead to another target in one step, or removes it where
// that is "". What leads to the one before is kept: going back needs no room on a
// disk that may be full by then.
func (l *Link) move(from, to string) error {
	if to == "" {
		return os.Remove(string(l.Path))
	}
	if kept, err := os.Readlink(l.temp()); err != nil || kept != to {
		if err := l.Discard(); err != nil {
			return err // what a crash left
		}
		if err := os.Symlink(to, l.temp()); err != nil {
			return err
		}
	}
	fault.Step("link made")
	flags := uint(unix.RENAME_EXCHANGE)
	if from == "" {
		flags = 0
	}
	return rename(unix.AT_FDCWD, l.temp(), unix.AT_FDCWD, string(l.Path), flags)
}

// Discard removes what is kept for going back.
func (l *Link) Discard() error {
	if err := os.Remove(l.temp()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the former link: %w", err)
	}
	return nil
}
