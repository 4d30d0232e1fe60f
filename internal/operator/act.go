package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/receive"
	"bluegreen/internal/worktree"
)

func (a *app) checkCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:     "check",
		Short:   "read the configuration and ask the health checks",
		Example: "  bluegreen check --repo /home/deploy/sample_app",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ref, err := e.Repo.Ref(c.Context(), e.Rules().BranchRef())
			if err == nil {
				err = e.Ready()
			}
			if err != nil {
				return a.fail(err)
			}
			held, err := e.Held(c.Context(), ref)
			if err != nil {
				return a.fail(err)
			}
			var commit, previous git.OID
			if held != nil {
				commit, previous = held.Commit, held.Previous
			}
			results := e.Ask(c.Context(), commit, e.Variables("", "", commit, previous))
			if a.json {
				err = a.printJSON(checkReport(e, results))
			} else {
				a.printChecks(e, results)
			}
			if err == nil && !health.Healthy(results) {
				err = &status{failed}
			}
			return err
		},
	})
}

func checkReport(e *environment.Environment, results []health.Result) any {
	type check struct {
		Name     string `json:"name"`
		Healthy  bool   `json:"healthy"`
		Attempts int    `json:"attempts"`
		TookMS   int64  `json:"took_ms"`
		Last     string `json:"last"`
	}
	report := struct {
		Environment   string  `json:"environment"`
		Configuration string  `json:"configuration"`
		Healthy       *bool   `json:"healthy"` // null where nothing is checked
		Checks        []check `json:"checks"`
	}{e.Name, e.Config.Path, nil, []check{}}
	if healthy := health.Healthy(results); len(results) > 0 {
		report.Healthy = &healthy
	}
	for _, r := range results {
		report.Checks = append(report.Checks, check{r.Name, r.Healthy, r.Attempts, r.Took.Milliseconds(), r.Last})
	}
	return report
}

func (a *app) printChecks(e *environment.Environment, results []health.Result) {
	a.console.Flush(patience)
	if e.Config.Present {
		fmt.Fprintf(a.Stdout, "%s is in order\n", console.Escape(e.Config.Path))
	} else {
		fmt.Fprintf(a.Stdout, "there is no %s: the defaults hold\n", console.Escape(e.Config.Path))
	}
	if len(results) == 0 {
		fmt.Fprintln(a.Stdout, "nothing is checked: there is no [[health]] in the configuration")
	}
	for _, r := range results {
		verdict := "healthy"
		if !r.Healthy {
			verdict = "NOT HEALTHY"
		}
		fmt.Fprintf(a.Stdout, "%s: %s: %s\n", console.Escape(r.Name), verdict, console.Escape(r.Last))
		for _, line := range r.Lines {
			fmt.Fprintf(a.Stdout, "  %s\n", console.Escape(line))
		}
	}
}

func (a *app) planCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:     "plan [REV]",
		Short:   "what a deployment of REV, or of the branch, would change",
		Example: "  bluegreen plan\n  bluegreen plan HEAD~1",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			revision := e.Rules().BranchRef()
			if len(args) > 0 {
				revision = args[0]
			}
			commit, err := e.Repo.Resolve(c.Context(), revision)
			if err == nil {
				err = e.Ready()
			}
			if err != nil {
				return a.fail(err)
			}
			plan, err := e.Plan(c.Context(), commit)
			if err != nil {
				return a.fail(err)
			}
			if a.json {
				return a.printJSON(planReport(c.Context(), e, commit, plan))
			}
			a.console.Flush(patience)
			out := console.New(a.Stdout)
			receive.ShowPlan(c.Context(), out, e, commit, plan)
			receive.ShowLive(c.Context(), out, e)
			out.Close(patience)
			return nil
		},
	})
}

func planReport(ctx context.Context, e *environment.Environment, commit git.OID, plan *worktree.Plan) any {
	r := &report{}
	r.addLive(ctx, e)
	checks := []string{}
	for _, c := range e.Checks {
		checks = append(checks, c.Name)
	}
	return struct {
		Environment string   `json:"environment"`
		Directory   string   `json:"directory"`
		Commit      git.OID  `json:"commit"`
		Write       []string `json:"write"`
		Delete      []string `json:"delete"`
		Bytes       int64    `json:"bytes"`
		Repairs     int      `json:"repairs"`
		Checks      []string `json:"checks"`
		Live        *bool    `json:"live"`
		LiveIn      *string  `json:"live_environment"`
	}{e.Name, e.Worktree.Dir, commit, plan.Paths(), append([]string{}, plan.Deletes...), plan.Bytes, plan.Repairs, checks, r.Live, r.LiveEnvironment}
}

func (a *app) deployCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "deploy REV",
		Short: "deploy a commit that is on the server already",
		Long: "deploy brings the web root to a commit that is on the server already, with the\n" +
			"same checks as a push. The branch stays where it is; \"bluegreen status\" shows both.\n" +
			"protect_live is about pushes: this is not refused where production is served.",
		Example: "  bluegreen deploy master        the branch once more\n  bluegreen deploy master~1      what was before",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("deploy needs one commit, such as a branch, a tag or a name, and there are %d", len(args))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			e, err := a.change()
			if err != nil {
				return err
			}
			if err := setWait(c, e, &wait); err != nil {
				return err
			}
			commit, err := e.Repo.Resolve(c.Context(), args[0])
			if err == nil {
				err = e.Ready()
			}
			if err != nil {
				return a.fail(err)
			}
			who := receive.Pusher(a.getenv)
			session, err := e.Begin(c.Context(), who, wait)
			if err != nil {
				return a.fail(err)
			}
			defer session.End()
			outcome, err := session.Deploy(c.Context(), deploy.Request{Commit: commit, Pusher: who})
			if err != nil {
				return a.fail(err)
			}
			receive.Succeeded(a.console, e.Environment, outcome)
			return nil
		},
	}
	waitFlag(c, &wait)
	return c
}

func (a *app) getenv(name string) string { return receive.Getenv(a.Environ, name) }

func (a *app) recoverCommand() *cobra.Command {
	rebuild := false
	c := &cobra.Command{
		Use:   "recover",
		Short: "finish or undo what a crash interrupted",
		Long: "recover brings the web root to exactly one commit after a crash: to the new one\nif its ref has moved, else to the one before. Of traffic that was being moved it\nfinds out where it is, and proves the release that has it or moves it back.\nEvery hook does so first, too.\n\n" +
			"With --rebuild it does so also when the web root is another directory than the\none that the deployment was interrupted in: files are compared by content.",
		Example: "  bluegreen recover --repo /home/deploy/sample_app",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := a.change()
			if err != nil {
				return err
			}
			e.Rebuild = rebuild
			session, err := e.Begin(c.Context(), receive.Pusher(a.getenv), e.Config.Deploy.LockWait)
			if err != nil {
				return a.fail(err)
			}
			defer session.End()
			recovered := session.Recovered()
			for _, r := range recovered {
				a.console.Success("%s", r.Text)
			}
			if len(recovered) == 0 {
				a.console.Success("there was nothing to recover")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&rebuild, "rebuild", false, "write a web root anew that was replaced since the crash")
	return c
}
