package worktree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	if err := os.Remove(l.temp()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // a crash left it
	}
	switch Path(now) {
	case to:
		return durable.SyncDir(filepath.Dir(string(l.Path)))
	case from:
	default:
		return fmt.Errorf("%q leads to %q, which is %w", l.Path, now, ErrMoved)
	}
	if err := l.move(string(to)); err != nil {
		return err
	}
	fault.Step("link switched")
	return durable.SyncDir(filepath.Dir(string(l.Path)))
}

// temp is where the next link is made, beside its place.
func (l *Link) temp() string {
	dir, name := filepath.Split(string(l.Path))
	return filepath.Join(dir, "."+name+".bluegreen")
}

// move makes the link lead to target in one step, or removes it where that is
// "".
func (l *Link) move(target string) error {
	if target == "" {
		return os.Remove(string(l.Path))
	}
	if err := os.Symlink(target, l.temp()); err != nil {
		return err
	}
	fault.Step("link made")
	if err := os.Rename(l.temp(), string(l.Path)); err != nil {
		os.Remove(l.temp())
		return err
	}
	return nil
}
