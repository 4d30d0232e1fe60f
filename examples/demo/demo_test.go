package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
		picture := filepath.Join(t.TempDir(), "timeline.svg")
		empties(t)
		var out bytes.Buffer
		if err := tell(context.Background(), &demo{out: &out, svg: picture}, bin); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > 80 || strings.ContainsAny(line, "\x1b\r") {
				t.Errorf("not 80 columns of plain text: %q", line)
			}
		}
		if strings.Contains(out.String(), token) {
			t.Error("the token is shown")
		}
		row := regexp.MustCompile(`(?m)^production +([1-9X!?]+)$`).FindStringSubmatch(out.String())
		if row == nil || !regexp.MustCompile(`^1+2+1+2+3+4+3+$`).MatchString(row[1]) {
			t.Errorf("production's row is %q", row)
		}
		if svg, err := os.ReadFile(picture); err != nil {
			t.Error(err)
		} else {
			checkSVG(t, svg)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		empties(t)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		err := tell(ctx, &demo{out: &afterCommand{command: "git push green release-1", do: cancel}}, bin)
		if err == nil || !strings.Contains(err.Error(), "git push green release-1: context canceled") {
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
		err := tell(context.Background(), &demo{out: &bytes.Buffer{}}, crippled)
		if err == nil || !strings.Contains(err.Error(), "git push blue master: exit status 1, and not 0") {
			t.Errorf("without proc-receive the demo ends with %v", err)
		}
	})
	t.Run("not built", func(t *testing.T) {
		empties(t)
		err := tell(context.Background(), &demo{out: &bytes.Buffer{}}, t.TempDir())
		if err == nil || !strings.Contains(err.Error(), "builds the programs first") {
			t.Errorf("without programs the demo ends with %v", err)
		}
	})
}

// afterCommand does something soon after a command has been shown, which takes
// a second.
type afterCommand struct {
	command string
	do      func()
}

func (a *afterCommand) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("$ "+a.command)) {
		time.AfterFunc(300*time.Millisecond, a.do)
	}
	return len(p), nil
}
