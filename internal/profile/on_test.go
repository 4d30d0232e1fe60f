//go:build profile

package profile

import (
	"path/filepath"
	"testing"
)

func TestStart(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("BLUEGREEN_PROFILE", dir)
	Start("program")()
	files, err := filepath.Glob(filepath.Join(dir, "program-*.prof"))
	if err != nil || len(files) != 2 {
		t.Errorf("there are %q (%v), and not a profile of time and one of memory", files, err)
	}
}
