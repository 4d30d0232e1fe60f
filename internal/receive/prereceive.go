package receive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/policy"
	"bluegreen/internal/schema"
	"bluegreen/internal/worktree"
)

// PreReceive is the gate: it runs before anything of the push is stored, and
// refuses the whole push when a part of it must not be.
func PreReceive(ctx context.Context, p *Process, c *console.Console) int {
	g := &gate{push: push{process: p, console: c}}
	if err := g.run(ctx); err != nil {
		g.report.add(failed(err))
	}
	g.report.print(c)
	if g.report.worst() == failure || g.declined {
		return 1
	}
	return 0
}

// A push is what all hooks know of the push that they belong to.
type push struct {
	process *Process
	console *console.Console
	env     *environment.Environment
	options policy.Options
	updates []policy.Update
	report  report
	note    *note // of the other hooks, nil where there is none
}

// open reads the configuration and the options.
func (p *push) open(rawOptions []string) error {
	var err error
	if p.env, err = p.process.open(p.console); err != nil {
		return err
	}
	p.options, err = policy.ParseOptions(rawOptions)
	return err
}

// decide decides on each ref of the push.
func (p *push) decide(ctx context.Context) ([]policy.Decision, error) {
	rules := p.env.Rules()
	targets := map[string]string{}
	for _, u := range p.updates {
		if u.Ref == rules.BranchRef() {
			continue
		}
		target, err := p.env.Repo.SymbolicTarget(ctx, u.Ref)
		if err != nil {
			return nil, err
		}
		targets[u.Ref] = target
	}
	decisions := rules.Decide(p.updates, targets)
	if err := p.checkPromote(decisions); err != nil {
		return decisions, err
	}
	return decisions, p.checkNoWayBack()
}

// wait is how long the lock is waited for.
func (p *push) wait() time.Duration {
	if p.options.Wait >= 0 {
		return p.options.Wait
	}
	return p.env.Config.Deploy.LockWait
}

// refuse records, in the history, an update of the deployed branch, or of a tag
// that promotes or migrates, that policy refused.
func (p *push) refuse(d policy.Decision, reason string) {
	event := journal.Event{ID: "refused-" + fmt.Sprint(time.Now().UnixNano()), Time: time.Now().UTC(), Event: journal.Deploy,
		Environment: p.env.Name, Ref: d.Ref, Commit: d.New, Result: journal.Refused, Reason: reason,
		Pusher: p.pusher(), Options: p.options.Raw}
	switch tag, action := p.env.Rules().Tag(d.Ref); action {
	case policy.Promote, policy.Refuse:
		event.Event = journal.Promote
		event.Commit = p.peeled(d.New)
		event.Traffic = &journal.Traffic{IP: p.env.Config.Promotion.IP, To: p.env.Name, Tag: tag}
	case policy.Migrate:
		event.Event = journal.Migrate
		event.Commit = p.peeled(d.New)
		to, _ := schema.TagVersion(tag)
		event.Schema = &journal.Schema{SchemaTo: to}
	}
	if held, err := p.env.Journal.Deployed(); err == nil && held != nil {
		event.Previous = held.Commit
	}
	if err := p.env.Journal.Append(event); err != nil {
		p.console.Warning("%v", err)
	}
}

// peeled is the commit that a tag leads to, or what it is where it leads to
// none.
func (p *push) peeled(oid git.OID) git.OID {
	objects := p.env.Repo.Objects(context.Background())
	defer objects.Close()
	if commit, _, err := objects.Commit(oid); err == nil {
		return commit
	}
	return oid
}

// gate is the work of pre-receive.
type gate struct {
	push
	declined bool // without an error: a plan was asked for
}

func (g *gate) run(ctx context.Context) error {
	var err error
	if g.updates, err = readUpdates(g.process.Stdin); err != nil {
		return err
	}
	options, err := g.process.pushOptions()
	if err != nil {
		return err
	}
	if err := g.open(options); err != nil {
		g.refuseBranch(err)
		return err
	}
	decisions, err := g.decide(ctx)
	if unsettled := g.recover(ctx, decisions); err == nil {
		err = unsettled
	}
	if err != nil {
		if !g.options.Plan {
			g.refuseBranch(err)
		}
		return err
	}
	for _, d := range decisions {
		if err := g.admit(ctx, d, decisions); err != nil {
			if !g.options.Plan {
				g.refuseBranch(err)
			}
			return err
		}
	}
	if g.options.Plan {
		return g.plan(ctx, decisions)
	}
	g.warnStored(ctx, decisions)
	return g.leaveNote(ctx)
}

// warnStored says what only post-receive can say after the fact, where there
// is none.
func (g *gate) warnStored(ctx context.Context, decisions []policy.Decision) {
	texts := g.storedOnly(decisions)
	for _, d := range decisions {
		if d.Action != policy.Promote && d.Action != policy.Migrate {
			continue
		}
		if taken, err := procReceiveTakes(ctx, g.env.Repo, []policy.Update{d.Update}); err == nil && !taken {
			tag, _ := g.env.Rules().Tag(d.Ref)
			what := "no traffic moves"
			if d.Action == policy.Migrate {
				what = "the database stays as it is"
			}
			texts = append(texts, fmt.Sprintf("%q is stored, but %s: neither proc-receive nor post-receive is there to act on it", tag, what))
		}
	}
	if len(texts) == 0 {
		return
	}
	if hook, err := findHook(ctx, g.env.Repo, "post-receive"); err == nil && hook == "" {
		g.report.warn(texts)
	}
}

// refuseBranch records that a push of the deployed branch, under whatever name,
// or of a tag that promotes or migrates, was refused.
func (g *gate) refuseBranch(err error) {
	if g.env == nil {
		return
	}
	for _, u := range g.updates {
		target, _ := g.env.Repo.SymbolicTarget(context.Background(), u.Ref)
		_, action := g.env.Rules().Tag(u.Ref)
		if branch := g.env.Rules().BranchRef(); u.Ref == branch || target == branch || action != policy.Store && !u.New.IsZero() {
			g.refuse(policy.Decision{Update: u}, reason(err))
		}
	}
}

// recover settles what a crash interrupted, whatever the push is. Where that is not
// possible only what git stores goes on, or what proc-receive refuses by itself.
func (g *gate) recover(ctx context.Context, decisions []policy.Decision) error {
	err := g.settle(ctx)
	switch {
	case err == nil:
		return nil
	case storesOnly(decisions):
		g.warnUnfinished(err)
		return nil
	case !errors.As(err, new(*deploy.Unknown)):
		return nil // the hook that deploys says what is wrong
	}
	taken, takenErr := procReceiveTakes(ctx, g.env.Repo, g.updates)
	if takenErr != nil || !taken {
		return err
	}
	return nil
}

// admit refuses an update that policy forbids, or a commit that must not be
// unpacked here.
func (g *gate) admit(ctx context.Context, d policy.Decision, all []policy.Decision) error {
	_, action := g.env.Rules().Tag(d.Ref)
	switch {
	case action != policy.Store && d.Action != policy.Store:
		return g.admitTag(ctx, d, all)
	case d.Action == policy.Refuse:
		return refusal(d)
	case d.Action == policy.Deploy:
		if err := g.env.Ready(); err != nil {
			return err
		}
		if err := g.guardLive(ctx); err != nil {
			return err
		}
		return g.checkTree(ctx, d)
	}
	return nil
}

// checkTree holds the tree of the pushed commit against what may be written.
// The objects are still in quarantine, and are thrown away if it fails.
func (g *gate) checkTree(ctx context.Context, d policy.Decision) error {
	objects := g.env.Repo.Objects(ctx)
	defer objects.Close()
	if g.process.getenv("GIT_SHALLOW_FILE") != "" {
		return fmt.Errorf("refusing %q: it comes from a shallow clone whose history ends where this repository's does not; run \"git fetch --unshallow\" first", d.Ref)
	}
	_, root, err := objects.Commit(d.New)
	if err != nil {
		return fmt.Errorf("refusing %q: %w", d.Ref, err)
	}
	w := g.env.Worktree
	old, accepted := g.acceptedAt(objects, d.Old)
	source, err := w.Source(objects, root)
	if err == nil {
		err = w.Check(objects, old, accepted, source.Tree)
	}
	if err == nil {
		err = g.env.Conflict(objects, source.Tree)
	}
	if err != nil {
		return fmt.Errorf("refusing the tree of %s: %w", d.New.Short(), err)
	}
	return nil
}

// acceptedAt returns the tree that a commit put into the web root, and what was found
// out of it then: nothing where the records are about another one.
func (g *gate) acceptedAt(objects *git.Objects, commit git.OID) (tree git.OID, accepted worktree.Accepted) {
	held, err := g.env.Journal.Deployed()
	if err != nil || held == nil || commit.IsZero() {
		return git.OID{}, accepted
	}
	_, root, err := objects.Commit(commit)
	if err != nil {
		return git.OID{}, accepted
	}
	source, err := g.env.Worktree.Source(objects, root)
	if err != nil || source.Tree != held.Tree {
		return git.OID{}, accepted
	}
	return held.Tree, held.Accepted
}
