package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A shell runs programs in an environment that is the same on every machine.
type shell struct {
	home    string   // has git's configuration
	bin     string   // our programs
	environ []string // more variables, which hooks inherit
}

// gitConfig is all of git's configuration above the repositories. Nothing may
// go on in the background when a command has ended.
const gitConfig = "[init]\n\tdefaultBranch = master\n[user]\n\tname = Ann\n\temail = ann@example.com\n" +
	"[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[receive]\n\tautogc = false\n[advice]\n\tdetachedHead = false\n"

func newShell(home, bin string) (*shell, error) {
	return &shell{home: home, bin: bin}, os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(gitConfig), 0o644)
}

// A job is a program that is run to its end.
type job struct {
	dir     string
	env     []string
	argv    []string
	stdin   io.Reader
	timeout time.Duration // 10 minutes where it is 0
	started func(pid int)
	status  *int           // takes an exit status that is not 0, which is no error then
	cpu     *time.Duration // takes the processors' time, also of all that was started and waited for
}

// run runs a job and returns all that it has printed. It does not outlive ctx,
// and neither does what it has started.
func (sh *shell) run(ctx context.Context, j job) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(j.timeout, 10*time.Minute))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, j.argv[0], j.argv[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = j.dir, j.stdin, &out, &out
	cmd.Env = append([]string{"HOME=" + sh.home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_GLOBAL=" + filepath.Join(sh.home, ".gitconfig"), "GIT_CONFIG_NOSYSTEM=1"}, append(sh.environ, j.env...)...)
	// Hooks outlive git, as they should: the whole group has to go.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return "", err
	}
	if j.started != nil {
		j.started(cmd.Process.Pid)
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		gone(cmd.Process.Pid)
		err = context.Cause(ctx)
	}
	if j.cpu != nil {
		*j.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if status := cmd.ProcessState.ExitCode(); j.status != nil && status > 0 {
		*j.status, err = status, nil
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w: %s", strings.Join(j.argv, " "), err, lastLines(out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// gone waits until all of a killed group have ended, a few seconds at most.
func gone(group int) {
	for range 300 {
		if syscall.Kill(-group, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// lastLines are the lines of an output that say what went wrong.
func lastLines(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// git runs git and returns what it prints.
func (sh *shell) git(ctx context.Context, dir string, args ...string) (string, error) {
	return sh.run(ctx, job{dir: dir, argv: append([]string{"git"}, args...)})
}
