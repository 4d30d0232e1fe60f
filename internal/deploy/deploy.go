// Package deploy is the pipeline: stage, activate, check, record. It brings the
// web root to a commit and leaves it there only when the release is healthy
// and its ref has moved; else the web root goes back to what it held.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
	"bluegreen/internal/peer"
	"bluegreen/internal/release"
	"bluegreen/internal/worktree"
)

// An Environment is one place that is deployed to: blue, or green.
type Environment struct {
	Name    string
	Repo    *git.Repository
	Journal *journal.Journal
	// Worktree is the web root as it is served.
	Worktree *worktree.Worktree
	// Releases are where the web root leads to one of, nil in place.
	Releases *release.Releases
	Checks   []health.Check
	Commands []Command
	// Environ is what commands and command checks get of the environment,
	// without git's variables and without secrets.
	Environ []string
	// Marker is a file in the web root that says what is deployed, beside the
	// files of the commit; "" for none.
	Marker string
	// Promotion says how the traffic comes here; nil where it does not.
	Promotion *Promotion
	// Database is the one that the environments share; nil where there is none
	// to look after.
	Database *Database
	// Peers are the other environments that can be asked what they serve.
	Peers []*peer.Peer
	// Others are the names of all other environments that are known.
	Others []string
	// Rebuild lets a recovery write the web root anew when it is not the
	// directory that the interrupted deployment was recorded for.
	Rebuild bool
	// Confine keeps this process from writing elsewhere, for good; nil for one
	// that goes on to other work.
	Confine func(context.Context)
	// Observe is told what happens as it happens, from any goroutine. It must
	// not block.
	Observe func(Notice)
}

// A Command is one of the operator's, run at a moment of the deployment.
type Command struct {
	At      string // "staged", "deployed", "promoting", "promoted" or "rolled-back"
	Run     []string
	Timeout time.Duration
}

// A Notice is something that whoever watches a deployment may want to see.
type Notice struct {
	Kind        Kind
	Text        string
	Done, Total int // of Progress
}

// Kind says what a Notice is.
type Kind int

// The kinds of notices.
const (
	Doing    Kind = iota // what is being done, when it may take long
	Phase                // which part of the pipeline begins
	Progress             // how far it is
	Output               // a line of a command's output
	Warning
	Hint
)

// A Request asks for one deployment.
type Request struct {
	Ref    string
	Commit git.OID
	// Refs are moved, together, when the release is healthy; the first one is
	// the branch.
	Refs []git.RefUpdate
	// RefMoved tells that git has moved Ref to Commit already.
	RefMoved bool
	Old      git.OID // where Ref was before, if it is known
	Pusher   string
	Options  []string
	// Promote moves the traffic here before the refs move: all of it takes
	// place, or nothing.
	Promote *PromotionRequest
}

// An Outcome is a deployment that succeeded.
type Outcome struct {
	Commit, Previous git.OID
	Files            journal.Files
	Repairs          int      // of the files written, those that the disk had changed
	Submodules       []string // gitlinks written as empty directories
	Pointers         []string // files of Git LFS written as the pointers that they are in the commit
	Said             []string // by git and its filters, while they converted contents
	Checks           int      // that are healthy
	Took             time.Duration
	// Unrecorded says which records could not be written, empty for none:
	// recovery completes them.
	Unrecorded string
	Promoted   *Promoted // nil where no promotion was asked for
}

// A Session holds the lock of an environment. Whatever a crash had interrupted
// has been recovered when it begins.
type Session struct {
	env       *Environment
	lock      *lock.Lock
	waited    bool
	recovered []Recovery
}

// Ready tells what is wrong with the web root, before anything is touched.
func (e *Environment) Ready() error {
	if e.Releases == nil {
		if err := worktree.CheckDirectory(e.Worktree.Dir, e.Repo.Dir); err != nil {
			return &Failure{Refused: true, Reason: err.Error(),
				Hint: "it must exist and belong to the account that receives pushes: \"bluegreen doctor\" on the server says what to type"}
		}
		return nil
	}
	err := e.Releases.Check()
	if errors.As(err, new(*release.Unconverted)) {
		return &Failure{Refused: true, Reason: err.Error(),
			Hint: fmt.Sprintf("to make the directory the first release: sudo bluegreen install --repo %s", e.Repo.Dir)}
	}
	return err
}

// Begin waits for the lock, up to wait, and recovers what a crash interrupted.
// A lock that stays taken gives a *lock.Busy.
func (e *Environment) Begin(ctx context.Context, who string, wait time.Duration) (*Session, error) {
	if err := e.Journal.Make(); err != nil {
		return nil, err
	}
	waited, dir := false, e.Worktree.Dir
	if e.Releases != nil {
		// The web root is another directory after each deployment.
		dir = e.Releases.Dir
		if err := e.Releases.Make(); err != nil {
			return nil, err
		}
	}
	l, err := lock.Acquire(ctx, e.Journal.Dir, dir, who, wait, func(b *lock.Busy) {
		waited = true
		e.Observe(Notice{Kind: Doing, Text: "waiting: " + b.Describe()})
	})
	if errors.Is(err, os.ErrNotExist) {
		// Where the web root is gone, what a crash interrupted cannot be settled.
		if t, unread := e.Journal.Unfinished(); t != nil && unread == nil {
			return nil, cannotRecover(err, remount(t))
		}
	}
	if err != nil {
		return nil, err
	}
	s := &Session{env: e, lock: l, waited: waited}
	e.FindLive() // another session may have switched
	if err := s.recover(ctx); err != nil {
		s.End()
		return nil, err
	}
	e.FindLive()
	if e.Confine != nil {
		e.Confine(ctx) // what was recovered may have been begun for other directories
	}
	return s, nil
}

// Waited tells that another session had to end first: what was decided before
// Begin may not hold any more.
func (s *Session) Waited() bool { return s.waited }

// End frees the lock.
func (s *Session) End() { s.lock.Release() }

// A run is one deployment on its way.
type run struct {
	*Environment
	progress
	request   Request
	held      *journal.Deployed // what the web root held before, nil for nothing
	plan      *worktree.Plan
	heldTree  git.OID          // that the web root held before, zero for none
	target    *release.Release // that will be served, nil in place
	change    change
	work      worktree.Record // of change, for the journal
	said      []string        // by git and its filters
	deployed  journal.Deployed
	journal   *journal.Transaction
	promotion *promoting // nil where the traffic stays where it is

	unrecorded string
	// recorded tells that the history has that the deployment failed.
	recorded bool
}

// Deploy carries out one deployment. When it returns an error the web root and
// the refs are as they were, unless the error is an *Unknown.
func (s *Session) Deploy(ctx context.Context, req Request) (*Outcome, error) {
	r := &run{Environment: s.env, request: req, progress: s.begin(journal.Event{Event: journal.Deploy,
		Ref: req.Ref, Commit: req.Commit, Pusher: req.Pusher, Options: req.Options})}
	var err error
	if req.Promote != nil {
		r.promotion = s.promoting(*req.Promote)
		defer r.promotion.end()
		err = r.promotion.admit(ctx)
	}
	if err == nil {
		err = r.prepare(ctx)
	}
	if err == nil {
		err = r.release(ctx)
	}
	if err != nil {
		if r.promotion != nil {
			r.promotion.fail(err)
		}
		return nil, r.record(err)
	}
	done := &Outcome{Commit: req.Commit, Previous: r.event.Previous, Files: r.event.Files,
		Repairs: r.plan.Repairs, Submodules: r.plan.Submodules,
		Pointers: r.plan.Pointers, Said: r.said, Checks: len(r.Checks),
		Took: time.Duration(r.event.DurationMS) * time.Millisecond, Unrecorded: r.unrecorded}
	if r.promotion != nil {
		done.Promoted = r.promotion.outcome()
	}
	return done, nil
}

// manyWrites is from how many files on a deployment takes much memory.
const manyWrites = 10_000

// prepare does all that leaves the web root alone: it decides what to change
// and writes it beside the web root.
func (r *run) prepare(ctx context.Context) error {
	r.enter("planning")
	if err := r.refsAreAt(ctx, r.request.Refs, func(u git.RefUpdate) git.OID { return u.Old }); err != nil {
		return err
	}
	if r.request.RefMoved {
		// Else a power cut may bring back git's lock of the ref, and no push could
		// move it from then on.
		if err := durable.SyncFilesystem(r.Repo.Dir); err != nil {
			return &Failure{Reason: oneLine(err)}
		}
	}
	var err error
	if r.held, err = r.Journal.Deployed(); err != nil {
		return &Unknown{Reason: "the records of this server are damaged", Err: err}
	}
	commit, source, err := r.admit(ctx, r.request.Commit)
	if err != nil {
		return notPlanned(err)
	}
	works, err := r.Fits(ctx, commit)
	if err != nil {
		return err
	}
	if err := r.planSource(ctx, source); err != nil {
		return notPlanned(err)
	}
	if len(r.plan.Writes) > manyWrites {
		debug.SetGCPercent(50) // a sixth less memory for a few per cent of the time
	}
	r.event.Previous = r.previous(ctx, r.held)
	r.event.Files = journal.Files{Written: len(r.plan.Writes), Deleted: len(r.plan.Deletes)}
	r.deployed = journal.Deployed{Commit: commit, Tree: r.plan.Tree, Previous: r.event.Previous,
		Subdirectory: r.Worktree.Subdirectory, Conversions: r.plan.Conversions, Accepted: r.plan.Accepted,
		WorksWith: works, Directory: r.Worktree.Dir, Marker: r.Marker, Elsewhere: r.others(r.held)}
	if r.held != nil && r.event.Previous == commit {
		r.deployed.Previous = r.held.Previous // the same commit again: the way back stays
		r.deployed.Tag = r.held.Tag
	}
	if len(r.request.Refs) > 0 {
		r.deployed.Ref, r.deployed.From = r.request.Refs[0].Name, r.request.Refs[0].Old
	}
	fault.Step("planned")

	r.enter("staging")
	total := len(r.plan.Writes)
	progress := func(done int) {
		r.Observe(Notice{Kind: Progress, Text: "writing files", Done: done, Total: total})
	}
	if r.target != nil {
		err = r.stageRelease(ctx, progress)
	} else if staged, stageErr := r.Worktree.Stage(ctx, r.plan, r.event.ID, progress); stageErr != nil {
		err = stageErr
	} else {
		r.change, r.work, r.said = staged, staged.Record, staged.Warnings
	}
	var failure *Failure
	if err != nil && !errors.As(err, &failure) {
		err = &Failure{Reason: oneLine(err)}
	}
	return err
}

// notPlanned makes a failure of what keeps a plan from being made. A tree that must
// not be written is refused.
func notPlanned(err error) *Failure {
	var refused *worktree.Refused
	return &Failure{Reason: oneLine(err), Refused: errors.As(err, &refused)}
}

// release switches the web root over, and keeps it there if it is healthy and
// the refs can move.
func (r *run) release(ctx context.Context) error {
	r.journal = &journal.Transaction{ID: r.event.ID, Phase: journal.Activating, Started: r.started.UTC(),
		Event: r.event, Refs: r.request.Refs, RefMoved: r.request.RefMoved,
		Held: r.heldTree, Deployed: r.deployed, Work: r.work}
	if err := r.Journal.Begin(r.journal); err != nil {
		return r.abandon(err)
	}
	fault.Step("intent recorded")

	r.enter("activating")
	if err := r.change.Activate(); err != nil {
		return r.goBack(ctx, &Failure{Reason: oneLine(err)})
	}
	if err := r.markActivated(ctx); err != nil {
		return r.goBack(ctx, &Failure{Reason: oneLine(err)})
	}
	fault.Step("activated")

	r.enter("commands")
	if err := r.runCommands(ctx, "deployed"); err != nil {
		return r.goBack(ctx, err)
	}
	r.enter("checking")
	if err := r.check(ctx); err != nil {
		return r.goBack(ctx, err)
	}
	// The database may have been migrated meanwhile, by another server.
	if _, err := r.Fits(ctx, r.deployed.Commit); err != nil {
		return r.goBack(ctx, err)
	}
	fault.Step("checked")

	if r.promotion != nil {
		if err := r.promote(ctx); err != nil {
			return r.goBack(ctx, err)
		}
	}
	r.enter("recording")
	return r.commit(ctx)
}

// commit moves the refs and makes the deployment the one that holds. From its
// first line on a crash is completed once the ref has moved.
func (r *run) commit(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return r.goBack(ctx, &Failure{Reason: "stopped before the release was recorded"})
	}
	ctx = context.WithoutCancel(ctx)
	if err := r.readyToRecord(); err != nil {
		return r.goBack(ctx, &Failure{Reason: oneLine(err)})
	}
	fault.Step("committing")
	if err := r.moveRefs(ctx, "push: deployed to "+r.Name, r.request.Refs); err != nil {
		return r.goBack(ctx, &Failure{Reason: "the release is healthy, but its ref could not move: " + oneLine(err)})
	}
	fault.Step("ref moved")
	// Before anybody is told, or anything says, that it has.
	if err := durable.SyncFilesystem(r.Repo.Dir); err != nil {
		return &Unknown{Reason: "the release is in place, but the disk may lose that its ref has moved", Err: err}
	}
	r.took()
	if err := r.recordSuccess(); err != nil {
		r.unrecorded = oneLine(err) // the release is deployed and stays
	}
	return nil
}

// readyToRecord does all of the recording that may need room on the disk, so
// that little can fail once the ref has moved.
func (r *run) readyToRecord() error {
	var err error
	if r.deployed.Index, err = r.change.PrepareIndex(); err != nil {
		return err
	}
	r.journal.Deployed = r.deployed
	if err := r.Journal.PrepareDeployed(&r.deployed); err != nil {
		return err
	}
	// The objects that came with the push, before a ref needs them.
	if err := durable.SyncFilesystem(r.Repo.Dir); err != nil {
		return err
	}
	return r.Journal.Commit(r.journal)
}

func (r *run) recordSuccess() error {
	warning, err := r.change.SwitchIndex()
	if err != nil {
		return err
	}
	if warning != "" {
		r.Observe(Notice{Kind: Warning, Text: warning})
	}
	if err := r.Journal.SwitchDeployed(); err != nil {
		return err
	}
	fault.Step("deployment recorded")
	r.enter("finishing")
	r.took() // the phases add up to it
	r.event.Result = journal.Succeeded
	if err := r.Journal.Append(r.event); err != nil {
		return err
	}
	fault.Step("history written")
	if r.promotion != nil {
		if err := r.promotion.close(journal.Succeeded, ""); err != nil {
			return err
		}
	}
	if err := r.Journal.End(); err != nil {
		return err
	}
	fault.Step("journal ended")
	return r.change.Discard()
}

// markActivated has the marker tell of the release, where that has not one of
// its own.
func (r *run) markActivated(ctx context.Context) error {
	if r.switched() {
		r.FindLive()
		return nil
	}
	r.deployed.At = time.Now().UTC()
	if err := r.unmark(ctx, r.Worktree, r.held, &r.deployed); err != nil {
		return err
	}
	return r.mark(r.Worktree, &r.deployed)
}
