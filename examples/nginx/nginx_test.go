//go:build e2e

// Package nginx_test tries the example with a real nginx: the files as they are
// shipped, in a directory and on ports of its own.
package nginx_test

import (
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

func TestNginx(t *testing.T) {
	p := build(t)
	for name, story := range map[string]func(*server){
		"words":           words,
		"switch":          switches,
		"script killed":   scriptKilled,
		"one at a time":   oneAtATime,
		"reload fails":    reloadFails,
		"promotion":       promotion,
		"broken outside":  brokenOutside,
		"broken fragment": brokenFragment,
		"assign killed":   assignKilled,
		"hook killed":     hookKilled,
		"at once":         atOnce,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			story(newServer(t, p))
		})
	}
}

// TestShell has the shells that can be Debian's sh read the script, and
// shellcheck where it is installed.
func TestShell(t *testing.T) {
	for _, argv := range [][]string{{"sh", "-n"}, {"dash", "-n"}, {"bash", "-n"}, {"shellcheck"}} {
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Logf("not tried: %v", err)
			continue
		}
		if out, err := exec.Command(argv[0], append(argv[1:], "traffic")...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", argv[0], err, out)
		}
	}
}

// promotion is what the example is for: a release that is pushed to blue is
// seen by nobody before its tag, then by everybody, and the way back is the
// same. No visitor notices.
func promotion(s *server) {
	s.repositories("")
	s.live("green")
	visitors := s.visit()
	second := s.commit(map[string]string{"index.html": "v2"})
	s.pushed("blue", "master")
	s.serves("green", "v1")
	s.git(s.path("dev"), "tag", "release-2")
	last := s.pushed("blue", "release-2")
	if want := `success: "release-2" (` + second[:7] + `) is live: the traffic moved from green to blue`; !strings.HasPrefix(last, want) {
		s.Errorf("the last line is %q, want %q", last, want)
	}
	s.serves("blue", "v2")
	s.live("blue")
	if status, out := s.push("blue", "HEAD~1:master", "--force"); status == 0 || !strings.Contains(out, "blue is live") {
		s.Errorf("a push to the live environment: status %d\n%s", status, out)
	}

	status, out := s.bluegreen("blue", "rollback")
	if status != 0 || !strings.Contains(out, "success: ") || !strings.Contains(out, "green") {
		s.Errorf("bluegreen rollback: %d\n%s", status, out)
	}
	s.serves("green", "v1")
	s.live("green")
	visitors.saw("v1", "v2")
}

// brokenOutside promotes what is healthy as long as nobody asks from outside.
func brokenOutside(s *server) {
	s.repositories(fmt.Sprintf(`
[[health]]
name = "the shop"
at = "promoted"
url = "http://%s/shop.html"
interval = "100ms"
within = "1s"
`, s.proxy))
	visitors := s.visit()
	s.commit(map[string]string{"index.html": "v2"})
	s.pushed("blue", "master")
	s.git(s.path("dev"), "tag", "release-2")
	s.refused("release-2", "the outside does not see the release", `"the shop" is not healthy: status 404`, "the traffic is back with green")
	s.serves("green", "v1")
	s.live("green")
	visitors.saw("v1", "v2")

	s.commit(map[string]string{"shop.html": "open"})
	s.pushed("blue", "master")
	s.git(s.path("dev"), "tag", "-f", "release-2")
	s.pushed("blue", "release-2")
	s.serves("blue", "v2")
}

// brokenFragment promotes to an environment whose file nginx refuses.
func brokenFragment(s *server) {
	s.repositories("")
	visitors := s.visit()
	s.commit(map[string]string{"index.html": "v2"})
	s.pushed("blue", "master")
	s.git(s.path("dev"), "tag", "release-2")
	blue := s.read("bluegreen/blue.conf")
	s.write("bluegreen/blue.conf", blue+"upsteam {}\n")
	s.refused("release-2", "nginx refuses blue", `unknown directive`, "upsteam", "green has the traffic")
	s.serves("green", "v1")
	s.live("green")
	visitors.saw("v1")

	s.write("bluegreen/blue.conf", blue)
	s.pushed("blue", "release-2")
	s.serves("blue", "v2")
}

// assignKilled kills the script between its switch and the reload. The push
// goes on, and tells what is true.
func assignKilled(s *server) {
	s.repositories("")
	visitors := s.visit()
	s.commit(map[string]string{"index.html": "v2"})
	s.pushed("blue", "master")
	s.git(s.path("dev"), "tag", "release-2")
	s.at("before-reload", killScript)
	s.refused("release-2", "the traffic did not move to blue", "green has the traffic")
	s.serves("green", "v1")
	s.live("green")
	s.pushed("blue", "release-2")
	s.serves("blue", "v2")
	visitors.saw("v1", "v2")
}

// hookKilled kills the hook, too. The next one to come settles it.
func hookKilled(s *server) {
	s.repositories("")
	visitors := s.visit()
	s.commit(map[string]string{"index.html": "v2"})
	s.pushed("blue", "master")
	s.git(s.path("dev"), "tag", "release-2")
	lock := s.path("blue.git/bluegreen/lock")
	killHook := fmt.Sprintf(`kill -9 "$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' '%s')"`+"\n%s", lock, killScript)
	cutShort := func() {
		s.Helper()
		s.at("before-reload", killHook)
		if status, out := s.push("blue", "release-2"); status == 0 {
			s.Errorf("git push succeeds, though its hook was killed\n%s", out)
		}
		s.leads("blue")
		if page := s.page(); page != "v1" {
			s.Errorf("visitors see %q", page)
		}
	}
	cutShort()
	status, out := s.bluegreen("blue", "recover")
	if status != 0 || !strings.Contains(out, "interrupted; green has the traffic") {
		s.Errorf("bluegreen recover: %d\n%s", status, out)
	}
	s.serves("green", "v1")
	s.live("green")

	cutShort()
	s.pushed("blue", "release-2")
	s.serves("blue", "v2")
	s.live("blue")
	visitors.saw("v1", "v2")
}

// atOnce promotes both environments at the same time: one after the other gets
// the traffic, and both know who has it at the end.
func atOnce(s *server) {
	s.repositories("")
	visitors := s.visit()
	s.git(s.path("dev"), "tag", "release-1")
	s.commit(map[string]string{"index.html": "v2"})
	s.pushed("blue", "master")
	s.git(s.path("dev"), "tag", "release-2")
	var both sync.WaitGroup
	for environment, tag := range map[string]string{"blue": "release-2", "green": "release-1"} {
		both.Go(func() {
			status, out := s.push(environment, tag)
			if last := lastLine(out); status != 0 || !strings.HasPrefix(last, fmt.Sprintf("success: %q ", tag)) {
				s.Errorf("git push %s %s: status %d\n%s", environment, tag, status, out)
			}
		})
	}
	both.Wait()
	_, owner, _ := s.traffic("owner")
	owner = strings.TrimSpace(owner)
	s.serves(owner, map[string]string{"blue": "v2", "green": "v1"}[owner])
	s.live(owner)
	visitors.saw("v1", "v2")
}
