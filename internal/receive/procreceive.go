package receive

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/git"
	"bluegreen/internal/policy"
)

// ProcReceive deploys before the ref moves, and moves the ref itself when the
// release is healthy. It speaks the protocol of git's proc-receive hook.
func ProcReceive(ctx context.Context, p *Process, c *console.Console) int {
	r := &processor{push: push{process: p, console: c}, answers: map[string]answer{}}
	if err := r.read(); err != nil {
		c.Error("%v", err)
		return 1
	}
	if err := r.run(ctx); err != nil {
		r.refuseAll(err)
	}
	r.finish(ctx)
	r.report.print(c)
	return 0
}

// processor is the work of proc-receive.
type processor struct {
	push
	atomic    bool
	raw       []string // push options
	decisions []policy.Decision
	answers   map[string]answer // by ref
}

// An answer is what git is told of one ref. Without one a ref is rejected.
type answer struct {
	verdict verdict
	reason  string // of a rejection
}

type verdict int

const (
	rejected verdict = iota
	moved            // by us
	leftToGit
)

// read takes in the version, the commands and the push options.
func (r *processor) read() error {
	in := bufio.NewReader(r.process.Stdin)
	version, err := readPacket(in)
	if errors.Is(err, errFlush) {
		return errors.New("git sends proc-receive no greeting")
	}
	if err != nil {
		return err
	}
	version, capabilities, _ := strings.Cut(version, "\x00")
	if version != "version=1" {
		return fmt.Errorf("git speaks %q with proc-receive, and not version 1", shorten(version))
	}
	withOptions := false
	for word := range strings.FieldsSeq(capabilities) {
		r.atomic = r.atomic || word == "atomic"
		withOptions = withOptions || word == "push-options"
	}
	if _, err := readPacket(in); !errors.Is(err, errFlush) {
		return errors.New("git's greeting to proc-receive does not end")
	}
	if err := r.greet(capabilities); err != nil {
		return err
	}
	lines, err := readSection(in)
	if err != nil {
		return err
	}
	for _, line := range lines {
		u, err := parseUpdate(line)
		if err != nil {
			return err
		}
		r.updates = append(r.updates, u)
	}
	if err := unique(r.updates); err != nil {
		return err
	}
	if withOptions {
		r.raw, err = readSection(in)
	}
	return err
}

// greet answers with those of git's capabilities that are understood here.
func (r *processor) greet(offered string) error {
	var understood []string
	for word := range strings.FieldsSeq(offered) {
		if word == "atomic" || word == "push-options" {
			understood = append(understood, word)
		}
	}
	if err := writePacket(r.process.Stdout, "version=1\x00"+strings.Join(understood, " ")); err != nil {
		return err
	}
	return writeFlush(r.process.Stdout)
}

// readSection reads packets up to a flush.
func readSection(in io.Reader) ([]string, error) {
	var lines []string
	for {
		line, err := readPacket(in)
		if errors.Is(err, errFlush) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		if len(lines) == maxUpdates {
			return nil, fmt.Errorf("more than %d refs or options in one push", maxUpdates)
		}
		lines = append(lines, line)
	}
}

func (r *processor) run(ctx context.Context) error {
	if err := r.open(r.raw); err != nil {
		return err
	}
	r.note = r.readNote()
	var err error
	if r.decisions, err = r.decide(ctx); err != nil {
		return err
	}
	r.settleStored(ctx, r.decisions)
	if r.options.Plan {
		if err := r.printPlan(ctx, r.decisions); err != nil {
			return err
		}
		for _, d := range r.decisions {
			r.answers[d.Ref] = answer{reason: planOnly}
		}
		return nil
	}
	if r.atomic {
		if err := r.foreseeAtomic(ctx); err != nil {
			return err
		}
	}
	r.warnStored(ctx)
	r.carryOut(ctx)
	return nil
}

// carryOut does what was decided: what deploys comes first, then what migrates,
// and what promotes at last. In an atomic push one of them moves all refs.
func (r *processor) carryOut(ctx context.Context) {
	broken := r.refusedBefore(r.decisions)
	for _, d := range r.decisions {
		if d.Action == policy.Deploy {
			err := r.deploy(ctx, d)
			r.settle(d, err)
			broken = cmp.Or(broken, err)
		}
	}
	for _, d := range r.decisions {
		if d.Action == policy.Migrate && !r.answered(d) {
			err := r.actOn(ctx, d, broken)
			r.settle(d, err)
			broken = cmp.Or(broken, unmigrated(d, err))
		}
	}
	for _, d := range r.decisions {
		if d.Action == policy.Promote && !r.answered(d) {
			r.settle(d, r.actOn(ctx, d, broken))
		}
	}
	for _, d := range r.decisions {
		switch {
		case r.answered(d):
		case d.Action == policy.Refuse:
			r.refuse(d, d.Reason)
			r.settle(d, refusal(d))
		case d.Action == policy.Store:
			r.answers[d.Ref] = answer{verdict: leftToGit}
		}
	}
}

func (r *processor) answered(d policy.Decision) bool {
	_, answered := r.answers[d.Ref]
	return answered
}

// settle answers for a decision, and for the refs that share its fate.
func (r *processor) settle(d policy.Decision, err error) {
	for _, u := range r.refsWith(d) {
		r.answer(u.Name, err)
	}
	if err != nil {
		r.report.add(failed(err))
	}
}

// warnStored says what the other hooks would say, where there are none.
func (r *processor) warnStored(ctx context.Context) {
	texts := r.storedOnly(r.decisions)
	if len(texts) == 0 || r.note != nil {
		return
	}
	for _, name := range []string{"pre-receive", "post-receive"} {
		if hook, err := findHook(ctx, r.env.Repo, name); err != nil || hook != "" {
			return
		}
	}
	r.report.warn(texts)
}

// actOn promotes or migrates for a tag, unless an earlier part of the push failed.
func (r *processor) actOn(ctx context.Context, d policy.Decision, broken error) error {
	if broken != nil {
		tag, _ := r.env.Rules().Tag(d.Ref)
		err := afterFailure(tag, d.Action, broken)
		r.refuse(d, err.Reason)
		return err
	}
	if err := r.mayMove(ctx, d); err != nil {
		r.refuse(d, reason(err))
		return err
	}
	if d.Action == policy.Migrate {
		return r.migrate(ctx, d, r.refsWith(d))
	}
	return r.promote(ctx, d, r.refsWith(d))
}

// foreseeAtomic refuses an atomic push when any part of it will be refused:
// once our ref has moved, git cannot take it back.
func (r *processor) foreseeAtomic(ctx context.Context) error {
	for _, d := range r.decisions {
		if d.Action == policy.Refuse {
			return refusal(d)
		}
		if others := len(r.decisions) > 1 || r.note != nil && r.note.Refs > 1; others && d.Action == policy.Migrate {
			return &deploy.Failure{Refused: true, Reason: "atomic push: a migration cannot be taken back, and so is no part of one",
				Hint: "push the branch first, then the tag"}
		}
	}
	refused, err := foresee(ctx, r.env.Repo, r.updates)
	if err != nil {
		return err
	}
	gate, err := findHook(ctx, r.env.Repo, "pre-receive")
	switch {
	case err != nil:
		return err
	case r.note != nil:
		refused = append(refused, r.note.Refused...)
	case gate == "":
		refused = append(refused, "without the pre-receive hook nobody can tell what else is in it: push without --atomic")
	}
	if len(refused) > 0 {
		return &deploy.Failure{Refused: true, Reason: "atomic push: " + refused[0]}
	}
	return nil
}

// answer notes what git is told of a ref that is ours.
func (r *processor) answer(ref string, err error) {
	if err == nil {
		r.answers[ref] = answer{verdict: moved}
		return
	}
	r.answers[ref] = answer{reason: reason(err)}
}

// refuseAll is for what forbids the whole push.
func (r *processor) refuseAll(err error) {
	for _, u := range r.updates {
		if _, answered := r.answers[u.Ref]; !answered {
			r.answer(u.Ref, err)
		}
		if r.env == nil || r.options.Plan {
			continue
		}
		if _, action := r.env.Rules().Tag(u.Ref); u.Ref == r.env.Rules().BranchRef() || action != policy.Store && !u.New.IsZero() {
			r.refuse(policy.Decision{Update: u}, reason(err))
		}
	}
	r.report.add(failed(err))
}

// deploy deploys the branch and moves its ref.
func (r *processor) deploy(ctx context.Context, d policy.Decision) error {
	if err := r.mayMove(ctx, d); err != nil {
		r.refuseWith(d, err)
		return err
	}
	promotion, err := r.together(ctx, d)
	if err != nil {
		r.refuseWith(d, err)
		return err
	}
	pusher := r.pusher()
	ctx, stop := untilTerminated(ctx)
	defer stop()
	session, err := r.env.Begin(ctx, pusher, r.wait())
	if err != nil {
		r.refuseWith(d, err)
		return err
	}
	defer session.End()
	if err := r.guardAgain(ctx, session); err != nil {
		r.refuseWith(d, err)
		return err
	}
	done, err := session.Deploy(ctx, deploy.Request{Ref: d.Ref, Commit: d.New, Old: d.Old, Pusher: pusher,
		Options: r.options.Raw, Refs: r.refsWith(d), Promote: promotion})
	if err != nil {
		return err
	}
	r.reportDeployed(done)
	return nil
}

// refuseWith records that an update was refused, and the tag's promotion that an
// atomic push would have made of it.
func (r *processor) refuseWith(d policy.Decision, err error) {
	r.refuse(d, reason(err))
	for _, other := range r.decisions {
		if r.atomic && other.Action == policy.Promote && other.Ref != d.Ref {
			r.refuse(other, reason(err))
		}
	}
}

// refsWith returns the refs that move with the release: those of an atomic push
// that are handed to proc-receive move together.
func (r *processor) refsWith(d policy.Decision) []git.RefUpdate {
	refs := []git.RefUpdate{{Name: d.Ref, Old: d.Old, New: d.New}}
	for _, u := range r.updates {
		if r.atomic && u.Ref != d.Ref {
			refs = append(refs, git.RefUpdate{Name: u.Ref, Old: u.Old, New: u.New})
		}
	}
	return refs
}

// mayMove applies the rules that git applies to the refs that it moves itself.
func (r *processor) mayMove(ctx context.Context, d policy.Decision) error {
	if err := r.env.Ready(); err != nil {
		return &deploy.Failure{Reason: oneLine(err), Refused: true}
	}
	refused, err := foresee(ctx, r.env.Repo, []policy.Update{d.Update})
	if err != nil {
		return err
	}
	if len(refused) > 0 {
		return &deploy.Failure{Reason: refused[0], Refused: true}
	}
	// The traffic would move there and back for nothing.
	if (d.Action == policy.Promote || r.options.Promote) && r.env.Repo.RefLocked(d.Ref) {
		return &deploy.Failure{Refused: true, Reason: locked(d.Ref)}
	}
	return r.askUpdateHook(ctx, d)
}

// finish tells git the outcome. When git is gone nobody reads it: the work has
// been done all the same.
func (r *processor) finish(ctx context.Context) {
	out := bufio.NewWriter(r.process.Stdout)
	for _, u := range r.updates {
		switch a := r.answers[u.Ref]; a.verdict {
		case moved:
			writePacket(out, "ok "+u.Ref)
		case leftToGit:
			writePacket(out, "ok "+u.Ref)
			writePacket(out, "option fall-through")
		default:
			writePacket(out, "ng "+u.Ref+" "+cmp.Or(a.reason, "not deployed"))
		}
	}
	writeFlush(out)
	out.Flush()
	if r.env != nil {
		r.leaveOutcome(ctx)
	}
}
