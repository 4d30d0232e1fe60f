package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/worktree"
)

// A Recovery is what was done about an interrupted deployment.
type Recovery struct {
	Commit    git.OID   `json:"commit"`
	Ref       string    `json:"ref"`
	Started   time.Time `json:"started"`
	Completed bool      `json:"completed"` // or undone
}

// Recovered returns what Begin found and settled, nil when there was nothing.
func (s *Session) Recovered() *Recovery { return s.recovered }

// recover settles what a crash interrupted: the web root is brought to the
// commit that the ref says, and everything recorded accordingly. Each step can
// be repeated, so a crash here is recovered in the same way.
func (s *Session) recover(ctx context.Context) error {
	e := s.env
	t, err := e.Journal.Unfinished()
	if err != nil {
		return &Unknown{Reason: "an interrupted deployment cannot be recovered", Err: err}
	}
	if t == nil {
		if err := e.Worktree.CleanUp(); err != nil {
			e.Observe(Notice{Kind: Warning, Text: err.Error()})
		}
		return nil
	}
	s.lock.Phase("recovering")
	if _, err := os.Stat(string(t.Work.Directory)); err != nil {
		return &Unknown{Reason: "an interrupted deployment cannot be recovered", Err: err}
	}
	forward, err := e.forward(ctx, t)
	if err != nil {
		return &Unknown{Reason: "an interrupted deployment cannot be recovered", Err: err}
	}
	fault.Step("recovery decided")
	if forward {
		err = e.complete(ctx, t)
	} else {
		err = e.undo(ctx, t)
	}
	if err != nil {
		return &Unknown{Reason: "an interrupted deployment could not be recovered", Err: err}
	}
	s.recovered = &Recovery{Commit: t.Event.Commit, Ref: t.Event.Ref, Started: t.Started, Completed: forward}
	return nil
}

// forward decides: a deployment whose ref has moved is completed, unless it
// was on its way back already; one without a ref is completed when it was
// found healthy.
func (e *Environment) forward(ctx context.Context, t *journal.Transaction) (bool, error) {
	if t.Phase == journal.Undoing {
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
		e.Repo.RemoveStaleLocks(t.Refs)
	}
	at, err := e.Repo.Ref(ctx, name)
	return at == want && err == nil, err
}

func (e *Environment) complete(ctx context.Context, t *journal.Transaction) error {
	if err := worktree.Activate(t.Work); err != nil {
		return err
	}
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	if err := e.Worktree.CommitTree(objects, t.Work.Tree); err != nil {
		return err
	}
	if t.Deployed.At.IsZero() {
		t.Deployed.At = time.Now().UTC()
	}
	if err := e.Journal.SetDeployed(&t.Deployed); err != nil {
		return err
	}
	fault.Step("recovery: deployment recorded")
	return e.close(t, journal.Succeeded, "interrupted, then completed: the ref had moved")
}

func (e *Environment) undo(ctx context.Context, t *journal.Transaction) error {
	if err := e.Journal.Advance(t, journal.Undoing); err != nil {
		return err
	}
	if err := worktree.Undo(t.Work); err != nil {
		return err
	}
	env := e.Variables(t.Event.Ref, t.Event.Commit, t.Event.Previous)
	if err := e.RunCommands(ctx, "rolled-back", env); err != nil {
		e.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	return e.close(t, journal.Failed, "interrupted, then undone")
}

// close records what became of the interrupted deployment, and the recovery,
// once each.
func (e *Environment) close(t *journal.Transaction, result, reason string) error {
	recovery := t.Event
	recovery.ID, recovery.Event, recovery.Reason = t.ID+"-recovery", journal.Recover, reason
	recovery.Time, recovery.Result = time.Now().UTC(), journal.Succeeded
	recovery.DurationMS = 0
	interrupted := t.Event
	interrupted.Result, interrupted.Reason = result, reason
	for _, event := range []journal.Event{interrupted, recovery} {
		done, err := e.Journal.Recorded(event.ID)
		if err == nil && !done {
			err = e.Journal.Append(event)
		}
		if err != nil {
			return err
		}
		fault.Step("recovery: history written")
	}
	if err := e.Journal.End(); err != nil {
		return err
	}
	fault.Step("recovery: journal ended")
	verb := "undone"
	if result == journal.Succeeded {
		verb = "completed"
	}
	e.Observe(Notice{Kind: Warning, Text: fmt.Sprintf("the deployment of %s that was interrupted at %s has been %s",
		t.Event.Commit.Short(), t.Started.Local().Format("15:04:05"), verb)})
	if err := worktree.Discard(t.Work); err != nil && !errors.Is(err, os.ErrNotExist) {
		e.Observe(Notice{Kind: Warning, Text: err.Error()})
	}
	return nil
}
