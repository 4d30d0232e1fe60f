package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

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
// for from outside, and keeps it (landed is true then) or gives it back. The
// caller closes the promotion.
func (p *promoting) settle(ctx context.Context) (reason string, err error) {
	if p.Promotion == nil {
		return "", errors.New("it was moving traffic, and there is no [promotion] in the configuration any more")
	}
	what, to := p.Promotion.Mover.What, p.request.To
	if err := p.acquire(ctx); err != nil {
		return "", err
	}
	state, err := p.Promotion.Mover.Look(ctx, to)
	if err != nil {
		return "", fromMover(err)
	}
	if state.Owner != to {
		return fmt.Sprintf("interrupted; %s has %s", whoever(state), what), p.tag(p.former)
	}
	p.landed = true
	cause := &Failure{Reason: "interrupted"}
	if p.record.Course != journal.Returning {
		err := p.askOutside(ctx)
		if err == nil {
			return fmt.Sprintf("interrupted, then completed: %s has %s", to, what), nil
		}
		cause = &Failure{Reason: "interrupted; " + oneLine(err)}
	}
	err = p.giveBack(ctx, cause)
	if isUnknown(err) {
		return "", err
	}
	return oneLine(err), nil
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
	p.alone, p.intended = rec.Deployment == "", true
	p.move = &promotion.Move{From: rec.Event.From, To: rec.Event.To, Action: rec.Event.Action}
	if deployed != nil {
		now := *deployed
		p.deployed, p.former = &now, now.Tag
		if p.request.To == p.Name {
			now.Tag = rec.Event.Tag // as the marker says, or will be made to say
		}
	}
	return p
}

// recoverPromotion settles a promotion that stands alone.
func (s *Session) recoverPromotion(ctx context.Context, rec *journal.Promotion) error {
	held, err := s.env.Journal.Deployed()
	if err != nil {
		return cannotRecover(err, "")
	}
	s.lock.Phase("recovering")
	p := s.resume(rec, held)
	defer p.end()
	reason, err := p.settle(ctx)
	if err != nil {
		return cannotSettle(rec, err)
	}
	result := journal.Failed
	if p.landed {
		result = journal.Succeeded
		warning, err := p.complete(ctx)
		if err != nil {
			return cannotSettle(rec, err)
		}
		if warning != "" {
			reason += "; " + warning
		}
	}
	if err := p.closeRecovered(result, reason); err != nil {
		return cannotSettle(rec, err)
	}
	text := fmt.Sprintf("the promotion that was interrupted at %s: %s", rec.Started.Local().Format("15:04:05"), reason)
	s.recovered = append(s.recovered, Recovery{Text: text, Completed: p.landed})
	s.env.Observe(Notice{Kind: Warning, Text: text})
	return nil
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
// traffic had moved. Refs that have moved elsewhere since stay there.
func (e *Environment) moveRefsLate(ctx context.Context, refs []git.RefUpdate) error {
	if len(refs) == 0 {
		return nil
	}
	e.Repo.RemoveStaleLocks(refs)
	return e.moveRefs(ctx, "recover: promoted on "+e.Name, refs)
}

// closeRecovered records what became of the interrupted promotion, and the
// recovery, once each.
func (p *promoting) closeRecovered(result, reason string) error {
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
	return &Unknown{Reason: text + " could not be settled", Err: err,
		Hint: "\"bluegreen status\" shows who is live; \"bluegreen recover\" on this server asks again and goes on from there"}
}
