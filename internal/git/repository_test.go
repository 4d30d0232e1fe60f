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
