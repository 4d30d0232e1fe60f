package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWebRootMoved recovers from a crash in the middle of an activation when the
// web root is not what it was: nothing is touched until it is back, or until
// somebody says that it is to be built anew.
func TestWebRootMoved(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	old := s.commit(map[string]string{"a": "old", "b": "old", "gone": "old"})
	s.pushed("master")
	next := s.commit(map[string]string{"a": "new", "b": "new", "gone": "-", "c": "new"})
	s.run(s.dev, "git", "push", "-q", s.git, "HEAD:refs/heads/side")
	command := func(env []string, args ...string) (int, string) {
		return s.status(env, s.dir, "bluegreen", append([]string{"--repo", s.git}, args...)...)
	}
	steps := filepath.Join(s.dir, "steps")
	command([]string{"BLUEGREEN_STEPS=" + steps}, "deploy", next)
	die := 2 + slices.Index(strings.Split(s.read("steps"), "\n"), "activate put")
	if die < 2 {
		t.Fatalf("no such step: %s", s.read("steps"))
	}
	crash := func() {
		t.Helper()
		if status, out := command(nil, "deploy", old); status != 0 {
			t.Fatalf("status %d\n%s", status, out)
		}
		if status, _ := command([]string{fmt.Sprintf("BLUEGREEN_DIE_AT=%d", die)}, "deploy", next); status != 128+9 {
			t.Fatalf("it did not die: status %d", status)
		}
	}
	recovers := func(want int, says string, args ...string) {
		t.Helper()
		if status, out := command(nil, append([]string{"recover"}, args...)...); status != want || !strings.Contains(out, says) {
			t.Errorf("recover %q: status %d, want %d and %q\n%s", args, status, want, says, out)
		}
	}

	crash()
	away := s.www + ".away"
	s.must(os.Rename(s.www, away))
	recovers(3, "mount it and run")
	s.must(os.Mkdir(s.www, 0o755))
	recovers(3, "mount it and run")
	if web := s.web(false); len(web) > 0 {
		t.Errorf("the wrong web root has got %v", web)
	}
	s.must(os.Remove(s.www))
	s.must(os.Rename(away, s.www))
	recovers(0, "")
	s.holds(old)

	crash()
	s.must(os.Rename(s.www, away))
	s.run(s.dir, "cp", "-R", away, s.www)
	recovers(3, "--rebuild")
	recovers(0, "", "--rebuild")
	s.holds(old)
}

// TestShallow pushes from a clone whose history ends where the server's does not.
func TestShallow(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	s.commit(map[string]string{"a": "1"})
	s.commit(map[string]string{"a": "2"})
	shallow := filepath.Join(s.dir, "shallow")
	s.run(s.dir, "git", "clone", "-q", "--depth=1", "file://"+s.dev, shallow)
	s.must(appendTo(filepath.Join(s.git, "config"), "[receive]\n\tshallowUpdate = true\n"))
	status, out := s.status(nil, shallow, "git", "push", s.git, "HEAD:refs/heads/master")
	if status != 1 || !strings.Contains(out, `error: refusing "refs/heads/master": it comes from a shallow clone`) {
		t.Errorf("status %d\n%s", status, out)
	}
	if at := s.ref("refs/heads/master"); at != "" || len(s.web(false)) > 0 {
		t.Errorf("master is at %q, the web root has %v", at, s.web(false))
	}
}
