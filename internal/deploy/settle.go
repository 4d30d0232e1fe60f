package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/promotion"
)

// settling is how long a recovery waits for another promotion on this machine.
const settling = 30 * time.Second

// settle finds out what became of a promotion that a crash interrupted: what is
// said of it is what can be read of the traffic. A release that has it is asked
// for from outside, and keeps it (landed is true then) or gives it back. done
// tells that the promotion had succeeded before the crash, whoever has the
// traffic since. The caller closes the promotion.
func (p *promoting) settle(ctx context.Context, refs []git.RefUpdate) (reason string, err error) {
	if p.record.Course == journal.Preparing {
		return "interrupted before the traffic was asked for", p.tag(p.former)
	}
	if err := p.sameTraffic(); err != nil {
		return "", err
	}
	what, to := p.Promotion.Mover.What, p.request.To
	if p.done, err = p.succeeded(ctx, refs); p.done || err != nil {
		return "interrupted after it had succeeded", err
	}
	p.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("finding out what became of the promotion that was interrupted at %s",
		p.record.Started.Local().Format("15:04:05"))})
	if err := p.acquire(ctx); err != nil {
		return "", err
	}
	if err := awaitProcess(ctx, p.record.Process, p.record.Start, p.Promotion.Mover.Timeout); err != nil {
		return "", err
	}
	wanted := to
	if p.record.Course == journal.Returning {
		wanted = p.record.Event.From
	}
	m := p.Promotion.Mover
	state, err := m.Find(ctx, wanted, p.record.Asked.Add(m.Doubtful()), p.record.Event.Action)
	if err != nil {
		return "", fromMover(err)
	}
	if state.Owner != to {
		return fmt.Sprintf("interrupted; %s has %s", whoever(state), what), p.tag(p.former)
	}
	p.landed = true
	cause := &Failure{Reason: "interrupted"}
	if p.record.Course == journal.Moving || p.record.Course == journal.Moved {
		err := p.askOutside(ctx)
		if err == nil && to == p.Name { // of another, --unchecked may have been said
			err = p.stillFits(ctx)
		}
		if err == nil {
			return fmt.Sprintf("interrupted, then completed: %s has %s", to, what), nil
		}
		if ctx.Err() != nil {
			return "", stopped(ctx)
		}
		cause = &Failure{Reason: "interrupted; " + oneLine(err)}
	}
	err = p.giveBack(ctx, cause)
	if isUnknown(err) {
		return "", err
	}
	return oneLine(err), nil
}

// stopped is the error of a recovery that was told to end before it had decided.
// What it was asking then says nothing: the next one asks again.
func stopped(ctx context.Context) error {
	return fmt.Errorf("stopped before it was decided: %w", context.Cause(ctx))
}

// sameTraffic refuses to settle a promotion with a configuration that is about
// something else.
func (p *promoting) sameTraffic() error {
	again := "put it back as it was, run \"bluegreen recover\", then change it"
	switch {
	case p.Promotion == nil:
		return &Unknown{Reason: "it was moving traffic", Err: errors.New("there is no [promotion] in the configuration any more"), Hint: again}
	case p.record.Event.Environment != p.Name:
		return &Unknown{Reason: fmt.Sprintf("it was begun as %q", p.record.Event.Environment),
			Err: fmt.Errorf("the configuration names this environment %q now", p.Name), Hint: again}
	case p.record.What != p.Promotion.Lock:
		return &Unknown{Reason: fmt.Sprintf("it was the %s", p.record.What),
			Err: fmt.Errorf("the configuration is about the %s now", p.Promotion.Lock), Hint: again}
	}
	return nil
}

// succeeded tells whether nothing was left to do but to record the promotion:
// the outside had seen the release, and the refs have moved.
func (p *promoting) succeeded(ctx context.Context, refs []git.RefUpdate) (bool, error) {
	for _, u := range refs {
		at, err := p.Repo.Ref(ctx, u.Name)
		if err != nil || at != u.New {
			return false, err
		}
	}
	// Refs move after the course is Moved, which may not have been written.
	return p.record.Course == journal.Moved || len(refs) > 0 && p.record.Course == journal.Moving, nil
}

// awaitProcess waits for a program of the operator's that was at work, and has
// outlived us.
func awaitProcess(ctx context.Context, pid int, start string, within time.Duration) error {
	deadline := time.Now().Add(within)
	for command.Runs(pid, start) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return &Unknown{Reason: "nobody can tell what comes of it",
				Err: fmt.Errorf("the program that does it is still running (process %d)", pid)}
		}
	}
	return nil
}

func whoever(s *promotion.State) string {
	if s.Foreign != "" {
		return "another (" + s.Foreign + ")"
	}
	return orNobody(s.Owner)
}

// resume makes a promotion of its record. deployed is what the web root holds,
// nil for nothing.
func (s *Session) resume(rec *journal.Promotion, deployed *journal.Deployed) *promoting {
	p := s.promoting(PromotionRequest{Event: rec.Event.Event, Ref: rec.Event.Ref, Tag: rec.Event.Tag,
		Commit: rec.Event.Commit, Refs: rec.Refs, To: rec.Event.To,
		Wait: settling, Pusher: rec.Event.Pusher, Options: rec.Event.Options})
	p.event, p.record, p.started = rec.Event, *rec, rec.Started
	p.event.Phases = map[string]int64{}
	p.alone, p.intended, p.began = rec.Deployment == "", true, true
	p.move = &promotion.Move{From: rec.Event.From, To: rec.Event.To, Action: rec.Event.Action}
	if deployed != nil {
		now := *deployed
		p.deployed, p.former = &now, now.Tag
		if p.request.To == p.Name && rec.Event.Tag != "" {
			now.Tag = rec.Event.Tag // as the marker says, or will be made to say
		}
	}
	return p
}

// recoverPromotion settles a promotion that no unfinished deployment belongs to.
func (s *Session) recoverPromotion(ctx context.Context, rec *journal.Promotion) error {
	held, err := s.env.Journal.Deployed()
	if err != nil {
		return cannotRecover(err, "")
	}
	s.lock.Phase("recovering")
	p := s.resume(rec, held)
	defer p.end()
	var reason string
	if p.alone {
		reason, err = p.settle(ctx, rec.Refs)
	} else {
		// It would have been ended before a deployment that succeeded. One that was
		// undone ends only when its promotion has been given back, and its commands
		// have run.
		p.began = false
		reason, err = "interrupted after it had been undone", p.tag(p.former)
	}
	if err != nil {
		return cannotSettle(rec, err)
	}
	if p.landed || p.done {
		warning, err := p.complete(ctx)
		if err != nil {
			return cannotSettle(rec, err)
		}
		if warning != "" {
			reason += "; " + warning
		}
	}
	p.runLate(ctx)
	if err := p.closeRecovered(reason); err != nil {
		return cannotSettle(rec, err)
	}
	verb := "has failed"
	if p.landed || p.done {
		verb = "has succeeded"
	}
	s.recovered = append(s.recovered, Recovery{Completed: p.landed || p.done,
		Text: fmt.Sprintf("the promotion that was interrupted at %s %s: %s", rec.Started.Local().Format("15:04:05"), verb, reason)})
	return nil
}

// runLate runs the commands that the dead process did not get to: they may run
// a second time. No later recovery runs them, so nothing stops them.
func (p *promoting) runLate(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	at := ""
	switch {
	case p.landed:
		at = "promoted"
	case !p.done && p.began:
		at = "rolled-back"
	default:
		return
	}
	p.began = false
	if err := p.RunCommands(ctx, at, p.variables()); err != nil {
		p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
}

// complete does for a promotion whose process died what its finish would have
// done.
func (p *promoting) complete(ctx context.Context) (warning string, err error) {
	if p.request.To == p.Name && p.deployed != nil {
		if err := p.mark(p.Worktree, p.deployed); err != nil {
			return "", err
		}
		if err := p.Journal.PrepareDeployed(p.deployed); err != nil {
			return "", err
		}
	}
	if err := p.moveRefsLate(ctx, p.request.Refs); err != nil {
		warning = oneLine(err)
	}
	if err := durable.SyncFilesystem(p.Repo.Dir); err != nil {
		return "", err
	}
	if p.request.To == p.Name && p.deployed != nil {
		return warning, p.Journal.SwitchDeployed()
	}
	return warning, nil
}

// moveRefsLate moves the refs of a promotion that a crash interrupted after the
// traffic had moved. Refs that have moved elsewhere since stay there, so nothing
// else may keep them from moving: it is not tried again.
func (e *Environment) moveRefsLate(ctx context.Context, refs []git.RefUpdate) error {
	if len(refs) == 0 {
		return nil
	}
	e.Repo.RemoveStaleLocks(refs)
	return e.moveRefs(context.WithoutCancel(ctx), "recover: promoted on "+e.Name, refs)
}

// closeRecovered records what became of the interrupted promotion, and the
// recovery, once each.
func (p *promoting) closeRecovered(reason string) error {
	result := journal.Failed
	if p.landed || p.done {
		result = journal.Succeeded
	}
	p.event.Result, p.event.Reason = result, reason
	settled := p.event
	settled.ID, settled.Event, settled.Time, settled.Result = p.record.ID+"-recovery", journal.Recover, time.Now().UTC(), journal.Succeeded
	if err := p.appendOnce(p.event); err != nil {
		return err
	}
	if err := p.appendOnce(settled); err != nil {
		return err
	}
	fault.Step("recovery: promotion settled")
	p.intended = false
	return p.Journal.EndPromotion()
}

// appendOnce writes an event into the history, unless a process that died has
// done so.
func (e *Environment) appendOnce(event journal.Event) error {
	done, err := e.Journal.Recorded(event.ID)
	if err == nil && !done {
		err = e.Journal.Append(event)
	}
	return err
}

func cannotSettle(rec *journal.Promotion, err error) error {
	text := "the interrupted promotion"
	if rec.Event.Tag != "" {
		text += fmt.Sprintf(" of %q", rec.Event.Tag)
	}
	if rec.Event.Action != 0 {
		text += fmt.Sprintf(" (action %d)", rec.Event.Action)
	}
	hint := "\"bluegreen status\" shows who is live; \"bluegreen recover\" on this server asks again and goes on from there"
	var unknown *Unknown
	if errors.As(err, &unknown) && unknown.Hint != "" {
		hint = unknown.Hint
	}
	return &Unknown{Reason: text + " could not be settled", Err: err, Hint: hint}
}
