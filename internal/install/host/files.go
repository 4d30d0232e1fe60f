package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// An Entry is what there is at a path.
type Entry struct {
	Mode     fs.FileMode
	UID, GID int
	Target   string // of a symlink
	Names    int    // how many there are of it
	device   uint64
	inode    uint64
}

// Same tells whether two names are of one file.
func (e *Entry) Same(other *Entry) bool { return e.device == other.device && e.inode == other.inode }

// Is tells whether the entry has an owner and permissions.
func (e *Entry) Is(owner Account, perm fs.FileMode) bool {
	return e.UID == owner.UID && e.GID == owner.GID && e.Mode.Perm() == perm
}

// open opens the directory that holds the last name of path, and returns that
// name.
//
// Root works here in directories that an account may change at any moment. So
// symlinks are followed freely only where they are root's own: in directories
// that root alone can change. From the first one on that is not, the rest of
// path cannot leave that directory. With follow, a symlink of root's at path
// itself is followed, too.
func (h *Host) open(path string, follow bool) (*os.Root, string, error) {
	at, rest := filepath.Clean(h.Root), names(path)
	for links := 0; len(rest) > 1 || follow && len(rest) == 1; {
		if ours, err := rootsOwn(at); err != nil {
			return nil, "", err
		} else if !ours {
			break
		}
		next := filepath.Join(at, rest[0])
		st, err := os.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist) && len(rest) == 1:
			return openBelow(at, rest)
		case err != nil:
			return nil, "", err
		case rest[0] == "..":
			next = filepath.Join(h.Root, filepath.Dir(strings.TrimPrefix(at, filepath.Clean(h.Root))))
		case st.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(next)
			if links++; err == nil && links > 40 {
				err = &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
			}
			if err != nil {
				return nil, "", err
			}
			next = at
			if filepath.IsAbs(target) {
				next = filepath.Clean(h.Root)
			}
			rest = append(append([]string{""}, names(target)...), rest[1:]...)
		case len(rest) == 1:
			return openBelow(at, rest)
		}
		at, rest = next, rest[1:]
	}
	return openBelow(at, rest)
}

// names cuts a path into its names. It keeps "..", which means another
// directory behind a symlink.
func names(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// rootsOwn tells whether root alone can change what is in a directory.
func rootsOwn(dir string) (bool, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	return int(st.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() && st.Mode().Perm()&0o022 == 0, nil
}

// openBelow opens the directory of the last of names, below at and never
// outside it.
func openBelow(at string, names []string) (*os.Root, string, error) {
	dir, err := os.OpenRoot(at)
	if err != nil {
		return nil, "", err
	}
	switch len(names) {
	case 0:
		return dir, ".", nil
	case 1:
		return dir, names[0], nil
	}
	defer dir.Close()
	// With the dot only a directory is opened: a FIFO would be waited for.
	below, err := dir.OpenRoot(strings.Join(names[:len(names)-1], "/") + "/.")
	if err != nil {
		return nil, "", err
	}
	return below, names[len(names)-1], nil
}

// Resolve follows the symlinks of what there is of path already, whosever they
// are. What it returns is for comparing: somebody may exchange a symlink at any
// moment.
func (h *Host) Resolve(path string) string {
	at, rest := "/", names(path)
	for links := 0; len(rest) > 0; {
		next := filepath.Join(at, rest[0]) // at has no symlinks: ".." is its parent
		target, err := os.Readlink(filepath.Join(h.Root, next))
		if links++; err != nil || links > 40 {
			at, rest = next, rest[1:]
			continue
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(names(target), rest[1:]...)
	}
	return at
}

// Look returns what there is at path, nil for nothing. A symlink is itself.
func (h *Host) Look(path string) (*Entry, error) { return h.look(path, false) }

// Follow is Look for what a symlink of root's leads to.
func (h *Host) Follow(path string) (*Entry, error) { return h.look(path, true) }

func (h *Host) look(path string, follow bool) (*Entry, error) {
	dir, name, err := h.open(path, follow)
	if err == nil {
		defer dir.Close()
		var st fs.FileInfo
		if st, err = dir.Lstat(name); err == nil {
			e := entry(st)
			if st.Mode().Type() == fs.ModeSymlink {
				e.Target, err = dir.Readlink(name)
			}
			return e, wrap("looking at", path, err)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return nil, wrap("looking at", path, err)
}

func entry(st fs.FileInfo) *Entry {
	owner := st.Sys().(*syscall.Stat_t)
	return &Entry{Mode: st.Mode(), UID: int(owner.Uid), GID: int(owner.Gid), Names: int(owner.Nlink),
		device: uint64(owner.Dev), inode: owner.Ino}
}

// wrap gives an error the path as it is seen from inside.
func wrap(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	if inner := (*fs.PathError)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("%s %q: %w", doing, path, err)
}

// List returns the names in a directory; none where it does not exist.
func (h *Host) List(path string) ([]string, error) {
	dir, name, err := h.open(path, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap("listing", path, err)
	}
	defer dir.Close()
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap("listing", path, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	return names, wrap("listing", path, err)
}

// ReadFile reads a regular file of at most 1 MiB.
func (h *Host) ReadFile(path string) ([]byte, error) {
	f, err := h.openFile(path)
	if err != nil {
		return nil, wrap("reading", path, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, wrap("reading", path, errors.Join(err, errors.New("it is not a regular file")))
	}
	content, err := readAll(f)
	return content, wrap("reading", path, err)
}

func readAll(f *os.File) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("it is larger than %d bytes", maxFile)
	}
	return content, err
}

// LookInto is Look, with the content where it is a regular file: both are of
// one file, also while somebody exchanges what is at path.
func (h *Host) LookInto(path string) (*Entry, []byte, error) {
	seen, err := h.Look(path)
	if err != nil || seen == nil || !seen.Mode.IsRegular() {
		return seen, nil, err
	}
	f, err := h.openFile(path)
	if err != nil {
		return nil, nil, wrap("reading", path, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, wrap("reading", path, err)
	}
	e := entry(st)
	if !e.Same(seen) {
		return nil, nil, wrap("reading", path, errors.New("somebody has just put another file there"))
	}
	content, err := readAll(f)
	return e, content, wrap("reading", path, err)
}

// openFile opens what there is at path to be read. It waits for no FIFO.
func (h *Host) openFile(path string) (*os.File, error) {
	dir, name, err := h.open(path, true)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// Same tells whether a file has the content that the file at source, a path
// outside, has.
func (h *Host) Same(path, source string) (bool, error) {
	a, err := h.openFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, wrap("reading", path, err)
	}
	defer a.Close()
	b, err := os.Open(source)
	if err != nil {
		return false, err
	}
	defer b.Close()
	var one, other [64 << 10]byte
	for {
		n, err := io.ReadFull(a, one[:])
		m, err2 := io.ReadFull(b, other[:])
		if n != m || !bytes.Equal(one[:n], other[:m]) {
			return false, nil
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return err2 == err, nil
		case err != nil:
			return false, wrap("reading", path, err)
		case err2 != nil:
			return false, fmt.Errorf("reading %q: %w", source, err2)
		}
	}
}
