//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"time"
)

// A gate holds a deployment of a server's between activation and the checks.
type gate struct {
	*host
	held *os.File
}

// addGate adds a command to the server's configuration that waits while there
// is a named pipe.
func (s *story) addGate(server *host) {
	s.Helper()
	server.write("/usr/local/bin/gate", "#!/bin/sh\n[ ! -p /run/gate ] || read -r line </run/gate\nexit 0\n", 0o755)
	s.configure(server, `
[[command]]
at  = "deployed"
run = ["/usr/local/bin/gate"]
`)
}

// closeGate has the next deployment stop at the gate.
func (h *host) closeGate() *gate {
	h.Helper()
	h.sh("mkfifo --mode=644 /run/gate")
	return &gate{host: h}
}

// wait waits until a deployment is at the gate.
func (g *gate) wait(push *background) {
	g.Helper()
	pipe := g.path("/run/gate")
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var err error
		g.held, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, syscall.ENXIO) { // nobody reads yet
			g.Fatal(err)
		}
		select {
		case <-push.done:
			g.Fatalf("the push has not reached the gate: status %d\n%s", push.status, push.out)
		case <-time.After(5 * time.Millisecond):
		}
	}
	g.Fatal("the push does not reach the gate")
}

// open lets the deployment go on.
func (g *gate) open() {
	g.Helper()
	g.sh("rm /run/gate")
	must(g, g.held.Close())
}

// A background is a push that goes on while something else happens.
type background struct {
	done   chan struct{} // closed when the push has ended
	status int
	out    string
}

func (s *story) pushInBackground(args ...string) *background {
	p := &background{done: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	c := s.dev.command(ctx, ann, append([]string{"git", "-C", "sample_app", "push"}, args...)...)
	go func() {
		defer close(p.done)
		defer cancel()
		out, err := c.CombinedOutput()
		p.out = string(out)
		if err != nil {
			p.status = max(c.ProcessState.ExitCode(), 1)
		}
	}()
	s.Cleanup(func() {
		cancel()
		<-p.done
	})
	return p
}

// end waits for the push's end.
func (s *story) end(p *background) {
	s.Helper()
	<-p.done // commands have a deadline
	s.hidden(p.out)
	s.Logf("the push: status %d\n%s", p.status, indent(p.out))
}

// upgradeDuringPush replaces the programs while a push runs them.
func (s *story) upgradeDuringPush() {
	s.Helper()
	began := time.Now()
	s.addGate(s.green)
	// Programs run with something behind their end, too.
	s.green.sh("mkdir second; for p in bluegreen pre-receive proc-receive post-receive; do cp $p second/; echo >>second/$p; done")
	s.release("version-4")
	gate := s.green.closeGate()
	push := s.pushInBackground("green", "master")
	gate.wait(push)
	s.asRoot(s.green, "second/bluegreen install")
	gate.open()
	s.end(push)
	if push.status != 0 || !strings.Contains(push.out, "success: ") {
		s.Error("the push did not survive the upgrade")
	}
	s.wholly(s.green, "version-4")
	for name, path := range map[string]string{
		"pre-receive": repository + "/hooks/pre-receive", "proc-receive": repository + "/hooks/proc-receive",
		"post-receive": repository + "/hooks/post-receive", "bluegreen": "/usr/local/bin/bluegreen",
	} {
		s.green.sh("cmp " + unpacked + "/second/" + name + " " + path)
	}
	s.release("version-5")
	s.pushed("green", "master")
	s.wholly(s.green, "version-5")
	s.undisturbed("an upgrade during a push", 0, began)
}

// reboot cuts the power of the idle server in the middle of a push: the release
// is in the web root then, and not yet found healthy.
func (s *story) reboot() {
	s.Helper()
	began := time.Now()
	s.release("version-6")
	gate := s.green.closeGate()
	push := s.pushInBackground("green", "master")
	gate.wait(push)
	s.wholly(s.green, "version-6")
	s.green.crash()
	gate.held.Close()
	s.green.boot()
	s.end(push)
	if push.status == 0 {
		s.Error("the push says that it has succeeded")
	}
	s.wholly(s.green, "version-5")
	s.undisturbed("a reboot of the idle server in the middle of a push", 0, began)
	s.pushed("green", "master")
	s.wholly(s.green, "version-6")
	s.git("tag", "release-6")
	promoted := s.pushed("green", "release-6")
	s.moved("from tag to production, after the reboot", "green", "version-6", promoted)
}
