package confine

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestMain is also the process that is confined: there is no way back from it.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CONFINED_IN"); dir != "" {
		os.Exit(confined(dir))
	}
	os.Exit(m.Run())
}

// confined tries what is in the directory given to it, and returns the number of
// the first thing that is not as it should be.
func confined(dir string) int {
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := Writes([]string{in("a"), in("b")}, []string{in("links")}); err != nil {
		return 1
	}
	denied := func(err error) bool { return errors.Is(err, fs.ErrPermission) }
	shell := func(script string) error {
		c := exec.Command("/bin/sh", "-c", script, "sh", dir)
		c.Stderr = nil
		return c.Run()
	}
	for n, right := range []bool{
		os.WriteFile(in("a/new"), []byte("x"), 0o600) == nil,
		os.Rename(in("a/new"), in("b/new")) == nil,
		os.Mkdir(in("b/dir"), 0o700) == nil,
		os.Symlink("there", in("links/next")) == nil,
		os.Rename(in("links/next"), in("links/now")) == nil,
		os.WriteFile(os.DevNull, nil, 0) == nil,
		denied(os.WriteFile(in("links/file"), nil, 0o600)),
		denied(os.WriteFile(in("canary"), []byte("changed"), 0o600)),
		denied(os.Remove(in("canary"))),
		denied(os.Mkdir(in("c"), 0o700)),
		denied(os.Rename(in("b/new"), in("new"))),
		shell(`test "$(cat "$1/canary")" = alive`) == nil,
		shell(`echo changed 2>/dev/null >"$1/canary"`) != nil,
		shell(`echo more >>"$1/b/new"`) == nil,
	} {
		if !right {
			return 10 + n
		}
	}
	return 0
}

func TestWrites(t *testing.T) {
	if !Available() {
		t.Skip("this kernel has no Landlock, or one before Linux 5.19")
	}
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "links"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	canary := filepath.Join(dir, "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "CONFINED_IN="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text, err := os.ReadFile(canary); err != nil || string(text) != "alive" {
		t.Errorf("the canary is %q, %v", text, err)
	}
	if err := os.WriteFile(canary, nil, 0o600); err != nil {
		t.Errorf("this process is confined, too: %v", err)
	}
}

func TestWritesToWhatIsMissing(t *testing.T) {
	if !Available() {
		t.Skip("this kernel has no Landlock, or one before Linux 5.19")
	}
	if err := Writes([]string{filepath.Join(t.TempDir(), "missing")}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
