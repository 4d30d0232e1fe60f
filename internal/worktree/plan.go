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
	"slices"
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
	// Twin is another web root: a file that it has at the same path with the same
	// content gets the modification time that it has there. nil for none.
	Twin *Twin
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

	splitFrom int // for tests: how many files are many
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
	// Accepted is what the web root will hold, for Known of the next plan.
	Accepted Accepted
	// Conversions stands for what the conversions of contents depend on, for
	// Known of the next plan.
	Conversions string

	source      Source
	conversions *conversions
	doubted     []int // places in the next index of what must be compared by content
	reserve     int64 // bytes that conversions may need beyond Bytes
	grown       int64 // bytes that they have needed

	base *index.Index // of what the web root holds
	// splits tells that the next index is worth being split.
	splits bool
	// mark is that of base, if that is the index that the records know; former is
	// the shared file that the records know of.
	mark   index.Mark
	former index.SharedMark
	// touched are the places in base of what is written anew or deleted.
	touched []int
	// seen are entries whose file stays, and of which something else is to be
	// remembered.
	seen []index.Entry
	said []string // what git had to say of conversions that were compared
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
	stat     index.Stat // of the file, when it is written
	converts bool       // git's checkout changes its contents, so git writes it
	size     int64      // as it is committed
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
	// Accepted is what the plan said of Tree.
	Accepted Accepted
	// Index is the mark of the index that was written when Tree was deployed.
	// While the index has it, it need not be compared with Tree.
	Index Mark
}

// Accepted is what was found out of a tree when it was held against the rules. The
// zero value says that nothing is known.
type Accepted struct {
	Files int64 `json:"files,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Symlinks is the rule that those of the tree keep: "inside", "any" or "none".
	Symlinks string `json:"symlinks,omitempty"`
}

// keeps tells whether the symlinks of the tree keep a rule.
func (a Accepted) keeps(rule string) bool {
	return rule == "any" || a.Symlinks == rule || a.Symlinks == "none"
}

// source is where the tree that the web root holds is from, as far as that is
// known.
func (k Known) source(held git.OID) Source {
	if k.Elsewhere || k.Tree != held {
		return Source{Tree: held}
	}
	return Source{Tree: held, Root: k.Root, Dir: k.Subdirectory}
}

// A Mark tells the index that was written with a deployment from every other.
type Mark = index.Mark

// readIndex reads what the web root holds. An index that is damaged, that only
// git can read, or that is about another directory, is rebuilt from the tree
// that is known to be deployed. same tells that the index is of that tree.
func (w *Worktree) readIndex(objects *git.Objects, known Known) (x *index.Index, same bool, err error) {
	if !known.Elsewhere {
		x, same, err := index.ReadKnown(w.Index(), w.Repo.Dir, w.Repo.HashSize(), known.Index)
		switch {
		case err == nil:
			return x, same, nil
		case known.Deployed:
		default:
			return nil, false, fmt.Errorf("%w; remove it to have every file written anew", err)
		}
	}
	x, err = indexOf(objects, known.Tree)
	return x, false, err
}

// indexOf is the index of a tree of which nothing on disk is known: every file
// will be compared by content.
func indexOf(objects tree.Objects, root git.OID) (*index.Index, error) {
	changes, err := tree.Diff(objects, git.OID{}, root, 1<<31)
	if err != nil {
		return nil, err
	}
	entries := make([]index.Entry, len(changes))
	for i, c := range changes {
		entries[i] = index.Entry{Path: c.Path, Item: c.New}
	}
	return index.New(entries, objects.HashSize()), nil
}

// Plan compares the web root with a commit, whose tree is root.
func (w *Worktree) Plan(ctx context.Context, root git.OID, known Known) (*Plan, error) {
	objects := w.Repo.Objects(ctx)
	defer objects.Close()
	source, err := w.Source(objects, root)
	if err != nil {
		return nil, &Refused{err}
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
	current, same, err := w.readIndex(objects, known)
	if err != nil {
		return nil, err
	}
	p := &Plan{Tree: target, source: source, base: current, former: known.Index.Shared, dropped: map[string]bool{}}
	switch {
	case same:
		p.Held, p.mark = known.Tree, known.Index
	case current.Len() == 0 && w.emptied(known):
		p.Held = known.Tree
	}
	changes, err := w.compare(objects, p, same)
	if err != nil {
		return nil, &Refused{err}
	}
	accepted := known.Accepted
	if !same {
		accepted = Accepted{}
	}
	if err := CheckSymlinks(objects, target, changes, w.Symlinks, accepted); err != nil {
		return nil, &Refused{err}
	}
	p.add(changes)
	p.Accepted = Accepted{Files: int64(p.base.Len() - len(p.touched) + len(p.Writes)), Symlinks: w.Symlinks}
	if p.Accepted.Files > w.MaxFiles {
		return nil, &Refused{fmt.Errorf("more than max_files = %d files", w.MaxFiles)}
	}
	if err := w.convert(ctx, objects, p, known); err != nil {
		return nil, err
	}
	if err := w.addDrift(ctx, p); err != nil {
		return nil, err
	}
	if err := w.markWrites(ctx, objects, p); err != nil {
		return nil, err
	}
	if p.splits, err = w.splits(ctx, p); err != nil {
		return nil, err
	}
	if err := w.measure(objects, p); err != nil {
		return p, err
	}
	return p, p.checkTargets()
}

// compare lists what turns the web root into the tree of the plan. Where the
// tree that it holds is known, only what differs is looked at. Else, and where
// the repository does not have that tree any more, the index says all.
func (w *Worktree) compare(objects *git.Objects, p *Plan, known bool) ([]tree.Change, error) {
	if p.base.Len() == 0 {
		return tree.Diff(objects, git.OID{}, p.Tree, w.MaxFiles)
	}
	if known {
		changes, err := tree.Diff(objects, p.Held, p.Tree, w.MaxFiles)
		if !errors.Is(err, git.ErrNoObject) {
			return changes, err
		}
	}
	built := p.base.Tree(objects)
	p.Held = built.Root
	return tree.Diff(built, p.Held, p.Tree, w.MaxFiles)
}

// Refused is why a tree must not be written.
type Refused struct{ Err error }

func (r *Refused) Error() string { return "refusing the tree: " + r.Err.Error() }

func (r *Refused) Unwrap() error { return r.Err }

// CheckSymlinks applies the rule for symlinks ("inside", "any", "none") to the tree
// root. before is what is known of the tree from which changes lead there: where its
// symlinks keep the rule, all are looked at only if one has changed.
func CheckSymlinks(objects tree.Objects, root git.OID, changes []tree.Change, rule string, before Accepted) error {
	changed := slices.ContainsFunc(changes, func(c tree.Change) bool { return c.New.Mode == tree.Symlink })
	if rule == "any" || !changed && before.keeps(rule) {
		return nil
	}
	links, err := tree.Links(objects, root)
	switch {
	case err != nil:
		return err
	case rule == "none" && len(links) > 0:
		return fmt.Errorf("%q is a symlink, and symlinks = \"none\"", links[0].Path)
	}
	return tree.CheckLinks(objects, root, links)
}

// Check refuses the tree root if it must not be written. old is a tree that was
// accepted before, and accepted what is known of that; where that is nothing, all of
// root is looked at. Only objects are.
func (w *Worktree) Check(objects *git.Objects, old git.OID, accepted Accepted, root git.OID) error {
	if accepted == (Accepted{}) {
		old = git.OID{}
	}
	changes, err := tree.Diff(objects, old, root, w.MaxFiles)
	if err != nil {
		return err
	}
	if err := CheckSymlinks(objects, root, changes, w.Symlinks, accepted); err != nil {
		return err
	}
	for _, c := range changes {
		if c.Old.Mode == 0 {
			accepted.Files++
		}
		if c.New.Mode == 0 {
			accepted.Files--
		}
	}
	if accepted.Files > w.MaxFiles {
		return fmt.Errorf("more than max_files = %d files", w.MaxFiles)
	}
	return w.checkSizes(objects, changes, accepted.Bytes)
}

// checkSizes holds so many bytes, after the changes, against max_bytes.
func (w *Worktree) checkSizes(objects *git.Objects, changes []tree.Change, total int64) error {
	var come, gone []git.OID
	for _, c := range changes {
		if c.New.Mode != 0 && c.New.Mode != tree.Submodule {
			come = append(come, c.New.OID)
		}
		if c.Old.Mode != 0 && c.Old.Mode != tree.Submodule {
			gone = append(gone, c.Old.OID)
		}
	}
	sizes, err := objects.Sizes(append(gone, come...))
	if err != nil {
		return err
	}
	for i, size := range sizes {
		if i < len(gone) {
			total = max(0, total-size)
		} else if total += size; total > w.MaxBytes { // at once: the sum could be more than a number holds
			return fmt.Errorf("it unpacks to more than max_bytes = %d", w.MaxBytes)
		}
	}
	return nil
}

// add adds the changes.
func (p *Plan) add(changes []tree.Change) {
	at := 0
	for _, c := range changes {
		found := false
		if at, found = p.base.FindFrom(at, c.Path); found {
			p.touched = append(p.touched, at)
		}
		if c.New.Mode == 0 {
			p.Deletes = append(p.Deletes, c.Path)
			if c.Old.Mode == tree.Submodule {
				p.dropped[c.Path] = true
			}
			continue
		}
		if c.New.Mode == tree.Submodule {
			p.Submodules = append(p.Submodules, c.Path)
		}
		p.Writes = append(p.Writes, Write{Path: c.Path, Item: c.New})
	}
}

// untouched calls do for each entry of base that stays.
func (p *Plan) untouched(do func(i int)) {
	from := 0
	for _, to := range append(p.touched, p.base.Len()) {
		for i := from; i < to; i++ {
			do(i)
		}
		from = to + 1
	}
}

// uses tells whether dir will be a tracked path, or hold one.
func (p *Plan) uses(dir string) bool {
	written, found := slices.BinarySearchFunc(p.Writes, dir, func(w Write, path string) int { return strings.Compare(w.Path, path) })
	for ; !found && written < len(p.Writes) && p.Writes[written].Path < dir+"0"; written++ { // "0" comes after "/"
		found = strings.HasPrefix(p.Writes[written].Path, dir+"/")
	}
	if found {
		return true
	}
	i, j := p.base.Below(dir)
	from, _ := slices.BinarySearch(p.touched, i)
	to, _ := slices.BinarySearch(p.touched, j)
	if j-i > to-from {
		return true
	}
	i, found = p.base.Find(dir)
	_, touched := slices.BinarySearch(p.touched, i)
	return found && !touched
}

// edits are what turns base into the index of what the web root will hold.
func (p *Plan) edits() []index.Entry {
	edits := slices.Grow(slices.Clone(p.seen), len(p.Writes)+len(p.Deletes))
	for i := range p.Writes {
		edits = append(edits, index.Entry{Path: p.Writes[i].Path, Item: p.Writes[i].Item, Stat: p.Writes[i].stat})
	}
	for _, path := range p.Deletes {
		edits = append(edits, index.Entry{Path: path})
	}
	slices.SortFunc(edits, func(a, b index.Entry) int { return strings.Compare(a.Path, b.Path) })
	return edits
}

// addDrift adds the unchanged files whose content, type or executable bit is
// not what the index says. Without Verify nothing is looked at, and files that
// may have changed unseen are marked so that git looks at them.
func (w *Worktree) addDrift(ctx context.Context, p *Plan) error {
	if !w.Verify && p.base.MayBeRacy() {
		p.untouched(func(i int) {
			if _, doubted := slices.BinarySearch(p.doubted, i); doubted {
				return
			}
			if p.base.Racy(i) && p.base.Size(i) != 0 {
				e := p.base.Entry(i)
				e.Stat.Size = 0
				p.seen = append(p.seen, e)
			}
		})
	}
	if !w.Verify && len(p.doubted) == 0 {
		return nil
	}
	found, err := w.sweep(ctx, p.base, selection{skip: p.touched, doubted: p.doubted, only: !w.Verify}, readUmask(), p.conversions)
	if err != nil {
		return err
	}
	p.seen = append(p.seen, found.seen...)
	p.said = found.said
	p.rewrite(found.drifted)
	p.Repairs = len(without(found.drifted, p.doubted))
	return nil
}

// measure adds up what is to be written, and holds the whole of what the web
// root will hold against max_bytes.
func (w *Worktree) measure(objects *git.Objects, p *Plan) error {
	var oids []git.OID // of what is written, and of files whose size is not remembered
	var which []int
	for i := range p.Writes {
		if p.Writes[i].Mode != tree.Submodule {
			oids = append(oids, p.Writes[i].OID)
			which = append(which, i)
		}
	}
	kept, writes := p.base.Without(p.touched), len(oids)
	var unsized []int
	if kept.Unsized > 0 {
		p.untouched(func(i int) {
			if p.base.Size(i) == 0 && !p.base.IsEmpty(i) {
				oids, unsized = append(oids, p.base.Item(i).OID), append(unsized, i)
			}
		})
	}
	sizes, err := objects.Sizes(oids)
	if err != nil {
		return &Refused{err}
	}
	total := kept.Bytes
	for i, size := range sizes {
		total += size
		if i < writes {
			write := &p.Writes[which[i]]
			write.size = size
			p.Bytes += size
			if write.converts {
				p.reserve += size // UTF-16 is twice as long; of filters nobody knows
			}
		}
	}
	p.Accepted.Bytes = total
	if total > w.MaxBytes {
		return &Refused{fmt.Errorf("it unpacks to %d bytes, more than max_bytes = %d", total, w.MaxBytes)}
	}
	if !w.Verify && len(p.doubted) == 0 {
		p.rememberSizes(unsized, sizes[writes:])
	}
	return nil
}

// rememberSizes puts sizes where nothing at all is known of a file, so that they
// need not be asked for again. It remains for git to compare it.
func (p *Plan) rememberSizes(places []int, sizes []int64) {
	for n, i := range places {
		if p.base.Stat(i) == (index.Stat{}) {
			e := p.base.Entry(i)
			e.Stat.Size = uint32(sizes[n])
			p.seen = append(p.seen, e)
		}
	}
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
