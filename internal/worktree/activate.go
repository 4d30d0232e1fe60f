package worktree

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"bluegreen/internal/fault"
	"bluegreen/internal/index"
)

// An activation carries a record's operations out, or back. What has been done
// so far it reads off the stage directory, which nobody else touches: a slot
// that holds the inode that was staged has not been used, one that is empty or
// holds another inode has. So it can be cut off anywhere and begun again, in
// either direction.
type activation struct {
	record   Record
	web      *root
	stages   []*root
	touched  map[string]bool // directories whose entries changed
	unsynced bool
}

// ErrMoved is returned when the web root or a stage is not the directory that
// was recorded: it is not mounted, or was copied or restored. Nothing has been
// touched.
var ErrMoved = errors.New("not the directory that the deployment was recorded for")

func (w *Worktree) openActivation(r Record) (*activation, error) {
	a := &activation{record: r, touched: map[string]bool{}, unsynced: w.Unsynced}
	var err error
	if a.web, err = openRecorded(string(r.Directory), r.Inode); err != nil {
		return nil, err
	}
	for _, stage := range r.Stages {
		opened, err := openRecorded(w.stagePath(stage), stage.Inode)
		if err != nil {
			a.close()
			return nil, err
		}
		a.stages = append(a.stages, opened)
	}
	for _, op := range r.Operations {
		if op.Stage < 0 || op.Stage >= len(a.stages) {
			a.close()
			return nil, fmt.Errorf("operation on %q names no stage", op.Path)
		}
	}
	return a, nil
}

func openRecorded(path string, inode uint64) (*root, error) {
	r, err := openRoot(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, ErrMoved)
	}
	if err != nil {
		return nil, err
	}
	if now, err := r.inode(); err != nil || now != inode {
		r.close()
		return nil, fmt.Errorf("%q is %w", path, cmp.Or(err, ErrMoved))
	}
	return r, nil
}

func (a *activation) close() {
	a.web.close()
	for _, stage := range a.stages {
		stage.close()
	}
}

// Activate carries out the operations of r that have not been carried out, and
// makes them durable. After an error the caller calls Undo.
func (w *Worktree) Activate(r Record) error {
	if r.Link != nil {
		return r.Link.activate()
	}
	if len(r.Operations) == 0 {
		return nil
	}
	a, err := w.openActivation(r)
	if err != nil {
		return fmt.Errorf("activating: %w", err)
	}
	defer a.close()
	// First what is new: a changed page may want a new style sheet.
	for _, step := range []func(*Operation) error{a.create, a.do} {
		for i := range r.Operations {
			if err := step(&r.Operations[i]); err != nil {
				return fmt.Errorf("activating %q: %w", r.Operations[i].Path, err)
			}
		}
	}
	return a.sync()
}

// create carries out a put where nothing is in the way yet.
func (a *activation) create(op *Operation) error {
	if op.Kind != Put {
		return nil
	}
	if used, err := a.used(op); err != nil || used {
		return err
	}
	fd, base, err := a.touch(string(op.Path))
	if err == nil {
		err = rename(a.stages[op.Stage].fd, op.Slot, fd, base, unix.RENAME_NOREPLACE)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	fault.Step("activate " + op.Kind)
	return err
}

// Undo takes back the operations of r that have been carried out, the last one
// first, and makes that durable. The web root then holds the very inodes that
// it held before. What cannot be taken back does not keep the rest from it.
func (w *Worktree) Undo(r Record) error {
	if r.Link != nil {
		return r.Link.undo()
	}
	if len(r.Operations) == 0 {
		return nil
	}
	a, err := w.openActivation(r)
	if err != nil {
		return fmt.Errorf("going back: %w", err)
	}
	defer a.close()
	var failed error
	for i := len(r.Operations) - 1; i >= 0; i-- {
		if err := a.undo(&r.Operations[i]); err != nil && failed == nil {
			failed = fmt.Errorf("going back: %q: %w", r.Operations[i].Path, err)
		}
		fault.Step("undo " + r.Operations[i].Kind)
	}
	return cmp.Or(failed, a.sync())
}

func (a *activation) sync() error {
	if len(a.touched) == 0 || a.unsynced {
		return nil
	}
	if err := a.web.syncDirs(a.touched); err != nil {
		return err
	}
	for _, stage := range a.stages {
		if err := stage.syncDirs(map[string]bool{"": true}); err != nil {
			return err
		}
	}
	return nil
}

// touch opens the directory of path, and remembers that it changes.
func (a *activation) touch(path string) (fd int, base string, err error) {
	fd, base, err = a.web.parent(path)
	if err == nil {
		dir, _ := split(path)
		a.touched[dir] = true
	}
	return fd, base, err
}

// touchAgain is touch for what must come back: if somebody has removed its
// directory since, that is made again.
func (a *activation) touchAgain(path string) (fd int, base string, err error) {
	fd, base, err = a.touch(path)
	if !isAbsent(err) {
		return fd, base, err
	}
	dir, _ := split(path)
	at, name, err := a.touchAgain(dir)
	if err != nil {
		return -1, "", err
	}
	if err := unix.Mkdirat(at, name, 0o777); err != nil {
		return -1, "", err
	}
	a.web.forget()
	return a.touch(path)
}

// used tells whether a put has taken place.
func (a *activation) used(op *Operation) (bool, error) {
	st, absent, err := a.stages[op.Stage].lstat(op.Slot)
	return absent || st.Ino != op.Inode, err
}

func (a *activation) do(op *Operation) error {
	defer fault.Step("activate " + op.Kind)
	switch op.Kind {
	case Put:
		if used, err := a.used(op); err != nil || used {
			return err
		}
		fd, base, err := a.touch(string(op.Path))
		if err != nil {
			return err
		}
		return putOrExchange(a.stages[op.Stage].fd, op.Slot, fd, base)
	case Take:
		return a.take(op)
	case Rmdir:
		return a.rmdir(op)
	}
	return fmt.Errorf("unknown operation %q", op.Kind)
}

// take moves what is at the path into the slot, if that is still empty.
func (a *activation) take(op *Operation) error {
	if _, absent, err := a.stages[op.Stage].lstat(op.Slot); err != nil || !absent {
		return err
	}
	fd, base, err := a.touch(string(op.Path))
	if err == nil {
		err = rename(fd, base, a.stages[op.Stage].fd, op.Slot, unix.RENAME_NOREPLACE)
	}
	if isAbsent(err) {
		return nil // somebody else removed it
	}
	return err
}

// rmdir takes a directory that is empty. It is not removed but kept, with its
// owner and ACL, in case it must come back. A file that somebody puts into it
// at the same time brings it back at once.
func (a *activation) rmdir(op *Operation) error {
	_, absent, err := a.stages[op.Stage].lstat(op.Slot)
	if err != nil {
		return err
	}
	if absent {
		empty, err := a.web.isEmpty(string(op.Path))
		if isAbsent(err) {
			return nil
		}
		if err != nil || !empty {
			return err
		}
		if err := a.take(op); errors.Is(err, unix.EBUSY) {
			return nil // something is mounted there
		} else if err != nil {
			return err
		}
	}
	empty, err := a.stages[op.Stage].isEmpty(op.Slot)
	if isAbsent(err) {
		return nil
	}
	if err != nil || empty {
		return err
	}
	return a.undo(op)
}

func (a *activation) undo(op *Operation) error {
	switch op.Kind {
	case Put:
		used, err := a.used(op)
		if err != nil || !used {
			return err
		}
		return a.undoPut(op)
	case Take, Rmdir:
		if _, absent, err := a.stages[op.Stage].lstat(op.Slot); err != nil || absent {
			return err
		}
		fd, base, err := a.touchAgain(string(op.Path))
		if err != nil {
			return err
		}
		if op.Kind == Rmdir {
			err = rename(a.stages[op.Stage].fd, op.Slot, fd, base, unix.RENAME_NOREPLACE)
			if errors.Is(err, unix.EEXIST) {
				return nil // somebody has made it again, and may use it
			}
			return err
		}
		return putOrExchange(a.stages[op.Stage].fd, op.Slot, fd, base)
	}
	return fmt.Errorf("unknown operation %q", op.Kind)
}

// undoPut brings back what a put displaced, or takes away what it created. A
// path that somebody else has changed since is set right where something was
// displaced, and left alone where nothing was.
func (a *activation) undoPut(op *Operation) error {
	_, nothing, err := a.stages[op.Stage].lstat(op.Slot)
	if err != nil {
		return err
	}
	if nothing {
		return a.undoCreation(op)
	}
	fd, base, err := a.touchAgain(string(op.Path))
	if err != nil {
		return err
	}
	return putOrExchange(a.stages[op.Stage].fd, op.Slot, fd, base)
}

// undoCreation takes away what a put created, unless it is something else now.
func (a *activation) undoCreation(op *Operation) error {
	fd, base, err := a.touch(string(op.Path))
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if isAbsent(err) || err == nil && (st.Ino != op.Inode || op.Birth != birth(fd, base)) {
		return nil
	}
	if err != nil {
		return err
	}
	return rename(fd, base, a.stages[op.Stage].fd, op.Slot, unix.RENAME_NOREPLACE)
}

// putOrExchange moves a name into place and keeps what was there under the
// name that it came from.
func putOrExchange(fromFD int, from string, toFD int, to string) error {
	for range 100 { // somebody who creates and removes the name all the time loses
		err := rename(fromFD, from, toFD, to, unix.RENAME_EXCHANGE)
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
		err = rename(fromFD, from, toFD, to, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EEXIST) {
			return err
		}
	}
	return errors.New("the name comes and goes")
}

func rename(fromFD int, from string, toFD int, to string, flags uint) error {
	for {
		err := unix.Renameat2(fromFD, from, toFD, to, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
			return fmt.Errorf("the filesystem cannot exchange names atomically: %w", err)
		}
		return err
	}
}

// Activate puts the staged files into the web root, durably. After an error
// the caller calls Undo.
func (s *Staged) Activate() error {
	if err := s.worktree.Activate(s.Record); err != nil {
		return err
	}
	web, err := openRoot(string(s.Record.Directory))
	if err != nil {
		return err
	}
	defer web.close()
	for write, slot := range s.singles {
		op := &s.Record.Operations[slot]
		st, absent, err := web.lstat(string(op.Path))
		if err != nil {
			return err
		}
		if absent || st.Ino != op.Inode {
			continue // changed already: the Stat taken at staging will not match
		}
		s.plan.Writes[write].stat = index.StatOf(&st)
	}
	return nil
}

// Undo takes back what Activate has done.
func (s *Staged) Undo() error { return s.worktree.Undo(s.Record) }
