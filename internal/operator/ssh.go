package operator

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"bluegreen/internal/forced"
	"bluegreen/internal/receive"
)

// sshCommand is for authorized_keys, and not for people: it is hidden.
func (a *app) sshCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "ssh NAME",
		Short:  "let a key push to this repository, and see what it has deployed",
		Hidden: true,
		Long: "ssh is the forced command of a line in authorized_keys. It lets the key of NAME push\n" +
			"to the repository and fetch from it, and run status, history, check, plan, promote\n" +
			"and rollback on it. Anything else is refused.",
		Example: `  restrict,command="/usr/local/bin/bluegreen --repo /home/deploy/sample_app ssh ann" ssh-ed25519 AAAA…`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.forced(args[0]) },
	}
}

// forced runs what the client of sshd has asked for, if the key of name may.
func (a *app) forced(name string) error {
	if err := forced.CheckName(name); err != nil {
		return err
	}
	repo, err := filepath.Abs(a.repo)
	if err == nil {
		repo, err = filepath.EvalSymlinks(repo)
	}
	if err != nil {
		a.console.Error("the repository of this key cannot be found: %v", err)
		return &status{usage}
	}
	key := forced.Key{Repo: repo, Home: a.getenv("HOME"), Account: a.getenv("LOGNAME")}
	command, err := key.Allow(a.getenv("SSH_ORIGINAL_COMMAND"))
	if err != nil {
		a.console.Error("%v", err)
		return &status{failed}
	}
	environ := forced.Environ(a.Environ, name)
	if command.Git != "" {
		err := becomeGit(command.Git, repo, environ)
		a.console.Error("git cannot be run: %v", err)
		return &status{failed}
	}
	return a.overSSH(append([]string{"--repo", repo}, command.Operator...), environ)
}

// becomeGit replaces this process by git, so that none stays between sshd and
// it. It returns only if it cannot.
func becomeGit(service, repo string, environ []string) error {
	path := receive.Getenv(environ, "PATH")
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		git := filepath.Join(dir, "git")
		err := syscall.Exec(git, []string{"git", service, repo}, environ)
		if !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	return &exec.Error{Name: "git", Err: exec.ErrNotFound}
}

// overSSH runs one of the operator's commands for a client that may go away at
// any moment: that must not end a promotion halfway. The signal is caught and
// not ignored, because what is ignored stays ignored in the commands that are
// run.
func (a *app) overSSH(args, environ []string) error {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGPIPE)
	defer signal.Stop(caught)
	if code := Main(Program{Args: args, Stdout: a.Stdout, Stderr: a.Stderr, Environ: environ, Key: true}); code != done {
		return &status{code}
	}
	return nil
}
