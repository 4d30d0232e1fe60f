package command

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// becomes is the first argument of a process of our own program that is to become
// another one. It looks like a flag, so that a program that does not call Become,
// such as the tests of a package, refuses it.
const becomes = "--become-when-told"

// Descriptors of such a process, after the first three.
const (
	told   = 3 + iota // reads: one byte when it may go on, nothing when it is not wanted
	failed            // writes: why it could not become the other program, an errno
)

// Become makes this process the program that the arguments name as soon as it is
// told to, where they say so, and ends it where it is not. Otherwise it returns at
// once. Every program that runs commands with Started calls it first of all.
func Become(args []string) {
	if len(args) < 3 || args[0] != becomes {
		return
	}
	unix.CloseOnExec(told)
	unix.CloseOnExec(failed)
	n, err := 0, error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(told, make([]byte, 1))
	}
	if n != 1 {
		os.Exit(126) // whoever has started this one is gone, or could not note it
	}
	errno := syscall.Errno(0)
	errors.As(syscall.Exec(args[1], args[2:], os.Environ()), &errno)
	unix.Write(failed, binary.NativeEndian.AppendUint64(nil, uint64(errno)))
	os.Exit(126)
}

// A gate keeps a command from beginning before somebody has noted its process: the
// process is one of our own program until then. If we die before, it ends; there is
// no moment at which a command runs that nobody knows of.
type gate struct {
	tell, failed *os.File
	theirs       []*os.File
}

// newGate has cmd wait for us. The other descriptors are for the command.
func newGate(cmd *exec.Cmd, others ...*os.File) (*gate, error) {
	toldR, tell, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	failedR, failedW, err := os.Pipe()
	if err != nil {
		toldR.Close()
		tell.Close()
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	g := &gate{tell: tell, failed: failedR, theirs: []*os.File{toldR, failedW}}
	cmd.ExtraFiles = append(g.theirs[:2:2], others...)
	cmd.Args = append([]string{cmd.Args[0], becomes, cmd.Path}, cmd.Args...)
	cmd.Path = "/proc/self/exe" // also where an upgrade has put another one in its place
	return g, nil
}

// started closes what only the other process needs.
func (g *gate) started() {
	for _, f := range g.theirs {
		f.Close()
	}
}

// open lets the command begin, and returns why there is no such program after all.
func (g *gate) open() error {
	if _, err := g.tell.Write([]byte{1}); err != nil {
		return nil // it has been killed: its exit status says so
	}
	answer := make([]byte, 8)
	g.failed.SetReadDeadline(time.Now().Add(grace)) // a slow one is waited for as any other
	if n, _ := g.failed.Read(answer); n == len(answer) {
		return syscall.Errno(binary.NativeEndian.Uint64(answer))
	}
	return nil
}

func (g *gate) close() {
	g.tell.Close()
	g.failed.Close()
}

// startNoted starts a command, where Started notes its process before it begins.
func (c Command) startNoted(ctx context.Context, cmd *exec.Cmd, out *stream) error {
	path := cmd.Path
	var reader []*os.File
	if r := out.again(); r != nil {
		defer r.Close()
		reader = []*os.File{r}
	}
	g, err := newGate(cmd, reader...)
	if err != nil {
		return err
	}
	defer g.close()
	err = cmd.Start()
	g.started()
	if err != nil {
		return fmt.Errorf("%q was not started: this program cannot start itself: %w", c.Argv[0], err)
	}
	if err = c.Started(cmd.Process.Pid); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("%q was not started: %w", c.Argv[0], err)
	} else if err = g.open(); err != nil {
		err = startError(c, path, err)
	}
	if err != nil {
		g.close() // so that it ends
		cmd.Wait()
	}
	return err
}
