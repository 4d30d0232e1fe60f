//go:build e2e

package nginx_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// words: whoever calls the script wrongly learns how, and touches nothing.
func words(s *server) {
	s.sites()
	for _, args := range [][]string{{}, {"own"}, {"owner", "blue"}, {"assign"}, {"assign", ""}, {"assign", "red"},
		{"assign", "../blue"}, {"assign", "blue\n"}, {"assign", "blue", "green"}, {"linked"}, {"-h"}} {
		if status, out, errs := s.traffic(args...); status != 2 || out != "" || errs != "usage: traffic owner | traffic assign blue|green\n" {
			s.Errorf("traffic %q: status %d, %q, %q", args, status, out, errs)
		}
	}
	s.serves("green", "green's page")
}

// sites gives each environment a page of its own, without a push.
func (s *server) sites() {
	s.Helper()
	s.write("www/blue/index.html", "blue's page")
	s.write("www/green/index.html", "green's page")
}

// assigned moves the traffic by hand.
func (s *server) assigned(to string) {
	s.Helper()
	if status, out, errs := s.traffic("assign", to); status != 0 || out+errs != "" {
		s.Errorf("traffic assign %s: status %d, %q, %q", to, status, out, errs)
	}
	s.serves(to, to+"'s page")
}

// says runs an assign to blue that must fail, and leave the link alone.
func (s *server) says(words string) {
	s.Helper()
	status, out, errs := s.traffic("assign", "blue")
	if status != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "traffic: ") || !strings.Contains(errs, words) {
		s.Errorf("traffic assign blue: status %d, %q, %q, want one line with %q", status, out, errs, words)
	}
	s.leads("green")
}

// leads checks the link, of which the script is not asked: it would mend it.
func (s *server) leads(environment string) {
	s.Helper()
	if link, err := os.Readlink(s.path("bluegreen/live.conf")); err != nil || link != environment+".conf" {
		s.Errorf("live.conf leads to %q (%v), want %s", link, err, environment)
	}
}

// switches moves the traffic and back, and also where there is nothing to do.
func switches(s *server) {
	s.sites()
	visitors := s.visit()
	// Of an assign that was killed before its rename.
	must(s, os.Symlink("green.conf", s.path("bluegreen/live.conf.new")))
	for _, to := range []string{"blue", "blue", "green", "blue", "green"} {
		s.assigned(to)
	}
	visitors.saw("blue's page", "green's page")

	must(s, os.Rename(s.path("bluegreen/blue.conf"), s.path("bluegreen/away")))
	s.says("there is no " + s.path("bluegreen/blue.conf"))
	must(s, os.Rename(s.path("bluegreen/away"), s.path("bluegreen/blue.conf")))
	s.serves("green", "green's page")

	// Somebody has moved the link, and not reloaded.
	must(s, os.Remove(s.path("bluegreen/live.conf")))
	must(s, os.Symlink("blue.conf", s.path("bluegreen/live.conf")))
	s.assigned("blue")
}

// at has something happen, once, when the script calls nginx.
func (s *server) at(moment, script string) {
	s.Helper()
	s.write(moment, fmt.Sprintf("rm '%s'\n%s\n", s.path(moment), script))
}

// killScript, said by nginx, kills the script and all that it has started.
const killScript = "kill -9 0"

// scriptKilled kills an assign to blue at each of its steps. Afterwards link
// and nginx agree, and the next assign works.
func scriptKilled(s *server) {
	s.sites()
	for _, c := range []struct{ moment, has string }{
		{"before-test", "green"}, {"after-test", "green"}, {"before-reload", "green"}, {"after-reload", "blue"},
	} {
		s.at(c.moment, killScript)
		if status, _, errs := s.traffic("assign", "blue"); status != -1 {
			s.Errorf("%s: the script was not killed: status %d, %q", c.moment, status, errs)
		}
		s.leads("blue")
		s.serves(c.has, c.has+"'s page")
		s.assigned("blue") // what was cut short, once more
		s.assigned("green")
	}
}

// oneAtATime: a second assign waits for the first one; who asks for the owner
// does not, and leaves the link alone.
func oneAtATime(s *server) {
	s.sites()
	pipes := map[string]*os.File{}
	for _, name := range []string{"arrived", "open"} {
		must(s, unix.Mkfifo(s.path(name), 0o600))
		pipe, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
		must(s, err)
		s.Cleanup(func() { pipe.Close() })
		pipes[name] = pipe
	}
	s.at("before-test", fmt.Sprintf("echo >'%s'; read _ <'%s'", s.path("arrived"), s.path("open")))
	var both sync.WaitGroup
	both.Go(func() {
		if status, _, errs := s.traffic("assign", "blue"); status != 0 {
			s.Errorf("the first assign: status %d, %q", status, errs)
		}
	})
	must(s, pipes["arrived"].SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadFull(pipes["arrived"], make([]byte, 1))
	must(s, err)
	if status, out, errs := s.traffic("owner"); status != 0 || out != "green\n" {
		s.Errorf("traffic owner: status %d, %q, %q", status, out, errs)
	}
	s.leads("blue")
	impatient := append([]string{"/usr/bin/env"}, s.argv("assign", "green")[1:]...)
	for i, arg := range impatient {
		if strings.HasPrefix(arg, "TRAFFIC_PATIENCE=") {
			impatient[i] = "TRAFFIC_PATIENCE=0"
		}
	}
	if status, _, errs := s.run(s.dir, impatient...); status != 1 || errs != "traffic: another switch has not ended within 0 s\n" {
		s.Errorf("an assign that does not wait: status %d, %q", status, errs)
	}
	both.Go(func() {
		if status, _, errs := s.traffic("assign", "green"); status != 0 {
			s.Errorf("the second assign: status %d, %q", status, errs)
		}
	})
	_, err = pipes["open"].WriteString("go\n")
	must(s, err)
	both.Wait()
	s.serves("green", "green's page")
}

// reloadFails: nginx's own test finds nothing, but the reload fails. And where
// nginx does not run, nothing is touched.
func reloadFails(s *server) {
	s.sites()
	visitors := s.visit()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(s, err)
	defer taken.Close()
	blue := s.read("bluegreen/blue.conf")
	s.write("bluegreen/blue.conf", blue+fmt.Sprintf("server { listen %s; }\n", taken.Addr()))
	s.says("nginx has not switched to blue within 10 s, its error log says why; green has the traffic")
	s.serves("green", "green's page")

	// nginx loads the file, which then tells another name.
	s.write("bluegreen/blue.conf", strings.Replace(blue, `"blue\n"`, `"pink\n"`, 1))
	s.says("nginx has not switched to blue within 10 s")
	s.serves("green", "green's page")

	s.write("bluegreen/blue.conf", blue+"upsteam {}\n")
	s.says(`nginx refuses blue: [emerg] unknown directive "upsteam" in ` + s.path("bluegreen/live.conf"))
	s.serves("green", "green's page")

	s.write("bluegreen/blue.conf", blue)
	s.assigned("blue")
	s.assigned("green")
	visitors.saw("blue's page", "green's page")

	// A pid file that leads nowhere.
	pid := s.read("nginx.pid")
	s.write("nginx.pid", "")
	s.says("nginx could not be told to reload: [error] invalid PID number")
	s.write("nginx.pid", pid)
	s.serves("green", "green's page")

	if status, _, errs := s.run(s.dir, s.path("nginx"), "-c", s.path("nginx.conf"), "-s", "quit"); status != 0 {
		s.Fatal(errs)
	}
	s.until("nginx has ended", func() bool { _, err := os.Stat(s.path("nginx.pid")); return os.IsNotExist(err) })
	s.says("nobody can tell who has the traffic, nginx does not say: curl: (7)")
	if status, out, errs := s.traffic("owner"); status != 1 || out != "" || strings.Count(errs, "\n") != 1 {
		s.Errorf("traffic owner: status %d, %q, %q", status, out, errs)
	}
}
