package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Private refuses a file that others than root, whose id is given, can change,
// or put another one in the place of: a directory on the way to it may be
// theirs. top is where the way begins.
func Private(top, file string, root int) error {
	if !filepath.IsAbs(file) || filepath.Clean(file) != file {
		return fmt.Errorf("%q is not an absolute path without detours", file)
	}
	for at := file; ; at = filepath.Dir(at) {
		st, err := os.Lstat(at)
		if err != nil {
			return err
		}
		owner, known := st.Sys().(*syscall.Stat_t)
		switch {
		case at == file && !st.Mode().IsRegular():
			return fmt.Errorf("%q is not a regular file", at)
		case at != file && !st.IsDir():
			return fmt.Errorf("%q is not a directory", at) // a symlink, for one
		case !known || int(owner.Uid) != root || st.Mode().Perm()&0o022 != 0:
			return fmt.Errorf("others than root may change %q", at)
		}
		if at == top || at == "/" {
			return nil
		}
	}
}

// Alone makes this process independent of whoever has started it: nothing is
// left of the environment, which could lead to another API or to trust in one,
// and no descriptor but the first three. It leaves no dump of its memory.
func Alone() error {
	os.Clearenv()
	unix.Umask(0o077)
	if err := unix.Setrlimit(unix.RLIMIT_CORE, new(unix.Rlimit)); err != nil { // the token would be in the dump
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return errors.New("it cannot be told which files are open: there is no /proc")
	}
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		// What this process has opened itself is closed on exec: the rest is inherited.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	return nil
}
