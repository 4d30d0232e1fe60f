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

// Step names a moment at which a crash must do no harm. The process kills
// itself at the step whose number BLUEGREEN_DIE_AT holds, and adds every
// step's name to the file that BLUEGREEN_STEPS names. With BLUEGREEN_STOP it
// stops at each step, until it gets SIGCONT.
func Step(name string) {
	n := steps.Add(1)
	if path := os.Getenv("BLUEGREEN_STEPS"); path != "" {
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
			fmt.Fprintln(f, name)
			f.Close()
		}
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
