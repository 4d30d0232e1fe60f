package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
	"bluegreen/internal/receive"
)

// report is what "status --json" prints. Pointers are null where something is
// not known, or is not there.
type report struct {
	Environment     string      `json:"environment"`
	Directory       string      `json:"directory"`
	Commit          *git.OID    `json:"commit"`
	Branch          string      `json:"branch"`
	RefCommit       *git.OID    `json:"ref_commit"`
	DeployedAt      *time.Time  `json:"deployed_at"`
	Healthy         *bool       `json:"healthy"`
	Live            *bool       `json:"live"`
	LiveEnvironment *string     `json:"live_environment"`
	Previous        *git.OID    `json:"previous"`
	WayBack         bool        `json:"way_back"`
	WayBackReason   string      `json:"way_back_reason,omitempty"`
	Schema          *int        `json:"schema,omitempty"`     // the database's version, with [database]
	WorksWith       *string     `json:"works_with,omitempty"` // what is deployed
	Drift           []string    `json:"drift"`
	Unfinished      *unfinished `json:"unfinished"`
	Running         *string     `json:"running"`
	// Problem is why nothing can be deployed to the web root.
	Problem string `json:"problem,omitempty"`

	hint        string // what to do about the problem
	checks      []health.Result
	held        *journal.Deployed // nil where nothing is known to be deployed
	liveUnknown string            // why nobody can tell who is live
	schemaError error             // why the database's version is not known
	peers       []deploy.Standing // what the other environments serve
}

type unfinished struct {
	Event   string    `json:"event"`
	Ref     string    `json:"ref"`
	Commit  git.OID   `json:"commit"`
	Phase   string    `json:"phase"`
	Started time.Time `json:"started"`
	// Of traffic that was being moved.
	Tag    string `json:"tag,omitempty"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Action int    `json:"action_id,omitempty"`
	// Of a migration: the version that was asked for.
	Schema *int `json:"schema_to,omitempty"`
}

func (a *app) statusCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "status",
		Short: "what the web root holds, and whether it is healthy",
		Example: "  bluegreen status --repo /home/deploy/sample_app\n" +
			"  bluegreen status --json | jq .commit",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			r, err := makeReport(c.Context(), e)
			if err != nil {
				return a.fail(err)
			}
			if r.hint != "" {
				a.console.Hint("%s", r.hint)
			}
			if a.json {
				return a.printJSON(r)
			}
			a.console.Flush(patience)
			newScreen(a.Stdout, a.getenv).status(e, r, lookCloser(c.Context(), e, r), time.Now())
			return nil
		},
	})
}

func (a *app) printJSON(v any) error {
	a.console.Flush(patience)
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Stdout, "%s\n", console.EscapeJSON(text))
	return err
}

func known(oid git.OID) *git.OID {
	if oid.IsZero() {
		return nil
	}
	return &oid
}

func makeReport(ctx context.Context, e *environment.Environment) (*report, error) {
	r := &report{Environment: e.Name, Directory: e.Worktree.Dir, Branch: e.Config.Deploy.Branch, Drift: []string{}}
	if err := e.Ready(); err != nil { // who only looks is told the rest all the same
		r.Problem, _, r.hint, _ = receive.Explain(err)
	}
	ref, err := e.Repo.Ref(ctx, e.Rules().BranchRef())
	if err != nil {
		return nil, err
	}
	r.RefCommit = known(ref)
	if err := r.addUnfinished(e); err != nil {
		return nil, err
	}
	r.addLive(ctx, e)
	held, err := e.Held(ctx, ref)
	if err != nil {
		return nil, err
	}
	r.addSchema(ctx, e, held)
	if held == nil {
		r.WayBackReason = "nothing has been deployed yet"
		return r, nil
	}
	r.held, r.Commit = held, known(held.Commit)
	if !held.At.IsZero() {
		r.DeployedAt = &held.At
	}
	r.addWayBack(ctx, e, held)
	if r.Drift, err = e.Drift(ctx); err != nil {
		return nil, err
	}
	if len(e.Checks) > 0 {
		r.checks = e.Ask(ctx, held.Commit, e.Variables("", held.Tag, held.Commit, held.Previous))
		healthy := health.Healthy(r.checks)
		r.Healthy = &healthy
	}
	return r, nil
}

// addUnfinished tells a deployment that is running from one that a crash
// interrupted: only the first one holds the lock.
func (r *report) addUnfinished(e *environment.Environment) error {
	if busy := lock.Held(e.Journal.Dir); busy != nil {
		text := busy.Describe()
		r.Running = &text
		return nil
	}
	t, err := e.Journal.Unfinished()
	if err != nil {
		return err
	}
	if t != nil {
		r.Unfinished = &unfinished{Event: t.Event.Event, Ref: t.Event.Ref, Commit: t.Event.Commit, Phase: string(t.Phase), Started: t.Started}
	}
	m, err := e.Journal.Migration()
	if err != nil {
		return err
	}
	if m != nil {
		r.Unfinished = &unfinished{Event: m.Event.Event, Ref: m.Event.Ref, Commit: m.Event.Commit, Phase: "migrating", Started: m.Started,
			Schema: &m.Event.SchemaTo}
	}
	p, err := e.Journal.Promotion()
	if p != nil {
		r.Unfinished = &unfinished{Event: p.Event.Event, Ref: p.Event.Ref, Commit: p.Event.Commit, Phase: string(p.Course), Started: p.Started,
			Tag: p.Event.Tag, From: p.Event.From, To: p.Event.To, Action: p.Event.Action}
	}
	return err
}

// addLive asks who has the traffic. Nobody who can tell leaves it null.
func (r *report) addLive(ctx context.Context, e *environment.Environment) {
	if e.Promotion == nil {
		return
	}
	live, err := e.Promotion.Live(ctx, e.Name)
	if err != nil {
		r.liveUnknown = err.Error()
		return
	}
	r.Live = &live.Here
	if live.Environment != "" {
		r.LiveEnvironment = &live.Environment
	}
}
