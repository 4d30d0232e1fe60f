package worktree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// write writes the files. Each worker has a contiguous run of the paths, and
// so, but for the seams, directories of its own.
func (s *Staged) write(ctx context.Context, places []string, progress func(int)) error {
	if err := s.makeDirs(places); err != nil {
		return err
	}
	var done atomic.Int64
	written := func() {
		if n := done.Add(1); progress != nil {
			progress(int(n))
		}
	}
	if len(places) < bulk {
		return s.writeFew(ctx, places, written)
	}
	parent := ctx
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
	if err := parent.Err(); err != nil {
		return fmt.Errorf("staging: %w", err)
	}
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

// give makes the directory at path an heir of the directory that it will be
// put into, and what is made in it after it. The kernel would give a group
// that we are not in, and lets nobody else do so: then the group stays ours.
func (h inheritance) give(path string) error {
	os.Chown(path, -1, h.group)
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("staging: %w", err)
	}
	mode := st.Mode() &^ os.ModeSetgid
	if h.setgid {
		mode |= os.ModeSetgid
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("staging: %w", err)
	}
	return nil
}

func (s *Staged) makeDirs(places []string) error {
	made := map[string]bool{}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if dir == "" || made[dir] {
			return nil
		}
		parent, _ := split(dir)
		if err := mkdir(parent); err != nil {
			return err
		}
		made[dir] = true
		path := filepath.Join(string(s.Record.Stage), dir)
		if err := os.Mkdir(path, 0o777); err != nil {
			return fmt.Errorf("staging: %w", err)
		}
		if heir, differs := s.heirs[dir]; differs {
			return heir.give(path)
		}
		return nil
	}
	for i, place := range places {
		dir, _ := split(place)
		if s.plan.Writes[i].Mode == tree.Submodule {
			dir = place
		}
		if err := mkdir(dir); err != nil {
			return err
		}
	}
	return nil
}

// writeFew is for a handful of files, which need no further process.
func (s *Staged) writeFew(ctx context.Context, places []string, written func()) error {
	objects := s.worktree.Repo.Objects(ctx)
	defer objects.Close()
	for i, place := range places {
		write := &s.plan.Writes[i]
		if place == "" || write.Mode == tree.Submodule {
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

func (s *Staged) writeRun(ctx context.Context, places []string, from, to int, written func()) error {
	var oids []git.OID
	var which []int
	for i := from; i < to; i++ {
		if places[i] != "" && s.plan.Writes[i].Mode != tree.Submodule {
			oids = append(oids, s.plan.Writes[i].OID)
			which = append(which, i)
		}
	}
	return s.worktree.Repo.Stream(ctx, oids, func(n int, kind string, size int64, r io.Reader) error {
		write := &s.plan.Writes[which[n]]
		if kind != "blob" {
			return fmt.Errorf("%q: object %s is a %s, not a blob", write.Path, write.OID, kind)
		}
		err := s.writeOne(places[which[n]], write, func(w io.Writer) error {
			_, err := io.CopyN(w, r, size)
			return err
		})
		written()
		return err
	})
}

// writeOne writes one file with the mode that git gives it: all bits that the
// umask leaves. Its Stat goes into the next index.
func (s *Staged) writeOne(place string, write *Write, content func(io.Writer) error) error {
	path := filepath.Join(string(s.Record.Stage), place)
	group := -1
	if heir, differs := s.heirs[place]; differs {
		group = heir.group
	}
	var st unix.Stat_t
	var err error
	if write.Mode == tree.Symlink {
		err = makeSymlink(path, group, &st, content)
	} else {
		perm := os.FileMode(0o666)
		if write.Mode == tree.Executable {
			perm = 0o777
		}
		err = makeFile(path, perm, group, len(s.plan.Writes) <= fsyncEach, &st, content)
	}
	if err != nil {
		return fmt.Errorf("staging %q: %w", write.Path, err)
	}
	s.plan.next.Entries[write.entry].Stat = index.StatOf(&st)
	return nil
}

func makeSymlink(path string, group int, st *unix.Stat_t, content func(io.Writer) error) error {
	var target strings.Builder
	if err := content(&target); err != nil {
		return err
	}
	if err := os.Symlink(target.String(), path); err != nil {
		return err
	}
	if group >= 0 {
		os.Lchown(path, -1, group) // see give
	}
	return unix.Lstat(path, st)
}

func makeFile(path string, perm os.FileMode, group int, sync bool, st *unix.Stat_t, content func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := content(f); err != nil {
		return err
	}
	if group >= 0 {
		f.Chown(-1, group) // see give
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := unix.Fstat(int(f.Fd()), st); err != nil {
		return err
	}
	return f.Close()
}

// sync makes the staged files durable: few of them were synced one by one, and
// only their directories are left; else all of the filesystem is.
func (s *Staged) sync(files int) error {
	stage, err := openRoot(string(s.Record.Stage))
	if err != nil {
		return err
	}
	defer stage.close()
	if files > fsyncEach {
		return unix.Syncfs(stage.fd)
	}
	return filepath.WalkDir(string(s.Record.Stage), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		defer dir.Close()
		return dir.Sync()
	})
}
