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
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
	"bluegreen/internal/promotion"
)

// Promotion is how the traffic moves between the environments.
type Promotion struct {
	Mover  *promotion.Mover
	IP     string         // "" where the provider knows of none
	Lock   string         // names what moves, for one promotion at a time on this machine
	Checks []health.Check // asked of the outside, after the traffic has moved
	// Bake is how long the checks go on being asked afterwards.
	Bake time.Duration
	// Holds asks this machine's own metadata whether it has the traffic; nil
	// where there is none to ask.
	Holds func(ctx context.Context) (bool, error)
	// Anchor is the address at which the traffic reaches this machine, for
	// machines that cannot reach their own reserved IP; nil where there is none.
	Anchor func(ctx context.Context) (string, error)
	// Address is where another environment can be asked directly, "" where
	// that is not known; nil where it never is.
	Address func(ctx context.Context, environment string) (string, error)
}

// A PromotionRequest asks for one promotion.
type PromotionRequest struct {
	Event string // journal.Promote or journal.Rollback
	Ref   string // "refs/tags/release-2"; "" without a tag
	Tag   string // short
	// Commit must be the one that is deployed here; zero for whatever is.
	Commit git.OID
	// Refs are moved, together, once the outside has seen the release.
	Refs []git.RefUpdate
	// To is the environment that the traffic goes to; "" is this one.
	To string
	// OnlyFrom is the environment that must have it; "" is any.
	OnlyFrom string
	// Unasked lets the traffic go to another environment that does not answer.
	Unasked bool
	// Wait is how long another promotion on this machine is waited for.
	Wait    time.Duration
	Pusher  string
	Options []string
}

// Promoted is a promotion that succeeded: the traffic was read back, and the
// outside was asked.
type Promoted struct {
	Commit   git.OID // that is deployed here
	Tag      string
	What     string // what moved: "203.0.113.10"
	From, To string
	Action   int
	Already  bool // the traffic was there before
	Checks   int  // of the outside, that passed
	Seen     string
	Warnings []string
	Took     time.Duration
}

// promoting is one promotion on its way.
type promoting struct {
	*Environment
	progress
	request PromotionRequest
	// alone is false for a promotion that is a part of a deployment, which
	// checks the release, moves the refs and knows what is deployed.
	alone    bool
	deployed *journal.Deployed
	former   string // the tag that the marker had before
	named    *lock.Named
	record   journal.Promotion
	intended bool // it is in the journal
	move     *promotion.Move
	landed   bool // the traffic is where it was asked for, and we brought it
	done     bool // it had succeeded before a crash
	began    bool // the promoting commands have run, or some of them
	blind    bool // the outside cannot be seen from here
	outside  *outside
	warnings []string
}

// promoting prepares a promotion. The caller must call its end.
func (s *Session) promoting(req PromotionRequest) *promoting {
	if req.To == "" {
		req.To = s.env.Name
	}
	p := &promoting{Environment: s.env, request: req}
	p.progress = s.begin(journal.Event{Event: req.Event, Ref: req.Ref, Commit: req.Commit, Pusher: req.Pusher,
		Options: req.Options, Traffic: &journal.Traffic{To: req.To, Tag: req.Tag}})
	if s.env.Promotion != nil {
		p.event.IP = s.env.Promotion.IP
	}
	return p
}

// end frees what a promotion holds.
func (p *promoting) end() {
	p.outside.stop()
	if p.named != nil {
		p.named.Release()
	}
}

// Promote carries out one promotion that is not a part of a deployment. When it
// returns an error the traffic and the refs are where they were, unless the
// error says otherwise.
func (s *Session) Promote(ctx context.Context, req PromotionRequest) (*Promoted, error) {
	p := s.promoting(req)
	defer p.end()
	p.alone = true
	err := p.admit(ctx)
	if err == nil {
		if err = p.carryOut(ctx); err != nil {
			err = p.giveBack(ctx, err)
		}
	}
	if err == nil {
		err = p.finish(ctx)
	}
	if err != nil {
		return nil, p.fail(err)
	}
	return p.outcome(), nil
}

// admit refuses what must not be promoted, before anything is touched.
func (p *promoting) admit(ctx context.Context) error {
	if p.Promotion == nil {
		return &Failure{Refused: true, Reason: "promotion is not set up here", Hint: "add [promotion] to bluegreen.toml"}
	}
	p.enter("asking who is live")
	err := p.acquire(ctx)
	if err != nil {
		return err
	}
	if p.alone {
		if err := p.admitCommit(ctx); err != nil {
			return err
		}
	}
	if p.move, err = p.Promotion.Mover.Check(ctx, p.destination()); err != nil {
		return fromMover(err)
	}
	p.event.From = p.move.From
	if p.request.To != p.Name && !p.move.Already && !p.request.Unasked {
		p.enter("checking")
		if err := p.otherFits(ctx, p.request.To); err != nil {
			return err
		}
		return p.askOther(ctx, p.request.To, brief)
	}
	if !p.move.Already {
		p.showWayBack(ctx)
	}
	return nil
}

// acquire keeps other promotions of the same traffic on this machine waiting.
func (p *promoting) acquire(ctx context.Context) (err error) {
	p.named, err = lock.AcquireName(ctx, p.Promotion.Lock, p.request.Wait, func(b *lock.Busy) {
		p.Observe(Notice{Kind: Doing, Text: "waiting: " + b.Describe()})
	})
	return err
}

func (p *promoting) destination() promotion.Request {
	return promotion.Request{To: p.request.To, OnlyFrom: p.request.OnlyFrom}
}

// admitCommit holds the promotion against what is deployed here, and asks
// whether that is healthy now.
func (p *promoting) admitCommit(ctx context.Context) error {
	if err := p.refsAreAt(ctx, p.request.Refs, func(u git.RefUpdate) git.OID { return u.Old }); err != nil {
		return err
	}
	held, err := p.Held(ctx, git.OID{})
	if err != nil {
		return &Unknown{Reason: "the records of this server are damaged", Err: err}
	}
	if held != nil {
		p.deployed, p.former = held, held.Tag
		p.event.Previous = held.Commit
	}
	if p.request.To != p.Name {
		return nil
	}
	if reason, hint := p.differs(held); reason != "" {
		return &Failure{Refused: true, Reason: reason, Hint: hint}
	}
	p.event.Commit = held.Commit
	p.enter("checking")
	if _, err := p.Fits(ctx, held.Commit); err != nil {
		return err
	}
	if len(p.Checks) == 0 {
		p.Observe(Notice{Kind: Hint, Text: "add [[health]] checks to bluegreen.toml, so that only a healthy release is promoted"})
		return nil
	}
	err = verdict(p.Ask(ctx, held.Commit, p.variables()))
	var failure *Failure
	if errors.As(err, &failure) {
		failure.Refused, failure.Hint = true, "push a commit that mends it, then the tag again"
		failure.Reason = "not promoted: " + failure.Reason
	}
	return err
}

// differs tells why what is deployed is not what is to be promoted.
func (p *promoting) differs(held *journal.Deployed) (reason, hint string) {
	what := "the release"
	if p.request.Tag != "" {
		what = fmt.Sprintf("%q", p.request.Tag)
	}
	switch {
	case held == nil:
		return fmt.Sprintf("nothing is deployed on %s that %s could promote", p.Name, what), p.pushFirst()
	case held.Commit.IsZero():
		return fmt.Sprintf("%s holds something else than any deployment of ours", p.Worktree.Dir), p.pushFirst()
	case !p.request.Commit.IsZero() && held.Commit != p.request.Commit:
		return fmt.Sprintf("%s is %s, but %s has %s deployed", what, p.request.Commit.Short(), p.Name, held.Commit.Short()), p.pushFirst()
	}
	return "", ""
}

func (p *promoting) pushFirst() string {
	if p.request.Commit.IsZero() {
		return "push the branch that is deployed here first"
	}
	return fmt.Sprintf("push %s to the branch that is deployed here first, then the tag", p.request.Commit.Short())
}

// carryOut moves the traffic and proves that it has moved. After an error the
// caller gives back what was done of that.
func (p *promoting) carryOut(ctx context.Context) error {
	p.enter("promoting")
	p.record = journal.Promotion{ID: p.event.ID, Course: journal.Preparing, Started: p.started.UTC(), What: p.Promotion.Lock,
		Event: p.event, Refs: p.request.Refs, Deployment: p.record.Deployment}
	if err := p.Journal.RecordPromotion(&p.record); err != nil {
		return &Failure{Reason: oneLine(err)}
	}
	p.intended = true
	fault.Step("promotion: prepared")
	if err := p.tag(p.request.Tag); err != nil {
		return &Failure{Reason: oneLine(err)}
	}
	fault.Step("promotion: marked")
	if !p.move.Already {
		p.began = true
		if err := p.RunCommands(ctx, "promoting", p.variables()); err != nil {
			return err
		}
		fault.Step("promotion: commands run")
	}
	p.outside = p.watch(ctx)
	p.enter("moving")
	if !p.move.Already {
		p.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("moving %s from %s to %s", p.Promotion.Mover.What, orNobody(p.move.From), p.request.To)})
	}
	if err := p.bring(ctx); err != nil {
		return err
	}
	p.enter("proving")
	if err := p.prove(ctx); err != nil {
		return err
	}
	if err := p.stillFits(ctx); err != nil {
		return err
	}
	p.outside.await(ctx)
	p.outside.stop()
	if p.landed {
		if err := p.RunCommands(ctx, "promoted", p.variables()); err != nil {
			p.warnings = append(p.warnings, oneLine(err))
		}
	}
	p.record.Course = journal.Moved
	p.note()
	fault.Step("promotion: proven")
	return nil
}

// bring asks for the traffic and follows it.
func (p *promoting) bring(ctx context.Context) error {
	move, err := p.Promotion.Mover.Move(ctx, p.destination(), p)
	if move != nil {
		p.move = move
		p.event.From = move.From
	}
	if err != nil {
		return fromMover(err)
	}
	p.landed = !move.Already
	fault.Step("promotion: moved")
	return nil
}

// Intend makes the promotion known to a recovery, before the traffic is asked
// for.
func (p *promoting) Intend(from string) error {
	p.event.From = from
	p.record.Course, p.record.Event, p.record.Asked = journal.Moving, p.event, time.Now().UTC()
	return p.Journal.RecordPromotion(&p.record)
}

// Running notes the process that moves the traffic. It may outlive us, so a
// recovery waits for it.
func (p *promoting) Running(pid int) error {
	fault.Step("promotion: process there")
	p.record.Process, p.record.Start = pid, command.Stat(pid, 22)
	p.record.Event = p.event
	return p.Journal.RecordPromotion(&p.record)
}

// Asked notes the action that a recovery can name.
func (p *promoting) Asked(action int) error {
	p.event.Action = action
	p.record.Event.Traffic = p.event.Traffic
	return p.Journal.RecordPromotion(&p.record)
}

// note writes the record again. Without it a recovery has to ask more.
func (p *promoting) note() {
	if !p.intended {
		return
	}
	p.record.Event = p.event
	if err := p.Journal.RecordPromotion(&p.record); err != nil {
		p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
}

// tag makes the marker say which tag is being promoted, or said so before.
func (p *promoting) tag(tag string) error {
	if tag == "" {
		tag = p.former // a promotion without a tag is one of the same release
	}
	if p.request.To != p.Name || p.deployed == nil || p.deployed.Tag == tag {
		return nil
	}
	p.deployed.Tag = tag
	return p.mark(p.Worktree, p.deployed)
}

// finish moves the refs and records the promotion, for one that stands alone.
func (p *promoting) finish(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	p.enter("recording")
	prepared := p.request.To == p.Name
	if prepared {
		if err := p.Journal.PrepareDeployed(p.deployed); err != nil {
			return p.giveBack(ctx, &Failure{Reason: oneLine(err)})
		}
	}
	if len(p.request.Refs) > 0 {
		err := durable.SyncFilesystem(p.Repo.Dir)
		if err == nil {
			err = p.moveRefs(ctx, "push: promoted on "+p.Name, p.request.Refs)
		}
		if err != nil {
			return p.giveBack(ctx, &Failure{Reason: "the ref could not move: " + oneLine(err)})
		}
		fault.Step("promotion: ref moved")
		if err := durable.SyncFilesystem(p.Repo.Dir); err != nil {
			p.warnings = append(p.warnings, oneLine(err))
		}
	}
	if prepared {
		if err := p.Journal.SwitchDeployed(); err != nil {
			p.warnings = append(p.warnings, oneLine(err))
		}
	}
	if err := p.close(journal.Succeeded, ""); err != nil {
		p.warnings = append(p.warnings, "not all records could be written: "+oneLine(err))
	}
	return nil
}

// close writes the promotion into the history and ends its record.
func (p *promoting) close(result, reason string) error {
	p.took()
	p.event.Result, p.event.Reason = result, reason
	if err := p.Journal.Append(p.event); err != nil {
		return err
	}
	fault.Step("promotion: history written")
	if !p.intended {
		return nil
	}
	p.intended = false
	if err := p.Journal.EndPromotion(); err != nil {
		return err
	}
	fault.Step("promotion: ended")
	return nil
}

// fail records a promotion that did not take place. One whose outcome is
// unknown is recorded by the recovery that decides it.
func (p *promoting) fail(cause error) error {
	if isUnknown(cause) && p.intended {
		return cause
	}
	if err := p.close(resultOf(cause), cause.Error()); err != nil {
		p.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	return cause
}

func (p *promoting) outcome() *Promoted {
	done := &Promoted{Commit: p.event.Commit, Tag: p.request.Tag, What: p.Promotion.Mover.What,
		From: p.move.From, To: p.request.To, Action: p.move.Action, Already: p.move.Already,
		Checks: len(p.Promotion.Checks), Seen: p.seen(), Warnings: p.warnings, Took: p.took()}
	return done
}

// variables is the environment of the commands of this promotion.
func (p *promoting) variables() []string {
	var commit, previous git.OID
	if p.deployed != nil && p.request.To == p.Name {
		commit, previous = p.deployed.Commit, p.deployed.Previous
	}
	return p.variablesOf(p.request.To, p.request.Ref, p.request.Tag, commit, previous)
}

// fromMover makes an error of this package of one of promotion's.
func fromMover(err error) error {
	var e *promotion.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Outcome {
	case promotion.Unknown:
		u := &Unknown{Reason: e.Reason, Err: e.Err, Hint: e.Hint}
		if u.Hint == "" {
			u.Hint = "\"bluegreen recover\" on this server asks again and goes on from there"
		}
		return u
	case promotion.Refused:
		return &Failure{Refused: true, Reason: oneLine(e), Hint: e.Hint}
	}
	return &Failure{Reason: oneLine(e), Hint: e.Hint}
}
