// Package command runs the operator's commands: argv, no shell, a session of
// their own without a terminal, and none of the descriptors that git waits for.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// grace is what a command that was asked to end has for it.
	grace = 2 * time.Second
	// patience is how long a killed leader may take to die. One that sudo made
	// root's, or that hangs in the kernel, does not die at all.
	patience = time.Second
	// maxValue is the most that a command may print as a value, in bytes.
	maxValue = 64 << 10
)

// Command is one program of the operator's, run as argv, without a shell. A
// program without a slash is looked up in the PATH of Env, not in ours; one
// with a slash, if relative, is relative to Dir.
type Command struct {
	Argv    []string
	Env     []string      // the complete environment
	Dir     string        // working directory; "" for ours
	Timeout time.Duration // 0 leaves it to the context
	// Started is told of the process before the command begins, which it does not
	// where Started returns an error; may be nil. Where it is not, somebody may wait
	// for the process when we are gone: what it prints then does not end it. The
	// program must call Become.
	Started func(pid int) error
}

// Output is what a command printed.
type Output struct {
	Tail []string // the last lines: at most 20, of at most 1000 bytes each
}

// Last returns the last line that is not blank, "" where there is none.
func (o Output) Last() string {
	for _, line := range slices.Backward(o.Tail) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// An Error is a command that was started and did not succeed. errors.As with
// *exec.ExitError tells its status; errors.Is with context.DeadlineExceeded or
// context.Canceled tells that it was stopped.
type Error struct {
	Program string // as in Argv
	Outcome string // "exited with status 3"
	Err     error
}

func (e *Error) Error() string { return strconv.Quote(e.Program) + " " + e.Outcome }

func (e *Error) Unwrap() error { return e.Err }

// NotStarted is why a command did not begin, so that it has done nothing.
type NotStarted struct{ Err error }

func (e *NotStarted) Error() string { return e.Err.Error() }

func (e *NotStarted) Unwrap() error { return e.Err }

// Run runs a command to its end and returns the last lines of its output, also
// when it fails. Each line of its merged stdout and stderr is handed to line,
// which may be nil, as it comes: by another goroutine, never after Run has
// returned, without its line end, and cut into pieces of 4 KiB where it is
// longer. The bytes are the command's own: escape them before printing. A line
// that blocks blocks the command.
//
// A command ends when its first process does. What it left in the background
// lives on, but can print nothing more. A command that is out of time, or whose
// context ends, gets SIGTERM, and 2 s later SIGKILL, with all of its process
// group; if even that does not end it (sudo), Run returns 1 s later.
func Run(ctx context.Context, c Command, line func(string)) (Output, error) {
	out := lines{line: line}
	err := run(ctx, c, out.write, nil)
	out.flush()
	return Output{Tail: out.tail()}, err
}

// Read runs a command that prints a value, as Run does, and returns its
// standard output. More than 64 KiB is an error. Where the command fails, the
// error has the last line that it wrote to its standard error, quoted.
func Read(ctx context.Context, c Command) (string, error) {
	var value []byte
	var said lines
	err := run(ctx, c, func(p []byte) {
		value = append(value, p[:min(len(p), maxValue+1-len(value))]...)
	}, said.write)
	said.flush()
	if failed := (*Error)(nil); errors.As(err, &failed) {
		if last := (Output{Tail: said.tail()}).Last(); last != "" {
			failed.Outcome += fmt.Sprintf(", saying %q", last)
		}
	}
	if err != nil {
		return "", err
	}
	if len(value) > maxValue {
		return "", fmt.Errorf("%q printed more than 64 KiB", c.Argv[0])
	}
	return string(value), nil
}

// run runs a command and hands its output to stdout and stderr, or, where
// stderr is nil, all of it to stdout, in the order in which it was written.
func run(ctx context.Context, c Command, stdout, stderr func([]byte)) error {
	cmd, err := c.prepare(ctx)
	if err != nil {
		return &NotStarted{err}
	}
	out, err := newStream()
	if err != nil {
		return &NotStarted{err}
	}
	streams := []*stream{out}
	cmd.Stdout, cmd.Stderr = out.w, out.w
	if stderr != nil {
		errs, err := newStream()
		if err != nil {
			out.close()
			return &NotStarted{err}
		}
		cmd.Stderr = errs.w
		streams = append(streams, errs)
		go errs.copy(stderr)
	}
	go out.copy(stdout)
	defer func() {
		for _, s := range streams {
			s.finish()
		}
	}()
	if c.Started != nil {
		err = c.startNoted(ctx, cmd, out)
	} else if err = cmd.Start(); err != nil {
		err = startError(c, cmd.Path, err)
	}
	for _, s := range streams {
		s.w.Close() // the command's copy is the one that counts
	}
	if err != nil {
		return &NotStarted{err}
	}
	return wait(ctx, c, cmd)
}

// wait waits for a started command, and stops it when its time is over.
func wait(ctx context.Context, c Command, cmd *exec.Cmd) error {
	exited := make(chan error, 1) // buffered, for the one that never dies
	go func() { exited <- cmd.Wait() }()
	var expired <-chan time.Time
	if c.Timeout > 0 {
		expired = time.After(c.Timeout)
	}
	outcome, cause := "", error(nil)
	select {
	case err := <-exited:
		return exitError(c.Argv[0], err)
	case <-expired:
		outcome, cause = fmt.Sprintf("did not end within %s", c.Timeout), context.DeadlineExceeded
	case <-ctx.Done():
		outcome, cause = "was stopped: "+ctx.Err().Error(), ctx.Err()
	}
	if !stop(cmd.Process, exited) {
		outcome += ", and could not be killed"
	}
	return &Error{Program: c.Argv[0], Outcome: outcome, Err: cause}
}

func exitError(program string, err error) error {
	exit := (*exec.ExitError)(nil)
	if err == nil {
		return nil
	}
	if !errors.As(err, &exit) {
		return fmt.Errorf("waiting for %q: %w", program, err)
	}
	outcome := fmt.Sprintf("exited with status %d", exit.ExitCode())
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		outcome = fmt.Sprintf("was killed by signal %d (%s)", status.Signal(), status.Signal())
	}
	return &Error{Program: program, Outcome: outcome, Err: err}
}

// stop ends a process group and tells whether its leader has ended, who leads a
// session and so cannot leave the group. The leader's end alone is not the end:
// a shell dies of SIGTERM at once, its children may need their grace.
func stop(leader *os.Process, exited <-chan error) bool {
	unix.Kill(-leader.Pid, unix.SIGTERM)
	over := time.After(grace)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for empty := false; !empty; {
		select {
		case <-exited:
			exited = nil
		case <-poll.C:
			// A group that has members keeps its number from being reused.
			empty = exited == nil && unix.Kill(-leader.Pid, 0) == unix.ESRCH
		case <-over:
			unix.Kill(-leader.Pid, unix.SIGKILL)
			empty = true
		}
	}
	if exited == nil {
		return true
	}
	select {
	case <-exited:
		return true
	case <-time.After(patience):
		return false
	}
}
