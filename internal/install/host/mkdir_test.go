package host

import (
	"os"
	"path/filepath"
	"testing"
)

// TestMkdirWhole makes a directory whole or not at all: one that cannot be given
// to its owner is not there, and one that a crash has left half made is not in
// the way.
func TestMkdirWhole(t *testing.T) {
	t.Parallel()
	h := &Host{Root: t.TempDir()}
	dir := filepath.Join(h.Root, "new")
	if err := os.MkdirAll(filepath.Join(h.Root, ".new.new/left"), 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		other := Superuser()
		other.UID = 0
		if err := h.Mkdir("/new", other, 0o755); err == nil {
			t.Error("an ordinary user has given a directory away")
		}
		if _, err := os.Lstat(dir); !os.IsNotExist(err) {
			t.Errorf("half of it is there: %v", err)
		}
	}
	if err := h.Mkdir("/new", Superuser(), 0o751); err != nil {
		t.Fatal(err)
	}
	if e, err := h.Look("/new"); err != nil || !e.Is(Superuser(), 0o751) {
		t.Errorf("it is %+v, %v", e, err)
	}
	if names, err := h.List("/"); err != nil || len(names) != 1 {
		t.Errorf("there are %q, %v", names, err)
	}
}
