package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// commandTimeout ends a git command that hangs, on a dead network filesystem
// for one. Bulk reads have no deadline but their context's: their length
// follows the site's size.
const commandTimeout = time.Minute

// A Repository is a bare repository on this machine. It is safe for use by
// several goroutines; the readers that it hands out are not.
type Repository struct {
	// Dir is the absolute path of the repository.
	Dir string

	env    []string
	layout func() layout

	mu    sync.Mutex
	spare *store // of a reader that is closed, nil for none
}

// An Error is a git command that failed. It keeps what git said.
type Error struct {
	Command string // the subcommand: "update-ref"
	Stderr  string // trimmed
	Err     error
}

func (e *Error) Error() string {
	if e.Stderr == "" {
		return fmt.Sprintf("git %s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("git %s: %s: %v", e.Command, e.Stderr, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Open opens the bare repository at dir. Of environ, the caller's environment,
// only what says where git, its configuration and a push's quarantined objects
// are is handed on to git: an inherited GIT_DIR=. or GIT_INDEX_FILE would turn
// its commands against another repository.
func Open(dir string, environ []string) (*Repository, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening repository %q: %w", dir, err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return nil, fmt.Errorf("opening repository %q: %w", dir, err)
	}
	for _, name := range []string{"HEAD", "objects"} {
		if _, err := os.Stat(filepath.Join(abs, name)); err != nil {
			return nil, fmt.Errorf("%q is not a bare git repository: %w", abs, err)
		}
	}
	r := &Repository{Dir: abs, env: gitEnvironment(abs, environ)}
	r.layout = sync.OnceValue(r.readLayout)
	return r, nil
}

// IgnoreReplacements makes every object what its name says, whatever refs/replace
// puts in its place. It is for the one who has opened the repository, before
// anything is read.
func (r *Repository) IgnoreReplacements() { r.env = append(r.env, noReplacements) }

const noReplacements = "GIT_NO_REPLACE_OBJECTS=1"

// gitEnvironment builds the environment of git commands. GIT_QUARANTINE_PATH
// is handed on so that git itself refuses to move a ref onto objects that may
// yet be thrown away.
func gitEnvironment(dir string, environ []string) []string {
	env := []string{"GIT_DIR=" + dir, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0"}
	path := false
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "PATH":
			path = value != ""
		case "HOME", "XDG_CONFIG_HOME", "TMPDIR",
			"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_ATTR_NOSYSTEM",
			"GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH":
		default:
			continue
		}
		if value != "" {
			env = append(env, kv)
		}
	}
	if !path {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	return env
}

// command prepares one git command. It has a session of its own: Ctrl-C in the
// terminal of a pusher on this machine must not end half of a deployment, and a
// program that the repository's configuration names must not have the terminal
// of root, who may look at the repository as its account.
// git is looked up in the environment that it runs in, not in this process's.
func (r *Repository) command(ctx context.Context, extraEnv []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.gitPath(), args...)
	cmd.Dir = r.Dir
	cmd.Env = append(append([]string{}, r.env...), extraEnv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

func (r *Repository) gitPath() string {
	for _, kv := range r.env {
		path, found := strings.CutPrefix(kv, "PATH=")
		if !found {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			candidate := filepath.Join(dir, "git")
			if st, err := os.Stat(candidate); filepath.IsAbs(dir) && err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
				return candidate
			}
		}
	}
	return "/usr/bin/git"
}

// Run runs one git command on the repository and returns its standard output.
// The error keeps git's standard error; errors.As with *exec.ExitError tells
// the status.
func (r *Repository) Run(ctx context.Context, args ...string) (string, error) {
	return r.RunInput(ctx, nil, nil, args...)
}

// RunInput is Run with extra environment variables and a standard input.
func (r *Repository) RunInput(ctx context.Context, env []string, stdin io.Reader, args ...string) (string, error) {
	var stdout strings.Builder
	err := r.stream(ctx, env, stdin, &stdout, args...)
	return stdout.String(), err
}

// stream is RunInput that hands standard output on, and keeps nothing of it.
func (r *Repository) stream(ctx context.Context, env []string, stdin io.Reader, stdout io.Writer, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := r.command(ctx, env, args...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	if err := cmd.Run(); err != nil {
		return commandError(ctx, args, stderr.String(), err)
	}
	return nil
}

func commandError(ctx context.Context, args []string, stderr string, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	name := ""
	for i := 0; i < len(args) && name == ""; i++ {
		if args[i] == "-c" {
			i++ // its value is not the subcommand
		} else {
			name = args[i]
		}
	}
	return &Error{Command: name, Stderr: strings.TrimSpace(stderr), Err: err}
}

// exitStatus returns the status of a git command that ran and failed, else -1.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// Version returns git's version as it prints it: "2.39.5".
func (r *Repository) Version(ctx context.Context) (string, error) {
	out, err := r.Run(ctx, "version")
	return strings.TrimPrefix(strings.TrimSpace(out), "git version "), err
}
