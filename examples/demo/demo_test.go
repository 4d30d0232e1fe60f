package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// build puts the programs into a directory, with the Makefile's flags: what
// "make" has built is not compiled again.
func build(t *testing.T) string {
	t.Helper()
	bin := t.TempDir()
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", bin,
		"bluegreen/hooks/...", "bluegreen/install/bluegreen")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return bin
}

// empties gives the demo a home and a place for its directory, and checks that
// it has left nothing in them.
func empties(t *testing.T) {
	t.Helper()
	for _, name := range []string{"HOME", "TMPDIR"} {
		dir := t.TempDir()
		t.Setenv(name, dir)
		t.Cleanup(func() {
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("the demo has left %v in %s: %v", left, name, err)
			}
		})
	}
}

func TestDemo(t *testing.T) {
	bin := build(t)
	t.Run("told", func(t *testing.T) {
		empties(t)
		var out bytes.Buffer
		if err := tell(context.Background(), bin, &out, false); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > 80 || strings.ContainsAny(line, "\x1b\r") {
				t.Errorf("not 80 columns of plain text: %q", line)
			}
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		empties(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		err := tell(ctx, bin, &atThirdPush{do: cancel}, false)
		if err == nil || !strings.Contains(err.Error(), "git push blue master: context canceled") {
			t.Errorf("an interrupted demo ends with %v", err)
		}
	})
	t.Run("not as told", func(t *testing.T) {
		empties(t)
		crippled := t.TempDir()
		if err := os.CopyFS(crippled, os.DirFS(bin)); err != nil {
			t.Fatal(err)
		}
		// Git is told to hand pushes to it.
		if err := os.Remove(filepath.Join(crippled, "proc-receive")); err != nil {
			t.Fatal(err)
		}
		err := tell(context.Background(), crippled, &bytes.Buffer{}, false)
		if err == nil || !strings.Contains(err.Error(), "git push blue master: exit status 1, and not 0") {
			t.Errorf("without proc-receive the demo ends with %v", err)
		}
	})
}

// atThirdPush does something soon after the third push to blue has begun, the
// one of the broken version, which takes seconds.
type atThirdPush struct {
	do     func()
	pushes int
}

func (a *atThirdPush) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("git push blue master")) {
		if a.pushes++; a.pushes == 3 {
			time.AfterFunc(300*time.Millisecond, a.do)
		}
	}
	return len(p), nil
}
