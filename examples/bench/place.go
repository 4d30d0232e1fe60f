package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The places.
const (
	tmpfs = "tmpfs"
	ext4  = "ext4"
)

// A place is a directory on one kind of filesystem, where repositories and web
// roots lie.
type place struct {
	name  string
	about string // the filesystem in words
	dir   string
	// beneath is what is free of what the filesystem itself lies in.
	beneath func() (int64, error)
	undo    []func() error // in order
	made    int            // directories so far
	// servers that go on from scenario to scenario, and copies of the sites.
	servers map[string]*server
	sites   map[string]*site
}

// fresh names a directory that has never been there.
func (p *place) fresh(what string) string {
	p.made++
	return filepath.Join(p.dir, fmt.Sprintf("%s-%d", what, p.made))
}

// settle has the filesystem write what it still has to, so that nobody is
// timed with what the one before has left behind.
func (p *place) settle() error {
	dir, err := os.Open(p.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// room is what is free, in bytes.
func (p *place) room() (int64, error) {
	here, err := free(p.dir)
	if err != nil || p.beneath == nil {
		return here, err
	}
	beneath, err := p.beneath()
	return min(here, beneath), err
}

// free is what a filesystem has left.
func free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// close removes all of it.
func (p *place) close() error {
	var err error
	for _, undo := range p.undo {
		err = errors.Join(err, undo())
	}
	return err
}

// openPlace opens a place. The error is a leftOut where this machine has none.
func openPlace(ctx context.Context, sh *shell, name, imageDir string) (*place, error) {
	p := &place{name: name, servers: map[string]*server{}, sites: map[string]*site{}}
	open := p.openMemory
	if name == ext4 {
		open = func() error { return p.openImage(ctx, sh, imageDir) }
	}
	if err := open(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// openMemory takes a directory of /dev/shm.
func (p *place) openMemory() error {
	const memory = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(memory, &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		return leftOut(memory + " is no tmpfs")
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return leftOut("programs may not be run from " + memory)
	}
	dir, err := os.MkdirTemp(memory, "bluegreen-bench-")
	if err != nil {
		return leftOut(err.Error())
	}
	p.dir, p.about, p.beneath = dir, memory, availableMemory
	p.undo = append(p.undo, func() error { return os.RemoveAll(dir) })
	return nil
}

// imageBytes is the size of the image. Only what is written takes room.
const imageBytes = 24 << 30

// openImage mounts an image with an ext4 that has a journal, as servers do.
// Without one, ext4 does not give out inodes that were freed in the last
// minutes, and searches for others, which slows down all that follows.
func (p *place) openImage(ctx context.Context, sh *shell, dir string) error {
	if os.Geteuid() != 0 {
		return leftOut("mounting an image needs root")
	}
	work, err := os.MkdirTemp(dir, "bluegreen-bench-")
	if err != nil {
		return err
	}
	image := filepath.Join(work, "image")
	p.dir, p.beneath = filepath.Join(work, "mounted"), func() (int64, error) { return free(work) }
	p.undo = append(p.undo, func() error { return os.RemoveAll(work) })
	err = errors.Join(os.Mkdir(p.dir, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, imageBytes))
	if err != nil {
		return err
	}
	// Nothing may be initialised in the background while others are timed.
	if _, err := sh.run(ctx, job{argv: []string{"mkfs.ext4", "-q", "-F", "-O", "has_journal", "-i", "8192",
		"-E", "lazy_itable_init=0,lazy_journal_init=0", image}}); err != nil {
		return leftOut(err.Error())
	}
	// Without direct I/O all would be in memory twice.
	device, err := sh.run(ctx, job{argv: []string{"losetup", "--find", "--show", "--direct-io=on", image}})
	if err != nil {
		return leftOut(err.Error())
	}
	_, err = sh.run(ctx, job{argv: []string{"mount", "-t", "ext4", device, p.dir}})
	if err == nil {
		p.undo = append([]func() error{func() error { return unix.Unmount(p.dir, 0) }}, p.undo...)
	}
	// In use, the device goes away when it is unmounted.
	_, detached := sh.run(context.WithoutCancel(ctx), job{argv: []string{"losetup", "--detach", device}})
	if err != nil {
		return leftOut(err.Error())
	}
	if _, err := os.Stat(filepath.Join("/sys/fs/ext4", filepath.Base(device), "journal_task")); err != nil {
		return leftOut("the ext4 that was made has no journal")
	}
	p.about = "journaled, an image in " + filesystem(dir) + " by a loop device"
	return detached
}

// filesystem names the type of what dir lies on.
func filesystem(dir string) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "an unknown filesystem"
	}
	kind, longest := "an unknown filesystem", -1
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		if at := fields[1]; (dir == at || strings.HasPrefix(dir, strings.TrimSuffix(at, "/")+"/")) && len(at) >= longest {
			kind, longest = fields[2], len(at)
		}
	}
	return kind
}
