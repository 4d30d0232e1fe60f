// Package operator is the bluegreen command: what an operator types on the
// server.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bluegreen/internal/command"
	"bluegreen/internal/config"
	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/lock"
	"bluegreen/internal/profile"
	"bluegreen/internal/receive"
	"bluegreen/internal/version"
)

// The exit statuses.
const (
	done    = 0
	failed  = 1 // failed or refused
	usage   = 2 // usage or configuration
	unknown = 3 // a person must look
)

// patience is how long lines wait for who does not read them.
const patience = 5 * time.Second

// Program is what the command gets from the shell.
type Program struct {
	Args    []string // without the program's name
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string
	// Key tells that the key of one who pushes asks for it, and not who has a shell
	// here.
	Key bool
}

// app is one call of the command.
type app struct {
	Program
	console *console.Console
	repo    string
	json    bool
}

// status is an error that has been reported already, with its exit status.
type status struct {
	code int
}

func (s *status) Error() string { return fmt.Sprintf("exit status %d", s.code) }

// Main runs the command and returns its exit status.
func Main(p Program) int {
	command.Become(p.Args)
	defer profile.Start("bluegreen")()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	a := &app{Program: p, console: console.New(p.Stderr)}
	if newScreen(p.Stderr, a.getenv).width == 0 {
		a.console.Still()
	}
	defer a.console.Close(patience)
	root := a.command()
	root.SetArgs(p.Args)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	asked, err := root.ExecuteContextC(ctx)
	var reported *status
	switch {
	case err == nil:
		return done
	case errors.As(err, &reported):
		return reported.code
	}
	a.console.Hint("%s", usageHint(root, asked, p.Args))
	a.console.Error("%v", err)
	return usage
}

// usageHint tells somebody who has asked for what there is not where to look.
func usageHint(root, asked *cobra.Command, args []string) string {
	if asked != nil && asked != root {
		return fmt.Sprintf("%q tells how it is used", asked.CommandPath()+" --help")
	}
	const all = `"bluegreen help" lists the commands`
	if len(args) == 0 {
		return all
	}
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Sprintf("did you mean %q? %s", near[0], all)
	}
	return all
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "bluegreen",
		Short:         "deploy by git push, and know what is deployed",
		Long:          "bluegreen tells what a bare repository has deployed on this server, and deploys,\nchecks and recovers without a push. The hooks beside it do the same for pushes.",
		Version:       version.Number,
		SilenceErrors: true, SilenceUsage: true, DisableSuggestions: true, SuggestionsMinimumDistance: 2,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentFlags().StringVar(&a.repo, "repo", ".", "the bare repository's `directory`")
	root.AddCommand(a.statusCommand(), a.historyCommand(), a.checkCommand(), a.planCommand(),
		a.deployCommand(), a.promoteCommand(), a.rollbackCommand(), a.recoverCommand(),
		a.doctorCommand(), a.installCommand(), a.uninstallCommand(), a.sshCommand(), a.brokerCommand(), &cobra.Command{
			Use: "version", Short: "print the version", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				fmt.Fprintf(a.Stdout, "bluegreen %s\n", version.Number)
				return nil
			},
		})
	return root
}

// jsonFlag is for commands that print facts.
func (a *app) jsonFlag(c *cobra.Command) *cobra.Command {
	c.Flags().BoolVar(&a.json, "json", false, "print JSON")
	return c
}

// open opens the environment, as the account that it belongs to where root asks.
func (a *app) open() (*environment.Environment, error) {
	if err := a.becomeOwner(); err != nil {
		return nil, err
	}
	e, err := environment.Open(a.repo, a.Environ, func(n deploy.Notice) { receive.Show(a.console, n) })
	if err != nil {
		return nil, a.notOpened(err)
	}
	return e, nil
}

// notOpened reports what is wrong with an environment. It is the operator's to
// mend: exit status 2.
func (a *app) notOpened(err error) error {
	var wrong *config.Error
	if !errors.As(err, &wrong) {
		a.console.Hint("name the bare repository with --repo DIR, or run this in it")
	}
	a.console.Error("%v", err)
	return &status{usage}
}

// change opens the environment for a command that changes it. Files that a third
// account writes would be in the way of the next push.
func (a *app) change() (*environment.Environment, error) {
	if st, err := os.Stat(a.repo); err == nil && os.Geteuid() != 0 {
		if owner, ok := st.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
			name := receive.AccountName(int(owner.Uid))
			a.console.Hint("sudo -u %s bluegreen --repo %s …", name, a.repo)
			a.console.Error("the repository belongs to %s, whose files this would write", name)
			return nil, &status{failed}
		}
	}
	return a.open()
}

// fail reports err as hooks report it.
func (a *app) fail(err error) error {
	text, lines, hint, known := receive.Explain(err)
	if busy := (*lock.Busy)(nil); errors.As(err, &busy) {
		hint = "try again later, or wait longer: --wait 5m"
	}
	for _, line := range lines {
		a.console.Say("  %s", line)
	}
	if hint != "" {
		a.console.Hint("%s", hint)
	}
	a.console.Error("%s", text)
	if !known {
		return &status{unknown}
	}
	return &status{failed}
}
