package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"bluegreen/internal/git"
	"bluegreen/internal/peer"
	"bluegreen/internal/schema"
	"bluegreen/internal/worktree"
)

// Database is the database that the environments share.
type Database struct {
	schema.Database
	// Manifest is the file of a commit that says which versions it works with.
	Manifest string
	// Parse reads it. Its errors name the file.
	Parse func(name string, data []byte) (schema.Range, error)
	Lock  string // names what is migrated, for one migration at a time on this machine
}

// Version asks which version the database is at.
func (e *Environment) Version(ctx context.Context) (int, error) {
	return e.Database.Version(ctx, e.Variables("", "", git.OID{}, git.OID{}))
}

// maxManifest is far above what a manifest has, in bytes. It comes with a push, and
// what is nested deeply takes its reader long.
const maxManifest = 4 << 10

// WorksWith reads which versions of the database a commit works with.
func (e *Environment) WorksWith(ctx context.Context, commit git.OID) (schema.Range, error) {
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	_, root, err := objects.Commit(commit)
	if err != nil {
		return schema.Range{}, err
	}
	data, err := worktree.ReadCommitted(objects, root, e.Database.Manifest, maxManifest)
	if err != nil {
		return schema.Range{}, err
	}
	return e.Database.Parse(commit.Short()+":"+e.Database.Manifest, data)
}

// Fits refuses a commit that does not work with the database as it is now. It
// returns the versions that it works with, "" where there is no database.
func (e *Environment) Fits(ctx context.Context, commit git.OID) (works string, err error) {
	if e.Database == nil {
		return "", nil
	}
	r, err := e.WorksWith(ctx, commit)
	if err != nil {
		return "", &Failure{Refused: true, Reason: fmt.Sprintf("which versions of the database %s works with is not known: %s", commit.Short(), oneLine(err)),
			Hint: fmt.Sprintf("commit a file %s with a line such as: works_with = \"3..4\"", e.Database.Manifest)}
	}
	version, err := e.Version(ctx)
	if err != nil {
		return "", &Failure{Refused: true, Reason: "whether the release works with the database is not known: " + oneLine(err),
			Hint: "look at what database.version says on the server, then push again"}
	}
	if r.Has(version) {
		return r.String(), nil
	}
	hint := fmt.Sprintf("deploy a release that works with %d", version)
	if version < r.From {
		hint = fmt.Sprintf("first migrate the database to %d, by the tag for it on a deployed commit that works with %d and %d", r.From, version, r.From)
	}
	return "", &Failure{Refused: true, Hint: hint,
		Reason: fmt.Sprintf("%s works with version %s of the database, which is at %d", commit.Short(), r, version)}
}

// errNoURL is why an environment cannot be asked.
var errNoURL = errors.New("[peers] has no url of its marker")

// A Standing is what an environment serves, and which versions of the database
// that works with.
type Standing struct {
	Environment string
	Commit      git.OID       // zero where it is not known
	WorksWith   *schema.Range // nil where it is not known
	// Err is why what it serves is not known.
	Err error
}

// String says it in words that make sense alone.
func (s Standing) String() string {
	switch {
	case s.Err != nil:
		return fmt.Sprintf("what %s serves is not known: %s", s.Environment, oneLine(s.Err))
	case s.WorksWith == nil:
		return fmt.Sprintf("%s serves %s, which does not say what it works with", s.Environment, s.Commit.Short())
	}
	return fmt.Sprintf("%s serves %s, which works with version %s of the database", s.Environment, s.Commit.Short(), s.WorksWith)
}

// Standings asks all other environments at once what they serve.
func (e *Environment) Standings(ctx context.Context) []Standing {
	names := slices.Clone(e.Others)
	peers := map[string]*peer.Peer{}
	for _, p := range e.Peers {
		peers[p.Name] = p
		names = append(names, p.Name)
	}
	slices.Sort(names)
	standings := make([]Standing, len(slices.Compact(names)))
	var wg sync.WaitGroup
	for i := range standings {
		wg.Go(func() { standings[i] = standing(ctx, names[i], peers[names[i]]) })
	}
	wg.Wait()
	return standings
}

func standing(ctx context.Context, name string, p *peer.Peer) Standing {
	s := Standing{Environment: name}
	if p == nil {
		s.Err = errNoURL
		return s
	}
	release, err := p.Read(ctx)
	if err != nil {
		s.Err = err
		return s
	}
	s.Commit, s.WorksWith = release.Commit, release.WorksWith
	return s
}

// peerStanding is the standing of one other environment.
func (e *Environment) peerStanding(ctx context.Context, name string) (s Standing, asked bool) {
	i := slices.IndexFunc(e.Peers, func(p *peer.Peer) bool { return p.Name == name })
	if i < 0 {
		return Standing{}, false
	}
	return standing(ctx, name, e.Peers[i]), true
}

// otherFits refuses to move the traffic to another environment whose release does
// not work with the database as it is.
func (p *promoting) otherFits(ctx context.Context, other string) error {
	if p.Database == nil {
		return nil
	}
	version, err := p.Version(ctx)
	if err != nil {
		return &Failure{Refused: true, Reason: "whether the release works with the database is not known: " + oneLine(err)}
	}
	s, asked := p.peerStanding(ctx, other)
	if !asked {
		s = standing(ctx, other, nil)
	}
	if s.Err == nil && s.WorksWith != nil && s.WorksWith.Has(version) {
		return nil
	}
	return &Failure{Refused: true, Reason: fmt.Sprintf("%s, and the database is at %d", s, version),
		Hint: fmt.Sprintf("deploy a release to %s that works with %d; --unchecked moves the traffic there all the same", other, version)}
}

// stillFits tells whether what has got the traffic works with the database now that it
// has it: another server may have migrated meanwhile.
func (p *promoting) stillFits(ctx context.Context) error {
	err := error(nil)
	switch {
	case !p.landed:
	case p.request.To != p.Name && !p.request.Unasked:
		err = p.otherFits(ctx, p.request.To)
	case p.request.To == p.Name && p.deployed != nil:
		_, err = p.Fits(ctx, p.deployed.Commit)
	}
	var failure *Failure
	if errors.As(err, &failure) {
		failed := *failure
		failed.Refused = false // it has been tried
		return &failed
	}
	return err
}

// showWayBack says what the environment serves that the traffic leaves: going back
// to it must be known to be possible before that is needed.
func (p *promoting) showWayBack(ctx context.Context) {
	s, asked := p.peerStanding(ctx, p.move.From)
	if !asked {
		return
	}
	text := s.String()
	if s.Err == nil {
		text = fmt.Sprintf("%s, the way back, serves %s", s.Environment, s.Commit.Short())
		if s.WorksWith != nil {
			text += fmt.Sprintf(", which works with version %s of the database", s.WorksWith)
		}
		_, results := p.answersOf(ctx, s.Environment, brief)
		if err := verdict(results); err != nil {
			text += ", but " + oneLine(err)
		} else if len(results) > 0 {
			text += ", healthy"
		}
	}
	p.Observe(Notice{Kind: Doing, Text: text})
}
