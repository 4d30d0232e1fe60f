package receive

import (
	"context"
	"fmt"
	"strings"

	"bluegreen/internal/console"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/policy"
	"bluegreen/internal/worktree"
)

const planOnly = "plan only"

// plan answers the push option "plan" at the gate. Where all refs of the push
// go through proc-receive they are left to it, which can say why each of them
// does not move; else the whole push is declined here.
func (g *gate) plan(ctx context.Context, decisions []policy.Decision) error {
	wired, err := procReceiveTakes(ctx, g.env.Repo, g.updates)
	if err != nil || wired {
		return err
	}
	g.declined = true
	return g.printPlan(ctx, decisions)
}

// procReceiveTakes tells whether git hands all of the updates to proc-receive.
func procReceiveTakes(ctx context.Context, repo *git.Repository, updates []policy.Update) (bool, error) {
	hook, err := findHook(ctx, repo, "proc-receive")
	if err != nil || hook == "" {
		return false, err
	}
	cfg, err := repo.Config(ctx)
	if err != nil {
		return false, err
	}
	for _, u := range updates {
		if !matchesProcReceive(cfg["receive.procreceiverefs"], u) {
			return false, nil
		}
	}
	return true, nil
}

// matchesProcReceive follows git: values are prefixes of whole components,
// with flags before a colon that limit them to additions, deletions or
// modifications, and "!" turns the match round.
func matchesProcReceive(patterns []string, u policy.Update) bool {
	for _, pattern := range patterns {
		flags, prefix, flagged := strings.Cut(pattern, ":")
		if !flagged {
			flags, prefix = "", pattern
		}
		if flagged && !strings.ContainsRune(flags, kindOf(u)) {
			continue
		}
		prefix = strings.TrimRight(prefix, "/")
		matches := u.Ref == prefix || strings.HasPrefix(u.Ref, prefix+"/")
		if matches != strings.Contains(flags, "!") {
			return true
		}
	}
	return false
}

func kindOf(u policy.Update) rune {
	switch {
	case u.Old.IsZero():
		return 'a'
	case u.New.IsZero():
		return 'd'
	}
	return 'm'
}

// printPlan says what the push would change.
func (p *push) printPlan(ctx context.Context, decisions []policy.Decision) error {
	for _, d := range decisions {
		switch d.Action {
		case policy.Refuse:
			p.console.Say("plan: %s would be refused: %s", d.Ref, d.Reason)
		case policy.Store:
			p.console.Say("plan: %s would be stored, and nothing deployed", d.Ref)
		case policy.Deploy:
			if err := p.env.Ready(); err != nil {
				return err
			}
			plan, err := p.env.Plan(ctx, d.New)
			if err != nil {
				return err
			}
			ShowPlan(ctx, p.console, p.env, d.New, plan)
		case policy.Migrate:
			p.printMigration(ctx, d, decisions)
		case policy.Promote:
			request, err := p.readTag(ctx, d)
			if err != nil {
				p.console.Say("plan: %s would be refused: %s", d.Ref, reason(err))
				continue
			}
			p.console.Say("plan: %s would promote %s on %s, if that is deployed there and healthy: %s would move there",
				d.Ref, request.Commit.Short(), p.env.Name, p.env.Promotion.Mover.What)
		}
	}
	if p.options.Promote {
		p.console.Say("plan: %s would move to %s after a healthy deployment", p.env.Promotion.Mover.What, p.env.Name)
	}
	ShowLive(ctx, p.console, p.env)
	p.report.add(outcome{level: warning, text: "plan only: nothing has changed"})
	return nil
}

// maxShown is how many paths of a plan are listed.
const maxShown = 20

// ShowPlan writes what a deployment of commit would do.
func ShowPlan(ctx context.Context, c *console.Console, e *environment.Environment, commit git.OID, plan *worktree.Plan) {
	c.Say("plan: %s would go to %s on %s: %s to write (%d bytes), %d to delete", commit.Short(), e.Worktree.Dir, e.Name,
		count(len(plan.Writes), "file"), plan.Bytes, len(plan.Deletes))
	if plan.Repairs > 0 {
		c.Say("plan: %s of these because the disk has something else than was deployed", count(plan.Repairs, "file"))
	}
	if len(plan.Pointers) > 0 {
		c.Say("plan: %q would be a pointer of Git LFS: git-lfs is not set up on this server", plan.Pointers[0])
	}
	if e.Database != nil {
		if works, err := e.Fits(ctx, commit); err != nil {
			c.Say("plan: it would be refused: %s", reason(err))
		} else {
			c.Say("plan: it works with version %s of the database, as that is", works)
		}
	}
	shown := 0
	for _, w := range plan.Writes {
		if shown++; shown <= maxShown {
			c.Say("plan:   write  %s", w.Path)
		}
	}
	for _, path := range plan.Deletes {
		if shown++; shown <= maxShown {
			c.Say("plan:   delete %s", path)
		}
	}
	if shown > maxShown {
		c.Say("plan:   and %d more", shown-maxShown)
	}
	names := make([]string, len(e.Checks))
	for i, check := range e.Checks {
		names[i] = fmt.Sprintf("%q", check.Name)
	}
	if len(names) == 0 {
		c.Say("plan: nothing would be checked")
	} else {
		c.Say("plan: would be checked: %s", strings.Join(names, ", "))
	}
	for _, command := range e.Commands {
		if command.At == "deployed" {
			c.Say("plan: would be run: %q", command.Run)
		}
	}
}

// ShowLive writes who is live.
func ShowLive(ctx context.Context, c *console.Console, e *environment.Environment) {
	if e.Promotion == nil {
		c.Say("plan: who is live is not known: there is no [promotion] in the configuration")
		return
	}
	live, err := e.Promotion.Live(ctx, e.Name)
	switch {
	case err != nil:
		c.Say("plan: who is live cannot be told: %v", err)
	case live.Here:
		c.Say("plan: %s is live: it has %s", e.Name, e.Promotion.Mover.What)
	case live.Environment != "":
		c.Say("plan: %s is live: it has %s", live.Environment, e.Promotion.Mover.What)
	default:
		c.Say("plan: %s is not live: it does not have %s", e.Name, e.Promotion.Mover.What)
	}
}
