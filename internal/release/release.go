// Package release keeps whole releases of a site beside each other, in numbered
// directories that are used in turn, and says which one is served: a symlink
// leads there. A release is brought to a commit by the difference from what it
// held before, while nobody is served from it; what it holds is on record only
// while it is known to be so, also after a power cut.
package release

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/worktree"
)

// Releases is a directory of releases, and the symlink that leads to one.
type Releases struct {
	Dir    string   // of the releases, absolute
	Link   string   // what the web server serves, absolute
	Keep   int      // how many releases there are, the live one included
	Shared []string // paths that are links to one place outside of the releases
	Marker string   // a file that a release has beside those of its commit, "" for none
	// Site is what the releases have in common: the repository, the state
	// directory, and the rules for what is written.
	Site worktree.Worktree
}

// SharedDir is where the shared paths are, below the directory of the releases.
const SharedDir = "shared"

// A Release is one of the directories.
type Release struct {
	Name string
	Live bool // it is served
	// Worktree is the release as a web root of its own.
	Worktree *worktree.Worktree

	releases *Releases
	held     *held // nil where what it holds is not known
	// sealed are the directories as they were before a build, and finished
	// after it. Plan reads them.
	sealed, finished *worktree.Stamps
	// mark is that of the index that Bring has written.
	mark worktree.Mark
	// untouched tells that no name has changed since the release was finished.
	untouched bool
}

// held is what is on record of a release.
type held struct {
	Tree git.OID `json:"tree"`
	// Root and Subdirectory are those of the source that the tree is from, and
	// Conversions is what the plan said of the contents.
	Root         git.OID `json:"root,omitzero"`
	Subdirectory string  `json:"subdirectory,omitempty"`
	Conversions  string  `json:"conversions,omitempty"`
	// Accepted is what the plan said of the tree.
	Accepted worktree.Accepted `json:"accepted,omitzero"`
	// Index is the mark of the release's index.
	Index worktree.Mark `json:"index,omitzero"`
	// Markers are the files that may be there as one, by the configurations that
	// the release was used with; Tree has none of them.
	Markers []string `json:"markers,omitempty"`

	Inode uint64    `json:"inode"` // of the directory: another one may have its name
	Used  time.Time `json:"used"`  // when it was brought to the tree, or chosen again
	Build string    `json:"build"` // digest of the staged commands that have run in it, "" for none
}

// stateDir is what is known of a release.
func (r *Releases) stateDir(name string) string {
	return filepath.Join(r.Site.StateDir, "releases", name)
}

// The files of a release in its state directory.
const (
	heldFile     = "release.json"
	indexFile    = "git-index"
	sealedFile   = "directories"
	finishedFile = "directories-built"
)

// Check tells what is wrong with the directories and the symlink, before
// anything is touched. A directory where the symlink should be is an
// *Unconverted error.
func (r *Releases) Check() error {
	st, err := os.Lstat(r.Link)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(r.Link), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return fmt.Errorf("the link %q cannot be made by this account: %w", r.Link, err)
		}
	case err != nil:
		return fmt.Errorf("the web root cannot be used: %w", err)
	case st.IsDir():
		return &Unconverted{Link: r.Link}
	case st.Mode().Type() != os.ModeSymlink:
		return fmt.Errorf("the web root %q is neither a directory nor a symlink", r.Link)
	}
	if _, _, err := r.live(); err != nil {
		return err
	}
	if _, err := os.Stat(r.Dir); errors.Is(err, os.ErrNotExist) {
		if err := unix.Faccessat(unix.AT_FDCWD, filepath.Dir(r.Dir), unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
			return fmt.Errorf("the directory of the releases, %q, does not exist and cannot be made by this account: %w", r.Dir, err)
		}
		return nil
	}
	return worktree.CheckDirectory(r.Dir, r.Site.Repo.Dir)
}

// Make makes the directory of the releases.
func (r *Releases) Make() error {
	if err := os.Mkdir(r.Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the directory of the releases: %w", err)
	}
	return nil
}

// Unconverted is a web root that is a directory still.
type Unconverted struct{ Link string }

func (u *Unconverted) Error() string {
	return fmt.Sprintf("the web root %q is a directory, and with deploy.releases it must be a symlink", u.Link)
}

// live follows the link. It returns the symlink that leads to a release itself,
// which is the link or, where that leads to another symlink in the directory of
// the releases, that one; and the name of the release, "" where there is none.
func (r *Releases) live() (link, name string, err error) {
	link = r.Link
	for range 2 {
		target, err := os.Readlink(link)
		if errors.Is(err, os.ErrNotExist) {
			return link, "", nil
		}
		if err != nil {
			return "", "", fmt.Errorf("following the web root: %w", err)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		dir, name := filepath.Split(filepath.Clean(target))
		if !sameDirectory(dir, r.Dir) {
			break
		}
		st, err := os.Lstat(filepath.Join(r.Dir, name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			if number(name) == 0 {
				link = filepath.Join(r.Dir, name) // where a link is to be
			}
			return link, "", nil
		case err != nil:
			return "", "", fmt.Errorf("following the web root: %w", err)
		case st.IsDir():
			return link, name, nil
		case st.Mode().Type() != os.ModeSymlink:
			return "", "", fmt.Errorf("the web root %q leads to %q, which is no directory", r.Link, target)
		}
		link = filepath.Join(r.Dir, name)
	}
	return "", "", fmt.Errorf("the web root %q leads out of deploy.releases, %q", r.Link, r.Dir)
}

// number is that of a release, 0 for a name that is none's.
func number(name string) int {
	n, err := strconv.Atoi(name)
	if err != nil || n < 1 || strconv.Itoa(n) != name {
		return 0
	}
	return n
}

func sameDirectory(a, b string) bool {
	if a = filepath.Clean(a); a == b {
		return true
	}
	stA, errA := os.Stat(a)
	stB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(stA, stB)
}

// Live returns the release that is served, nil where none is.
func (r *Releases) Live() (*Release, error) {
	_, name, err := r.live()
	if err != nil || name == "" {
		return nil, err
	}
	return r.open(name, true)
}

// At returns the release whose directory is dir, nil where dir is none.
func (r *Releases) At(dir string) (*Release, error) {
	if !sameDirectory(filepath.Dir(dir), r.Dir) {
		return nil, nil
	}
	_, name, err := r.live()
	if err != nil {
		return nil, err
	}
	return r.open(filepath.Base(dir), filepath.Base(dir) == name)
}

// open reads what is on record of a release. Nothing is on record of one that
// is not there.
func (r *Releases) open(name string, live bool) (*Release, error) {
	w := r.Site
	w.Dir = filepath.Join(r.Dir, name)
	w.StateDir = r.stateDir(name)
	w.IndexFile = filepath.Join(w.StateDir, indexFile)
	w.Unsynced = !live
	rel := &Release{Name: name, Live: live, Worktree: &w, releases: r, sealed: &worktree.Stamps{}, finished: &worktree.Stamps{}}
	data, err := os.ReadFile(rel.state(heldFile))
	if errors.Is(err, os.ErrNotExist) {
		return rel, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of release %s: %w", name, err)
	}
	h := new(held)
	if json.Unmarshal(data, h) != nil {
		return rel, nil // it is made anew
	}
	var st unix.Stat_t
	if err := unix.Lstat(w.Dir, &st); err != nil || st.Ino != h.Inode {
		return rel, nil // gone, copied or restored
	}
	rel.held = h
	return rel, nil
}

// readStamps reads what is remembered of the directories of a release on record.
func (rel *Release) readStamps() (err error) {
	if rel.sealed, err = worktree.ReadStamps(rel.state(sealedFile)); err != nil {
		return err
	}
	if rel.finished = rel.sealed; rel.held.Build != "" {
		rel.finished, err = worktree.ReadStamps(rel.state(finishedFile))
	}
	return err
}

func (rel *Release) state(file string) string { return filepath.Join(rel.Worktree.StateDir, file) }

// Known tells whether it is on record what the release holds, and what.
func (rel *Release) Known() (tree git.OID, known bool) {
	if rel.held == nil {
		return git.OID{}, false
	}
	return rel.held.Tree, true
}

// Choose returns the release to bring to a tree: one that holds it already, and
// in which build has run; else one that was never kept, one that is not there
// yet, or the one that has not been used for the longest.
func (r *Releases) Choose(tree git.OID, build string) (*Release, error) {
	_, live, err := r.live()
	if err != nil {
		return nil, err
	}
	var since time.Time // when the live release was chosen
	var idle []*Release
	for n := range r.Keep + 1 {
		name := strconv.Itoa(n)
		if n == 0 {
			name = live // which may have another name, or a number that is not kept any more
		}
		if name == "" || n > 0 && name == live {
			continue
		}
		rel, err := r.open(name, name == live)
		if err != nil {
			return nil, err
		}
		if rel.held != nil && rel.held.Tree == tree && rel.held.Build == build {
			return rel, nil
		}
		if rel.Live {
			if rel.held != nil {
				since = rel.held.Used
			}
			continue
		}
		idle = append(idle, rel)
	}
	slices.SortStableFunc(idle, func(a, b *Release) int {
		rankA, usedA := a.rank(since)
		rankB, usedB := b.rank(since)
		return cmp.Or(rankA-rankB, usedA.Compare(usedB))
	})
	return idle[0], nil
}

// rank is the smaller, the less would be lost with what the release holds.
func (rel *Release) rank(live time.Time) (int, time.Time) {
	switch {
	case rel.held == nil && exists(rel.Worktree.Dir):
		return 0, time.Time{} // a deployment that did not come to its end
	case rel.held == nil:
		return 2, time.Time{}
	case !live.IsZero() && rel.held.Used.After(live):
		return 1, rel.held.Used // it was not kept when it was tried
	}
	return 3, rel.held.Used
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// twin is the live release, nil where what it holds is not known, or its index
// cannot be read: only modification times are had from it.
func (r *Releases) twin() (*worktree.Twin, error) {
	live, err := r.Live()
	if err != nil || live == nil || live.held == nil {
		return nil, err
	}
	x, _, err := index.ReadKnown(live.Worktree.Index(), r.Site.Repo.Dir, r.Site.Repo.HashSize(), live.held.Index)
	if err != nil {
		return nil, nil
	}
	return &worktree.Twin{Dir: live.Worktree.Dir, Index: x, Known: live.known()}, nil
}

// write makes h the record of the release, durably.
func (rel *Release) write(h *held) error {
	err := durable.WriteFile(rel.state(heldFile), 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(h) })
	if err == nil {
		rel.held = h
		fault.Step("release recorded")
	}
	return err
}

// Surplus removes releases that are not kept any more, and what crashes left of
// their files.
func (r *Releases) Surplus() error {
	_, live, err := r.live()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return fmt.Errorf("looking for releases that are not kept any more: %w", err)
	}
	releases, err := os.OpenRoot(r.Dir)
	if err != nil {
		return fmt.Errorf("looking for releases that are not kept any more: %w", err)
	}
	defer releases.Close()
	var failed error // one that stays does not keep the others
	for _, e := range entries {
		if number(e.Name()) <= r.Keep || e.Name() == live || !e.IsDir() {
			continue
		}
		if !exists(r.stateDir(e.Name())) {
			continue // not ours
		}
		if err := r.remove(releases, e.Name()); err != nil {
			failed = errors.Join(failed, fmt.Errorf("removing release %s, which is not kept any more: %w", e.Name(), err))
		}
	}
	return failed
}

// remove removes a release, and then what is known of it: by that it is known to
// be ours, should it be there still, also after a crash.
func (r *Releases) remove(releases *os.Root, name string) error {
	if err := durable.Remove(filepath.Join(r.stateDir(name), heldFile)); err != nil {
		return err
	}
	if err := worktree.RemoveBeneath(releases, name); err != nil {
		return err
	}
	if err := durable.SyncDir(r.Dir); err != nil {
		return err
	}
	return os.RemoveAll(r.stateDir(name))
}

// CleanUp removes what crashed deployments have staged for releases.
func (r *Releases) CleanUp() error {
	if link, _, err := r.live(); err == nil {
		if err := (&worktree.Link{Path: worktree.Path(link)}).Discard(); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(filepath.Join(r.Site.StateDir, "releases"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	for _, e := range entries {
		rel, err := r.open(e.Name(), false)
		if err != nil {
			return err
		}
		if err := rel.Worktree.CleanUp(); err != nil {
			return err
		}
		for _, file := range []string{heldFile, sealedFile, finishedFile} {
			if err := durable.CleanUp(rel.state(file)); err != nil {
				return err
			}
		}
	}
	return nil
}
