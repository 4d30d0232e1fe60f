//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
	"time"
)

// TestServers plays each story on servers of its own, which are bare at first.
// There is one floating IP, so they are played one after the other.
func TestServers(t *testing.T) {
	readWalkThrough(t) // or else there is nothing to play
	d, programs, f := newDebian(t), build(t), new(figures)
	defer f.print(t)
	t.Run("tutorial", func(t *testing.T) { tutorial(newStory(t, programs, d, f, "apache")) })
	t.Run("variants", func(t *testing.T) {
		s := newStory(t, programs, d, f, "nginx")
		nginx(s)
		adoption(s)
	})
}

// tutorial is the README's walk-through on two servers with Apache, and what
// follows.
func tutorial(s *story) {
	s.walkThrough()
	began := time.Now()
	s.brokered()
	s.deployIdle()
	s.watched(s.blue, s.promote)
	s.rollback()
	s.unseen()
	s.operate()
	s.failing()
	s.doctor()
	s.pushersKey()
	s.upgradeDuringPush()
	s.reboot()
	s.uninstall()
	s.undisturbed("all that follows the walk-through", time.Since(began), began)
	s.secrets()
}

// nginx is the beginning of it with nginx, on green.
func nginx(s *story) {
	for _, l := range readWalkThrough(s) {
		if l.prompt == "green#" {
			s.installs(s.green, l.line+" --web nginx")
		}
	}
	s.git("remote", "add", "green", "deploy@green:sample_app")
	began := s.pushed("green", "master")
	visitors := visit(s, s.dev, "green", greenPublic)
	served := visitors.first("version-1", began)
	visitors.leave()
	s.figures.add("with nginx, from push to served", served.Sub(began), nil)
	s.wholly(s.green, "version-1")
}

// deployIdle deploys to blue, which production's visitors must not notice.
func (s *story) deployIdle() {
	s.Helper()
	s.release("version-2")
	idle := visit(s, s.dev, "blue", bluePublic)
	idle.first("version-1", time.Now())
	began := s.pushed("blue", "master")
	took := idle.first("version-2", began).Sub(began)
	idle.leave()
	s.undisturbed("production, while the idle server is deployed to", 0, began)
	s.answered(idle, "the idle server itself, from push to served", took, began)
	for _, view := range s.production.since(began) {
		if view.version != "version-1" {
			s.Fatalf("production served %q when blue was deployed to", view.version)
		}
	}
	s.wholly(s.blue, "version-2")
}

// promote moves production to blue by a tag.
func (s *story) promote() {
	s.Helper()
	s.git("tag", "release-2")
	began := s.pushed("blue", "release-2")
	s.moved("from tag to production", "blue", "version-2", began)
	s.refused("blue is live", "blue", "--force", "HEAD~1:master")
}

// moved checks that production is somewhere, and tells how long that took.
func (s *story) moved(what, owner, version string, began time.Time) {
	s.Helper()
	s.undisturbed(what, s.production.first(version, began).Sub(began), began)
	if got := s.owner(); got != owner {
		s.Errorf("%s: %s has the IP, want %s", what, got, owner)
	}
	// Nobody sees the old version after the first that has seen the new one.
	seen := false
	for _, view := range s.production.since(began) {
		if seen = seen || view.version == version; seen && view.version != version {
			s.Errorf("%s: production served %s after %s", what, view.version, version)
			return
		}
	}
}

// rollback goes back and forth over ssh.
func (s *story) rollback() {
	s.Helper()
	for _, move := range []struct{ line, owner, version string }{
		{"bluegreen rollback", "green", "version-1"},
		{"bluegreen promote", "blue", "version-2"},
	} {
		began := time.Now()
		status, out := s.ssh(s.blue, move.line)
		s.Logf("$ ssh deploy@blue %s    # %.2f s\n%s", move.line, time.Since(began).Seconds(), indent(out))
		if status != 0 || !strings.Contains(out, "success: ") {
			s.Fatalf("%s: status %d", move.line, status)
		}
		s.moved("from "+move.line+" to production", move.owner, move.version, began)
	}
}

// unseen promotes where a droplet cannot reach its own reserved IP: that is said,
// once the time for the outside is over. Here that is short.
func (s *story) unseen() {
	s.Helper()
	s.blue.sh(`cd ` + repository + `
sed -i 's/^within = "20s"$/timeout = "1s"\nwithin = "3s"/' bluegreen.toml
grep -q '^within = "3s"$' bluegreen.toml`)
	if status, out := s.ssh(s.blue, "bluegreen rollback"); status != 0 {
		s.Fatalf("bluegreen rollback: status %d\n%s", status, out)
	}
	s.oneWay.Store(true)
	defer s.oneWay.Store(false)
	began := time.Now()
	status, out := s.ssh(s.blue, "bluegreen promote")
	s.Logf("$ ssh deploy@blue bluegreen promote    # %.2f s\n%s", time.Since(began).Seconds(), indent(out))
	if status != 0 || !strings.Contains(out, "warning: ") {
		s.Errorf("a droplet that cannot reach its own IP is not told of: status %d", status)
	}
	s.moved("where a droplet cannot reach its own IP", "blue", "version-2", began)
}
