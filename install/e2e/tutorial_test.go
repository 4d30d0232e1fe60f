//go:build e2e

package e2e_test

import (
	"strings"
	"testing"
	"time"
)

// TestTutorial is the README's walk-through on two servers with Apache.
func TestTutorial(t *testing.T) {
	s := newStory(t, "apache")
	began := time.Now()
	s.installBoth()
	s.firstRelease()
	t.Logf("MEASURED from bare servers to production: %.1f s", time.Since(began).Seconds())
	s.deployIdle()
	s.promote()
	s.rollback()
	s.unseen()
	s.operate()
	s.failing()
	s.doctor()
	s.pushersKey()
	s.upgradeDuringPush()
	s.reboot()
	s.uninstall()
	s.undisturbed("MEASURED in the whole story", began)
	s.secrets()
}

// TestNginx is the beginning of it with nginx.
func TestNginx(t *testing.T) {
	s := newStory(t, "nginx")
	s.install(s.green)
	s.git("remote", "add", "green", "deploy@green:sample_app")
	began := s.pushed("green", "master")
	served := visit(t, s.dev, "green", greenPublic).first("version-1", began)
	t.Logf("MEASURED with nginx, from push to served: %.2f s", served.Sub(began).Seconds())
	s.wholly(s.green, "version-1")
}

// firstRelease takes four git commands to production.
func (s *story) firstRelease() {
	s.Helper()
	s.git("remote", "add", "green", "deploy@green:sample_app")
	s.pushed("green", "master")
	s.git("tag", "release-1")
	began := s.pushed("green", "release-1")
	s.production = visit(s, s.dev, "production", reservedIP)
	s.moved("from the first tag to production", "green", "version-1", began)
	s.git("remote", "add", "blue", "deploy@blue:sample_app")
	s.pushed("blue", "master")
	s.wholly(s.blue, "version-1")
	s.wholly(s.green, "version-1")
}

// deployIdle deploys to blue, which production's visitors must not notice.
func (s *story) deployIdle() {
	s.Helper()
	s.release("version-2")
	idle := visit(s, s.dev, "blue", bluePublic)
	idle.first("version-1", time.Now())
	began := s.pushed("blue", "master")
	s.Logf("MEASURED from push to served: %.2f s", idle.first("version-2", began).Sub(began).Seconds())
	s.undisturbed("MEASURED deployment to the idle server", began)
	var seen count
	seen.add(idle.since(began))
	s.Logf("the idle server itself answered %s", seen)
	if seen.lost > 0 {
		s.Errorf("the idle server answered %s", seen)
	}
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
	s.Logf("MEASURED %s: %.2f s", what, s.production.first(version, began).Sub(began).Seconds())
	s.undisturbed("MEASURED "+what, began)
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

// unseen promotes where a droplet cannot reach its own reserved IP: that is said.
func (s *story) unseen() {
	s.Helper()
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
