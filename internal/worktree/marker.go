package worktree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/tree"
)

// markerTemp is where a marker is written, beside its place. The name is the
// same each time, so that what a crash leaves is replaced.
const markerTemp = ".bluegreen-marker"

// WriteMarker makes the file at rel in the web root, which git does not track,
// hold data: atomically and durably, with the directories that it needs. What
// is there is replaced, also a symlink, but a directory is an error; where it
// holds data already nothing is written. No symlink below the web root is
// followed. The caller holds the lock.
func (w *Worktree) WriteMarker(rel string, data []byte) error {
	if err := w.writeMarker(rel, data); err != nil {
		return fmt.Errorf("writing the marker %q: %w", rel, err)
	}
	return nil
}

func (w *Worktree) writeMarker(rel string, data []byte) error {
	way, err := w.openWay(rel, true)
	if err != nil {
		return err
	}
	defer way.close()
	at, name := way.last()
	if holds(at, name, data) {
		return removeTemp(at) // which a crash may have left
	}
	var st unix.Stat_t
	err = unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && isDir(&st) {
		return errors.New("a directory is there")
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err = makeTemp(at, data); err == nil {
		err = unix.Renameat(at, markerTemp, at, name)
	}
	if err != nil {
		unix.Unlinkat(at, markerTemp, 0)
		return err
	}
	return unix.Fsync(at)
}

// holds tells whether the name is a file with this content.
func holds(dir int, name string, data []byte) bool {
	// A FIFO would wait for a writer.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() != int64(len(data)) {
		return false
	}
	held, err := io.ReadAll(io.LimitReader(f, int64(len(data))+1))
	return err == nil && bytes.Equal(held, data)
}

func removeTemp(dir int) error {
	if err := unix.Unlinkat(dir, markerTemp, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// makeTemp writes the marker beside its place.
func makeTemp(dir int, data []byte) error {
	if err := removeTemp(dir); err != nil {
		return err
	}
	fd, err := unix.Openat(dir, markerTemp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), markerTemp)
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// RemoveMarker removes the file at rel, durably, and then the directories
// above it that are empty, but not the web root. A file that is not there is
// fine. No symlink below the web root is followed.
func (w *Worktree) RemoveMarker(rel string) error {
	if err := w.removeMarker(rel); err != nil {
		return fmt.Errorf("removing the marker %q: %w", rel, err)
	}
	return nil
}

func (w *Worktree) removeMarker(rel string) error {
	way, err := w.openWay(rel, false)
	if err != nil {
		return err
	}
	defer way.close()
	changed := -1 // the last directory that lost an entry and is still there
	at := len(way.dirs) - 1
	if at == len(way.names)-1 { // else a directory is missing, and the marker with it
		for _, name := range []string{markerTemp, way.names[at]} {
			switch err := unix.Unlinkat(way.dirs[at], name, 0); {
			case err == nil:
				changed = at
			case errors.Is(err, unix.EISDIR):
				return errors.New("a directory is there")
			case !errors.Is(err, unix.ENOENT):
				return err
			}
		}
	}
	for ; at > 0; at-- {
		err := unix.Unlinkat(way.dirs[at-1], way.names[at-1], unix.AT_REMOVEDIR)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.EBUSY) {
			break // in use; EBUSY is for what is mounted there
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		changed = at - 1
	}
	if changed < 0 {
		return nil
	}
	return unix.Fsync(way.dirs[changed])
}

// A way leads from the web root to a file, by descriptors.
type way struct {
	names []string // of rel
	// dirs[i] is the directory that holds names[i]. There are fewer than names
	// where a directory is missing.
	dirs []int
}

func (w *way) last() (dir int, name string) {
	i := len(w.names) - 1
	return w.dirs[i], w.names[i]
}

func (w *way) close() {
	for _, fd := range w.dirs {
		unix.Close(fd)
	}
}

// openWay opens the directories that lead to rel, and makes those that are
// missing if it is told to. A directory is what its descriptor is: another one
// that is moved to its name later is not entered.
func (w *Worktree) openWay(rel string, create bool) (*way, error) {
	if !fs.ValidPath(rel) || rel == "." || strings.ContainsRune(rel, 0) {
		return nil, errors.New("it is not a clean path below the web root")
	}
	web, err := openRoot(w.Dir)
	if err != nil {
		return nil, err
	}
	way := &way{names: strings.Split(rel, "/"), dirs: []int{web.fd}}
	for i, name := range way.names[:len(way.names)-1] {
		fd, err := enter(way.dirs[i], name, create)
		if errors.Is(err, unix.ENOENT) && !create {
			break
		}
		if err != nil {
			way.close()
			return nil, fmt.Errorf("%q: %w", path.Join(way.names[:i+1]...), err)
		}
		way.dirs = append(way.dirs, fd)
	}
	return way, nil
}

// enter opens the directory name, having made it if it is missing and create
// is set.
func enter(dir int, name string, create bool) (int, error) {
	fd, err := unix.Openat(dir, name, dirFlags|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) && create {
		if err = unix.Mkdirat(dir, name, 0o777); err == nil {
			err = unix.Fsync(dir)
		}
		if err == nil || errors.Is(err, unix.EEXIST) {
			fd, err = unix.Openat(dir, name, dirFlags|unix.O_NOFOLLOW, 0)
		}
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return -1, errors.New("not a directory")
	}
	return fd, err
}

// MarkerConflict refuses the tree of a commit that has something of its own
// where the marker rel goes, or that is not a directory where the marker needs
// one.
func (w *Worktree) MarkerConflict(objects tree.Objects, root git.OID, rel string) error {
	for _, name := range []string{rel, path.Join(path.Dir(rel), markerTemp)} {
		if err := conflict(objects, root, name, "marker", rel); err != nil {
			return err
		}
	}
	return nil
}

// SharedConflict is MarkerConflict for a path that is shared by all releases.
func SharedConflict(objects tree.Objects, root git.OID, rel string) error {
	return conflict(objects, root, rel, "shared path", rel)
}

func conflict(objects tree.Objects, root git.OID, name, what, rel string) error {
	own, err := inTheWay(objects, root, name)
	if err != nil {
		return fmt.Errorf("looking for the %s %q in the commit: %w", what, rel, err)
	}
	if own != "" {
		return fmt.Errorf("the %s %q is in the way of the commit's own %s", what, rel, own)
	}
	return nil
}

// inTheWay finds what keeps a tree from having a file of somebody else's at
// rel: something there, or something other than a directory above it.
func inTheWay(objects tree.Objects, root git.OID, rel string) (string, error) {
	names := strings.Split(rel, "/")
	for i, name := range names {
		item, err := lookUp(objects, root, name)
		if err != nil || item.Mode == 0 {
			return "", err
		}
		if item.Mode != tree.Directory || i == len(names)-1 {
			return fmt.Sprintf("%s %q", noun(item.Mode), path.Join(names[:i+1]...)), nil
		}
		root = item.OID
	}
	return "", nil
}

// lookUp returns what a tree has under a name, nothing for the empty tree.
func lookUp(objects tree.Objects, oid git.OID, name string) (tree.Item, error) {
	if oid.IsZero() {
		return tree.Item{}, nil
	}
	kind, data, err := objects.Read(oid)
	if err != nil {
		return tree.Item{}, err
	}
	if kind != "tree" {
		return tree.Item{}, fmt.Errorf("object %s is a %s, not a tree", oid, kind)
	}
	entries, err := tree.Parse(data, objects.HashSize())
	if err != nil {
		return tree.Item{}, fmt.Errorf("object %s: %w", oid, err)
	}
	for _, e := range entries {
		if e.Name == name {
			return e.Item, nil
		}
	}
	return tree.Item{}, nil
}

// noun is what a person calls an entry.
func noun(mode tree.Mode) string {
	switch mode {
	case tree.Symlink:
		return "symlink"
	case tree.Submodule:
		return "submodule"
	case tree.Directory:
		return "directory"
	}
	return "file"
}
