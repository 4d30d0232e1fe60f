package deploy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/worktree"
)

// A Recovery is what was done about an interrupted operation.
type Recovery struct {
	Text      string // one line that makes sense alone
	Completed bool   // or undone
}

// Recovered returns what Begin found and settled.
func (s *Session) Recovered() []Recovery { return s.recovered }

// recover settles what a crash interrupted: the web root is brought to exactly
// one commit, and everything recorded accordingly. Each step can be repeated,
// so a crash here is recovered in the same way.
func (s *Session) recover(ctx context.Context) error {
	e := s.env
	if err := e.Journal.CleanUp(); err != nil {
		e.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	t, err := e.Journal.Unfinished()
	if err != nil {
		return cannotRecover(err, "")
	}
	rec, err := e.Journal.Promotion()
	if err != nil {
		return cannotRecover(err, "")
	}
	if err := s.recoverMigration(ctx); err != nil {
		return err
	}
	part := rec != nil && t != nil && rec.Deployment == t.ID
	if rec != nil && !part {
		if err := s.recoverPromotion(ctx, rec); err != nil {
			return err
		}
	}
	if t == nil {
		e.cleanUp()
		return nil
	}
	s.lock.Phase("recovering")
	r := &recovery{Environment: e, t: t, worktree: *e.Worktree}
	r.worktree.Dir = string(t.Work.Directory)
	if e.Releases != nil {
		// A release that was being repaired in place has an index of its own.
		rel, err := e.Releases.At(r.worktree.Dir)
		if err != nil {
			return cannotRecover(err, "")
		}
		if rel != nil {
			r.worktree = *rel.Worktree
		}
	}
	r.worktree.Verify, r.worktree.Symlinks = true, "any"
	r.worktree.MaxFiles, r.worktree.MaxBytes = math.MaxInt32, math.MaxInt64
	if part {
		r.promotion = s.resume(rec, &t.Deployed)
		defer r.promotion.end()
		if r.reason, err = r.promotion.settle(ctx, t.Refs); err != nil {
			return cannotSettle(rec, err)
		}
	}
	completed, err := r.run(ctx)
	if errors.Is(err, worktree.ErrMoved) {
		return cannotRecover(err, remount(t))
	}
	if err != nil {
		return cannotRecover(err, "")
	}
	text := fmt.Sprintf("the web root is as it was before %s", t.Event.Commit.Short())
	if completed {
		text = fmt.Sprintf("%s is deployed: its ref had moved before the crash", t.Event.Commit.Short())
	}
	if r.landed() {
		text = fmt.Sprintf("%s is deployed", t.Event.Commit.Short())
	}
	if part {
		text += "; of its promotion: " + r.reason
	}
	s.recovered = append(s.recovered, Recovery{Text: text, Completed: completed})
	e.cleanUp()
	return nil
}

// cleanUp removes what crashes have left that no deployment needs any more.
func (e *Environment) cleanUp() {
	err := e.Worktree.CleanUp()
	if err == nil && e.Releases != nil {
		err = e.Releases.CleanUp()
	}
	if err != nil {
		e.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
}

// remount says what to do when the web root is not what it was.
func remount(t *journal.Transaction) string {
	return fmt.Sprintf("if %s is only not mounted, mount it and run \"bluegreen recover\"; "+
		"if it was made anew, run \"bluegreen recover --rebuild\"", t.Work.Directory)
}

func cannotRecover(err error, hint string) error {
	return &Unknown{Reason: "an interrupted deployment could not be recovered", Err: err, Hint: hint}
}

// recovery is one interrupted transaction being settled.
type recovery struct {
	*Environment
	t        *journal.Transaction
	worktree worktree.Worktree // with the directory that was deployed to
	index    worktree.Mark     // of the index that was written in the end
	// promotion is the one that was a part of the deployment, nil for none;
	// reason is what became of it.
	promotion *promoting
	reason    string
}

func (r *recovery) run(ctx context.Context) (completed bool, err error) {
	forward, err := r.forward(ctx)
	if err != nil {
		return false, err
	}
	fault.Step("recovery decided")
	if forward {
		source := worktree.Source{Tree: r.t.Work.Tree, Root: r.t.Work.Root, Dir: string(r.t.Work.Subdirectory)}
		plan, err := r.bring(ctx, r.worktree.Activate, r.t.Held, source)
		if err != nil {
			return false, err
		}
		r.t.Deployed.Conversions = plan.Conversions
		unchecked := r.t.RefMoved && r.t.Phase == journal.Activating
		if !unchecked || r.landed() || r.healthy(ctx) {
			return true, r.complete(ctx)
		}
		if ctx.Err() != nil {
			return false, stopped(ctx)
		}
	}
	return false, r.undo(ctx)
}

// landed tells that the deployment was promoted, and has the traffic.
func (r *recovery) landed() bool { return r.promotion != nil && r.promotion.landed }

// forward decides: a deployment that has the traffic is completed, and one whose
// ref has moved, unless it was on its way back already; one without a ref is
// completed when it was found healthy.
func (r *recovery) forward(ctx context.Context) (bool, error) {
	t := r.t
	switch {
	case r.landed():
		return true, nil
	case r.promotion != nil && !r.promotion.done && t.Phase == journal.Activating:
		return false, nil // it is not promoted, so it is not to be kept
	case t.Phase == journal.Undoing:
		return false, nil
	}
	if len(t.Refs) == 0 && !t.RefMoved {
		return t.Phase == journal.Committing, nil
	}
	name, want := t.Event.Ref, t.Event.Commit
	if len(t.Refs) > 0 {
		name, want = t.Refs[0].Name, t.Refs[0].New
	}
	if t.Phase == journal.Committing {
		r.Repo.RemoveStaleLocks(t.Refs)
	}
	at, err := r.Repo.Ref(ctx, name)
	return at == want && err == nil, err
}

// bring carries the recorded operations out, or back, and then holds every
// tracked file against the tree that the web root must hold now: what the
// operations could not bring there, or somebody has changed since, is written
// anew. other is the tree whose files may be there as well.
func (r *recovery) bring(ctx context.Context, operations func(worktree.Record) error, other git.OID, source worktree.Source) (*worktree.Plan, error) {
	if r.t.Work.Link != nil {
		return r.bringRelease(ctx, operations, source)
	}
	err := operations(r.t.Work)
	if errors.Is(err, worktree.ErrMoved) && !r.Rebuild {
		return nil, err
	}
	objects := r.Repo.Objects(ctx)
	defer objects.Close()
	switch {
	case err != nil:
		// Nothing is known of the files: those of the other tree must go.
		r.Observe(Notice{Kind: Warning, Text: oneLine(err) + "; the files are compared with the commit instead"})
		err = r.worktree.ClaimTree(objects, other)
	case source.Tree == r.t.Work.Tree:
		err = r.worktree.ClaimTree(objects, source.Tree)
	}
	if err != nil {
		return nil, err
	}
	fault.Step("recovery: operations settled")
	plan, err := r.worktree.PlanSource(ctx, source, worktree.Known{})
	if err != nil {
		return nil, err
	}
	staged, err := r.worktree.Restage(ctx, plan, r.t.ID+"-recovery", nil)
	if err != nil {
		return nil, err
	}
	fault.Step("recovery: staged")
	if err := staged.Activate(); err != nil {
		return nil, err
	}
	if r.index, err = staged.PrepareIndex(); err != nil {
		return nil, err
	}
	if _, err := staged.SwitchIndex(); err != nil {
		return nil, err
	}
	fault.Step("recovery: files settled")
	return plan, staged.Discard()
}

// held is where what the web root held before is from, as far as the records
// say that.
func (r *recovery) held(ctx context.Context, record *journal.Deployed) worktree.Source {
	source := worktree.Source{Tree: r.t.Held}
	if record != nil && record.Tree == r.t.Held && record.Subdirectory != "" {
		objects := r.Repo.Objects(ctx)
		defer objects.Close()
		_, source.Root, _ = objects.Commit(record.Commit) // pruned: its attributes are not known
		source.Dir = record.Subdirectory
	}
	return source
}

// healthy asks, of a release that was interrupted before it was found healthy,
// what would have been asked.
func (r *recovery) healthy(ctx context.Context) bool {
	env := r.Variables(r.t.Event.Ref, "", r.t.Deployed.Commit, r.t.Event.Previous)
	err := r.RunCommands(ctx, "deployed", env)
	if err == nil && len(r.Checks) > 0 {
		err = verdict(r.Ask(ctx, r.t.Deployed.Commit, env))
	}
	if err == nil {
		_, err = r.Fits(ctx, r.t.Deployed.Commit)
	}
	if err != nil {
		r.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	return err == nil
}

func (r *recovery) complete(ctx context.Context) error {
	if r.t.Deployed.At.IsZero() {
		r.t.Deployed.At = time.Now().UTC()
	}
	r.t.Deployed.Index = r.index
	reason := "interrupted, then completed: the ref had moved"
	if p := r.promotion; p != nil && (p.landed || p.done) && p.request.Tag != "" {
		r.t.Deployed.Tag = p.request.Tag
	}
	if r.landed() {
		reason = r.reason
		if err := r.moveRefsLate(ctx, r.t.Refs); err != nil {
			reason += "; but " + oneLine(err)
		}
	}
	if err := r.mark(&r.worktree, &r.t.Deployed); err != nil {
		return err
	}
	if err := r.Journal.PrepareDeployed(&r.t.Deployed); err != nil {
		return err
	}
	if err := r.Journal.SwitchDeployed(); err != nil {
		return err
	}
	fault.Step("recovery: deployment recorded")
	return r.close(ctx, journal.Succeeded, reason)
}

func (r *recovery) undo(ctx context.Context) error {
	if err := r.Journal.Undo(); err != nil {
		return err
	}
	fault.Step("recovery: undoing")
	held, err := r.Journal.Deployed()
	if err != nil {
		return err
	}
	if err := r.unmark(ctx, &r.worktree, &r.t.Deployed, held); err != nil {
		return err
	}
	if _, err := r.bring(ctx, r.worktree.Undo, r.t.Work.Tree, r.held(ctx, held)); err != nil {
		return err
	}
	if err := r.mark(&r.worktree, held); err != nil {
		return err
	}
	env := r.Variables(r.t.Event.Ref, "", r.t.Event.Commit, r.t.Event.Previous)
	if err := r.RunCommands(context.WithoutCancel(ctx), "rolled-back", env); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	reason := "interrupted, then undone"
	if r.reason != "" {
		reason += ": " + r.reason
	}
	return r.close(ctx, journal.Failed, reason)
}

// close records what became of the interrupted deployment, and the recovery,
// once each, after all of it is durable: also what the dead process did last.
func (r *recovery) close(ctx context.Context, result, reason string) error {
	for _, path := range []string{r.worktree.Dir, r.Repo.Dir} {
		if err := durable.SyncFilesystem(path); err != nil {
			return err
		}
	}
	t := r.t
	settled := t.Event
	settled.ID, settled.Event, settled.Reason = t.ID+"-recovery", journal.Recover, reason
	settled.Time, settled.Result = time.Now().UTC(), journal.Succeeded
	settled.DurationMS = 0
	interrupted := t.Event
	interrupted.Result, interrupted.Reason = result, reason
	for _, event := range []journal.Event{interrupted, settled} {
		if err := r.appendOnce(event); err != nil {
			return err
		}
		fault.Step("recovery: history written")
	}
	if r.promotion != nil {
		if r.landed() {
			r.promotion.runLate(ctx)
		}
		if err := r.promotion.closeRecovered(r.reason); err != nil {
			return err
		}
	}
	if err := r.Journal.End(); err != nil {
		return err
	}
	fault.Step("recovery: journal ended")
	verb := "undone"
	if result == journal.Succeeded {
		verb = "completed"
	}
	r.Observe(Notice{Kind: Warning, Text: fmt.Sprintf("the deployment of %s that was interrupted at %s has been %s",
		t.Event.Commit.Short(), t.Started.Local().Format("15:04:05"), verb)})
	if err := r.worktree.Discard(t.Work); err != nil {
		r.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	return nil
}
