package worktree

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// fstatat is lstat for a name in a directory. The name is followed by a NUL in
// the array that it is a part of, as names in an index file are: the sweep looks
// at every file of a site, and a copy of each name would take a third of its time.
func fstatat(dir int, name []byte, st *unix.Stat_t) error {
	if name = name[:len(name)+1]; name[len(name)-1] != 0 {
		return unix.EINVAL
	}
	_, _, errno := unix.Syscall6(sysFstatat, uintptr(dir), uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(st)), unix.AT_SYMLINK_NOFOLLOW, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
