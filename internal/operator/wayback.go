package operator

import (
	"context"
	"fmt"
	"slices"

	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/journal"
)

// addSchema asks which version the database is at, and what the environments work
// with.
func (r *report) addSchema(ctx context.Context, e *environment.Environment, held *journal.Deployed) {
	if len(e.Peers) > 0 {
		r.peers = e.Standings(ctx)
	}
	if e.Database == nil {
		return
	}
	version, err := e.Version(ctx)
	if err != nil {
		r.schemaError = err
	} else {
		r.Schema = &version
	}
	if held == nil || held.Commit.IsZero() {
		return
	}
	if works, err := e.WorksWith(ctx, held.Commit); err == nil {
		text := works.String()
		r.WorksWith = &text
	}
}

// addWayBack tells whether the release before can serve again: where production
// is served from here and another environment can be asked, that one's; else the
// one that was deployed here before.
func (r *report) addWayBack(ctx context.Context, e *environment.Environment, held *journal.Deployed) {
	r.Previous = known(held.Previous)
	if r.Live != nil && *r.Live && len(r.peers) > 0 {
		r.WayBackReason = r.trafficBack(e)
	} else {
		r.WayBackReason = r.releaseBack(ctx, e)
	}
	r.WayBack = r.WayBackReason == ""
}

// releaseBack is what is in the way of deploying again what was here before, "" for
// nothing.
func (r *report) releaseBack(ctx context.Context, e *environment.Environment) string {
	if r.Previous == nil {
		return "nothing was deployed before"
	}
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	if _, _, err := objects.Commit(*r.Previous); err != nil {
		return fmt.Sprintf("commit %s is not in the repository any more", r.Previous.Short())
	}
	if e.Database == nil {
		return ""
	}
	works, err := e.WorksWith(ctx, *r.Previous)
	if err != nil {
		return fmt.Sprintf("%s does not say which versions of the database it works with", r.Previous.Short())
	}
	return r.standsAt(deploy.Standing{Environment: e.Name, Commit: *r.Previous, WorksWith: &works}, fmt.Sprintf("%s works with version %s of the database", r.Previous.Short(), works))
}

// trafficBack is what is in the way of moving the traffic back, "" for nothing:
// one environment that can take it is enough.
func (r *report) trafficBack(e *environment.Environment) string {
	reason := ""
	for _, s := range r.peers {
		why := ""
		switch {
		case s.Err != nil:
			why = s.String()
		case e.Database != nil:
			why = r.standsAt(s, s.String())
		}
		if why == "" {
			return ""
		}
		if reason != "" {
			reason += "; "
		}
		reason += why
	}
	return reason + r.closedBy(e)
}

// standsAt is why a release does not work with the database as it is, "" where it
// does. text says what it works with.
func (r *report) standsAt(s deploy.Standing, text string) string {
	switch {
	case r.Schema == nil:
		return "which version the database is at is not known"
	case s.WorksWith == nil || !s.WorksWith.Has(*r.Schema):
		return fmt.Sprintf("%s, which is at %d", text, *r.Schema)
	}
	return ""
}

// closedBy names the migration that has closed the way back on purpose, "" for
// none.
func (r *report) closedBy(e *environment.Environment) string {
	if r.Schema == nil {
		return ""
	}
	for event, err := range e.Journal.Backwards() {
		if err != nil {
			return ""
		}
		if event.Event != journal.Migrate || event.Result != journal.Succeeded || event.Schema == nil {
			continue
		}
		if event.SchemaTo == *r.Schema && slices.Contains(event.Options, "no-way-back") {
			return fmt.Sprintf(" (%s moved it there at %s, with no-way-back)", event.Pusher, event.Time.Local().Format("2006-01-02 15:04"))
		}
		break
	}
	return ""
}
