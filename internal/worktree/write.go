package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

// bulk is from how many files on the server's git reads the objects.
const bulk = 100

// fsyncEach is up to how many files are made durable one by one.
const fsyncEach = 8

// write writes the files and makes them durable. Each worker has a contiguous
// run of the paths, and so, but for the seams, directories of its own.
func (s *Staged) write(ctx context.Context, places []place, progress func(int)) error {
	dirs, err := s.makeDirs(places)
	if err != nil {
		return err
	}
	var done atomic.Int64
	written := func() {
		if n := done.Add(1); progress != nil {
			progress(int(n))
		}
	}
	if places, err = s.convert(ctx, places, written); err != nil {
		return err
	}
	if len(places) < bulk {
		err = s.writeFew(ctx, places, written)
	} else {
		err = s.writeMany(ctx, places, written)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("staging: %w", ctx.Err())
	}
	if err != nil {
		return err
	}
	if err := s.sync(dirs); err != nil {
		return fmt.Errorf("making the staged files durable: %w", err)
	}
	return nil
}

func (s *Staged) writeMany(ctx context.Context, places []place, written func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := min(runtime.GOMAXPROCS(0), 4)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		from, to := n*len(places)/workers, (n+1)*len(places)/workers
		wg.Go(func() {
			if errs[n] = s.writeRun(ctx, places, from, to, written); errs[n] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return firstCause(errs)
}

// firstCause returns the error that ended the other workers, not the one that
// they ended with.
func firstCause(errs []error) error {
	var canceled error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		canceled = cmp.Or(canceled, err)
	}
	return canceled
}

// makeDirs makes the directories in the stages. They are returned, with the
// stages themselves.
func (s *Staged) makeDirs(places []place) (map[place]bool, error) {
	made := map[place]bool{}
	for _, stage := range s.stages {
		made[place{stage: stage}] = true
	}
	var mkdir func(dir place) error
	mkdir = func(dir place) error {
		if made[dir] {
			return nil
		}
		parent, _ := split(dir.path)
		if err := mkdir(place{dir.stage, parent}); err != nil {
			return err
		}
		made[dir] = true
		at, base, err := dir.stage.parent(dir.path)
		if err == nil {
			err = unix.Mkdirat(at, base, 0o777)
		}
		if err != nil {
			return fmt.Errorf("staging: making a directory: %w", err)
		}
		return nil
	}
	for i, p := range places {
		if p.path == "" {
			continue
		}
		dir, _ := split(p.path)
		if s.plan.Writes[i].Mode == tree.Submodule {
			dir = p.path
		}
		if err := mkdir(place{p.stage, dir}); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// writeFew is for a handful of files, which need no further process.
func (s *Staged) writeFew(ctx context.Context, places []place, written func()) error {
	objects := s.worktree.Repo.Objects(ctx)
	defer objects.Close()
	for i, place := range places {
		write := &s.plan.Writes[i]
		if place.path == "" || write.Mode == tree.Submodule {
			continue
		}
		err := s.writeOne(place, write, func(w io.Writer) error { return objects.Copy(write.OID, w) })
		if err != nil {
			return err
		}
		written()
	}
	return nil
}

func (s *Staged) writeRun(ctx context.Context, places []place, from, to int, written func()) error {
	var oids []git.OID
	var which []int
	for i := from; i < to; i++ {
		if places[i].path != "" && s.plan.Writes[i].Mode != tree.Submodule {
			oids = append(oids, s.plan.Writes[i].OID)
			which = append(which, i)
		}
	}
	stages, err := s.ownStages()
	if err != nil {
		return err
	}
	defer func() {
		for _, stage := range stages {
			stage.close()
		}
	}()
	return s.worktree.Repo.Stream(ctx, oids, func(n int, kind string, size int64, r io.Reader) error {
		write := &s.plan.Writes[which[n]]
		if kind != "blob" {
			return fmt.Errorf("%q: object %s is a %s, not a blob", write.Path, write.OID, kind)
		}
		at := places[which[n]]
		at.stage = stages[at.stage]
		err := s.writeOne(at, write, func(w io.Writer) error {
			n, err := io.Copy(w, r)
			if err == nil && n != size {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
		written()
		return err
	})
}

// ownStages opens each stage once more: a root is for one goroutine.
func (s *Staged) ownStages() (map[*root]*root, error) {
	own := map[*root]*root{}
	for _, stage := range s.stages {
		again, err := stage.sub("")
		if err != nil {
			for _, stage := range own {
				stage.close()
			}
			return nil, err
		}
		own[stage] = again
	}
	return own, nil
}

// writeOne writes one file with the mode that git gives it: all bits that the
// umask leaves.
func (s *Staged) writeOne(at place, write *Write, content func(io.Writer) error) error {
	var st unix.Stat_t
	var err error
	if s.plan.conversions.mode(write.Mode) == tree.Symlink {
		err = at.makeSymlink(&st, content)
	} else {
		perm := uint32(0o666)
		if write.Mode == tree.Executable {
			perm = 0o777
		}
		each := len(s.plan.Writes) <= fsyncEach && !s.worktree.Unsynced
		modified := func() *unix.Timespec { return s.twinTime(at, write, write.size) }
		err = at.makeFile(perm, each, modified, &st, content)
	}
	if err != nil {
		return fmt.Errorf("staging %q: %w", write.Path, err)
	}
	write.stat = index.StatOf(&st)
	return nil
}

// maxTarget is the longest target of a symlink that the kernel takes, in bytes.
const maxTarget = 4095

// checkTargets refuses symlinks that cannot be made, by the sizes that the plan has
// measured: their targets are read into memory.
func (p *Plan) checkTargets() error {
	for i := range p.Writes {
		write := &p.Writes[i]
		if p.conversions.mode(write.Mode) == tree.Symlink && write.size > maxTarget {
			return fmt.Errorf("refusing the tree: symlink %q is longer than the %d bytes that the kernel takes", write.Path, maxTarget)
		}
	}
	return nil
}

func (p place) makeSymlink(st *unix.Stat_t, content func(io.Writer) error) error {
	var target strings.Builder
	if err := content(&target); err != nil {
		return err
	}
	dir, base, err := p.stage.parent(p.path)
	if err != nil {
		return err
	}
	if err := unix.Symlinkat(target.String(), dir, base); err != nil {
		return err
	}
	return unix.Fstatat(dir, base, st, unix.AT_SYMLINK_NOFOLLOW)
}

// makeFile asks modified, when the content is there, for the file's modification
// time; nil is now.
func (p place) makeFile(perm uint32, sync bool, modified func() *unix.Timespec, st *unix.Stat_t, content func(io.Writer) error) error {
	dir, base, err := p.stage.parent(p.path)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(dir, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return err
	}
	err = p.fill(fd, sync, modified, st, content)
	if closed := unix.Close(fd); err == nil {
		err = closed
	}
	return err
}

func (p place) fill(fd int, sync bool, modified func() *unix.Timespec, st *unix.Stat_t, content func(io.Writer) error) error {
	if err := content(descriptor(fd)); err != nil {
		return err
	}
	if at := modified(); at != nil {
		dir, base, err := p.stage.parent(p.path)
		if err != nil {
			return err
		}
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, *at}
		if err := unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if sync {
		if err := unix.Fsync(fd); err != nil {
			return err
		}
	}
	return unix.Fstat(fd, st)
}

// A descriptor is a file that is written to. An os.File for each of them would
// ask the kernel whether it can be polled, and leave the collector more to do than
// all the rest.
type descriptor int

func (fd descriptor) Write(b []byte) (written int, err error) {
	for written < len(b) {
		n, err := unix.Write(int(fd), b[written:])
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return written, os.NewSyscallError("write", err)
		case n == 0:
			return written, io.ErrShortWrite
		}
		written += max(n, 0)
	}
	return written, nil
}

// sync makes the staged files durable: few of them were synced one by one, and
// only their directories are left; else all of the filesystems are.
func (s *Staged) sync(dirs map[place]bool) error {
	if s.worktree.Unsynced {
		return nil
	}
	if len(s.plan.Writes) > fsyncEach {
		for _, stage := range s.stages {
			if err := unix.Syncfs(stage.fd); err != nil {
				return err
			}
		}
		return nil
	}
	for dir := range dirs {
		if err := dir.stage.syncDirs(map[string]bool{dir.path: true}); err != nil {
			return err
		}
	}
	return nil
}
