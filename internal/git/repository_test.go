package git

import (
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// TestSession: what git starts is in another session than ours, and so without
// our terminal.
func TestSession(t *testing.T) {
	t.Parallel()
	r, err := Open(gittest.Bare(t), gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.Run(t.Context(), "-c", "alias.session=!cut -d ' ' -f 6 /proc/self/stat", "session")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := unix.Getsid(0)
	if err != nil {
		t.Fatal(err)
	}
	if session := strings.TrimSpace(out); session == "" || session == strconv.Itoa(ours) {
		t.Errorf("a program that git has started is in session %q, ours is %d", session, ours)
	}
}

// TestResolve finds commits, and nothing else.
func TestResolve(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	tip := gittest.Commits(t, repo, gittest.Files("a", "x"), gittest.Files("a", "y"))[1]
	r, err := Open(repo, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	for _, revision := range []string{"master", "HEAD", tip, tip[:8], "refs/heads/master", "master~0"} {
		if oid, err := r.Resolve(t.Context(), revision); err != nil || oid.String() != tip {
			t.Errorf("%q is %s, %v", revision, oid, err)
		}
	}
	for _, revision := range []string{"", "^master", "master..HEAD", "--all", "master:a", "master^{tree}", "nothing", strings.Repeat("0", 40)} {
		if oid, err := r.Resolve(t.Context(), revision); err == nil || !strings.HasPrefix(err.Error(), strconv.Quote(revision)+` is not a commit in "repo.git"`) {
			t.Errorf("%q is %s, %v", revision, oid, err)
		}
	}
}
