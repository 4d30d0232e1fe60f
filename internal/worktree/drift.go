package worktree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

func sortWrites(writes []Write) {
	sort.Slice(writes, func(i, j int) bool { return writes[i].Path < writes[j].Path })
}

// sweep looks at the entries of x at the given places, in contiguous runs side
// by side, and returns those that the disk does not agree with. Entries whose
// content is right but whose Stat is old are given the new one. written is the
// index that the Stats come from.
//
// Like "git checkout -f", it also returns files whose inode has changed and
// whose mode is not the one that a new file would get, when modes is not nil.
// Contents are what conv says that a checkout makes of them.
func (w *Worktree) sweep(ctx context.Context, x, written *index.Index, places []int, modes *umask, conv *conversions) ([]int, error) {
	workers := min(runtime.GOMAXPROCS(0), 4, len(places)/512+1)
	found := make([][]int, workers)
	doubtful := make([][]int, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		run := places[n*len(places)/workers : (n+1)*len(places)/workers]
		wg.Go(func() { found[n], doubtful[n], errs[n] = w.sweepRun(ctx, x, written, run, modes, conv) })
	}
	wg.Wait()
	var drifted []int
	for n := range workers {
		if errs[n] != nil {
			return nil, errs[n]
		}
		drifted = append(drifted, found[n]...)
	}
	if left := slices.Concat(doubtful...); len(left) > 0 {
		more, err := w.settle(ctx, conv, x, written, left, modes)
		if err != nil {
			return nil, err
		}
		drifted = append(drifted, more...)
		slices.Sort(drifted)
	}
	return drifted, nil
}

func (w *Worktree) sweepRun(ctx context.Context, x, written *index.Index, places []int, modes *umask, conv *conversions) (drifted, doubtful []int, err error) {
	r, err := openRoot(w.Dir)
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	for _, i := range places {
		if err := ctx.Err(); err != nil {
			return nil, nil, fmt.Errorf("looking for changed files: %w", err)
		}
		clean, err := r.holds(&x.Entries[i], written, w.Repo.HashSize(), modes, conv)
		switch {
		case errors.Is(err, errDoubtful):
			doubtful = append(doubtful, i)
		case err != nil:
			return nil, nil, err
		case !clean:
			drifted = append(drifted, i)
		}
	}
	return drifted, doubtful, nil
}

// errDoubtful is what holds returns where the content decides, and may be
// converted.
var errDoubtful = errors.New("the content is not known")

// holds tells whether the disk has what e says. It reads the file only when
// its inode does not prove it.
func (r *root) holds(e *index.Entry, written *index.Index, hashSize int, modes *umask, conv *conversions) (bool, error) {
	st, absent, err := r.lstat(e.Path)
	mode := conv.mode(e.Mode)
	if err != nil || absent || !sameType(mode, &st) {
		return false, err
	}
	if mode == tree.Submodule {
		return true, nil
	}
	now := index.StatOf(&st)
	old := e.Stat
	old.Dev = now.Dev // not stable over reboots; git does not compare it either
	if old == now && !written.Racy(e) {
		return true, nil
	}
	if modes != nil && mode != tree.Symlink && st.Mode&0o7777 != modes.of(mode) {
		return false, nil
	}
	if conv.possible() {
		return false, errDoubtful
	}
	oid, err := r.hashFile(e.Path, &st, hashSize)
	if err != nil || oid != e.OID {
		return false, nil // what cannot be read is as good as changed
	}
	e.Stat = now
	return true, nil
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
	x, err := w.readIndex(objects, known)
	if err != nil {
		return nil, err
	}
	places := make([]int, len(x.Entries))
	for i := range places {
		places[i] = i
	}
	rules, err := w.Repo.Rules(ctx)
	if err != nil {
		return nil, err
	}
	conv, err := w.conversionsOf(objects, rules, x, known.source(known.Tree))
	if err != nil {
		return nil, err
	}
	conv.settled = known.Deployed && !known.Elsewhere && known.Conversions == ""
	drifted, err := w.sweep(ctx, x, x, places, nil, conv)
	if err != nil {
		return nil, err
	}
	paths := []string{}
	for _, i := range drifted {
		paths = append(paths, x.Entries[i].Path)
	}
	return paths, nil
}

// HeldTree returns the tree that the index says the web root holds; the zero
// OID for an empty index.
func (w *Worktree) HeldTree() (git.OID, error) {
	x, err := index.Read(w.Index(), w.Repo.HashSize())
	if err != nil || len(x.Entries) == 0 {
		return git.OID{}, err
	}
	return x.Tree(hashOnly(w.Repo.HashSize())).Root, nil
}

// hashOnly stands for objects where only their names' size is of interest.
type hashOnly int

func (hashOnly) Read(oid git.OID) (string, []byte, error) {
	return "", nil, fmt.Errorf("object %s: %w", oid, git.ErrNoObject)
}

func (h hashOnly) HashSize() int { return int(h) }
