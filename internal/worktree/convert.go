package worktree

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

// attributesName is the name of git's attribute files in a tree.
const attributesName = ".gitattributes"

// An attributesFile is one of them, by its path in the commit.
type attributesFile struct {
	path string
	tree.Item
}

// conversions knows which paths of a tree have their contents changed by git's
// checkout: it converts line ends and encodings, expands $Id$ and runs filters.
// Those paths, and only those, are written by the server's git. Where no
// attribute and no setting can make that happen, no process is started.
type conversions struct {
	worktree *Worktree
	objects  *git.Objects
	rules    *git.Rules
	dir      string           // of the web root in the commit, "" or with a slash at its end
	files    []attributesFile // that count, sorted
	mentions *git.Mentions    // what they say, nil until they have been read
	settled  bool             // nothing converts, of the paths in question
}

// entries calls do for each entry of a tree that may be an attribute file.
type entries func(do func(path []byte, item func() tree.Item))

// entriesOf are those of an index.
func entriesOf(x *index.Index) entries {
	return func(do func([]byte, func() tree.Item)) {
		if !x.Mentions(attributesName) {
			return // they are looked for alone
		}
		for i := range x.Len() {
			do(x.Path(i), func() tree.Item { return x.Item(i) })
		}
	}
}

// next are those of what the web root will have.
func (p *Plan) next(do func(path []byte, item func() tree.Item)) {
	if p.base.Mentions(attributesName) {
		p.untouched(func(i int) { do(p.base.Path(i), func() tree.Item { return p.base.Item(i) }) })
	}
	for i := range p.Writes {
		do([]byte(p.Writes[i].Path), func() tree.Item { return p.Writes[i].Item })
	}
}

// conversionsOf makes the conversions of entries, which come from source.
func (w *Worktree) conversionsOf(objects *git.Objects, rules *git.Rules, all entries, source Source) (*conversions, error) {
	c := &conversions{worktree: w, objects: objects, rules: rules}
	if source.Dir != "" {
		c.dir = source.Dir + "/"
	}
	var err error
	if c.files, err = source.above(objects); err != nil {
		return nil, err
	}
	name := []byte(attributesName)
	all(func(path []byte, item func() tree.Item) {
		if !bytes.HasSuffix(path, name) || len(path) > len(name) && path[len(path)-len(name)-1] != '/' {
			return
		}
		if at := item(); isBlob(at.Mode) {
			c.files = append(c.files, attributesFile{c.dir + string(path), at})
		}
	})
	slices.SortFunc(c.files, func(a, b attributesFile) int { return strings.Compare(a.path, b.path) })
	return c, nil
}

// possible tells whether anything may convert, without reading anything.
func (c *conversions) possible() bool {
	return c != nil && !c.settled && (len(c.files) > 0 || c.rules.MayConvert(&git.Mentions{}))
}

// likely tells whether anything may convert, by what the attributes say.
func (c *conversions) likely() (bool, error) {
	if !c.possible() {
		return false, nil
	}
	err := c.read()
	return err == nil && c.rules.MayConvert(c.mentions), err
}

// read looks into the attributes.
func (c *conversions) read() error {
	if c.mentions != nil {
		return nil
	}
	mentions := &git.Mentions{}
	for _, f := range c.files {
		if err := c.objects.Copy(f.OID, mentions); err != nil {
			return fmt.Errorf("reading %q: %w", f.path, err)
		}
	}
	c.mentions = mentions
	return nil
}

// mode is what an entry is on the disk.
func (c *conversions) mode(mode tree.Mode) tree.Mode {
	if mode == tree.Symlink && c != nil && !c.rules.Symlinks {
		return tree.File
	}
	return mode
}

// ask asks git about entries.
func (c *conversions) ask(ctx context.Context, asked []index.Entry) ([]git.Conversion, error) {
	answers := make([]git.Conversion, len(asked))
	if likely, err := c.likely(); err != nil || !likely {
		return answers, err
	}
	var paths []string
	var which []int
	for n := range asked {
		if e := &asked[n]; e.Mode == tree.File || e.Mode == tree.Executable {
			paths = append(paths, c.dir+e.Path)
			which = append(which, n)
		}
	}
	if len(paths) == 0 {
		return answers, nil
	}
	var found []git.Conversion
	err := c.prepare(nil, func(at git.Checkout) (err error) {
		found, err = c.rules.Conversions(ctx, at, paths)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking for attributes: %w", err)
	}
	for n, conversion := range found {
		if other, replaced := c.rules.Replaced[asked[which[n]].OID]; replaced {
			conversion.How += ", replaced by " + other.String()
		}
		answers[which[n]] = conversion
	}
	return answers, nil
}

// write has git write entries into a directory, below their paths in the commit.
// said is what git has to say.
func (c *conversions) write(ctx context.Context, wanted []index.Entry, into *os.File) (said string, err error) {
	paths := make([]string, len(wanted))
	named := make([]index.Entry, len(wanted))
	for n := range wanted {
		paths[n] = c.dir + wanted[n].Path
		named[n] = index.Entry{Path: paths[n], Item: wanted[n].Item}
	}
	err = c.prepare(named, func(at git.Checkout) (err error) {
		said, err = c.worktree.Repo.CheckoutIndex(ctx, at, into, paths)
		return err
	})
	return said, err
}

// prepare makes what git needs: an index of the entries and of the attributes,
// and a work tree without anything in it.
func (c *conversions) prepare(entries []index.Entry, use func(git.Checkout) error) error {
	dir, err := c.worktree.scratch()
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, f := range c.files {
		entries = append(entries, index.Entry{Path: f.path, Item: f.Item})
	}
	slices.SortFunc(entries, func(a, b index.Entry) int { return strings.Compare(a.Path, b.Path) })
	entries = slices.CompactFunc(entries, func(a, b index.Entry) bool { return a.Path == b.Path })
	at := git.Checkout{Index: filepath.Join(dir, "index"), WorkTree: filepath.Join(dir, "empty")}
	if err := os.Mkdir(at.WorkTree, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(at.Index, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := index.New(entries, c.worktree.Repo.HashSize()).Write(f, nil); err != nil {
		return err
	}
	return use(at)
}

// scratchPrefix begins the names of directories that are in use for a moment.
const scratchPrefix = "scratch-"

// leftBehind tells whether such a directory is so old that nobody uses it: who
// only looks needs no lock.
func leftBehind(e os.DirEntry) bool {
	info, err := e.Info()
	return err == nil && time.Since(info.ModTime()) > 24*time.Hour
}

// scratch makes a directory for its caller to remove. It is in the state
// directory, or elsewhere for an account that only looks.
func (w *Worktree) scratch() (string, error) {
	dir, err := os.MkdirTemp(w.StateDir, scratchPrefix)
	if err != nil {
		dir, err = os.MkdirTemp("", "bluegreen-")
	}
	if err != nil {
		return "", fmt.Errorf("making a directory for git: %w", err)
	}
	return dir, nil
}
