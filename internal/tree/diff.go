package tree

import (
	"fmt"

	"bluegreen/internal/git"
)

// A Change is one path that differs between two trees. A zero Mode means that
// the path is not there. Directories do not appear, only what they hold.
type Change struct {
	Path     string
	Old, New Item
}

// A diff walks two trees at once and never enters what they share.
type diff struct {
	objects  Objects
	maxFiles int64
	measured map[git.OID]extent
	reads    int64 // trees measured
	changes  []Change
	// parsed are trees that have been measured and not listed yet, with at most
	// maxParsed entries.
	parsed map[git.OID][]Entry
	held   int
}

// maxParsed bounds what is remembered between measuring and listing: it is for
// the few trees of a usual push, which need not be read twice.
const maxParsed = 50_000

// extent is the size of what a tree unpacks to.
type extent struct {
	files, dirs int64
	depth, path int // levels, and bytes of the longest path below
}

// Diff lists what turns the tree old into the tree new, sorted by path. The
// zero OID is the empty tree. Every tree that new does not share with old is
// checked first, and counted: more than maxFiles files, or directories, are refused
// before they are listed, so that a few bytes that unpack to billions of paths cost
// nothing.
func Diff(objects Objects, old, new git.OID, maxFiles int64) ([]Change, error) {
	d := &diff{objects: objects, maxFiles: maxFiles, measured: map[git.OID]extent{}, parsed: map[git.OID][]Entry{}}
	if _, err := d.measure("", old, new); err != nil {
		return nil, err
	}
	if err := d.walk("", old, new); err != nil {
		return nil, err
	}
	return d.changes, nil
}

// read returns the entries of a tree; old trees are not checked, they are on
// the disk already.
func (d *diff) read(dir string, oid git.OID, check bool) ([]Entry, error) {
	if oid.IsZero() {
		return nil, nil
	}
	if entries, found := d.parsed[oid]; found && !check {
		return entries, nil
	}
	kind, data, err := d.objects.Read(oid)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", called(dir), err)
	}
	if kind != "tree" {
		return nil, fmt.Errorf("%s is a %s", called(dir), kind)
	}
	entries, err := Parse(data, d.objects.HashSize())
	if err == nil && check {
		err = Check(entries)
	}
	if err != nil && dir != "" {
		err = fmt.Errorf("%s: %w", called(dir), err)
	}
	if err != nil {
		return nil, err
	}
	if d.parsed != nil && d.held+len(entries) <= maxParsed {
		d.parsed[oid] = entries
		d.held += len(entries)
	}
	return entries, nil
}

// called is what messages call a directory.
func called(dir string) string {
	if dir == "" {
		return "the root directory"
	}
	return fmt.Sprintf("directory %q", dir)
}

// measure checks the part of new that is not in old. A tree that stands in
// many places is measured once.
func (d *diff) measure(dir string, old, new git.OID) (extent, error) {
	if new == old {
		return extent{}, nil
	}
	if known, found := d.measured[new]; found && old.IsZero() {
		return known, nil
	}
	if len(dir) > maxPath {
		return extent{}, fmt.Errorf("a path is longer than %d bytes", maxPath)
	}
	if d.reads++; d.reads > d.maxDirs() {
		return extent{}, fmt.Errorf("more than max_files = %d directories", d.maxDirs())
	}
	newEntries, err := d.read(dir, new, true)
	if err != nil {
		return extent{}, err
	}
	oldEntries, err := d.read(dir, old, false)
	if err != nil {
		return extent{}, err
	}
	oldDirs := map[string]git.OID{}
	for _, e := range oldEntries {
		if e.Mode == Directory {
			oldDirs[e.Name] = e.OID
		}
	}
	total := extent{depth: 1}
	for _, e := range newEntries {
		below := extent{files: 1}
		if e.Mode == Directory {
			if below, err = d.measure(dir+e.Name+"/", oldDirs[e.Name], e.OID); err != nil {
				return extent{}, err
			}
			below.dirs++
		}
		total.files += below.files
		total.dirs += below.dirs
		total.depth = max(total.depth, below.depth+1)
		total.path = max(total.path, len(e.Name)+1+below.path)
		if err := d.withinLimits(dir, total); err != nil {
			return extent{}, err
		}
	}
	if old.IsZero() {
		d.measured[new] = total
	}
	return total, nil
}

// maxDirs bounds the directories, which may hold no file at all.
func (d *diff) maxDirs() int64 { return max(d.maxFiles, 10_000) }

func (d *diff) withinLimits(dir string, e extent) error {
	switch {
	case e.files > d.maxFiles:
		return fmt.Errorf("more than max_files = %d files", d.maxFiles)
	case e.dirs > d.maxDirs():
		return fmt.Errorf("more than max_files = %d directories", d.maxDirs())
	case e.depth > maxDepth:
		return fmt.Errorf("directories are nested more than %d deep", maxDepth)
	case len(dir)+e.path-1 > maxPath:
		return fmt.Errorf("a path is longer than %d bytes", maxPath)
	}
	return nil
}

// walk lists the changes below dir by merging both trees in name order.
func (d *diff) walk(dir string, old, new git.OID) error {
	if old == new {
		return nil
	}
	oldEntries, err := d.read(dir, old, false)
	if err != nil {
		return err
	}
	newEntries, err := d.read(dir, new, false)
	if err != nil {
		return err
	}
	for len(oldEntries) > 0 || len(newEntries) > 0 {
		var o, n Entry
		switch c := compareHeads(oldEntries, newEntries); {
		case c < 0:
			o, oldEntries = oldEntries[0], oldEntries[1:]
		case c > 0:
			n, newEntries = newEntries[0], newEntries[1:]
		default:
			o, oldEntries = oldEntries[0], oldEntries[1:]
			n, newEntries = newEntries[0], newEntries[1:]
		}
		if err := d.compare(dir, o, n); err != nil {
			return err
		}
	}
	return nil
}

func compareHeads(a, b []Entry) int {
	switch {
	case len(b) == 0:
		return -1
	case len(a) == 0:
		return 1
	}
	return compareEntries(a[0], b[0])
}

// compare handles one name. A file and a directory of one name have different
// places in the order, so at most one of them is given.
func (d *diff) compare(dir string, o, n Entry) error {
	name := o.Name
	if o.Mode == 0 {
		name = n.Name
	}
	if o.Mode == Directory || n.Mode == Directory {
		return d.walk(dir+name+"/", o.OID, n.OID)
	}
	if o.Item != n.Item {
		d.changes = append(d.changes, Change{Path: dir + name, Old: o.Item, New: n.Item})
	}
	return nil
}
