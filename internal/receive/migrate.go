package receive

import (
	"context"
	"fmt"
	"time"

	"bluegreen/internal/deploy"
	"bluegreen/internal/git"
	"bluegreen/internal/policy"
	"bluegreen/internal/schema"
)

// checkNoWayBack refuses the push option "no-way-back" where nothing asks for it.
func (p *push) checkNoWayBack() error {
	if !p.options.NoWayBack || p.env.Database != nil {
		return nil
	}
	return &deploy.Failure{Refused: true, Reason: "push option \"no-way-back\": there is no [database] here", Hint: "push without it"}
}

// readMigration reads the tag of a decision, and returns what it asks for.
func (p *push) readMigration(ctx context.Context, d policy.Decision) (*deploy.MigrationRequest, error) {
	name, commit, _, err := p.tagged(ctx, d)
	if err != nil {
		return nil, err
	}
	to, err := schema.TagVersion(name)
	if err != nil {
		return nil, &deploy.Failure{Refused: true, Reason: fmt.Sprintf("%q does not say which version to move the database to: %v", name, err),
			Hint: "push a tag such as schema-4"}
	}
	return &deploy.MigrationRequest{Ref: d.Ref, Tag: name, To: to, Commit: commit, NoWayBack: p.options.NoWayBack,
		Wait: p.wait(), Pusher: p.pusher(), Options: p.options.Raw}, nil
}

// admitMigration refuses, at the gate, a tag that git itself would move.
func (g *gate) admitMigration(ctx context.Context, d policy.Decision, all []policy.Decision) error {
	request, err := g.readMigration(ctx, d)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.Action == policy.Deploy {
			return g.isBranch(ctx, other, request.Tag, request.Commit)
		}
	}
	_, err = g.env.MayMigrate(ctx, *request)
	return err
}

// migrate moves the database for a tag, with refs that move when it has.
func (p *push) migrate(ctx context.Context, d policy.Decision, refs []git.RefUpdate) error {
	request, err := p.readMigration(ctx, d)
	if err != nil {
		p.refuse(d, reason(err))
		return err
	}
	request.Refs = refs
	return p.inSession(ctx, d, func(ctx context.Context, session *deploy.Session) error {
		done, err := session.Migrate(ctx, *request)
		if err == nil {
			p.report.add(migrated(done))
		}
		return err
	})
}

// migrated tells of a migration that succeeded.
func migrated(done *deploy.Migrated) outcome {
	way := fmt.Sprintf("the database has moved from %d to %d", done.From, done.To)
	if done.Already {
		way = fmt.Sprintf("the database is at %d already", done.To)
	}
	o := outcome{level: success, text: fmt.Sprintf("%q (%s): %s, in %s", done.Tag, done.Commit.Short(), way, done.Took.Round(time.Millisecond))}
	if len(done.Warnings) > 0 {
		o.level = warning
		o.lines = done.Warnings[1:]
		o.text += "; but " + done.Warnings[0]
	}
	return o
}

// printMigration says what a tag would do to the database.
func (p *push) printMigration(ctx context.Context, d policy.Decision, all []policy.Decision) {
	request, err := p.readMigration(ctx, d)
	from := (*int)(nil)
	for _, other := range all {
		if other.Action == policy.Deploy && err == nil {
			request.Deploying = true
			err = p.isBranch(ctx, other, request.Tag, request.Commit)
		}
	}
	if err == nil {
		from, err = p.env.MayMigrate(ctx, *request)
	}
	switch {
	case err != nil:
		p.console.Say("plan: %s would be refused: %s", d.Ref, reason(err))
	case *from == request.To:
		p.console.Say("plan: %s would change nothing: the database is at %d already", d.Ref, request.To)
	case request.Deploying:
		p.console.Say("plan: %s would then move the database from %d to %d", d.Ref, *from, request.To)
	default:
		p.console.Say("plan: %s would move the database from %d to %d", d.Ref, *from, request.To)
	}
}
