package receive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bluegreen/internal/deploy"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/policy"
)

// checkPromote refuses the push option "promote" where it makes no sense.
func (p *push) checkPromote(decisions []policy.Decision) error {
	refused := &deploy.Failure{Refused: true}
	deploys := slices.ContainsFunc(decisions, func(d policy.Decision) bool { return d.Action == policy.Deploy })
	switch {
	case !p.options.Promote:
		return nil
	case p.env.Promotion == nil:
		refused.Reason = "push option \"promote\": promotion is not set up here"
		refused.Hint = "add [promotion] to bluegreen.toml"
	case p.env.Config.Promotion.Signers != "":
		refused.Reason = "push option \"promote\": only signed tags promote here"
		refused.Hint = "push the branch, then a tag that you have signed: git tag -s"
	case !deploys:
		refused.Reason = fmt.Sprintf("push option \"promote\": nothing in this push deploys %q", p.env.Config.Deploy.Branch)
		refused.Hint = "push a tag to promote what is deployed here"
	default:
		return nil
	}
	return refused
}

// readTag reads the tag of a decision and refuses one that must not promote. It
// returns what it asks for.
func (p *push) readTag(ctx context.Context, d policy.Decision) (*deploy.PromotionRequest, error) {
	name, commit, tag, err := p.tagged(ctx, d)
	if err != nil {
		return nil, err
	}
	refuse := func(hint, format string, args ...any) (*deploy.PromotionRequest, error) {
		return nil, &deploy.Failure{Refused: true, Reason: fmt.Sprintf(format, args...), Hint: hint}
	}
	if signers := p.env.Config.Promotion.Signers; signers != "" {
		const hint = "sign it with a key that promotion.signers lists: git tag -s"
		if tag == nil || !tag.Signed {
			return refuse(hint, "%q is not signed, and only signed tags promote here", name)
		}
		if tag.Kind != "commit" { // the signature is not about what another tag points at
			return refuse("sign a tag of the commit itself", "%q is a tag of a %s, and only signed tags of commits promote here", name, tag.Kind)
		}
		signer, err := p.env.Repo.VerifyTag(ctx, d.New, signers)
		if err != nil {
			return refuse(hint, "%q does not promote: %v", name, err)
		}
		p.console.Say("%q is signed by %s", name, signer)
	}
	return &deploy.PromotionRequest{Event: journal.Promote, Ref: d.Ref, Tag: name, Commit: commit,
		Wait: p.wait(), Pusher: p.pusher(), Options: p.options.Raw}, nil
}

// tagged reads a tag and the commit that it leads to. tag is nil for one without
// an object of its own.
func (p *push) tagged(ctx context.Context, d policy.Decision) (name string, commit git.OID, tag *git.Tag, err error) {
	name, _ = p.env.Rules().Tag(d.Ref)
	refuse := func(hint, format string, args ...any) (string, git.OID, *git.Tag, error) {
		return name, git.OID{}, nil, &deploy.Failure{Refused: true, Reason: fmt.Sprintf(format, args...), Hint: hint}
	}
	objects := p.env.Repo.Objects(ctx)
	defer objects.Close()
	if commit, _, err = objects.Commit(d.New); err != nil {
		return refuse("tag a commit", "%q does not lead to a commit: %v", name, err)
	}
	if tag, err = objects.Tag(d.New); err != nil {
		return refuse("make the tag anew", "%q cannot be read: %v", name, err)
	}
	if tag != nil && tag.Name != name {
		return refuse("make a tag of that name: git tag -a "+name, "the tag that was pushed as %q calls itself %q", name, tag.Name)
	}
	return name, commit, tag, nil
}

// admitTag refuses, at the gate, a tag that git itself would move: no
// proc-receive is there to say no to it alone.
func (g *gate) admitTag(ctx context.Context, d policy.Decision, all []policy.Decision) error {
	if taken, err := procReceiveTakes(ctx, g.env.Repo, []policy.Update{d.Update}); err != nil || taken {
		return err
	}
	if d.Action == policy.Refuse {
		return refusal(d)
	}
	if d.Action == policy.Migrate {
		return g.admitMigration(ctx, d, all)
	}
	request, err := g.readTag(ctx, d)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Action == policy.Deploy {
			return g.isBranch(ctx, other, request.Tag, request.Commit)
		}
	}
	return g.env.MayPromote(ctx, *request)
}

// isBranch refuses a tag of another commit than the branch that comes with it.
func (p *push) isBranch(ctx context.Context, branch policy.Decision, tag string, tagged git.OID) error {
	objects := p.env.Repo.Objects(ctx)
	defer objects.Close()
	commit, _, err := objects.Commit(branch.New)
	if err != nil {
		return err
	}
	if commit == tagged {
		return nil
	}
	return &deploy.Failure{Refused: true, Hint: "tag the commit that is pushed, or push the tag's commit to the branch",
		Reason: fmt.Sprintf("%q is %s, but this push deploys %s", tag, tagged.Short(), commit.Short())}
}

// guardLive refuses to deploy where the traffic is, or may be.
func (p *push) guardLive(ctx context.Context) error {
	promotion := p.env.Promotion
	if promotion == nil || !p.env.Config.Deploy.ProtectLive || p.options.Live || p.options.Plan {
		return nil
	}
	const override = "to deploy here all the same: git push -o live"
	live, err := promotion.Live(ctx, p.env.Name)
	switch {
	case err != nil:
		return &deploy.Failure{Refused: true, Hint: override,
			Reason: fmt.Sprintf("nobody can tell whether %s is live: %v", p.env.Name, err)}
	case live.Here:
		return &deploy.Failure{Refused: true, Hint: "push to the other environment and promote that; " + override,
			Reason: fmt.Sprintf("%s is live: it has %s, and this push would change production", p.env.Name, promotion.Mover.What)}
	}
	return nil
}

// lately is how long ago a promotion may have ended that pre-receive may not
// have seen.
const lately = time.Minute

// guardAgain asks once more, under the lock, where the traffic may have come
// here since pre-receive asked.
func (r *processor) guardAgain(ctx context.Context, session *deploy.Session) error {
	if r.env.Promotion == nil {
		return nil
	}
	if gate, err := findHook(ctx, r.env.Repo, "pre-receive"); err != nil || gate == "" {
		return err
	}
	asked := session.Waited()
	for e, err := range r.env.Journal.Backwards() {
		if err != nil {
			return err
		}
		ended := e.Time.Add(time.Duration(e.DurationMS) * time.Millisecond)
		if asked = asked || e.Traffic != nil; asked || time.Since(ended) >= lately {
			break
		}
	}
	if !asked {
		return nil
	}
	return r.guardLive(ctx)
}

// together is the promotion that is a part of a deployment: that of the push
// option, or of the tag of an atomic push.
func (r *processor) together(ctx context.Context, branch policy.Decision) (*deploy.PromotionRequest, error) {
	for _, d := range r.decisions {
		if d.Action != policy.Promote || !r.atomic {
			continue
		}
		request, err := r.readTag(ctx, d)
		if err == nil {
			err = r.isBranch(ctx, branch, request.Tag, request.Commit)
		}
		return request, err
	}
	return r.wanted(branch), nil
}

// wanted is what the push option asks for, nil where it is not given.
func (p *push) wanted(branch policy.Decision) *deploy.PromotionRequest {
	if !p.options.Promote {
		return nil
	}
	return &deploy.PromotionRequest{Event: journal.Promote, Ref: branch.Ref, Commit: branch.New,
		Wait: p.wait(), Pusher: p.pusher(), Options: p.options.Raw}
}

// promote moves the traffic here for a tag, with refs that move when it has.
func (p *push) promote(ctx context.Context, d policy.Decision, refs []git.RefUpdate) error {
	request, err := p.readTag(ctx, d)
	if err != nil {
		p.refuse(d, reason(err))
		return err
	}
	request.Refs = refs
	return p.inSession(ctx, d, func(ctx context.Context, session *deploy.Session) error {
		done, err := session.Promote(ctx, *request)
		if err == nil {
			p.report.add(promoted(done))
		}
		return err
	})
}

// inSession does what a tag asks for under the lock. Without that the tag is
// refused.
func (p *push) inSession(ctx context.Context, d policy.Decision, do func(context.Context, *deploy.Session) error) error {
	ctx, stop := untilTerminated(ctx)
	defer stop()
	session, err := p.env.Begin(ctx, p.pusher(), p.wait())
	if err != nil {
		p.refuse(d, reason(err))
		return err
	}
	defer session.End()
	return do(ctx, session)
}
