package hooks_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// calls are the system calls that change something, by what they do. Each group
// is struck in turn, or the rare ones never would be. "?" is for those that this
// machine's kernel may not have.
var calls = []string{
	"renameat2", "?rename,renameat", "?link,linkat", "?unlink,?rmdir,unlinkat", "?mkdir,?symlink,mkdirat,symlinkat",
	"fsync,fdatasync,syncfs", "write,pwrite64", "ftruncate,fchmod,?chmod,fchmodat,utimensat", "openat,openat2,?open",
}

// errnos are those that a call is made to fail with, once.
var errnos = []string{"EIO", "ENOSPC", "EDQUOT", "EMFILE", "EINTR"}

// TestAtSystemCalls strikes the very programs that are released at their system
// calls, from outside: it kills them, and the recovery after that, and it lets a
// call fail. Where the tests of every step look at the steps that we have named,
// this one looks between them.
func TestAtSystemCalls(t *testing.T) {
	t.Parallel()
	limit := campaign(t)
	if limit == 0 {
		t.Skipf("it takes its time: make faults, which sets %s", campaignFor)
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("it needs strace (apt-get install strace)")
	}
	bin, err := releasedPrograms()
	must(t, err)
	for _, k := range killings() {
		k.bin = bin
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.campaign(t, limit)
		})
	}
}

var releasedPrograms = sync.OnceValues(func() (bin string, err error) {
	bin = filepath.Join(os.Getenv(programsDir), "released")
	return bin, buildPrograms(bin, "-trimpath")
})

// A strike is what happens to one system call of a program.
type strike struct {
	calls string
	when  int    // its number among those of one thread
	how   string // strace's word for it
}

func (s strike) String() string { return fmt.Sprintf("%s at call %d of %s", s.how, s.when, s.calls) }

// strace is the command line that strikes a program.
func (s strike) strace(trace string) []string {
	return []string{"strace", "-f", "-qq", "-o", trace, "-e", "trace=" + s.calls, "-e", fmt.Sprintf("inject=%s:%s:when=%d", s.calls, s.how, s.when)}
}

// struck tells from a trace whether there was such a call.
func struck(trace string) bool {
	text, _ := os.ReadFile(trace)
	return strings.Contains(string(text), "+++ killed by SIGKILL") || strings.Contains(string(text), "(INJECTED)")
}

// A campaignServer is a server whose deployments are struck.
type campaignServer struct {
	*walker
	*rand.Rand
	trace                    string
	killed, recovery, failed int // those that were struck
	new, old                 int // what the web root held after a kill
}

func (k killing) campaign(t *testing.T, limit time.Duration) {
	c := &campaignServer{walker: k.newWalker(t), Rand: rand.New(rand.NewPCG(rand.Uint64(), 1))}
	c.trace = filepath.Join(c.dir, "trace")
	if !k.operator {
		c.wrap(c.hooks[len(c.hooks)/2]) // the one that deploys
	}
	end := time.Now().Add(limit)
	for n := 0; time.Now().Before(end) && !t.Failed(); n++ { // one failure is enough to read
		s := strike{calls: calls[n%len(calls)], when: 1 + c.IntN(8), how: "signal=KILL"}
		if n%2 == 1 {
			s.when += c.IntN(40)
		}
		if n%5 == 4 {
			s.how = "error=" + errnos[c.IntN(len(errnos))]
			c.fail(s)
		} else {
			c.kill(s)
		}
		c.restore()
	}
	if out := c.run(c.git, "git", "fsck", "--no-dangling", "--no-progress"); out != "" {
		t.Errorf("after all that, git fsck: %s", out)
	}
	what := fmt.Sprintf("%s: at system calls (killed: %s, the recovery, too: %s; calls failed: %s)", k.name, grouped(c.killed), grouped(c.recovery), grouped(c.failed))
	figures{what: what, times: c.killed + c.failed, new: c.new, old: c.old}.print(t)
}

// wrap has git run a hook beneath another program, such as strace, where the
// environment says so.
func (w *walker) wrap(hook string) {
	path := filepath.Join(w.git, "hooks", hook)
	program, err := os.Readlink(path)
	w.must(err)
	w.must(os.Remove(path))
	gittest.Script(w, path, fmt.Sprintf("#!/bin/sh\nexec $STRIKE %s\n", program))
}

// deployStruck deploys the new commit, and strikes.
func (c *campaignServer) deployStruck(s strike) (status int, out string, hit bool) {
	c.must(os.RemoveAll(c.trace))
	command := s.strace(c.trace)
	if c.operator {
		command = append(command, filepath.Join(c.server.bin, "bluegreen"), "deploy", c.walker.new)
		status, out = c.status(nil, c.git, command[0], command[1:]...)
	} else {
		status, out = c.push([]string{"STRIKE=" + strings.Join(command, " ")}, "+"+c.walker.new+":refs/heads/master")
	}
	c.ageScratch()
	return status, out, struck(c.trace)
}

// ageScratch does what happens when a directory that is used for a moment is a
// day old: who only looks makes such ones, too, without a lock.
func (s *server) ageScratch() {
	scratch, err := filepath.Glob(filepath.Join(s.git, "bluegreen/scratch-*"))
	s.must(err)
	for _, dir := range scratch {
		s.must(os.RemoveAll(dir))
	}
}

// kill kills a deployment, half of the time also the recovery after it, and
// then looks whether it recovers.
func (c *campaignServer) kill(s strike) {
	what := s.String()
	_, _, hit := c.deployStruck(s)
	if hit {
		c.killed++
	}
	if hit && c.IntN(2) == 0 {
		c.must(os.RemoveAll(c.trace))
		again := strike{calls: calls[c.IntN(len(calls))], when: 1 + c.IntN(12), how: "signal=KILL"}
		what += ", and of the recovery, " + again.String()
		command := append(again.strace(c.trace), filepath.Join(c.server.bin, "bluegreen"), "recover")
		if c.status(nil, c.git, command[0], command[1:]...); struck(c.trace) {
			c.recovery++
		}
		c.ageScratch()
	}
	switch held := c.recovered(what); {
	case !hit:
	case held == c.walker.new:
		c.new++
	case held == c.walker.old:
		c.old++
	}
}

// fail lets one call fail: what is said is true, and the next deployment works.
func (c *campaignServer) fail(s strike) {
	status, out, hit := c.deployStruck(s)
	if hit {
		c.failed++
	}
	site := c.tracked(s.String())
	isNew := maps.Equal(site, c.newSite)
	switch {
	case !isNew && !maps.Equal(site, c.oldSite) && !strings.Contains(out, "bluegreen recover"):
		c.Errorf("%s: the web root is neither commit's, and nobody says what to do\n%s", s, out)
	case status == 0 && !isNew && !strings.Contains(out, "error:") && !strings.Contains(s.calls, "write"): // with which it is said
		c.Errorf("%s: the new commit is not there, and nobody says so\n%s", s, out)
	case status == 0 && !isNew && c.hooks[0] != "post-receive":
		c.Errorf("%s: the new commit is not there, and the status is 0\n%s", s, out)
	}
	if c.operator {
		c.run(c.git, "bluegreen", "deploy", c.walker.new)
	} else {
		c.pushMore(s.String())
	}
	if held := c.verify(s.String() + ", deployed again"); held == "" || !slices.Contains([]string{c.walker.old, c.walker.new}, held) {
		c.Errorf("%s: deployed again, the web root holds %q", s, held)
	}
}
