//go:build !profile

package profile

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestWithoutTheTag makes sure that programs as they are released cannot be
// told to write profiles, and do not carry what writes them.
func TestWithoutTheTag(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BLUEGREEN_PROFILE", dir)
	Start("program")()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a profile was written: %v, %v", entries, err)
	}
	out, err := exec.Command("go", "list", "-deps", "../../hooks/...", "../../install/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "bluegreen/internal/profile") || slices.Contains(packages, "runtime/pprof") {
		t.Error("the programs depend on runtime/pprof, or not on internal/profile")
	}
}
