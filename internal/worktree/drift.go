package worktree

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

// findings are what a sweep has found, in order.
type findings struct {
	drifted []int // places of entries that the disk does not agree with
	// seen are the entries whose file had to be read: its content is right, and
	// its Stat is what it is now.
	seen []index.Entry
}

// sweep looks at the files of x, but for those at the places skip, in
// contiguous runs side by side.
//
// Like "git checkout -f", it also finds files whose inode has changed and whose
// mode is not the one that a new file would get, when modes is not nil.
func (w *Worktree) sweep(ctx context.Context, x *index.Index, skip []int, modes *umask) (findings, error) {
	workers := min(runtime.GOMAXPROCS(0), 4, x.Len()/512+1)
	found := make([]findings, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		from, to := n*x.Len()/workers, (n+1)*x.Len()/workers
		wg.Go(func() { found[n], errs[n] = w.sweepRun(ctx, x, from, to, skip, modes) })
	}
	wg.Wait()
	var all findings
	for n := range workers {
		if errs[n] != nil {
			return findings{}, errs[n]
		}
		all.drifted = append(all.drifted, found[n].drifted...)
		all.seen = append(all.seen, found[n].seen...)
	}
	return all, nil
}

func (w *Worktree) sweepRun(ctx context.Context, x *index.Index, from, to int, skip []int, modes *umask) (found findings, err error) {
	r, err := openRoot(w.Dir)
	if err != nil {
		return found, err
	}
	defer r.close()
	first, _ := slices.BinarySearch(skip, from)
	skip = skip[first:]
	for i := from; i < to; i++ {
		if len(skip) > 0 && skip[0] == i {
			skip = skip[1:]
			continue
		}
		if err := ctx.Err(); err != nil {
			return found, fmt.Errorf("looking for changed files: %w", err)
		}
		var st unix.Stat_t
		switch there, err := r.unchanged(x, i, &st); {
		case err != nil:
			return found, err
		case there == asRecorded:
		case there == unknown && r.holds(x, i, &st, modes):
			e := x.Entry(i)
			e.Stat = index.StatOf(&st)
			found.seen = append(found.seen, e)
		default:
			found.drifted = append(found.drifted, i)
		}
	}
	return found, nil
}

// What the inode of a tracked file says of it.
const (
	different  = iota
	unknown    // the content tells
	asRecorded // it has not changed since the index was written
)

// unchanged looks at the inode of an entry's file, and returns it in st.
func (r *root) unchanged(x *index.Index, i int, st *unix.Stat_t) (int, error) {
	absent, err := r.statEntry(x.Path(i), st)
	mode := x.Mode(i)
	if err != nil || absent || !sameType(mode, st) {
		return different, err
	}
	if mode == tree.Submodule {
		return asRecorded, nil
	}
	now, old := index.StatOf(st), x.Stat(i)
	old.Dev = now.Dev // not stable over reboots; git does not compare it either
	if old == now && !x.Racy(i) {
		return asRecorded, nil
	}
	return unknown, nil
}

// holds reads the file of an entry and tells whether it is what it should be.
// What cannot be read is as good as changed.
func (r *root) holds(x *index.Index, i int, st *unix.Stat_t, modes *umask) bool {
	item := x.Item(i)
	if modes != nil && item.Mode != tree.Symlink && st.Mode&0o7777 != modes.of(item.Mode) {
		return false
	}
	oid, err := r.hashFile(string(x.Path(i)), st, x.HashSize())
	return err == nil && oid == item.OID
}

// umask is the process's file mode creation mask.
type umask uint32

// readUmask asks the kernel: umask(2) itself cannot be read without setting
// it. It returns nil where /proc does not tell (before Linux 4.7).
func readUmask() *umask {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(status)) {
		var mask umask
		if n, _ := fmt.Sscanf(line, "Umask: %o", &mask); n == 1 {
			return &mask
		}
	}
	return nil
}

// of returns the permissions that git gives to a new file.
func (u umask) of(mode tree.Mode) uint32 {
	if mode == tree.Executable {
		return 0o777 &^ uint32(u)
	}
	return 0o666 &^ uint32(u)
}

func sameType(mode tree.Mode, st *unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return mode == tree.Executable && st.Mode&0o100 != 0 || mode == tree.File && st.Mode&0o100 == 0
	case unix.S_IFLNK:
		return mode == tree.Symlink
	case unix.S_IFDIR:
		return mode == tree.Submodule
	}
	return false
}

// hashFile computes the name of the blob that the file would be.
func (r *root) hashFile(path string, st *unix.Stat_t, hashSize int) (git.OID, error) {
	fd, base, err := r.parent(path)
	if err != nil {
		return git.OID{}, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target := make([]byte, 4096)
		n, err := unix.Readlinkat(fd, base, target)
		if err != nil {
			return git.OID{}, fmt.Errorf("reading %q: %w", path, err)
		}
		return tree.HashObject("blob", target[:n], hashSize), nil
	}
	file, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return git.OID{}, fmt.Errorf("reading %q: %w", path, err)
	}
	f := os.NewFile(uintptr(file), path)
	defer f.Close()
	h := tree.NewHash(hashSize)
	fmt.Fprintf(h, "blob %d\x00", st.Size)
	if _, err := io.Copy(h, io.LimitReader(f, st.Size)); err != nil {
		return git.OID{}, fmt.Errorf("reading %q: %w", path, err)
	}
	return git.OIDFromBytes(h.Sum(nil)), nil
}

// Drift lists the tracked paths whose content, type or executable bit on disk
// is not what was deployed.
func (w *Worktree) Drift(ctx context.Context, known Known) ([]string, error) {
	objects := w.Repo.Objects(ctx)
	defer objects.Close()
	x, _, err := w.readIndex(objects, known)
	if err != nil {
		return nil, err
	}
	found, err := w.sweep(ctx, x, nil, nil)
	if err != nil {
		return nil, err
	}
	paths := []string{}
	for _, i := range found.drifted {
		paths = append(paths, string(x.Path(i)))
	}
	return paths, nil
}

// HeldTree returns the tree that the index says the web root holds; the zero
// OID for an empty index.
func (w *Worktree) HeldTree(known Known) (git.OID, error) {
	x, same, err := index.ReadKnown(w.Index(), w.Repo.Dir, w.Repo.HashSize(), known.Index)
	switch {
	case err != nil || x.Len() == 0:
		return git.OID{}, err
	case same:
		return known.Tree, nil
	}
	return x.Tree(hashOnly(w.Repo.HashSize())).Root, nil
}

// hashOnly stands for objects where only their names' size is of interest.
type hashOnly int

func (hashOnly) Read(oid git.OID) (string, []byte, error) {
	return "", nil, fmt.Errorf("object %s: %w", oid, git.ErrNoObject)
}

func (h hashOnly) HashSize() int { return int(h) }
