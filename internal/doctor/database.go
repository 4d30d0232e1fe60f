package doctor

import (
	"context"

	"bluegreen/internal/command"
)

// database looks whether the database says which version it is at, and whether what
// is deployed works with that.
func (x *exam) database(ctx context.Context) []Finding {
	version, err := x.env.Version(ctx)
	if err != nil {
		return []Finding{broken(x.asAccount(x.env.Config.Database.Version...), "%v", err)}
	}
	var found []Finding
	if x.env.Marker == "" {
		found = append(found, broken(x.edit(), "deploy.marker is not set: the other environments cannot be told which versions of the database the release here works with"))
	}
	held, err := x.held(ctx)
	if err != nil || held == nil || held.Commit.IsZero() {
		return or(found, "the database is at %d", version) // what is deployed is looked at by itself
	}
	works, err := x.env.WorksWith(ctx, held.Commit)
	switch {
	case err != nil:
		found = append(found, broken("push a commit with "+x.env.Config.Database.Manifest, "which versions of the database %s works with is not known: %v", held.Commit.Short(), err))
	case !works.Has(version):
		found = append(found, broken("push a commit that works with it", "the database is at %d, and %s works with version %s", version, held.Commit.Short(), works))
	}
	return or(found, "the database is at %d, and %s works with version %s", version, held.Commit.Short(), works)
}

// peers looks whether the other environments can be asked what they serve.
func (x *exam) peers(ctx context.Context) []Finding {
	urls := x.env.Config.Peers
	var found []Finding
	for _, s := range x.env.Standings(ctx) {
		url := urls[s.Environment]
		switch {
		case url == "":
			found = append(found, warning(x.edit(), "%s", s))
		case s.Err != nil:
			found = append(found, broken(command.Line([]string{"curl", "-sS", "-i", url}), "%s", s))
		case x.env.Database != nil && s.WorksWith == nil:
			found = append(found, broken("set deploy.marker and [database] on "+s.Environment+", and deploy there", "%s", s))
		}
	}
	return or(found, "each of %d other environments says what it serves", len(urls))
}
