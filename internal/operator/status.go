package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bluegreen/internal/console"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
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
	Drift           []string    `json:"drift"`
	Unfinished      *unfinished `json:"unfinished"`
	Running         *string     `json:"running"`

	checks      []health.Result
	liveUnknown string // why nobody can tell who is live
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
			if a.json {
				return a.printJSON(r)
			}
			a.printStatus(e, r)
			return nil
		},
	})
}

func (a *app) printJSON(v any) error {
	out := json.NewEncoder(a.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

func known(oid git.OID) *git.OID {
	if oid.IsZero() {
		return nil
	}
	return &oid
}

func makeReport(ctx context.Context, e *environment.Environment) (*report, error) {
	if err := e.Ready(); err != nil {
		return nil, err
	}
	r := &report{Environment: e.Name, Directory: e.Worktree.Dir, Branch: e.Config.Deploy.Branch, Drift: []string{}}
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
	if held == nil {
		r.WayBackReason = "nothing has been deployed yet"
		return r, nil
	}
	r.Commit = known(held.Commit)
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

func (r *report) addWayBack(ctx context.Context, e *environment.Environment, held *journal.Deployed) {
	r.Previous = known(held.Previous)
	if r.Previous == nil {
		r.WayBackReason = "nothing was deployed before"
		return
	}
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	if _, _, err := objects.Commit(held.Previous); err != nil {
		r.WayBackReason = fmt.Sprintf("commit %s is not in the repository any more", held.Previous.Short())
		return
	}
	r.WayBack = true
}

// printStatus writes the report for people.
func (a *app) printStatus(e *environment.Environment, r *report) {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, console.Escape(fmt.Sprintf(format, args...)))
	}
	row("environment", "%s", r.Environment)
	row("directory", "%s", r.Directory)
	switch {
	case r.Commit != nil && r.DeployedAt != nil:
		row("deployed", "%s since %s", r.Commit.Short(), r.DeployedAt.Local().Format("2006-01-02 15:04:05"))
	case r.Commit != nil:
		row("deployed", "%s", r.Commit.Short())
	default:
		row("deployed", "not known")
	}
	switch {
	case r.RefCommit == nil:
		row("branch", "%s has not been pushed yet", r.Branch)
	case r.Commit != nil && *r.Commit == *r.RefCommit:
		row("branch", "%s is at the same commit", r.Branch)
	default:
		row("branch", "%s is at %s, which is not what is deployed", r.Branch, r.RefCommit.Short())
	}
	switch {
	case r.liveUnknown != "":
		row("live", "not known: %s", r.liveUnknown)
	case r.Live == nil:
	case *r.Live:
		row("live", "yes, %s is here", e.Promotion.Mover.What)
	case r.LiveEnvironment != nil:
		row("live", "no, %s is with %s", e.Promotion.Mover.What, *r.LiveEnvironment)
	default:
		row("live", "no, %s is not here", e.Promotion.Mover.What)
	}
	if r.Healthy == nil {
		row("healthy", "nothing is checked")
	}
	for _, check := range r.checks {
		if check.Healthy {
			row("healthy", "%q", check.Name)
		} else {
			row("NOT HEALTHY", "%q: %s", check.Name, check.Last)
		}
	}
	if r.WayBack {
		row("way back", "bluegreen deploy %s", r.Previous.Short())
	} else {
		row("way back", "none: %s", r.WayBackReason)
	}
	if len(r.Drift) > 0 {
		row("changed on disk", "%s", strings.Join(r.Drift[:min(len(r.Drift), 5)], ", "))
	}
	if r.Running != nil {
		row("running", "%s", *r.Running)
	}
	if u := r.Unfinished; u != nil && u.To != "" {
		action := ""
		if u.Action != 0 {
			action = fmt.Sprintf(" (action %d)", u.Action)
		}
		row("unfinished", "the promotion of %s%s, interrupted at %s: run \"bluegreen recover\"",
			u.To, action, u.Started.Local().Format("15:04:05"))
	} else if u != nil {
		row("unfinished", "the deployment of %s, interrupted at %s: run \"bluegreen recover\"",
			r.Unfinished.Commit.Short(), r.Unfinished.Started.Local().Format("15:04:05"))
	}
	w.Flush()
}

func (a *app) historyCommand() *cobra.Command {
	var n int
	c := a.jsonFlag(&cobra.Command{
		Use:     "history",
		Short:   "what was deployed, when, by whom, and what was refused",
		Example: "  bluegreen history -n 5\n  bluegreen history --json | jq '.[] | select(.result == \"failed\")'",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if n < 1 {
				return fmt.Errorf("--number must be 1 or more, not %d", n)
			}
			e, err := a.open()
			if err != nil {
				return err
			}
			events, err := e.Journal.Events(n)
			if err != nil {
				return a.fail(err)
			}
			if a.json {
				if events == nil {
					events = []journal.Event{}
				}
				return a.printJSON(events)
			}
			a.printHistory(events)
			return nil
		},
	})
	c.Flags().IntVarP(&n, "number", "n", 20, "how many events, the newest last")
	return c
}

func (a *app) printHistory(events []journal.Event) {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tEVENT\tREF\tCOMMIT\tRESULT\tPUSHER\tTOOK\tREASON")
	for _, e := range events {
		took := time.Duration(e.DurationMS) * time.Millisecond
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Time.Local().Format("2006-01-02 15:04:05"), console.Escape(e.Event),
			console.Escape(shortRef(e.Ref)), e.Commit.Short(), console.Escape(e.Result), console.Escape(e.Pusher), took, console.Escape(e.Reason))
	}
	w.Flush()
}

// shortRef is a ref as people say it; "-" for a deployment without one.
func shortRef(ref string) string {
	for _, prefix := range []string{"refs/heads/", "refs/tags/"} {
		if short, found := strings.CutPrefix(ref, prefix); found {
			return short
		}
	}
	if ref == "" {
		return "-"
	}
	return ref
}
