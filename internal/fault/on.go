//go:build faults

// Package fault lets tests kill, or stop, a program at every step of its work.
package fault

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// steps counts the steps that this process has taken.
var steps atomic.Int64

// taken is the file that their names go to, nil for none. It is opened before the
// process is confined to the directories that it writes in.
var taken = func() *os.File {
	path := os.Getenv("BLUEGREEN_STEPS")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
	}
	return f
}()

// Step names a moment at which a crash must do no harm. The process kills
// itself at the step whose number BLUEGREEN_DIE_AT holds, and adds every
// step's name to the file that BLUEGREEN_STEPS names. With BLUEGREEN_STOP it
// stops at each step, until it gets SIGCONT.
func Step(name string) {
	n := steps.Add(1)
	if taken != nil {
		fmt.Fprintln(taken, name)
	}
	if at, err := strconv.ParseInt(os.Getenv("BLUEGREEN_DIE_AT"), 10, 64); err == nil && n == at {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
	if os.Getenv("BLUEGREEN_STOP") != "" {
		// To this thread, which takes no other step before it stops, and with it all.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGSTOP)
	}
}
