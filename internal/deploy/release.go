package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/release"
	"bluegreen/internal/worktree"
)

// A change is what a deployment does to the web root: files are exchanged in
// place, or a link is switched to another release.
type change interface {
	Activate() error
	Undo() error
	PrepareIndex() (worktree.Mark, error)
	SwitchIndex() (warning string, err error)
	Discard() error
}

// FindLive makes Worktree the web root as it is served now: with releases it
// is another directory after each deployment, with an index of its own. Where
// that cannot be told, which Ready says, it is the directory as configured.
func (e *Environment) FindLive() {
	if e.Releases == nil {
		return
	}
	w := e.Releases.Site
	if live, err := e.Releases.Live(); err == nil && live != nil {
		if _, known := live.Known(); known {
			w.IndexFile = live.Worktree.IndexFile
		}
	}
	e.Worktree = &w
}

// builds is a digest of the commands that run in a finished release, "" for
// none: one that others have run in is not the same.
func (e *Environment) builds() string {
	var all [][]string
	for _, c := range e.Commands {
		if c.At == "staged" {
			all = append(all, c.Run)
		}
	}
	if len(all) == 0 {
		return ""
	}
	text, _ := json.Marshal(all) // strings can always be encoded
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// planSource decides what to change so that the web root has what is to be
// there.
func (r *run) planSource(ctx context.Context, source worktree.Source) (err error) {
	if r.Releases != nil {
		return r.planRelease(ctx, source)
	}
	if r.plan, err = r.planInPlace(ctx, source, r.held); err == nil {
		r.heldTree = r.plan.Held
	}
	return err
}

// treeHeld is the tree that the web root holds: of a release on record its own,
// else what the index says. While that cannot be read the records count, as they
// do for the plan of the next deployment, which writes it anew.
func (e *Environment) treeHeld(held *journal.Deployed) (git.OID, error) {
	if e.Releases != nil {
		// Where the web root leads to none, Ready says so; who only looks is told more.
		if live, err := e.Releases.Live(); err == nil && live != nil {
			if tree, known := live.Known(); known {
				return tree, nil
			}
		}
	}
	tree, err := e.Worktree.HeldTree(heldIndex(held))
	if err != nil && held != nil {
		return held.Tree, nil
	}
	return tree, err
}

// planRelease chooses the release that will hold what is to be there, and
// compares the two.
func (r *run) planRelease(ctx context.Context, source worktree.Source) error {
	if !r.elsewhere(r.held) {
		var err error
		if r.heldTree, err = r.treeHeld(r.held); err != nil {
			return err
		}
	}
	if err := r.adopt(ctx); err != nil {
		return err
	}
	var err error
	if r.target, err = r.Releases.Choose(source.Tree, r.builds()); err != nil {
		return err
	}
	r.plan, err = r.target.Plan(ctx, source)
	return err
}

// adopt puts on record what the live release holds, where that was deployed in
// place before the web root led there.
func (r *run) adopt(ctx context.Context) error {
	live, err := r.Releases.Live()
	if err != nil || live == nil || r.heldTree.IsZero() {
		return err
	}
	if _, known := live.Known(); known {
		return nil
	}
	objects := r.Repo.Objects(ctx)
	defer objects.Close()
	if known := r.known(objects, r.held); known.Tree != r.heldTree {
		return nil // git has put it there; in which way is not known
	} else if err := live.Adopt(known); err != nil {
		return fmt.Errorf("taking over release %s: %w", live.Name, err)
	}
	r.FindLive()
	return nil
}

// stageRelease brings the release to the commit, with its marker, and runs the
// staged commands in it. Nobody is served from it yet.
func (r *run) stageRelease(ctx context.Context, progress func(int)) error {
	rel := r.target
	if rel.Live {
		repair, err := rel.Repair(ctx, r.plan, r.event.ID, progress)
		if err == nil {
			r.change, r.work, r.said = repair, repair.Record, repair.Warnings
		}
		return err
	}
	var err error
	if rel.Ready(r.plan) {
		err = r.reuseTarget()
	} else {
		err = r.bringTarget(ctx, progress)
	}
	if err != nil {
		return err
	}
	fault.Step("release finished")
	change, err := rel.Switch(r.deployed.Tree)
	if err == nil {
		r.change, r.work = change, change.Record
	}
	return err
}

// reuseTarget puts the release to use as it is.
func (r *run) reuseTarget() error {
	if err := r.target.Use(r.plan, r.builds()); err != nil {
		return err
	}
	return r.markTarget()
}

// bringTarget brings the release to what it does not hold yet.
func (r *run) bringTarget(ctx context.Context, progress func(int)) (err error) {
	rel := r.target
	if r.said, err = rel.Bring(ctx, r.plan, r.event.ID, progress); err != nil {
		return err
	}
	if err := rel.Share(ctx, r.plan); err != nil {
		return err
	}
	if err := r.markTarget(); err != nil {
		return err
	}
	if err := rel.Seal(); err != nil {
		return err
	}
	if err := r.build(ctx, rel); err != nil {
		return err
	}
	return rel.Finish(r.plan, r.builds())
}

// markTarget writes the marker of the release before it goes live.
func (r *run) markTarget() error {
	r.deployed.At = time.Now().UTC()
	return r.writeMarker(r.target.Worktree, &r.deployed)
}

// build runs the staged commands in a release. What they make belongs to it.
func (r *run) build(ctx context.Context, rel *release.Release) error {
	if r.builds() == "" {
		return nil
	}
	r.enter("building")
	env := append(r.variables(), "BLUEGREEN_DIRECTORY="+rel.Worktree.Dir)
	return r.runCommandsIn(ctx, rel.Worktree.Dir, "staged", env)
}

// switched tells that the web root is another release after the deployment,
// with a marker of its own.
func (r *run) switched() bool { return r.target != nil && !r.target.Live }

// bringRelease is bring for a deployment that switched to another release: the
// link leads to the one that is wanted, and that one is held against the tree.
func (r *recovery) bringRelease(ctx context.Context, operations func(worktree.Record) error, source worktree.Source) (*worktree.Plan, error) {
	err := operations(r.t.Work)
	if err != nil && !(r.Rebuild && errors.Is(err, worktree.ErrMoved)) {
		return nil, err
	}
	if r.Releases == nil {
		return nil, fmt.Errorf("%q is a link to a release, and the configuration has no deploy.releases any more: put it back", r.t.Work.Directory)
	}
	fault.Step("recovery: operations settled")
	live, err := r.Releases.Live()
	if err != nil {
		return nil, err
	}
	plan := &worktree.Plan{}
	if live == nil { // before the first deployment there was none
		objects := r.Repo.Objects(ctx)
		defer objects.Close()
		err = r.Releases.Site.ClaimTree(objects, git.OID{})
	} else {
		plan, r.index, err = live.Settle(ctx, source, r.t.ID+"-recovery")
	}
	r.FindLive()
	fault.Step("recovery: files settled")
	return plan, err
}
