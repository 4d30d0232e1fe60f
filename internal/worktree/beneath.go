package worktree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A root is a directory that paths cannot leave: every component is opened
// from its parent's descriptor and symlinks are never followed, so that a
// directory swapped for a symlink at any moment leads nowhere. It is for one
// goroutine.
type root struct {
	path string
	fd   int

	// The parent of the last path: paths come sorted, so it serves many.
	parentPath string
	parentFD   int
}

const dirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC

// openRoot opens the directory at path; here alone symlinks are followed, they
// are the operator's.
func openRoot(path string) (*root, error) {
	fd, err := unix.Open(path, dirFlags, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %q: %w", path, err)
	}
	return &root{path: path, fd: fd, parentFD: -1}, nil
}

// sub opens a directory of r as a root of its own.
func (r *root) sub(rel string) (*root, error) {
	fd, err := r.openDir(rel)
	if err != nil {
		return nil, err
	}
	return &root{path: filepath.Join(r.path, rel), fd: fd, parentFD: -1}, nil
}

// inode returns the number of the directory itself.
func (r *root) inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return 0, fmt.Errorf("looking at %q: %w", r.path, err)
	}
	return st.Ino, nil
}

func (r *root) close() {
	r.forget()
	unix.Close(r.fd)
}

// forget drops the cached parent, which a rename may have moved elsewhere.
func (r *root) forget() {
	if r.parentFD >= 0 {
		unix.Close(r.parentFD)
	}
	r.parentFD, r.parentPath = -1, ""
}

// openDir opens the directory at rel ("" is the root) for the caller to close.
func (r *root) openDir(rel string) (int, error) {
	if rel == "" {
		return dup(r.fd)
	}
	fd, err := openBeneath(r.fd, rel)
	if err != nil {
		return -1, fmt.Errorf("opening directory %q: %w", rel, err)
	}
	return fd, nil
}

func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// openBeneath is openat2 where the kernel has it (5.6), and one openat for
// each component elsewhere (also where a seccomp filter denies openat2).
func openBeneath(fd int, rel string) (int, error) {
	how := unix.OpenHow{Flags: dirFlags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for {
		opened, err := unix.Openat2(fd, rel, &how)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			continue
		case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM):
			return walkBeneath(fd, rel)
		}
		return opened, err
	}
}

func walkBeneath(fd int, rel string) (int, error) {
	at := fd
	for name := range strings.SplitSeq(rel, "/") {
		next, err := unix.Openat(at, name, dirFlags|unix.O_NOFOLLOW, 0)
		if at != fd {
			unix.Close(at)
		}
		if err != nil {
			return -1, err
		}
		at = next
	}
	return at, nil
}

// parent returns a descriptor of the directory that holds path, and path's
// last name. The descriptor is good until the next call.
func (r *root) parent(path string) (int, string, error) {
	dir, base := split(path)
	if dir == "" {
		return r.fd, base, nil
	}
	if r.parentFD >= 0 && r.parentPath == dir {
		return r.parentFD, base, nil
	}
	fd, err := r.openDir(dir)
	if err != nil {
		return -1, "", err
	}
	r.forget()
	r.parentFD, r.parentPath = fd, dir
	return fd, base, nil
}

// split cuts path into its directory, "" at the top, and its last name.
func split(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// lstat tells what is at path. absent means that nothing is, or that path
// leads through something that is not a directory.
func (r *root) lstat(path string) (st unix.Stat_t, absent bool, err error) {
	fd, base, err := r.parent(path)
	if err == nil {
		err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if isAbsent(err) {
		return st, true, nil
	}
	if err != nil {
		return st, false, fmt.Errorf("looking at %q: %w", path, err)
	}
	return st, false, nil
}

// statEntry is lstat for the path of an index entry. It makes no string of what
// serves many entries, the directory.
func (r *root) statEntry(path []byte, st *unix.Stat_t) (absent bool, err error) {
	cut := bytes.LastIndexByte(path, '/')
	fd := r.fd
	if cut >= 0 {
		if r.parentFD < 0 || r.parentPath != string(path[:cut]) {
			if _, _, err = r.parent(string(path)); err != nil {
				cut = -1
			}
		}
		fd = r.parentFD
	}
	if err == nil {
		err = fstatat(fd, path[cut+1:], st)
	}
	switch {
	case err == nil:
		return false, nil
	case isAbsent(err):
		return true, nil
	}
	return false, fmt.Errorf("looking at %q: %w", path, err)
}

// isEmpty tells whether the directory at path has no entries.
func (r *root) isEmpty(path string) (bool, error) {
	fd, err := r.openDir(path)
	if err != nil {
		return false, err
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}

func isAbsent(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// birth returns when the inode of a name was made, in ns since 1970; 0 where
// the filesystem does not say.
func birth(fd int, name string) int64 {
	var st unix.Statx_t
	err := unix.Statx(fd, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// maxSyncedDirs is up to how many directories are made durable one by one;
// beyond it one syncfs for each of their filesystems is cheaper.
const maxSyncedDirs = 16

// syncDirs makes the entries of directories durable. A directory that is gone
// again has nothing to lose.
func (r *root) syncDirs(dirs map[string]bool) error {
	if len(dirs) > maxSyncedDirs {
		return r.syncFilesystems(dirs, unix.Syncfs)
	}
	return r.eachDir(dirs, func(dir string, fd int) error {
		if err := unix.Fsync(fd); err != nil {
			return fmt.Errorf("syncing directory %q: %w", dir, err)
		}
		return nil
	})
}

// syncFilesystems syncs each filesystem that directories are on once: others than
// the root's may be mounted below it.
func (r *root) syncFilesystems(dirs map[string]bool, sync func(fd int) error) error {
	synced := map[uint64]bool{}
	return r.eachDir(dirs, func(dir string, fd int) error {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		if err == nil && !synced[st.Dev] {
			synced[st.Dev] = true
			err = sync(fd)
		}
		if err != nil {
			return fmt.Errorf("syncing the filesystem of %q: %w", filepath.Join(r.path, dir), err)
		}
		return nil
	})
}

// eachDir opens each of the directories that is there for do.
func (r *root) eachDir(dirs map[string]bool, do func(dir string, fd int) error) error {
	for dir := range dirs {
		fd, err := r.openDir(dir)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return err
		}
		err = do(dir, fd)
		unix.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}
