package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNotedFirst: a command begins after its process has been noted, and is that
// process.
func TestNotedFirst(t *testing.T) {
	t.Parallel()
	begun := filepath.Join(t.TempDir(), "begun")
	c := shell(`: >"$1"; echo $$; cut -d' ' -f22 /proc/$$/stat; grep SigBlk /proc/self/status`, begun)
	var noted []string
	c.Started = func(pid int) error {
		if _, err := os.Stat(begun); err == nil {
			t.Error("it has begun")
		}
		noted = []string{fmt.Sprint(pid), Stat(pid, 22), "SigBlk:\t0000000000000000"}
		return nil
	}
	if out, err := Run(t.Context(), c, nil); err != nil || !slices.Equal(out.Tail, noted) {
		t.Errorf("it is %q, %v; noted was %q", out.Tail, err, noted)
	}
	if _, err := os.Stat(begun); err != nil {
		t.Error(err)
	}
}

// TestNotNoted: where its process cannot be noted, or is not wanted any more, a
// command does nothing.
func TestNotNoted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	for want, started := range map[string]func(pid int) error{
		`"/bin/sh" was not started: no space left on device`: func(int) error { return unix.ENOSPC },
		`"/bin/sh" was not started: context canceled`:        func(int) error { cancel(); return nil },
	} {
		begun := filepath.Join(t.TempDir(), "begun")
		c := shell(`: >"$1"`, begun)
		pid := 0
		c.Started = func(p int) error { pid = p; return started(p) }
		_, err := Run(ctx, c, nil)
		if unstarted := (*NotStarted)(nil); err == nil || err.Error() != want || !errors.As(err, &unstarted) {
			t.Errorf("%v, want %s", err, want)
		}
		if _, err := os.Stat(begun); err == nil {
			t.Errorf("%s: it has begun", want)
		}
		if unix.Kill(pid, 0) != unix.ESRCH {
			t.Errorf("%s: the process is still there", want)
		}
	}
}

// TestGoneBeforeNoting: a command does not begin when we die before its process has
// been noted.
func TestGoneBeforeNoting(t *testing.T) {
	t.Parallel()
	begun := filepath.Join(t.TempDir(), "begun")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, begun)
	cmd.Env = []string{"COMMAND_TEST_ROLE=gone before noting"}
	out, err := cmd.Output()
	var pid int
	if _, scanErr := fmt.Sscan(string(out), &pid); err == nil || scanErr != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		defer unix.Close(fd)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		for err == unix.EINTR {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		}
		if n != 1 {
			t.Error("the process that was to become the command is still there")
		}
	}
	if _, err := os.Stat(begun); err == nil {
		t.Error("it has begun")
	}
}

// noteNothing is killed where it should note the process of its command.
func noteNothing() {
	c := shell(`: >"$1"`, os.Args[1])
	c.Started = func(pid int) error {
		fmt.Println(pid)
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
	Run(context.Background(), c, nil)
}
