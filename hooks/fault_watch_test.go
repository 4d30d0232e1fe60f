//go:build e2e

package hooks_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// hung is how long a hook may be there after its pusher has gone.
const hung = 30 * time.Second

// deployWatched pushes the new commit, and calls at with the steps that it has
// taken: at each step, where it then waits, or now and then while it goes on.
func (w *walker) deployWatched(steps bool, at func(taken []string)) (status int, out string) {
	env, path := w.faults(0)
	if steps {
		env = append(env, "BLUEGREEN_STOP=1")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		status, out = w.push(env, "+"+w.new+":refs/heads/master")
	}()
	w.watch(done, steps, func() { at(w.steps(path)) })
	return status, out
}

// watch calls at as long as a push is not done, and until all that it has started
// has ended. It tells whether that came to its end.
func (s *server) watch(done <-chan struct{}, steps bool, at func()) bool {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		pause := time.Millisecond // to look whether it has come to a step
		if !steps {
			pause = rand.N(30 * time.Millisecond)
		}
		select {
		case <-done:
			if len(s.processes()) == 0 {
				return true
			}
			deadline = earlier(deadline, time.Now().Add(hung))
			time.Sleep(time.Millisecond)
		case <-time.After(pause):
		}
		if pid := s.stopped(); pid != 0 {
			at()
			resume(pid)
		} else if !steps {
			at()
		}
		if time.Now().After(deadline) {
			s.Errorf("the deployment does not end: %v", s.processes())
			for _, pid := range s.processes() {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			return false
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// processes are those that work in the repository or the web root.
func (s *server) processes() (pids []int) {
	s.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*")
	s.must(err)
	for _, dir := range entries {
		cwd, err := os.Readlink(filepath.Join(dir, "cwd"))
		if err != nil || !strings.HasPrefix(cwd+"/", s.git+"/") && !strings.HasPrefix(cwd+"/", s.www+"/") && !strings.HasPrefix(cwd, filepath.Dir(s.www)+"/releases/") {
			continue
		}
		var pid int
		fmt.Sscan(filepath.Base(dir), &pid)
		if pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stopped is a hook that has stopped itself at a step, 0 where there is none.
func (s *server) stopped() int {
	for _, pid := range s.processes() {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if _, state, found := strings.Cut(string(stat), ") "); found && strings.HasPrefix(state, "T") {
			return pid
		}
	}
	return 0
}

// resume lets a stopped process go on.
func resume(pid int) { syscall.Kill(pid, syscall.SIGCONT) }
