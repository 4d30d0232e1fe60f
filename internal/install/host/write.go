package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
)

// WriteFile replaces the file at path, with its owner and permissions from the
// first moment on. When it returns nil that is so also after a power cut; after
// an error, or a crash at any moment, the old file is untouched. Whoever has
// the old one open, or runs it, keeps it.
func (h *Host) WriteFile(path string, content io.Reader, owner Account, perm fs.FileMode) error {
	temp, err := h.Stage(path, content, owner, perm)
	if err != nil {
		return err
	}
	return h.Rename(temp, path)
}

// Stage writes what WriteFile does beside path, and returns where. Rename puts
// it in place.
func (h *Host) Stage(file string, content io.Reader, owner Account, perm fs.FileMode) (string, error) {
	temp := path.Join(path.Dir(file), "."+path.Base(file)+".new") // the dot: sudo reads no such file
	dir, name, err := h.open(temp, false)
	if err != nil {
		return "", wrap("writing", file, err)
	}
	defer dir.Close()
	if err := writeSynced(dir, name, content, owner, perm); err != nil {
		dir.Remove(name)
		return "", wrap("writing", file, err)
	}
	return temp, nil
}

func writeSynced(dir *os.Root, name string, content io.Reader, owner Account, perm fs.FileMode) error {
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // a crash left it
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Chown(owner.UID, owner.GID); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// AppendLine adds a line to the file at path, durably. The directory is one that
// root alone can change.
func (h *Host) AppendLine(file, line string) error {
	dir, name, err := h.open(file, false)
	if err != nil {
		return wrap("appending to", file, err)
	}
	defer dir.Close()
	return durable.AppendLine(filepath.Join(dir.Name(), name), []byte(line))
}

// Rename gives a file another name in the same directory, durably, whatever has
// that name.
func (h *Host) Rename(from, to string) error {
	return h.within(from, "renaming", func(dir *os.Root, name string) error { return dir.Rename(name, path.Base(to)) })
}

// Symlink replaces what is at path, which is no directory, with a symlink.
func (h *Host) Symlink(target, link string) error {
	return h.within(link, "making the symlink", func(dir *os.Root, name string) error {
		temp := "." + name + ".new"
		if err := dir.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := dir.Symlink(target, temp); err != nil {
			return err
		}
		return dir.Rename(temp, name)
	})
}

// Keep gives a file, or a symlink, a second name in the same directory.
func (h *Host) Keep(file, as string) error {
	return h.within(file, "keeping", func(dir *os.Root, name string) error { return dir.Link(name, path.Base(as)) })
}

// OwnLink gives a symlink itself an owner.
func (h *Host) OwnLink(link string, owner Account) error {
	return h.within(link, "changing the owner of", func(dir *os.Root, name string) error {
		return dir.Lchown(name, owner.UID, owner.GID)
	})
}

// Exchange gives two names to each other's files, directories or symlinks, in
// one step and durably. Both must be on one filesystem.
func (h *Host) Exchange(a, b string) error {
	return h.within(a, "exchanging", func(dirA *os.Root, nameA string) error {
		return h.within(b, "exchanging", func(dirB *os.Root, nameB string) error {
			fdA, err := dirA.Open(".")
			if err != nil {
				return err
			}
			defer fdA.Close()
			fdB, err := dirB.Open(".")
			if err != nil {
				return err
			}
			defer fdB.Close()
			err = unix.Renameat2(int(fdA.Fd()), nameA, int(fdB.Fd()), nameB, unix.RENAME_EXCHANGE)
			if errors.Is(err, unix.EXDEV) {
				return fmt.Errorf("it and %q are not on one filesystem: %w", b, err)
			}
			return err
		})
	})
}

// LockDirectory waits until no deployment is under way into a directory, and
// keeps others out until unlock is called.
func (h *Host) LockDirectory(ctx context.Context, path string, wait time.Duration) (unlock func(), err error) {
	f, err := h.openFile(path)
	if err != nil {
		return nil, wrap("locking", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if errors.Is(err, unix.EWOULDBLOCK) {
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = errors.New("a deployment is under way")
			}
		}
		f.Close()
		return nil, wrap("locking", path, err)
	}
}

// Remove removes a file or an empty directory. One that is not there is fine.
func (h *Host) Remove(file string) error {
	err := h.within(file, "removing", func(dir *os.Root, name string) error { return dir.Remove(name) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Mkdir makes a directory with its owner and permissions. Where its parents are
// missing it makes them, too, as root's. A crash leaves it whole, or not there. It
// takes a directory over that is there already.
func (h *Host) Mkdir(dir string, owner Account, perm fs.FileMode) error {
	if parent := path.Dir(dir); parent != dir {
		if e, err := h.Follow(parent); err != nil {
			return err
		} else if e == nil {
			if err := h.Mkdir(parent, Superuser(), 0o755); err != nil {
				return err
			}
		}
	}
	there := false
	err := h.within(dir, "making the directory", func(parent *os.Root, name string) error {
		_, err := parent.Lstat(name)
		if there = err == nil; there || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		temp := "." + name + ".new"
		if err := parent.RemoveAll(temp); err != nil {
			return err // a crash left it
		}
		if err := parent.Mkdir(temp, 0o700); err != nil {
			return err
		}
		if err := own(parent, temp, owner.UID, owner.GID, perm); err != nil {
			parent.Remove(temp)
			return err
		}
		return parent.Rename(temp, name)
	})
	if err != nil || !there {
		return err
	}
	return h.Own(dir, owner.UID, owner.GID, perm)
}

// Own gives a file or directory an owner and permissions.
func (h *Host) Own(file string, uid, gid int, perm fs.FileMode) error {
	dir, name, err := h.open(file, true)
	if err != nil {
		return wrap("changing the owner of", file, err)
	}
	defer dir.Close()
	return wrap("changing the owner of", file, own(dir, name, uid, gid, perm))
}

func own(dir *os.Root, name string, uid, gid int, perm fs.FileMode) error {
	seen, err := dir.Lstat(name)
	if err != nil {
		return err
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	// A second name could be that of a file of somebody else's.
	links := st.Sys().(*syscall.Stat_t).Nlink
	if !os.SameFile(seen, st) || !st.IsDir() && (!st.Mode().IsRegular() || links > 1) {
		return errors.New("it is neither a directory nor a regular file with one name")
	}
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	if err := f.Chmod(perm | st.Mode()&(fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	return f.Sync()
}

// within does something in the directory of path, and makes it durable.
func (h *Host) within(path, doing string, do func(dir *os.Root, name string) error) error {
	dir, name, err := h.open(path, false)
	if err != nil {
		return wrap(doing, path, err)
	}
	defer dir.Close()
	if err := do(dir, name); err != nil {
		var link *os.LinkError
		if errors.As(err, &link) {
			err = link.Err
		}
		return wrap(doing, path, err)
	}
	f, err := dir.Open(".")
	if err != nil {
		return wrap("syncing the directory of", path, err)
	}
	defer f.Close()
	return wrap("syncing the directory of", path, f.Sync())
}
