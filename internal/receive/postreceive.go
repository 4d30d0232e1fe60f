package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/lock"
	"bluegreen/internal/policy"
)

// PostReceive deploys after the ref has moved. It leaves alone what
// proc-receive has done, and tells what of the push was only stored.
func PostReceive(ctx context.Context, p *Process, c *console.Console) int {
	r := &after{push: push{process: p, console: c}}
	if err := r.run(ctx); err != nil {
		r.report.add(failed(err))
	}
	// Who has said nothing, or worse, has not hidden it.
	if len(r.report.outcomes) > 0 && r.report.worst() < failure && r.earlier != "" {
		r.report.add(outcome{level: failure, text: r.earlier})
	}
	r.report.print(c)
	if r.report.worst() == failure {
		return 1
	}
	return 0
}

// after is the work of post-receive.
type after struct {
	push
	earlier string // what proc-receive said last, where it was a failure
}

func (r *after) run(ctx context.Context) error {
	var err error
	if r.updates, err = readUpdates(r.process.Stdin); err != nil {
		return err
	}
	options, err := r.process.pushOptions()
	if err != nil {
		return err
	}
	if err := r.open(options); err != nil {
		return err
	}
	if n := r.takeNote(); n != nil {
		r.earlier = n.Failed
	}
	decisions, err := r.decide(ctx)
	if err != nil {
		return err
	}
	r.settleStored(ctx, decisions)
	broken := r.refusedBefore(decisions)
	for _, d := range decisions {
		if _, action := r.env.Rules().Tag(d.Ref); action != policy.Store {
			continue
		}
		if err := r.handle(ctx, d); err != nil {
			r.report.add(failed(err))
			broken = cmp.Or(broken, err)
		}
	}
	for _, of := range []policy.Action{policy.Migrate, policy.Promote} { // in this order
		for _, d := range decisions {
			_, action := r.env.Rules().Tag(d.Ref)
			if action == policy.Refuse {
				action = policy.Promote
			}
			if action != of || d.Action == policy.Store {
				continue
			}
			if err := r.handleTag(ctx, d, broken); err != nil {
				r.report.add(failed(err))
				broken = cmp.Or(broken, unmigrated(d, err))
			}
		}
	}
	r.report.warn(r.storedOnly(decisions))
	return nil
}

// handleTag promotes, or migrates, for a tag that git has moved already.
func (r *after) handleTag(ctx context.Context, d policy.Decision, broken error) error {
	if taken, err := procReceiveTakes(ctx, r.env.Repo, []policy.Update{d.Update}); err != nil || taken {
		return err
	}
	tag, action := r.env.Rules().Tag(d.Ref)
	again := "git has stored the tag: run \"bluegreen promote\" on the server, or push a new tag"
	if action == policy.Migrate {
		again = "git has stored the tag: remove it (git push --delete), then push it again"
	}
	err := error(nil)
	switch {
	case d.Action == policy.Refuse:
		err = refusal(d)
	case broken != nil:
		err = afterFailure(tag, d.Action, broken)
	case r.options.Plan:
		err = &deploy.Failure{Refused: true, Reason: fmt.Sprintf("plan only, but %q has moved: without pre-receive or proc-receive nothing can stop it", tag)}
	case d.Action == policy.Migrate:
		return withHint(r.migrate(ctx, d, nil), again)
	default:
		return withHint(r.promote(ctx, d, nil), again)
	}
	r.refuse(d, reason(err))
	return withHint(err, again)
}

// errNotMigrated stands for a migration that has failed.
var errNotMigrated = errors.New("not migrated")

// refusedBefore is why what comes later in a push is not done: a part of it that
// comes before has been refused already. nil is for none.
func (p *push) refusedBefore(decisions []policy.Decision) error {
	for _, d := range decisions {
		_, action := p.env.Rules().Tag(d.Ref)
		switch {
		case d.Action != policy.Refuse:
		case d.Ref == p.env.Rules().BranchRef():
			return refusal(d)
		case action == policy.Migrate:
			return errNotMigrated
		}
	}
	return nil
}

// unmigrated is errNotMigrated for the failure of a migration, nil for others,
// which nothing comes after.
func unmigrated(d policy.Decision, err error) error {
	if err != nil && d.Action == policy.Migrate {
		return errNotMigrated
	}
	return nil
}

// afterFailure refuses what a tag asks for, where an earlier part of the push has
// failed.
func afterFailure(tag string, action policy.Action, broken error) *deploy.Failure {
	verb, part := "promote", "deployment"
	if action == policy.Migrate {
		verb = "migrate"
	}
	if errors.Is(broken, errNotMigrated) {
		part = "migration"
	}
	return &deploy.Failure{Refused: true, Reason: fmt.Sprintf("%q does not %s: the %s of the same push failed", tag, verb, part)}
}

// asFailure makes a failure of an error that hints can be added to, nil of one
// whose outcome is unknown. Pushing again later, as one who waited for the lock is
// told, does nothing once git has moved the ref.
func asFailure(err error) *deploy.Failure {
	if fail, ok := err.(*deploy.Failure); ok || err == nil {
		return fail
	}
	if busy := (*lock.Busy)(nil); errors.As(err, &busy) {
		return &deploy.Failure{Refused: true, Reason: busy.Error()}
	}
	return nil
}

// withHint says how to try again, since git has nothing left to push.
func withHint(err error, how string) error {
	fail := asFailure(err)
	if fail == nil {
		return err
	}
	again := *fail
	again.Hint = strings.TrimPrefix(fail.Hint+"; "+how, "; ")
	return &again
}

// storedOnly tells what of the push is only stored, where somebody may expect
// more.
func (p *push) storedOnly(decisions []policy.Decision) []string {
	var stored, texts []string
	for _, d := range decisions {
		if d.Warning != "" {
			texts = append(texts, d.Warning)
		}
		if branch, isBranch := strings.CutPrefix(d.Ref, "refs/heads/"); isBranch && d.Action == policy.Store && !d.New.IsZero() {
			stored = append(stored, fmt.Sprintf("%q", branch))
		}
	}
	if len(stored) > 0 {
		texts = append(texts, fmt.Sprintf("%s stored, nothing is deployed: the branch that is deployed here is %q",
			enumerate(stored), p.env.Config.Deploy.Branch))
	}
	return texts
}

// enumerate joins a few names and counts the rest, with a verb.
func enumerate(names []string) string {
	const shown = 3
	switch n := len(names); {
	case n == 1:
		return names[0] + " is"
	case n > shown:
		return fmt.Sprintf("%s and %d more are", strings.Join(names[:shown], ", "), n-shown)
	}
	return strings.Join(names, ", ") + " are"
}

func (r *after) handle(ctx context.Context, d policy.Decision) error {
	switch {
	case policy.Replaces(d.Ref) && d.New.IsZero():
		return nil // git has removed it, and is none the worse for it
	case policy.Replaces(d.Ref):
		return &deploy.Failure{Refused: true, Reason: d.Reason + ", and git has stored it", Hint: "remove it on the server: git update-ref -d " + d.Ref}
	case d.Action == policy.Refuse && d.New.IsZero():
		return &deploy.Failure{Refused: true, Hint: d.Hint,
			Reason: fmt.Sprintf("%q has been deleted; %s keeps what it holds", r.env.Config.Deploy.Branch, r.env.Worktree.Dir)}
	case d.Action == policy.Refuse:
		// A symbolic ref: git has moved the branch that it stands for.
		d.Ref = r.env.Rules().BranchRef()
	case d.Action != policy.Deploy:
		return nil
	}
	held, err := r.env.Journal.Deployed()
	if err == nil && held != nil && held.Ref == d.Ref && held.From == d.Old && held.Commit == d.New {
		return nil // proc-receive's work
	}
	// So it was when something else has been deployed since.
	if taken, err := procReceiveTakes(ctx, r.env.Repo, []policy.Update{d.Update}); err != nil || taken {
		return err
	}
	if r.options.Plan {
		return &deploy.Failure{Refused: true, Reason: "plan only, but the ref has moved: without pre-receive or proc-receive nothing can stop it",
			Hint: "\"bluegreen deploy\" on the server deploys it"}
	}
	return r.deploy(ctx, d)
}

func (r *after) deploy(ctx context.Context, d policy.Decision) error {
	if err := r.env.Ready(); err != nil {
		r.refuse(d, oneLine(err))
		return err
	}
	pusher := r.pusher()
	ctx, stop := untilTerminated(ctx)
	defer stop()
	session, err := r.env.Begin(ctx, pusher, r.wait())
	if err != nil {
		r.refuse(d, reason(err))
		return r.notDeployed(err, d)
	}
	defer session.End()
	// While this push waited, another one may have moved the branch on, and
	// deployed it.
	at, err := r.env.Repo.Ref(ctx, d.Ref)
	if err != nil {
		return err
	}
	if at != d.New {
		r.report.add(outcome{level: warning, text: fmt.Sprintf("%s was not deployed: %q has moved on to %s",
			d.New.Short(), r.env.Config.Deploy.Branch, at.Short())})
		return nil
	}
	r.console.Hint("without proc-receive, git's exit status does not tell whether a deployment worked; this text does")
	done, err := session.Deploy(ctx, deploy.Request{Ref: d.Ref, Commit: d.New, Old: d.Old, RefMoved: true,
		Pusher: pusher, Options: r.options.Raw, Promote: r.wanted(d)})
	if err != nil {
		return r.notDeployed(err, d)
	}
	r.reportDeployed(done)
	return nil
}

// reportDeployed tells of a deployment that succeeded, and of what it did
// beside.
func (p *push) reportDeployed(done *deploy.Outcome) {
	p.report.add(deployed(p.env.Environment, done))
	for _, o := range remarks(done) {
		p.report.add(o)
	}
	if done.Promoted != nil {
		p.report.add(promoted(done.Promoted))
	}
}

// notDeployed says how to try again, since git has nothing left to push.
func (r *after) notDeployed(err error, d policy.Decision) error {
	fail := asFailure(err)
	if fail == nil {
		return err
	}
	again := *fail
	again.Reason = fmt.Sprintf("%s is not deployed, the web root is as it was: %s", d.New.Short(), fail.Reason)
	command := fmt.Sprintf("run %q on the server", "bluegreen deploy "+r.env.Rules().Branch)
	switch {
	case errors.As(err, new(*lock.Busy)):
		again.Hint = "when that is over, " + command
	case again.Hint == "":
		again.Hint = "push a commit that mends it, or " + command + " to try this one again"
	}
	return &again
}

// pusher is who signed the push, as pre-receive saw, or who sent it.
func (p *push) pusher() string {
	if p.note != nil && p.note.Pusher != "" {
		return p.note.Pusher
	}
	return Pusher(p.process.getenv)
}

// refusal makes an error of a decision.
func refusal(d policy.Decision) error {
	return &deploy.Failure{Reason: d.Reason, Hint: d.Hint, Refused: true}
}

// oneLine is an error as a history line has it.
func oneLine(err error) string { return reason(err) }
