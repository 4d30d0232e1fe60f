package receive

import (
	"context"
	"errors"
	"slices"

	"bluegreen/internal/lock"
	"bluegreen/internal/policy"
)

// settle finishes or undoes what a crash interrupted, unless a deployment is
// running, which has done so. Where nothing is unfinished it reads three small
// files, and no more.
func (p *push) settle(ctx context.Context) error {
	if !p.unfinished() || lock.Held(p.env.Journal.Dir) != nil {
		return nil
	}
	ctx, stop := untilTerminated(ctx)
	defer stop()
	// Not in quarantine, where git moves no ref: what was interrupted is about
	// objects that are stored.
	env, err := p.process.outside().open(p.console)
	if err != nil {
		return err
	}
	session, err := env.Begin(ctx, p.pusher(), 0)
	if errors.As(err, new(*lock.Busy)) {
		return nil
	}
	if err == nil {
		session.End()
	}
	return err
}

// unfinished tells whether a crash has left something to settle, or what cannot be
// read.
func (p *push) unfinished() bool {
	t, broken := p.env.Journal.Unfinished()
	moving, alsoBroken := p.env.Journal.Promotion()
	migrating, thirdBroken := p.env.Journal.Migration()
	return t != nil || moving != nil || migrating != nil || errors.Join(broken, alsoBroken, thirdBroken) != nil
}

// settleStored is settle for a push that begins nothing else under the lock, in a
// hook that no pre-receive has done so before.
func (p *push) settleStored(ctx context.Context, decisions []policy.Decision) {
	if gate, err := findHook(ctx, p.env.Repo, "pre-receive"); err != nil || gate != "" || !storesOnly(decisions) {
		return
	}
	if err := p.settle(ctx); err != nil {
		p.warnUnfinished(err)
	}
}

// storesOnly tells that nothing in a push depends on what a crash left unfinished.
func storesOnly(decisions []policy.Decision) bool {
	return !slices.ContainsFunc(decisions, func(d policy.Decision) bool { return d.Action != policy.Store && d.Action != policy.Refuse })
}

// warnUnfinished says what cannot be settled, and what to type.
func (p *push) warnUnfinished(err error) {
	text, _, hint, _ := Explain(err)
	p.report.add(outcome{level: warning, hint: hint, text: text + "; what is only stored is stored all the same"})
}
