package worktree

import (
	"context"
	"errors"
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

// findings are what a sweep has found.
type findings struct {
	drifted []int // places of entries that the disk does not agree with, in order
	// seen are the entries whose file had to be read: its content is right, and
	// its Stat is what it is now.
	seen []index.Entry
	// doubtful are entries whose content decides, and may be converted.
	doubtful []int
	// said is what git had to say of conversions that did not fail.
	said []string
}

// A selection says which entries a sweep looks at, by their places in order.
type selection struct {
	skip    []int // not these
	doubted []int // of these the content decides, whatever the inode says
	only    bool  // the doubted ones alone
}

// from leaves out what is before a place.
func (s selection) from(place int) selection {
	after := func(places []int) []int {
		i, _ := slices.BinarySearch(places, place)
		return places[i:]
	}
	return selection{after(s.skip), after(s.doubted), s.only}
}

// next tells, of one place after the other, whether it is to be looked at, and
// whether it is doubted.
func (s *selection) next(place int) (look, doubted bool) {
	if len(s.doubted) > 0 && s.doubted[0] == place {
		s.doubted, doubted = s.doubted[1:], true
	}
	if len(s.skip) > 0 && s.skip[0] == place {
		s.skip = s.skip[1:]
		return false, doubted
	}
	return doubted || !s.only, doubted
}

// sweep looks at the selected files of x, in contiguous runs side by side.
//
// Like "git checkout -f", it also finds files whose inode has changed and whose
// mode is not the one that a new file would get, when modes is not nil. Contents
// are what conv says that a checkout makes of them.
func (w *Worktree) sweep(ctx context.Context, x *index.Index, s selection, modes *umask, conv *conversions) (findings, error) {
	workers := min(runtime.GOMAXPROCS(0), 4, x.Len()/512+1)
	found := make([]findings, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		from, to := n*x.Len()/workers, (n+1)*x.Len()/workers
		wg.Go(func() { found[n], errs[n] = w.sweepRun(ctx, x, from, to, s.from(from), modes, conv) })
	}
	wg.Wait()
	var all findings
	for n := range workers {
		if errs[n] != nil {
			return findings{}, errs[n]
		}
		all.add(found[n])
	}
	if len(all.doubtful) > 0 {
		settled, err := w.settle(ctx, conv, x, all.doubtful, modes)
		if err != nil {
			return findings{}, err
		}
		all.doubtful = nil
		all.add(settled)
		slices.Sort(all.drifted)
	}
	return all, nil
}

func (f *findings) add(more findings) {
	f.drifted = append(f.drifted, more.drifted...)
	f.seen = append(f.seen, more.seen...)
	f.doubtful = append(f.doubtful, more.doubtful...)
	f.said = append(f.said, more.said...)
}

// see notes that an entry's file, whose content is right, is as st says.
func (f *findings) see(x *index.Index, i int, st *unix.Stat_t) {
	e := x.Entry(i)
	e.Stat = index.StatOf(st)
	f.seen = append(f.seen, e)
}

func (w *Worktree) sweepRun(ctx context.Context, x *index.Index, from, to int, s selection, modes *umask, conv *conversions) (found findings, err error) {
	r, err := openRoot(w.Dir)
	if err != nil {
		return found, err
	}
	defer r.close()
	var st unix.Stat_t
	for i := from; i < to; i++ {
		look, doubted := s.next(i)
		if !look {
			continue
		}
		mode := conv.mode(x.Mode(i))
		there, err := r.unchanged(x, i, mode, &st)
		if doubted && there == asRecorded && mode != tree.Submodule {
			there = unknown
		}
		// Looking takes no time, and reading a file may take long.
		if (i%256 == 0 || there == unknown) && ctx.Err() != nil {
			return found, fmt.Errorf("looking for changed files: %w", ctx.Err())
		}
		switch {
		case err != nil:
			return found, err
		case there == asRecorded:
		case there == different || modes != nil && mode != tree.Symlink && st.Mode&0o7777 != modes.of(mode):
			found.drifted = append(found.drifted, i)
		case conv.possible():
			found.doubtful = append(found.doubtful, i)
		case r.holds(x, i, &st):
			found.see(x, i, &st)
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

// unchanged looks at the inode of an entry's file, which should be of this mode,
// and returns it in st.
func (r *root) unchanged(x *index.Index, i int, mode tree.Mode, st *unix.Stat_t) (int, error) {
	absent, err := r.statEntry(x.Path(i), st)
	if err != nil || absent || !sameType(mode, st) {
		return different, err
	}
	if mode == tree.Submodule {
		return asRecorded, nil
	}
	if x.Remembers(i, st) && !x.Racy(i) {
		return asRecorded, nil
	}
	return unknown, nil
}

// holds reads the file of an entry and tells whether its content is what was
// committed. What cannot be read is as good as changed.
func (r *root) holds(x *index.Index, i int, st *unix.Stat_t) bool {
	oid, err := r.hashFile(string(x.Path(i)), st, x.HashSize())
	return err == nil && oid == x.Item(i).OID
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
	rules, err := w.Repo.Rules(ctx)
	if err != nil {
		return nil, err
	}
	conv, err := w.conversionsOf(objects, rules, entriesOf(x), known.source(known.Tree))
	if err != nil {
		return nil, err
	}
	conv.settled = known.Deployed && !known.Elsewhere && known.Conversions == ""
	if _, err := os.Stat(w.Dir); errors.Is(err, os.ErrNotExist) {
		return w.all(x), nil
	}
	found, err := w.sweep(ctx, x, selection{}, nil, conv)
	if err != nil {
		return nil, err
	}
	paths := []string{}
	for _, i := range found.drifted {
		paths = append(paths, string(x.Path(i)))
	}
	return paths, nil
}

// all lists every path.
func (w *Worktree) all(x *index.Index) []string {
	paths := make([]string, x.Len())
	for i := range paths {
		paths[i] = string(x.Path(i))
	}
	return paths
}

// HeldTree returns the tree that the index says the web root holds; the zero
// OID for an empty index.
func (w *Worktree) HeldTree(known Known) (git.OID, error) {
	same, err := index.HasMark(w.Index(), w.Repo.HashSize(), known.Index)
	if err != nil {
		return git.OID{}, err
	}
	if same {
		return known.Tree, nil
	}
	x, _, err := index.ReadKnown(w.Index(), w.Repo.Dir, w.Repo.HashSize(), known.Index)
	if err != nil || x.Len() == 0 && !w.emptied(known) {
		return git.OID{}, err
	}
	return x.Tree(hashOnly(w.Repo.HashSize())).Root, nil
}

// emptied tells that a commit without any file was deployed. An empty index alone
// does not: it may be a new repository's.
func (w *Worktree) emptied(known Known) bool {
	return !known.Elsewhere && known.Tree == tree.HashObject("tree", nil, w.Repo.HashSize())
}

// hashOnly stands for objects where only their names' size is of interest.
type hashOnly int

func (hashOnly) Read(oid git.OID) (string, []byte, error) {
	return "", nil, fmt.Errorf("object %s: %w", oid, git.ErrNoObject)
}

func (h hashOnly) HashSize() int { return int(h) }
