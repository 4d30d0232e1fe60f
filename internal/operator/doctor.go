package operator

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/doctor"
	"bluegreen/internal/environment"
	"bluegreen/internal/receive"
)

func (a *app) doctorCommand() *cobra.Command {
	fix := false
	c := a.jsonFlag(&cobra.Command{
		Use:   "doctor",
		Short: "examine the server, and say how to mend what is wrong",
		Long: "doctor examines the configuration, the repository, the hooks, the web root, the\n" +
			"machine and the promotion, and says with each finding the command that mends it.\n" +
			"It changes nothing without --fix. Run by root, it becomes the repository's account\n" +
			"and sees what pushes see.\n\n" +
			"With --fix it does what is safe: git's settings, the permissions of hooks and of\n" +
			"the token, an old index.lock, and \"bluegreen recover\"; then it examines again.\n\n" +
			"Exit status: 0 nothing is broken, warnings apart; 1 something is broken; 2 the\n" +
			"configuration is, or there is no repository.",
		Example: "  bluegreen doctor --repo /home/deploy/sample_app\n" +
			"  bluegreen doctor --json | jq -r '.findings[] | select(.level == \"broken\") | .fix'",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.doctor(c.Context(), fix) },
	})
	c.Flags().BoolVar(&fix, "fix", false, "mend what can be mended safely")
	return c
}

func (a *app) doctor(ctx context.Context, fix bool) error {
	host := doctor.ThisHost(nil)
	owner, err := a.findOwner()
	if err != nil {
		return err
	}
	var mended []doctor.Mended
	if fix && owner != nil && owner.uid != 0 {
		mended = append(doctor.MendHooks(a.repo), doctor.MendToken()...) // which need root
	}
	if err := a.become(owner); err != nil {
		return err
	}
	host.Environ = a.Environ
	o := doctor.Options{Repo: a.repo, Host: host, Recover: a.recover}
	r, err := doctor.Examine(ctx, o)
	if err == nil && fix {
		mended = append(mended, r.Mend(ctx)...)
		r, err = doctor.Examine(ctx, o)
	}
	if err != nil {
		return a.notOpened(err)
	}
	a.console.Flush(patience) // what was said while it mended
	if a.json {
		err = a.printJSON(doctorReport(r, mended))
	} else {
		a.printFindings(r, mended)
	}
	switch {
	case err != nil:
		return err
	case r.Misconfigured:
		return &status{usage}
	case r.Count(doctor.Broken) > 0:
		return &status{failed}
	}
	return nil
}

// recover finishes or undoes what a crash interrupted.
func (a *app) recover(ctx context.Context) error {
	e, err := environment.Open(a.repo, a.Environ, func(n deploy.Notice) { receive.Show(a.console, n) })
	if err != nil {
		return err
	}
	e.Confine = nil // there may be more to mend
	session, err := e.Begin(ctx, receive.Pusher(a.getenv), e.Config.Deploy.LockWait)
	if err != nil {
		text, _, _, _ := receive.Explain(err)
		return errors.New(text)
	}
	session.End()
	return nil
}

func doctorReport(r *doctor.Report, mended []doctor.Mended) any {
	type fixed struct {
		Fix   string `json:"fix"`
		Error string `json:"error,omitempty"`
	}
	type summary struct {
		OK       int `json:"ok"`
		Warnings int `json:"warnings"`
		Broken   int `json:"broken"`
	}
	report := struct {
		*doctor.Report
		Mended  []fixed `json:"mended"`
		Summary summary `json:"summary"`
	}{r, []fixed{}, summary{r.Count(doctor.OK), r.Count(doctor.Warning), r.Count(doctor.Broken)}}
	for _, m := range mended {
		f := fixed{Fix: m.Fix}
		if m.Err != nil {
			f.Error = m.Err.Error()
		}
		report.Mended = append(report.Mended, f)
	}
	return report
}

func (a *app) printFindings(r *doctor.Report, mended []doctor.Mended) {
	line := func(format string, args ...any) {
		fmt.Fprintln(a.Stdout, console.Escape(fmt.Sprintf(format, args...)))
	}
	for _, m := range mended {
		if m.Err != nil {
			line("not mended: %s: %v", m.Fix, m.Err)
		} else {
			line("mended: %s", m.Fix)
		}
	}
	for _, f := range r.Findings {
		line("%s: %s", f.Level, f.Text)
		if f.Fix != "" {
			line("  mend: %s", f.Fix)
		}
	}
	warnings := "warnings"
	if r.Count(doctor.Warning) == 1 {
		warnings = "warning"
	}
	line("%s: %d broken, %d %s, %d ok", r.Repository, r.Count(doctor.Broken), r.Count(doctor.Warning), warnings, r.Count(doctor.OK))
}
