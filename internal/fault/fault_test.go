//go:build !faults

package fault

import (
	"os"
	"path/filepath"
	"testing"
)

// TestWithoutTheTag makes sure that programs as they are released cannot be
// told to die.
func TestWithoutTheTag(t *testing.T) {
	steps := filepath.Join(t.TempDir(), "steps")
	t.Setenv("BLUEGREEN_STEPS", steps)
	t.Setenv("BLUEGREEN_DIE_AT", "1")
	Step("the first")
	if _, err := os.Stat(steps); !os.IsNotExist(err) {
		t.Errorf("a step was noted: %v", err)
	}
}
