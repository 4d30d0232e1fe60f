package lock

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFileLock locks a file and a directory: one has it, and the next one is told
// who that is.
func TestFileLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, place := range []string{path, dir} {
		acquire := func() (*File, error) {
			f, err := os.Open(place)
			if err != nil {
				t.Fatal(err)
			}
			return AcquireFile(t.Context(), f, "set-up", time.Millisecond)
		}
		first, err := acquire()
		if err != nil {
			t.Fatal(err)
		}
		_, err = acquire()
		if busy := (*Busy)(nil); !errors.As(err, &busy) || busy.PID != os.Getpid() || !strings.HasPrefix(err.Error(), "another set-up is running on this machine") {
			t.Errorf("%s: got %v", place, err)
		}
		first.Release()
		again, err := acquire()
		if err != nil {
			t.Fatalf("%s: %v", place, err)
		}
		again.Release()
	}
}
