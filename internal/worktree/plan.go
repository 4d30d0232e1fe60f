// Package worktree brings a web root from the commit that it holds to another
// one, in place: what changes is written beside the web root and made durable,
// then renamed into it in one burst, and every rename can be undone until the
// deployment is known to be good, also by another process after a crash.
package worktree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

// A Worktree is a web root and the repository that deploys into it.
type Worktree struct {
	Repo     *git.Repository
	StateDir string // where staged files may lie
	Dir      string // the web root, absolute
	// IndexFile says what Dir holds; "" is the repository's own index, which
	// git commands on the server read, too.
	IndexFile string
	// Twin is the index of another web root: a file that it has at the same path
	// with the same content gets the modification time that it has there. nil
	// for none.
	Twin *index.Index
	// Unsynced leaves it to the caller to make files durable, with Sync: nobody
	// is served from Dir, and nothing is recorded of it before.
	Unsynced bool

	// Subdirectory is the part of a commit that becomes the web root, "" for all
	// of it.
	Subdirectory string

	Verify   bool   // also repair tracked files that changed on disk
	Symlinks string // "inside", "any" or "none"
	MaxFiles int64
	MaxBytes int64
}

// A Plan is what a deployment will change.
type Plan struct {
	Held    git.OID // the tree that the web root holds, zero when it holds none
	Tree    git.OID // the tree that it will hold
	Writes  []Write
	Deletes []string
	// Repairs counts the writes of files that the commit did not change but
	// the disk did.
	Repairs int
	// Submodules names the gitlinks that are written as empty directories.
	Submodules []string
	// Pointers names the files of Git LFS of which only pointers are written,
	// because it is not set up here.
	Pointers []string
	Bytes    int64 // to be written, before git converts them
	// Conversions stands for what the conversions of contents depend on, for
	// Known of the next plan.
	Conversions string

	source      Source
	conversions *conversions
	doubted     []int // places in the next index of what must be compared by content
	total       int64 // bytes that the web root will hold
	reserve     int64 // bytes that conversions may need beyond Bytes
	grown       int64 // bytes that they have needed

	next *index.Index
	// dropped are those of Deletes that were submodules: directories.
	dropped map[string]bool
}

// Source is where what the web root will hold comes from.
func (p *Plan) Source() Source { return p.source }

// Paths lists the paths that are to be written.
func (p *Plan) Paths() []string {
	paths := make([]string, len(p.Writes))
	for i := range p.Writes {
		paths[i] = p.Writes[i].Path
	}
	return paths
}

// A Write is a path that is to be written anew.
type Write struct {
	Path string
	tree.Item
	entry    int   // its place in the next index
	converts bool  // git's checkout changes its contents, so git writes it
	size     int64 // as it is committed
}

// Index returns the path of the index file.
func (w *Worktree) Index() string {
	if w.IndexFile != "" {
		return w.IndexFile
	}
	return filepath.Join(w.Repo.Dir, "index")
}

// Sync makes everything durable that was written to the filesystem of the web
// root.
func (w *Worktree) Sync() error { return durable.SyncFilesystem(w.Dir) }

// Known is what the records say of the web root, beside the index.
type Known struct {
	Deployed bool    // the records say anything at all; else the index alone counts
	Tree     git.OID // that the web root holds, zero for none
	// Elsewhere tells that the index is about another directory.
	Elsewhere bool
	// Root and Subdirectory are those of the Source that the tree is from.
	Root         git.OID
	Subdirectory string
	// Conversions is what the plan said of it; "" where contents were written
	// as they are committed.
	Conversions string
}

// source is where the tree that the web root holds is from, as far as that is
// known.
func (k Known) source(held git.OID) Source {
	if k.Elsewhere || k.Tree != held {
		return Source{Tree: held}
	}
	return Source{Tree: held, Root: k.Root, Dir: k.Subdirectory}
}

// readIndex reads what the web root holds. An index that is damaged, that only
// git can read, or that is about another directory, is rebuilt from the tree
// that is known to be deployed.
func (w *Worktree) readIndex(objects *git.Objects, known Known) (*index.Index, error) {
	if !known.Elsewhere {
		x, err := index.Read(w.Index(), w.Repo.HashSize())
		switch {
		case err == nil:
			return x, nil
		case known.Deployed:
		case errors.Is(err, index.ErrUnsupported):
			return nil, fmt.Errorf("%w; run \"git update-index --no-split-index\" in the repository", err)
		default:
			return nil, fmt.Errorf("%w; remove it to have every file written anew", err)
		}
	}
	return indexOf(objects, known.Tree)
}

// indexOf is the index of a tree of which nothing on disk is known: every file
// will be compared by content.
func indexOf(objects tree.Objects, root git.OID) (*index.Index, error) {
	changes, err := tree.Diff(objects, git.OID{}, root, 1<<31)
	if err != nil {
		return nil, err
	}
	x := &index.Index{Entries: make([]index.Entry, len(changes))}
	for i, c := range changes {
		x.Entries[i] = index.Entry{Path: c.Path, Item: c.New}
	}
	return x, nil
}

// Plan compares the web root with a commit, whose tree is root.
func (w *Worktree) Plan(ctx context.Context, root git.OID, known Known) (*Plan, error) {
	objects := w.Repo.Objects(ctx)
	defer objects.Close()
	source, err := w.Source(objects, root)
	if err != nil {
		return nil, fmt.Errorf("refusing the tree: %w", err)
	}
	return w.plan(ctx, objects, source, known)
}

// PlanSource is Plan for a part of a commit that is known already.
func (w *Worktree) PlanSource(ctx context.Context, source Source, known Known) (*Plan, error) {
	objects := w.Repo.Objects(ctx)
	defer objects.Close()
	return w.plan(ctx, objects, source, known)
}

func (w *Worktree) plan(ctx context.Context, objects *git.Objects, source Source, known Known) (*Plan, error) {
	target := source.Tree
	current, err := w.readIndex(objects, known)
	if err != nil {
		return nil, err
	}
	built := current.Tree(objects)
	old := built.Root
	if len(current.Entries) == 0 {
		old = git.OID{}
	}
	changes, err := tree.Diff(built, old, target, w.MaxFiles)
	if err != nil {
		return nil, fmt.Errorf("refusing the tree: %w", err)
	}
	if err := CheckSymlinks(objects, target, changes, w.Symlinks); err != nil {
		return nil, fmt.Errorf("refusing the tree: %w", err)
	}
	p := &Plan{Held: old, Tree: target, source: source, dropped: map[string]bool{}}
	unchanged := p.merge(current, changes)
	if int64(len(p.next.Entries)) > w.MaxFiles {
		return nil, fmt.Errorf("refusing the tree: more than max_files = %d files", w.MaxFiles)
	}
	if unchanged, err = w.convert(ctx, objects, p, current, unchanged, known); err != nil {
		return nil, err
	}
	if err := w.addDrift(ctx, p, current, unchanged); err != nil {
		return nil, err
	}
	if err := w.markWrites(ctx, objects, p); err != nil {
		return nil, err
	}
	return p, w.measure(objects, p)
}

// CheckSymlinks applies the rule for symlinks ("inside", "any", "none") to the
// changes that lead to the tree root.
func CheckSymlinks(objects tree.Objects, root git.OID, changes []tree.Change, rule string) error {
	changed := false
	for _, c := range changes {
		if c.New.Mode != tree.Symlink {
			continue
		}
		changed = true
		if rule == "none" {
			return fmt.Errorf("%q is a symlink, and symlinks = \"none\"", c.Path)
		}
	}
	if !changed || rule == "any" {
		return nil
	}
	links, err := tree.Links(objects, root)
	if err != nil {
		return err
	}
	return tree.CheckLinks(objects, root, links)
}

// CheckSizes holds the blobs that changes bring against maxBytes.
func CheckSizes(objects *git.Objects, changes []tree.Change, maxBytes int64) error {
	var oids []git.OID
	for _, c := range changes {
		if c.New.Mode != 0 && c.New.Mode != tree.Submodule {
			oids = append(oids, c.New.OID)
		}
	}
	sizes, err := objects.Sizes(oids)
	if err != nil {
		return err
	}
	var total int64
	for _, size := range sizes {
		if total += size; total > maxBytes {
			return fmt.Errorf("it unpacks to more than max_bytes = %d", maxBytes)
		}
	}
	return nil
}

// merge makes the next index of the current one and the changes. It returns
// the places in the next index that keep what they had.
func (p *Plan) merge(current *index.Index, changes []tree.Change) (unchanged []int) {
	next := make([]index.Entry, 0, len(current.Entries)+len(changes))
	add := func(c tree.Change) {
		if c.New.Mode == 0 {
			p.Deletes = append(p.Deletes, c.Path)
			if c.Old.Mode == tree.Submodule {
				p.dropped[c.Path] = true
			}
			return
		}
		if c.New.Mode == tree.Submodule {
			p.Submodules = append(p.Submodules, c.Path)
		}
		p.Writes = append(p.Writes, Write{Path: c.Path, Item: c.New, entry: len(next)})
		next = append(next, index.Entry{Path: c.Path, Item: c.New})
	}
	for i := range current.Entries {
		e := &current.Entries[i]
		for len(changes) > 0 && changes[0].Path < e.Path {
			add(changes[0])
			changes = changes[1:]
		}
		if len(changes) > 0 && changes[0].Path == e.Path {
			add(changes[0])
			changes = changes[1:]
			continue
		}
		unchanged = append(unchanged, len(next))
		next = append(next, *e)
	}
	for _, c := range changes {
		add(c)
	}
	p.next = &index.Index{Entries: next}
	return unchanged
}

// addDrift adds the unchanged files whose content, type or executable bit is
// not what the index says. Without Verify nothing is looked at, and files that
// may have changed unseen are marked so that git looks at them.
func (w *Worktree) addDrift(ctx context.Context, p *Plan, current *index.Index, unchanged []int) error {
	if !w.Verify {
		for _, i := range unchanged {
			if e := &p.next.Entries[i]; current.Racy(e) {
				e.Stat.Size = 0
			}
		}
		if unchanged = p.doubted; len(unchanged) == 0 {
			return nil
		}
	}
	drifted, err := w.sweep(ctx, p.next, current, unchanged, readUmask(), p.conversions)
	if err != nil || len(drifted) == 0 {
		return err
	}
	for _, i := range drifted {
		e := &p.next.Entries[i]
		e.Stat = index.Stat{}
		p.Writes = append(p.Writes, Write{Path: e.Path, Item: e.Item, entry: i})
	}
	p.Repairs = len(without(drifted, p.doubted))
	sortWrites(p.Writes)
	return nil
}

// measure adds up what is to be written, and holds the whole of what the web
// root will hold against max_bytes.
func (w *Worktree) measure(objects *git.Objects, p *Plan) error {
	var total int64
	written := make(map[int]*Write, len(p.Writes))
	for n := range p.Writes {
		written[p.Writes[n].entry] = &p.Writes[n]
	}
	var asked []int // entries whose Stat does not say how large they are
	var oids []git.OID
	for i := range p.next.Entries {
		e := &p.next.Entries[i]
		switch {
		case e.Mode == tree.Submodule:
		case written[i] != nil || e.Stat.Size == 0:
			asked = append(asked, i)
			oids = append(oids, e.OID)
		default:
			total += int64(e.Stat.Size)
		}
	}
	sizes, err := objects.Sizes(oids)
	if err != nil {
		return fmt.Errorf("refusing the tree: %w", err)
	}
	for n, i := range asked {
		total += sizes[n]
		if write := written[i]; write != nil {
			write.size = sizes[n]
			p.Bytes += sizes[n]
			if write.converts {
				p.reserve += sizes[n] // UTF-16 is twice as long; of filters nobody knows
			}
		}
	}
	p.total = total
	if total > w.MaxBytes {
		return fmt.Errorf("refusing the tree: it unpacks to %d bytes, more than max_bytes = %d", total, w.MaxBytes)
	}
	return nil
}

// CheckDirectory tells what is wrong with a web root, before anything is
// touched.
func CheckDirectory(dir, repo string) error {
	st, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the web root %q does not exist", dir)
	}
	if err != nil {
		return fmt.Errorf("the web root cannot be used: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("the web root %q is not a directory", dir)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("the web root cannot be used: %w", err)
	}
	if within(real, repo) || within(repo, real) {
		return fmt.Errorf("the web root %q and the repository %q must not lie in each other", dir, repo)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("the web root %q cannot be written to by this account: %w", dir, err)
	}
	return nil
}

// within tells whether path is dir or lies below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
