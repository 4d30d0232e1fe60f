package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary play a program that sudo has made root's.
func TestMain(m *testing.M) {
	Become(os.Args[1:])
	role := os.Getenv("COMMAND_TEST_ROLE")
	switch {
	case role == "gone before noting":
		noteNothing()
	case os.Geteuid() != os.Getuid():
		os.Exit(play("root")) // set-uid, it plays this and nothing else
	case role != "":
		os.Exit(play(role))
	}
	os.Exit(m.Run())
}

func shell(script string, args ...string) Command {
	return Command{
		Argv: append([]string{"/bin/sh", "-c", script, "sh"}, args...),
		Env:  []string{"PATH=" + os.Getenv("PATH")},
	}
}

// fifo makes a named pipe and returns its path and a function that waits until
// nobody holds it open for writing any more. Closing it is the death that a
// test can wait for.
func fifo(t *testing.T) (path string, released func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return path, func() {
		t.Helper()
		f.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, f); err != nil {
			t.Errorf("a process that should be dead lives: %v", err)
		}
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"broken":   "#!/nowhere/interpreter\n",
		"windows":  "#!/bin/sh\r\nexit 0\r\n",
		"plain":    "no program",
		"relative": "#!/bin/sh\necho here\n",
	} {
		mode := os.FileMode(0o755)
		if name == "plain" {
			mode = 0o644
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(cwd, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		c    Command
		tail string
		err  string
		is   error
	}{
		{name: "success", c: shell("echo one; echo two >&2; printf three"), tail: "one\ntwo\nthree"},
		{name: "failure", c: shell("echo why >&2; exit 3"), tail: "why", err: `"/bin/sh" exited with status 3`},
		{name: "signal", c: shell("kill -9 $$"), err: `"/bin/sh" was killed by signal 9 (killed)`},
		{name: "arguments are not a script", c: Command{Argv: []string{"/bin/echo", "$HOME", "`id`", ""}}, tail: "$HOME `id` "},
		{name: "nothing", err: "the command is empty"},
		{name: "empty program", c: Command{Argv: []string{""}}, err: "the command is empty"},
		{name: "PATH of the command", c: Command{Argv: []string{"relative"}, Env: []string{"PATH=relative/dir:" + dir}}, tail: "here"},
		{name: "no PATH", c: Command{Argv: []string{"echo", "hello"}}, tail: "hello"},
		{name: "not in the PATH", c: Command{Argv: []string{"ls"}, Env: []string{"PATH=" + dir}},
			err: `program "ls" is not in the PATH: file does not exist`, is: fs.ErrNotExist},
		{name: "relative PATH", c: Command{Argv: []string{"relative"}, Env: []string{"PATH=" + relative}},
			err: `program "relative" is not in the PATH: file does not exist`, is: fs.ErrNotExist},
		{name: "no environment", c: Command{Argv: []string{"env"}}},
		{name: "not executable in the PATH", c: Command{Argv: []string{"plain"}, Env: []string{"PATH=" + dir}}, is: fs.ErrNotExist,
			err: `program "plain" is not in the PATH: file does not exist`},
		{name: "relative to the directory", c: Command{Argv: []string{"./relative"}, Dir: dir}, tail: "here"},
		{name: "missing", c: Command{Argv: []string{"/nowhere/smoke\x1b"}}, err: `starting "/nowhere/smoke\x1b": no such file or directory`, is: fs.ErrNotExist},
		{name: "not executable", c: Command{Argv: []string{dir + "/plain"}}, err: fmt.Sprintf("starting %q: permission denied", dir+"/plain"), is: fs.ErrPermission},
		{name: "missing interpreter", c: Command{Argv: []string{"./broken"}, Dir: dir},
			err: `starting "./broken": the interpreter in its first line is missing: no such file or directory`, is: fs.ErrNotExist},
		{name: "windows line ends", c: Command{Argv: []string{dir + "/windows"}},
			err: fmt.Sprintf("starting %q: the interpreter in its first line is missing: no such file or directory", dir+"/windows"), is: fs.ErrNotExist},
		{name: "missing directory", c: Command{Argv: []string{"/bin/sh"}, Dir: dir + "/none"},
			err: fmt.Sprintf(`working directory of "/bin/sh": stat %s: no such file or directory`, dir+"/none"), is: fs.ErrNotExist},
		{name: "directory that is a file", c: Command{Argv: []string{"/bin/sh"}, Dir: dir + "/plain"},
			err: fmt.Sprintf(`working directory of "/bin/sh": %q: not a directory`, dir+"/plain"), is: syscall.ENOTDIR},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, err := Run(t.Context(), test.c, nil)
			test.c.Started = func(int) error { return nil }
			if noted, other := Run(t.Context(), test.c, nil); fmt.Sprint(other) != fmt.Sprint(err) || !slices.Equal(noted.Tail, out.Tail) {
				t.Errorf("where its process is noted: %q, %v; else %q, %v", noted.Tail, other, out.Tail, err)
			}
			if got := fmt.Sprint(err); got != test.err && (err != nil || test.err != "") {
				t.Errorf("error:\n%s\nwant:\n%s", got, test.err)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v is not %v", err, test.is)
			}
			if got := strings.Join(out.Tail, "\n"); got != test.tail {
				t.Errorf("tail %q, want %q", got, test.tail)
			}
		})
	}
}

func TestExitErrorIsKept(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), shell("exit 3"), nil)
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("%v has no exit status 3", err)
	}
}

// What a child may see of us is nothing: no variables, no terminal, which is a
// session's, no descriptors, no process group.
func TestNothingIsInherited(t *testing.T) {
	t.Setenv("GIT_DIR", ".")
	// A pipe as git's to a hook: without close-on-exec.
	var inherited [2]int
	if err := unix.Pipe2(inherited[:], 0); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(inherited[0]), "inherited")
	defer r.Close()
	dir := t.TempDir()
	out, err := Run(t.Context(), Command{
		Argv: []string{"/bin/sh", "-c", `
			/usr/bin/env | /bin/grep -v -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=
			/bin/readlink /proc/$$/fd/0
			test $(/usr/bin/cut -d' ' -f5 /proc/$$/stat) = $$ && echo own group
			test $(/usr/bin/cut -d' ' -f6 /proc/$$/stat) = $$ && echo own session
			/bin/pwd
			/bin/sleep 1000 >/dev/null 2>&1 & echo $!`},
		Env: []string{"ONLY=this"},
		Dir: dir,
	}, nil)
	unix.Close(inherited[1])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(out.Last())
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	want := []string{"ONLY=this", "/dev/null", "own group", "own session", dir, strconv.Itoa(pid)}
	if !slices.Equal(out.Tail, want) {
		t.Errorf("got %q, want %q", out.Tail, want)
	}
	end := make(chan error, 1)
	go func() {
		_, err := r.Read(make([]byte, 1))
		end <- err
	}()
	select {
	case err := <-end:
		if err != io.EOF {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Error("a background child holds an inherited descriptor")
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxLine)
	for _, test := range []struct {
		name, output string
		want         []string
	}{
		{"empty", "", nil},
		{"blank", "\n\n", []string{"", ""}},
		{"no end", "a\nb", []string{"a", "b"}},
		{"carriage returns", "a\r\nb\rc\r\n", []string{"a", "b\rc"}},
		{"just fits", long + "\nb\n", []string{long, "b"}},
		{"too long", long + "y\nb\n", []string{long, "y", "b"}},
		{"far too long", long + long + "\n", []string{long, long}},
		{"not text", "\x00\xff\x1b[31m\n", []string{"\x00\xff\x1b[31m"}},
	} {
		for _, step := range []int{1, 3, maxLine, 1 << 20} {
			var got []string
			l := lines{line: func(s string) { got = append(got, s) }}
			for rest := []byte(test.output); len(rest) > 0; {
				n := min(step, len(rest))
				l.write(rest[:n])
				rest = rest[n:]
			}
			l.flush()
			if !slices.Equal(got, test.want) {
				t.Errorf("%s in steps of %d: got %.80q, want %.80q", test.name, step, got, test.want)
			}
		}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	var seen []string
	out, err := Run(t.Context(), shell(`i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo line $i; done
		head -c 3000 /dev/zero | tr '\0' x; echo; echo; echo " "`),
		func(s string) { seen = append(seen, s) })
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != 53 || seen[0] != "line 1" || len(seen[50]) != 3000 {
		t.Errorf("%d lines handed on: %.200q", len(seen), seen)
	}
	if len(out.Tail) != 20 || out.Tail[0] != "line 34" || len(out.Tail[17]) != 1000 || out.Tail[19] != " " {
		t.Errorf("tail of %d: %.200q", len(out.Tail), out.Tail)
	}
	if last := out.Last(); last != out.Tail[17] {
		t.Errorf("last line %.80q", last)
	}
}

// Lines come while the command runs, not at its end.
func TestLinesComeAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	start := time.Now()
	out, err := Run(ctx, shell("echo ready; exec sleep 1000"), func(string) { cancel() })
	if !errors.Is(err, context.Canceled) || err.Error() != `"/bin/sh" was stopped: context canceled` {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 5*grace {
		t.Errorf("took %s", took)
	}
	if !slices.Equal(out.Tail, []string{"ready"}) {
		t.Errorf("tail %q", out.Tail)
	}
}

func TestNotStartedWithoutTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "file")
	_, err := Run(ctx, shell(`: >"$1"`, file), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the command was started")
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	c := shell("echo one; exec sleep 1000")
	c.Timeout = time.Second
	start := time.Now()
	out, err := Run(t.Context(), c, nil)
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != `"/bin/sh" did not end within 1s` {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took < c.Timeout || took > 5*grace {
		t.Errorf("took %s", took)
	}
	if !slices.Equal(out.Tail, []string{"one"}) {
		t.Errorf("tail %q", out.Tail)
	}
}

// The leader dies of SIGTERM at once; its child is given time to clean up.
func TestGraceIsForTheGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := Run(ctx, shell(`
		(trap 'while kill -0 $$; do :; done 2>/dev/null; sleep 0.2; echo cleaned; exit' TERM
		sleep 1000 & echo ready; wait) &
		wait`), func(s string) {
		if s == "ready" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(out.Tail, []string{"ready", "cleaned"}) {
		t.Errorf("tail %q", out.Tail)
	}
}

// All of these take the grace: at once, to take it once.
func TestSigtermIgnored(t *testing.T) {
	t.Parallel()
	scripts := map[string]string{
		"by all":                 `trap "" TERM; exec 9>"$1"; sleep 1000 & echo ready; sleep 1000 & wait`,
		"by the grandchild":      `exec 9>"$1"; (trap "" TERM; echo ready; sleep 1000) & wait`,
		"by a silent grandchild": `exec 9>"$1"; (trap "" TERM; echo ready; exec >/dev/null 2>&1; sleep 1000) & wait`,
	}
	var running sync.WaitGroup
	for name, script := range scripts {
		path, released := fifo(t)
		running.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			start := time.Now()
			_, err := Run(ctx, shell(script, path), func(string) { cancel() })
			if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "killed") {
				t.Errorf("%s: error %v", name, err)
			}
			if took := time.Since(start); took < grace || took > 10*grace {
				t.Errorf("%s: took %s", name, took)
			}
			released()
		})
	}
	running.Wait()
}

func TestBackgroundLivesOn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ script, err string }{
		"success": {`sleep 1000 & echo $!`, ""},
		"failure": {`sleep 1000 & echo $!; exit 1`, `"/bin/sh" exited with status 1`},
		"daemon":  {`setsid sleep 1000 & echo $!`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			out, err := Run(t.Context(), shell(test.script), nil)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			pid, convErr := strconv.Atoi(out.Last())
			if convErr != nil {
				t.Fatal(convErr)
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Errorf("the background child is dead: %v", err)
			}
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A background child that never stops writing does not keep Run, and ends with
// the pipe.
func TestBackgroundFlood(t *testing.T) {
	t.Parallel()
	path, released := fifo(t)
	start := time.Now()
	if _, err := Run(t.Context(), shell(`yes 9>"$1" & echo started`, path), nil); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	released()
}

// What the leader wrote before it ended is read in full, however late.
func TestDrain(t *testing.T) {
	t.Parallel()
	s, err := newStream()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	want := bytes.Repeat([]byte("0123456789\n"), 5000)
	if _, err := s.w.Write(want); err != nil {
		t.Fatal(err)
	}
	s.r.SetReadDeadline(time.Unix(0, 1))
	var got []byte
	s.copy(func(p []byte) { got = append(got, p...) })
	if !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d", len(got), len(want))
	}
}

// Not parallel: it measures the memory that the whole process allocates.
func TestFlood(t *testing.T) {
	run := func(c Command) (string, error) {
		out, err := Run(t.Context(), c, nil)
		return out.Last(), err
	}
	read := func(c Command) (string, error) { return Read(t.Context(), c) }
	for _, test := range []struct {
		name, script string
		run          func(Command) (string, error)
		want, err    string
	}{
		{"one line", "head -c 134217728 /dev/zero; echo; echo end", run, "end", "<nil>"},
		{"lines", "yes | head -c 8388608; echo end", run, "end", "<nil>"},
		{"value", "head -c 33554432 /dev/zero; kill -9 $$", read, "", `"/bin/sh" was killed by signal 9 (killed)`},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		got, err := test.run(shell(test.script))
		runtime.ReadMemStats(&after)
		if got != test.want || fmt.Sprint(err) != test.err {
			t.Errorf("%s: %q, error %v", test.name, got, err)
		}
		if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 2<<20 {
			t.Errorf("%s: %d bytes allocated", test.name, allocated)
		}
	}
}

// We catch SIGPIPE and SIGHUP; for a command they mean what they always do.
func TestSignalsAreDefault(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGPIPE, syscall.SIGHUP)
	defer signal.Stop(caught)
	out, err := Run(t.Context(), shell("yes | head -1; grep SigIgn /proc/self/status; kill -HUP $$"), nil)
	if err == nil || err.Error() != `"/bin/sh" was killed by signal 1 (hangup)` {
		t.Errorf("error %v", err)
	}
	var ignored uint64
	if len(out.Tail) != 2 || out.Tail[0] != "y" {
		t.Fatalf("tail %q", out.Tail)
	}
	if _, err := fmt.Sscanf(out.Tail[1], "SigIgn:\t%x", &ignored); err != nil {
		t.Fatal(err)
	}
	// Who runs the tests may ignore signals of its own.
	if ignored&(1<<(syscall.SIGPIPE-1)|1<<(syscall.SIGHUP-1)) != 0 {
		t.Errorf("tail %q", out.Tail)
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, script string
		value, err   string
	}{
		{"value", "echo working >&2; echo 4; echo done >&2", "4\n", ""},
		{"nothing", ":", "", ""},
		{"just fits", "head -c 65536 /dev/zero", strings.Repeat("\x00", 65536), ""},
		{"too long", "head -c 65537 /dev/zero", "", `"/bin/sh" printed more than 64 KiB`},
		{"flood", "head -c 33554432 /dev/zero", "", `"/bin/sh" printed more than 64 KiB`},
		{"failure", "echo 4; exit 1", "", `"/bin/sh" exited with status 1`},
		{"said why", `echo 4; printf 'first\nno \033[31mdatabase\n\n' >&2; exit 1`, "", `"/bin/sh" exited with status 1, saying "no \x1b[31mdatabase"`},
		{"flood of reasons", `echo 4; head -c 33554432 /dev/zero >&2; echo >&2; echo why >&2; exit 1`, "", `"/bin/sh" exited with status 1, saying "why"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			value, err := Read(t.Context(), shell(test.script))
			if test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
				t.Errorf("error %v, want %s", err, test.err)
			}
			if value != test.value {
				t.Errorf("value %.80q of %d bytes", value, len(value))
			}
		})
	}
	c := shell("echo waiting for the lock >&2; exec sleep 1000")
	c.Timeout = time.Second
	_, err := Read(t.Context(), c)
	if !errors.Is(err, context.DeadlineExceeded) || err.Error() != `"/bin/sh" did not end within 1s, saying "waiting for the lock"` {
		t.Errorf("error %v", err)
	}
	if _, err := Read(t.Context(), Command{}); err == nil {
		t.Error("an empty command has a value")
	}
}

// play is the test binary as another program: "root" is started set-uid and
// becomes root as sudo does; "pusher" runs it as an account that may not kill it.
func play(role string) int {
	if role == "root" {
		if err := unix.Setresuid(0, 0, 0); err != nil {
			fmt.Println(err)
			return 2
		}
		fmt.Println(os.Getpid())
		<-time.After(time.Minute) // should nobody be there to kill it
		return 0
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out, err := Run(ctx, Command{Argv: []string{os.Args[1]}, Env: []string{"COMMAND_TEST_ROLE=root"}},
		func(string) { cancel() })
	fmt.Println(out.Last())
	fmt.Println(err)
	return 0
}

// A command that this account may not kill does not keep Run for ever.
func TestUndying(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to make a set-uid program")
	}
	dir, err := os.MkdirTemp("", "command") // t.TempDir is closed to other accounts
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	ours, sudo := filepath.Join(dir, "pusher"), filepath.Join(dir, "sudo")
	if err := errors.Join(os.Chown(dir, 0, 65534), os.Chmod(dir, 0o710), os.WriteFile(ours, binary, 0o755), os.WriteFile(sudo, binary, 0o755),
		os.Chmod(sudo, 0o755|os.ModeSetuid)); err != nil {
		t.Fatal(err)
	}
	pusher := exec.Command(ours, sudo)
	pusher.Env = []string{"COMMAND_TEST_ROLE=pusher"}
	pusher.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	start := time.Now()
	out, err := pusher.CombinedOutput()
	if took := time.Since(start); err != nil || took > 2*(grace+patience) {
		t.Fatalf("took %s: %v: %s", took, err, out)
	}
	first, rest, _ := strings.Cut(string(out), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Skipf("set-uid programs do not work here: %s", out)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Errorf("nothing was left to kill: %v", err)
	}
	if want := fmt.Sprintf("%q was stopped: context canceled, and could not be killed\n", sudo); !strings.HasPrefix(rest, want) {
		t.Errorf("error %q, want %q", rest, want)
	}
}
