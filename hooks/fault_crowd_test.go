//go:build e2e

package hooks_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// TestCrowd has many push at once, again and again, while those that hold the lock
// are killed now and then. Each is told the truth, and the history has it.
func TestCrowd(t *testing.T) {
	t.Parallel()
	needs(t)
	c := &crowd{pushers: 5, pushes: 4, pause: 200 * time.Millisecond}
	if campaign(t) > 0 {
		c.pushers, c.pushes, c.pause = 20, 50, time.Second
	}
	c.server = newServer(t, "", "lock_wait = \"2m\"\n", allHooks...)
	c.found.what = fmt.Sprintf("%d pushers, %d pushes each, holders of the lock killed", c.pushers, c.pushes)
	defer func() { c.found.print(t) }()
	c.commit(map[string]string{"page": "first"})
	c.pushed("master")
	var trees []gittest.Tree
	for i := range c.pushers * c.pushes {
		trees = append(trees, gittest.Files("page", fmt.Sprint(i), fmt.Sprintf("dir/%d", i%7), "x", "same", "same"))
	}
	c.commits = gittest.Commits(t, c.dev, trees...)
	c.told = make([]told, len(c.commits))

	done, killer := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(killer)
		c.killHolders(done)
	}()
	var wg sync.WaitGroup
	for p := range c.pushers {
		wg.Go(func() {
			for i := p * c.pushes; i < (p+1)*c.pushes; i++ {
				status, out := c.status(nil, c.dev, "git", "push", "-q", c.git, "+"+c.commits[i]+":refs/heads/master")
				c.told[i] = told{status, out}
			}
		})
	}
	wg.Wait()
	close(done)
	<-killer
	c.look()
}

// lostOurRace is what one is told whom we refuse, and not git.
var lostOurRace = regexp.MustCompile(`while this push was waiting|: fetch first`)

// A crowd is many pushers of one server.
type crowd struct {
	*server
	pushers, pushes int
	pause           time.Duration // between two kills, about
	commits         []string      // one for each push
	told            []told        // what its pusher was
	found           figures
}

type told struct {
	status int
	out    string
}

// killHolders kills whoever holds the lock, now and then: some time after it has
// been seen that somebody does.
func (c *crowd) killHolders(done <-chan struct{}) {
	pause, seen := rand.N(c.pause), false
	for {
		select {
		case <-done:
			return
		case <-time.After(pause):
		}
		switch pid := c.ourHolder(); {
		case pid == 0:
			pause, seen = time.Millisecond, false
		case !seen:
			pause, seen = rand.N(40*time.Millisecond), true
		case syscall.Kill(pid, syscall.SIGKILL) == nil:
			c.found.times++
			pause, seen = c.pause/2+rand.N(c.pause), false
		}
	}
}

// ourHolder is the process that holds the lock, 0 where none of ours does.
func (c *crowd) ourHolder() int {
	var holder struct{ PID int }
	data, _ := os.ReadFile(filepath.Join(c.git, "bluegreen/lock"))
	if json.Unmarshal(data, &holder) != nil {
		return 0
	}
	program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", holder.PID))
	if !strings.HasPrefix(program, c.bin+"/") {
		return 0
	}
	return holder.PID
}

// look holds what the pushers were told against what there is.
func (c *crowd) look() {
	c.Helper()
	c.until("all hooks have ended", func() bool { return len(c.processes()) == 0 })
	c.run(c.git, "bluegreen", "recover") // where the last one was killed
	at := c.ref("refs/heads/master")
	if c.holds(at); c.Failed() {
		c.found.mixed++
	}
	results, last := map[string]string{}, ""
	for _, e := range c.history() { // which fails on a line that is torn
		if e["event"] == "deploy" {
			commit, result := e["commit"].(string), e["result"].(string)
			if results[commit] = result; result == "succeeded" {
				last = commit
			}
		}
	}
	if last != at {
		c.found.lost++
		c.Errorf("master is at %s, and the last deployment in the history is %s", at, last)
	}
	abrupt := 0
	for i, told := range c.told {
		result := results[c.commits[i]]
		switch {
		case told.status == 0:
			c.found.new++
			if result != "succeeded" {
				c.found.lost++
				c.Errorf("a push has succeeded, and the history says %q of it\n%s", result, told.out)
			}
		case lostRace.MatchString(told.out):
			c.found.old++
			if lostOurRace.MatchString(told.out) && result != "refused" {
				c.found.lost++
				c.Errorf("a push was refused, and the history says %q of it\n%s", result, told.out)
			}
		default:
			abrupt++
			c.Logf("history: %q\n%s", result, told.out)
		}
	}
	if abrupt > c.found.times {
		c.Errorf("%d pushes have ended without a reason, and %d holders were killed", abrupt, c.found.times)
	}
	c.Logf("%d were deployed, %d refused, and %d saw their hook killed", c.found.new, c.found.old, abrupt)
}
