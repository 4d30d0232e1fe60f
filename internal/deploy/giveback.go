package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bluegreen/internal/fault"
	"bluegreen/internal/journal"
	"bluegreen/internal/promotion"
)

// promote carries out the promotion that is a part of a deployment, whose goBack
// gives it back.
func (r *run) promote(ctx context.Context) error {
	p := r.promotion
	p.deployed, p.former = &r.deployed, r.deployed.Tag
	p.event.Commit, p.event.Previous = r.deployed.Commit, r.event.Previous
	p.record.Deployment = r.event.ID
	r.enter("promoting")
	return p.carryOut(ctx)
}

// giveBack undoes what a promotion has done, because of cause: the traffic goes
// back to where it was. It returns cause with what became of that: an *Unknown
// where nobody can tell, or where the traffic must stay and the release with
// it.
func (p *promoting) giveBack(ctx context.Context, cause error) error {
	if isUnknown(cause) {
		return cause
	}
	ctx = context.WithoutCancel(ctx)
	p.outside.stop()
	var failure *Failure
	if !errors.As(cause, &failure) {
		failure = &Failure{Reason: oneLine(cause)}
	}
	failed := *failure
	if p.landed {
		if err := p.returnTraffic(ctx, &failed); err != nil {
			return err
		}
	}
	if p.move != nil && p.move.Already {
		p.addOwner(ctx, &failed)
	}
	if failed.Hint == "" && p.alone && !failed.Refused {
		failed.Hint = "what is deployed here has not changed: try again when that is mended"
	}
	if seen := p.seen(); seen != "" {
		failed.Lines = append(failed.Lines, seen)
	}
	p.outside = nil // it has been told
	if err := p.tag(p.former); err != nil {
		p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	if p.alone && p.began {
		p.began = false
		if err := p.RunCommands(ctx, "rolled-back", p.variables()); err != nil {
			p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
		}
	}
	return &failed
}

// addOwner says who has the traffic, where that is not who had it when the
// promotion began.
func (p *promoting) addOwner(ctx context.Context, failed *Failure) {
	s, err := p.Promotion.Mover.Look(ctx, "")
	if err == nil && s.Owner != p.request.To {
		failed.Reason += fmt.Sprintf("; %s has %s", whoever(s), p.Promotion.Mover.What)
		p.blind = true // what was seen was not only ours
	}
}

// returnTraffic moves the traffic back, if it is still here and has a place to
// go to.
func (p *promoting) returnTraffic(ctx context.Context, failed *Failure) error {
	p.enter("returning")
	what := p.Promotion.Mover.What
	why := errors.New("nobody had it before")
	if p.move.From != "" {
		why = p.inOrder(ctx)
	}
	if why == nil {
		p.record.Course, p.record.Asked = journal.Returning, time.Now().UTC()
		p.note()
		fault.Step("promotion: returning")
		p.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("%s; moving %s back to %s", failed.Reason, what, p.move.From)})
		why = p.moveBack(ctx)
	}
	if why == nil {
		p.landed = false
		failed.Reason += fmt.Sprintf("; %s is back with %s", what, p.move.From)
		fault.Step("promotion: returned")
		return nil
	}
	if promotion.OutcomeOf(why) == promotion.Unknown {
		unknown := fromMover(why).(*Unknown)
		unknown.Reason = fmt.Sprintf("%s; and moving %s back: %s", failed.Reason, what, unknown.Reason)
		return unknown
	}
	// It may not be ours to give back any more.
	s, err := p.Promotion.Mover.Look(ctx, "")
	switch {
	case err == nil && s.Owner != p.request.To:
		p.landed = false
		failed.Reason += fmt.Sprintf("; %s has %s", orNobody(s.Owner), what)
		return nil
	case p.alone && err == nil:
		p.landed = false
		failed.Reason += fmt.Sprintf("; and %s stays with %s: %s", what, p.request.To, oneLine(why))
		failed.Hint = "production is served from here: mend it, or run \"bluegreen promote\" on the server that should have it"
		return nil
	}
	p.record.Course = journal.Moving // there is no way back: ask the outside again
	p.note()
	return &Unknown{Reason: fmt.Sprintf("%s; and %s stays with %s", failed.Reason, what, p.request.To), Err: why,
		Hint: "production is served from here: \"bluegreen recover\" asks the outside again, and keeps or returns the release"}
}

// wayBack is how often the traffic is asked to go back: production is served by
// a release that it should not be served by.
const (
	wayBack      = 3
	wayBackPause = 3 * time.Second // and twice as long before the last time
)

// moveBack asks for the traffic to go back, and again when it is known to have
// stayed: shortly after a move the API may refuse the next one.
func (p *promoting) moveBack(ctx context.Context) (err error) {
	for n := range wayBack {
		if n > 0 {
			select {
			case <-time.After(time.Duration(n) * wayBackPause):
			case <-ctx.Done():
				return err
			}
		}
		_, err = p.Promotion.Mover.Move(ctx, promotion.Request{To: p.move.From, OnlyFrom: p.request.To}, silent{p})
		if err == nil || promotion.OutcomeOf(err) != promotion.Failed {
			return err
		}
		p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	return err
}

// inOrder tells why the environment that had the traffic should not have it
// again. That the outside saw it until the move is the best proof; without one
// it is asked directly, where only a wrong answer counts.
func (p *promoting) inOrder(ctx context.Context) error {
	if p.outside != nil && !p.outside.timeline.Summary().LastOld.IsZero() {
		return nil
	}
	return p.askOther(ctx, p.move.From, glimpse)
}

// silent is the log of a way back: the record says already that it is taken.
type silent struct{ p *promoting }

func (s silent) Intend(string) error { return nil }

// Running lets the process go that takes the traffic away from what is not in
// order, also where the disk is full.
func (s silent) Running(pid int) error {
	if err := s.p.Running(pid); err != nil {
		s.p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	return nil
}

func (s silent) Asked(action int) error {
	s.p.Observe(Notice{Kind: Progress, Text: fmt.Sprintf("action %d", action)})
	return nil
}
