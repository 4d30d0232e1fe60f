//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// runHost is the first process of a host. It makes the root, says "up", reaps
// orphans, and ends, with all others, when its standard input does.
func runHost(name, disk, lower string) error {
	// What this process has mounted, its own namespace's end unmounts.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	if err := mountRoot(filepath.Join(disk, "root"), disk, lower); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && err != unix.EINTR {
					break
				}
			}
		}
	}()
	fmt.Println("up")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
	return nil
}

// mountRoot mounts the disk over what it lies over, what a running system has in
// it, and makes that the root of this process.
func mountRoot(dir, disk, lower string) error {
	// xino keeps the numbers of files that are written for the first time, as on
	// any real filesystem.
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s/upper,workdir=%s/work,xino=on", lower, disk, disk)
	if err := unix.Mount("root", dir, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mounting the root (%s): %w", layers, err)
	}
	const tight = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, dir string
		flags     uintptr
		data      string
	}{
		{"proc", "/proc", tight, ""},
		{"sysfs", "/sys", tight | unix.MS_RDONLY, ""},
		{"tmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/run/lock", tight, "mode=1777"},
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := os.MkdirAll(dir+m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, dir+m.dir, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	if err := makeDevices(dir + "/dev"); err != nil {
		return err
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return unix.Chdir("/")
}

// makeDevices makes what programs need in /dev.
func makeDevices(dir string) error {
	for minor, name := range map[uint32]string{3: "null", 5: "zero", 7: "full", 8: "random", 9: "urandom"} {
		path := dir + "/" + name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return err
		}
	}
	if err := unix.Mknod(dir+"/tty", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))); err != nil {
		return fmt.Errorf("making /dev/tty: %w", err)
	}
	for name, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, dir+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

// empty covers in a new disk over this machine's root what a bare Debian root
// does not have: what people and programs of theirs have put there.
func empty(upper string) error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); name {
		case "bin", "boot", "dev", "etc", "proc", "run", "sbin", "sys", "tmp", "usr", "var":
		case "home", "media", "mnt", "opt", "srv":
			err = makeOpaque(filepath.Join(upper, name), 0o755)
		case "root":
			err = makeOpaque(filepath.Join(upper, name), 0o700)
		default:
			if !strings.HasPrefix(name, "lib") {
				err = whiteout(filepath.Join(upper, name))
			}
		}
		if err != nil {
			return err
		}
	}
	local := filepath.Join(upper, "usr/local")
	if err := errors.Join(os.Mkdir(filepath.Dir(local), 0o755), makeOpaque(local, 0o755)); err != nil {
		return err
	}
	for _, name := range []string{"bin", "etc", "games", "include", "lib", "sbin", "share", "src"} {
		if err := os.Mkdir(filepath.Join(local, name), 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.Mkdir(filepath.Join(upper, "var"), 0o755), whiteout(filepath.Join(upper, "var/www")))
}

// makeOpaque makes a directory through which nothing below shows.
func makeOpaque(path string, perm os.FileMode) error {
	if err := os.Mkdir(path, perm); err != nil {
		return err
	}
	if err := unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		return fmt.Errorf("covering %s: %w", path, err)
	}
	return nil
}

// whiteout has nothing be at a path, whatever is there below.
func whiteout(path string) error {
	if err := unix.Mknod(path, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("covering %s: %w", path, err)
	}
	return nil
}
