// Package hooks_test runs the programs as their users do: real git, real
// pushes, real directories. The scripts in testdata/script are one story each.
package hooks_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bluegreen/internal/command"
	"bluegreen/internal/gittest"
	"bluegreen/internal/operator"
	"bluegreen/internal/receive"
)

// TestMain lets the test binary play the four programs.
func TestMain(m *testing.M) {
	command.Become(os.Args[1:])
	hook := func(name string, work receive.Hook) func() {
		return func() { os.Exit(receive.Main(name, work, os.Args[1:])) }
	}
	testscript.Main(tests{m}, map[string]func(){
		"pre-receive":  hook("pre-receive", receive.PreReceive),
		"proc-receive": hook("proc-receive", receive.ProcReceive),
		"post-receive": hook("post-receive", receive.PostReceive),
		"broker":       playBroker,
		"measure":      measure,
		"bluegreen": func() {
			os.Exit(operator.Main(operator.Program{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}))
		},
	})
}

// tests are all of them, and what must not be left behind.
type tests struct{ *testing.M }

func (m tests) Run() int {
	dir, err := os.MkdirTemp("", "bluegreen-programs-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	// Others than root use them, too. git's housekeeping is thousands of
	// processes that nothing here looks at.
	err = errors.Join(os.Chmod(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "gitconfig"), []byte("[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[receive]\n\tautogc = false\n"), 0o644))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Setenv(programsDir, dir)
	// What was ignored when the tests were started would be by all that they
	// start; what is caught here is not.
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGPIPE, syscall.SIGQUIT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	return m.M.Run()
}

// hermetic is gittest's environment, with a home to write to and a pusher who
// has a name.
func hermetic(home string) []string {
	return append(gittest.Environ(),
		"HOME="+home,
		"TMPDIR="+home,
		"GIT_CONFIG_GLOBAL="+filepath.Join(os.Getenv(programsDir), "gitconfig"),
		"BLUEGREEN_USER=ada",
		"GORACE=atexit_sleep_ms=0", // else each program that the test binary plays takes a second more
	)
}

func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "", "testdata/script", nil)
}

// TestEverySubset tells one story with each subset of the hooks installed.
func TestEverySubset(t *testing.T) {
	t.Parallel()
	hooks := []string{"pre-receive", "proc-receive", "post-receive"}
	for set := 1; set < 1<<len(hooks); set++ {
		var installed []string
		for i, hook := range hooks {
			if set&(1<<i) != 0 {
				installed = append(installed, hook)
			}
		}
		t.Run(strings.Join(installed, ","), func(t *testing.T) {
			t.Parallel()
			bin := ""
			if len(installed) == len(hooks) {
				bin = played
			}
			runScripts(t, bin, "testdata/subset", installed)
		})
	}
}

// TestHostile pushes what must not reach a disk by git itself; TestHostilePacks
// through each of the doors.
func TestHostile(t *testing.T) {
	t.Parallel()
	runScripts(t, "", "testdata/hostile", allHooks)
}

// runScripts runs the scripts in dir. In them $HOOKS names the hooks, and each
// hook's name is a condition that holds when it is among them; "root" is one
// that holds for root. bin is newServer's.
func runScripts(t *testing.T, bin, dir string, installed []string) {
	if bin == "" {
		bin = buildWithFaults(t)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                commands,
		Condition: func(name string) (bool, error) {
			return slices.Contains(installed, name) || name == "root" && os.Geteuid() == 0, nil
		},
		Setup: func(e *testscript.Env) error {
			home := filepath.Join(e.WorkDir, ".home")
			if err := os.Mkdir(home, 0o700); err != nil {
				return err
			}
			for _, kv := range hermetic(home) {
				name, value, _ := strings.Cut(kv, "=")
				if name != "PATH" {
					e.Setenv(name, value)
				}
			}
			if bin != played {
				e.Setenv("PATH", bin+string(filepath.ListSeparator)+e.Getenv("PATH"))
				e.Setenv("PROGRAMS", bin)
			}
			e.Setenv("SRV", filepath.Join(e.WorkDir, "srv.git"))
			e.Setenv("WWW", filepath.Join(e.WorkDir, "www"))
			e.Setenv("HOOKS", strings.Join(installed, " "))
			e.Setenv("ESCAPES", "\x1b[31mred\x07\u009b2J\u202etxt\r")
			return nil
		},
	})
}
