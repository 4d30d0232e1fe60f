package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/tree"
	"bluegreen/internal/worktree"
)

// Plan compares the release with what it is to hold. It makes the directories of
// a release that is not there yet.
func (rel *Release) Plan(ctx context.Context, source worktree.Source) (*worktree.Plan, error) {
	w := rel.Worktree
	if err := rel.check(ctx, source); err != nil {
		return nil, err
	}
	if err := rel.makeDirs(); err != nil {
		return nil, fmt.Errorf("making the directory of release %s: %w", rel.Name, err)
	}
	if rel.held == nil {
		return w.PlanSource(ctx, source, rel.known())
	}
	if err := rel.readStamps(); err != nil {
		return nil, err
	}
	stamps := rel.sealed
	if rel.held.Tree == source.Tree {
		stamps = rel.finished
	}
	var err error
	if rel.untouched, err = w.Untouched(stamps, rel.releases.markerDirs()...); err != nil {
		return nil, err
	}
	// A build may have changed files of the commit, and so may somebody who has
	// left other traces.
	if !rel.untouched || rel.held.Build != "" && rel.held.Tree != source.Tree {
		verified := *w
		verified.Verify = true
		w = &verified
	}
	return w.PlanSource(ctx, source, rel.known())
}

// check refuses what must not be written, for a release that is not there yet:
// else its directory would be made for it.
func (rel *Release) check(ctx context.Context, source worktree.Source) error {
	if exists(rel.Worktree.Dir) {
		return nil
	}
	objects := rel.releases.Site.Repo.Objects(ctx)
	defer objects.Close()
	if err := rel.Worktree.Check(objects, git.OID{}, worktree.Accepted{}, source.Tree); err != nil {
		return &worktree.Refused{Err: err}
	}
	return nil
}

// known is what is on record of the release, for a plan. Where that is nothing,
// whatever is there is written anew.
func (rel *Release) known() worktree.Known {
	if rel.held == nil {
		return worktree.Known{Deployed: true, Elsewhere: true}
	}
	return worktree.Known{Deployed: true, Tree: rel.held.Tree, Root: rel.held.Root,
		Subdirectory: rel.held.Subdirectory, Conversions: rel.held.Conversions, Accepted: rel.held.Accepted, Index: rel.held.Index}
}

func (rel *Release) makeDirs() error {
	if err := os.MkdirAll(rel.Worktree.StateDir, 0o700); err != nil {
		return err
	}
	err := os.Mkdir(rel.Worktree.Dir, 0o777)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	st, err := os.Lstat(rel.Worktree.Dir)
	if err == nil && !st.IsDir() { // where a symlink leads is not ours
		err = fmt.Errorf("%q is not a directory; move it away", rel.Worktree.Dir)
	}
	return err
}

// markerDirs are the directories in which the marker comes and goes.
func (r *Releases) markerDirs() []string {
	switch dir := path.Dir(r.Marker); {
	case r.Marker == "":
		return nil
	case dir == ".":
		return []string{""}
	default:
		return []string{dir}
	}
}

// Ready tells that nothing is to be done in order to have what plan leads to:
// going back is switching the link.
func (rel *Release) Ready(p *worktree.Plan) bool {
	if rel.held == nil || rel.held.Tree != p.Tree || !rel.untouched || !p.Indexed() || len(p.Writes) > 0 || len(p.Deletes) > 0 {
		return false
	}
	for _, shared := range rel.releases.Shared {
		if now, err := os.Readlink(filepath.Join(rel.Worktree.Dir, shared)); err != nil || now != shortcut(shared) {
			return false
		}
	}
	return true
}

// Bring carries out a plan for a release that is not live. Until Finish nothing
// is on record of what it holds: after a crash in between, or an error, it is
// made anew. progress is told how many files are done. said is what git and its
// filters had to say.
func (rel *Release) Bring(ctx context.Context, p *worktree.Plan, id string, progress func(done int)) (said []string, err error) {
	if err := rel.forget(); err != nil {
		return nil, err
	}
	fault.Step("release marked")
	if rel.Worktree.Twin, err = rel.releases.twin(); err != nil {
		return nil, err
	}
	staged, err := rel.Worktree.Stage(ctx, p, id, progress)
	if err != nil {
		return nil, err
	}
	if err = staged.Activate(); err == nil {
		fault.Step("release written")
		rel.mark, err = staged.PrepareIndex()
	}
	if err == nil {
		_, err = staged.SwitchIndex()
	}
	return staged.Warnings, errors.Join(err, staged.Discard())
}

// forget takes what the release holds off the record, durably.
func (rel *Release) forget() error {
	rel.held = nil
	return durable.Remove(rel.state(heldFile))
}

// Share removes what does not belong to the commit that p, which Bring has
// carried out, leads to, and links the shared paths.
// What the live release has at such a path, from before it was shared, moves to
// the place outside, in one exchange for the link.
func (rel *Release) Share(ctx context.Context, p *worktree.Plan) error {
	r := rel.releases
	keep := append([]string{}, r.Shared...)
	if r.Marker != "" {
		keep = append(keep, r.Marker)
	}
	var err error
	if rel.sealed, err = rel.Worktree.RemoveUntracked(ctx, p, rel.sealed, keep); err != nil {
		return err
	}
	for _, shared := range r.Shared {
		if err := r.moveOut(shared); err != nil {
			return fmt.Errorf("moving %q out of the live release: %w", shared, err)
		}
		if err := rel.link(shared); err != nil {
			return fmt.Errorf("linking the shared path %q: %w", shared, err)
		}
	}
	return nil
}

// shortcut is the target of the link at a shared path of a release. It is
// relative, so that the directory of the releases can be moved.
func shortcut(shared string) string {
	return strings.Repeat("../", strings.Count(shared, "/")+1) + path.Join(SharedDir, shared)
}

// place is where a shared path is outside of the releases.
func (r *Releases) place(shared string) string { return filepath.Join(r.Dir, SharedDir, shared) }

// forgetLink removes what a crash has left that came before the exchange: at its
// place the link leads to itself, and what belongs there is in the live release.
func (r *Releases) forgetLink(shared string) error {
	to, err := os.Readlink(r.place(shared))
	if err != nil || to != shortcut(shared) {
		return nil // moveOut looks at what is there
	}
	if _, err := os.Stat(r.place(shared)); err == nil {
		return nil // below a symlink of the operator's it may lead somewhere
	}
	return durable.Remove(r.place(shared))
}

// moveOut makes the place outside. The live release may have been deployed
// before the path was shared: then its own goes there.
func (r *Releases) moveOut(shared string) error {
	outside := filepath.Join(r.Dir, SharedDir)
	if err := r.forgetLink(shared); err != nil {
		return err
	}
	// What is there may be anywhere: the operator may have put a symlink above it.
	if _, err := os.Lstat(r.place(shared)); err == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(outside, 0o755); err != nil {
		return err
	}
	places, err := os.OpenRoot(outside)
	if err != nil {
		return err
	}
	defer places.Close()
	if err := places.MkdirAll(path.Dir(shared), 0o755); err != nil {
		return err
	}
	if moved, err := r.moveLive(shared, places); err != nil || moved {
		return err
	}
	if err := places.Mkdir(shared, 0o777); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Join(outside, path.Dir(shared)))
}

// moveLive moves what the live release has at a shared path to its place, if it
// has anything there. Both are reached by descriptors: somebody who swaps a
// directory above for a symlink has nothing else moved.
func (r *Releases) moveLive(shared string, places *os.Root) (moved bool, err error) {
	live, err := r.Live()
	if err != nil || live == nil {
		return false, err
	}
	site, err := os.OpenRoot(live.Worktree.Dir)
	if err != nil {
		return false, err
	}
	defer site.Close()
	st, err := site.Lstat(shared)
	if errors.Is(err, os.ErrNotExist) || err == nil && st.Mode().Type() == os.ModeSymlink {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	own, err := site.Open(path.Dir(shared))
	if err != nil {
		return false, err
	}
	defer own.Close()
	place, err := places.Open(path.Dir(shared))
	if err != nil {
		return false, err
	}
	defer place.Close()
	return true, exchange(own, place, path.Base(shared), shortcut(shared))
}

// exchange moves what own has under a name to place, and leaves a symlink there,
// in one step and durably.
func exchange(own, place *os.File, name, target string) error {
	to := int(place.Fd())
	if err := unix.Symlinkat(target, to, name); err != nil {
		return err
	}
	fault.Step("shared path linked")
	err := unix.Renameat2(int(own.Fd()), name, to, name, unix.RENAME_EXCHANGE)
	if err != nil {
		return errors.Join(err, unix.Unlinkat(to, name, 0))
	}
	fault.Step("shared path moved out")
	return errors.Join(place.Sync(), own.Sync())
}

// link makes the symlink at a shared path of the release, in the place of what it
// has there from before, unless that may be the only one: then the place outside
// leads nowhere.
func (rel *Release) link(shared string) error {
	beneath, err := os.OpenRoot(rel.Worktree.Dir)
	if err != nil {
		return err
	}
	defer beneath.Close()
	target := shortcut(shared)
	if now, err := beneath.Readlink(shared); err == nil && now == target {
		return nil
	}
	if err := beneath.MkdirAll(path.Dir(shared), 0o777); err != nil {
		return err
	}
	if st, err := beneath.Lstat(shared); err == nil && st.Mode().Type() != os.ModeSymlink {
		if _, err := os.Stat(rel.releases.place(shared)); err != nil {
			return fmt.Errorf("release %s has something there, and its place outside leads nowhere; mend that, or move one of them away: %w", rel.Name, err)
		}
	}
	if err := beneath.RemoveAll(shared); err != nil {
		return err
	}
	return beneath.Symlink(target, shared)
}

// Seal notes the directories as they are now, before a build: what it changes
// from here on is found when the release is used for another commit.
func (rel *Release) Seal() error {
	if err := rel.renew(rel.sealed); err != nil {
		return err
	}
	return rel.sealed.Write(rel.state(sealedFile))
}

// renew notes the directories again in which files come and go that are not the
// commit's.
func (rel *Release) renew(stamps *worktree.Stamps) error {
	dirs := []string{""}
	for _, p := range append([]string{rel.releases.Marker}, rel.releases.Shared...) {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	return rel.Worktree.Renew(stamps, dirs...)
}

// Finish makes the release durable and puts on record what it holds. build is
// the digest of what has been run in it, "" for nothing.
func (rel *Release) Finish(p *worktree.Plan, build string) error {
	if build != "" {
		finished := rel.sealed.Clone()
		if err := rel.Worktree.Renew(finished, slices.Collect(maps.Keys(finished.Dirs))...); err != nil {
			return err
		}
		if err := finished.Write(rel.state(finishedFile)); err != nil {
			return err
		}
	}
	if err := rel.Worktree.Sync(); err != nil {
		return err
	}
	if !sameFilesystem(rel.Worktree.Dir, rel.Worktree.StateDir) {
		if err := durable.SyncFilesystem(rel.Worktree.StateDir); err != nil {
			return err
		}
	}
	return rel.Use(p, build)
}

func sameFilesystem(a, b string) bool {
	var stA, stB unix.Stat_t
	return unix.Stat(a, &stA) == nil && unix.Stat(b, &stB) == nil && stA.Dev == stB.Dev
}

// Use puts on record that the release holds what the plan has led to, and is
// used now. The marker of a former configuration goes before that, and the caller
// writes the one of now after it: a crash leaves none that is not on record.
func (rel *Release) Use(p *worktree.Plan, build string) error {
	source := p.Source()
	now := &held{Tree: source.Tree, Root: source.Root, Subdirectory: source.Dir, Conversions: p.Conversions,
		Accepted: p.Accepted, Build: build, Index: rel.mark}
	marker := rel.releases.Marker
	if marker != "" {
		now.Markers = []string{marker}
	}
	if rel.held != nil {
		now.Index = rel.held.Index
		for _, former := range rel.held.Markers {
			if former == marker {
				continue
			}
			if err := rel.Worktree.RemoveMarker(former); err != nil {
				return err
			}
		}
	}
	return rel.use(now)
}

func (rel *Release) use(h *held) error {
	var st unix.Stat_t
	if err := unix.Lstat(rel.Worktree.Dir, &st); err != nil {
		return fmt.Errorf("looking at release %s: %w", rel.Name, err)
	}
	h.Inode = st.Ino
	if h.Used.IsZero() {
		h.Used = time.Now().UTC()
	}
	return rel.write(h)
}

// Adopt puts on record that the release holds what is known of the web root, by
// the repository's index: it was deployed to in place, before it became a release.
func (rel *Release) Adopt(known worktree.Known) error {
	if err := rel.makeDirs(); err != nil {
		return err
	}
	if err := os.Remove(rel.Worktree.Index()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// Neither is ever changed in place.
	if err := os.Link(rel.releases.Site.Index(), rel.Worktree.Index()); err != nil {
		return err
	}
	if err := durable.SyncDir(rel.Worktree.StateDir); err != nil {
		return err
	}
	return rel.use(&held{Tree: known.Tree, Root: known.Root, Subdirectory: known.Subdirectory, Conversions: known.Conversions,
		Accepted: known.Accepted, Index: known.Index})
}

// Conflict refuses the tree of a commit that has something of its own where a
// shared path goes.
func (r *Releases) Conflict(objects tree.Objects, root git.OID) error {
	for _, shared := range r.Shared {
		if err := worktree.SharedConflict(objects, root, shared); err != nil {
			return err
		}
	}
	return nil
}
