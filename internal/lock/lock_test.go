package lock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// child tells this program that it is to hold a lock: the state directory and
// the web root.
const child = "BLUEGREEN_TEST_LOCK"

func TestMain(m *testing.M) {
	if args := os.Getenv(child); args != "" {
		os.Exit(hold(args))
	}
	if name := os.Getenv(childOfName); name != "" {
		os.Exit(holdName(name))
	}
	os.Exit(m.Run())
}

// hold acquires the lock, says so, and holds it until its input ends.
func hold(args string) int {
	state, dir, _ := strings.Cut(args, "\n")
	l, err := Acquire(context.Background(), state, dir, "pusher", 0, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	l.Phase("checking")
	fmt.Println("locked")
	io.Copy(io.Discard, os.Stdin)
	l.Release()
	return 0
}

// A holder is another process that has the lock.
type holder struct {
	*exec.Cmd
	stdin io.Closer
}

func newHolder(t *testing.T, state, dir string) *holder {
	t.Helper()
	// Hooks run in their repository.
	return startHolder(t, filepath.Dir(state), child+"="+state+"\n"+dir)
}

// startHolder runs this program as a holder, and waits until it has the lock.
func startHolder(t *testing.T, dir, env string) *holder {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env)
	return start(t, cmd)
}

// start starts a program that locks something, and waits until it has done so.
func start(t *testing.T, cmd *exec.Cmd) *holder {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h := &holder{cmd, stdin}
	t.Cleanup(h.kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return h
}

func (h *holder) kill() {
	h.Process.Kill() // SIGKILL
	h.Wait()
}

// newState makes a repository's state directory.
func newState(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "bluegreen")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	return state
}

func acquire(t *testing.T, state, dir string) *Lock {
	t.Helper()
	l, err := Acquire(t.Context(), state, dir, "me", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

// busy fails unless the lock is held by others.
func busy(t *testing.T, state, dir string) *Busy {
	t.Helper()
	l, err := Acquire(t.Context(), state, dir, "me", 0, nil)
	b := (*Busy)(nil)
	if !errors.As(err, &b) {
		if err == nil {
			l.Release()
		}
		t.Fatalf("error %v, want that it is busy", err)
	}
	return b
}

func TestExclusion(t *testing.T) {
	state, other, web := newState(t), newState(t), t.TempDir()
	tests := []struct {
		name         string
		state, dir   string // of the holder
		state2, dir2 string
		busy         bool
	}{
		{"one repository", state, web, state, web, true},
		{"one repository, another web root", state, web, state, t.TempDir(), true},
		{"one repository, no web root", state, "", state, "", true},
		{"two repositories, one web root", state, web, other, web, true},
		{"two repositories, one web root by another name", state, web, other, web + "/.", true},
		{"two repositories, two web roots", state, web, other, t.TempDir(), false},
		{"two repositories, no web root", state, "", other, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHolder(t, test.state, test.dir)
			if !test.busy {
				acquire(t, test.state2, test.dir2).Release()
				h.kill()
				return
			}
			b := busy(t, test.state2, test.dir2)
			if b.PID != h.Process.Pid || b.Holder == nil || b.Holder.PID != h.Process.Pid || b.Holder.Who != "pusher" || b.Holder.Phase != "checking" {
				t.Errorf("held by %+v, %+v", b, b.Holder)
			}
			for _, want := range []string{"pusher", "checking", fmt.Sprintf("process %d", h.Process.Pid), b.Holder.Since.Format("15:04:05"), "waited 0s"} {
				if !strings.Contains(b.Error(), want) {
					t.Errorf("%q is not in %q", want, b.Error())
				}
			}
			h.stdin.Close() // it ends as it should
			if err := h.Wait(); err != nil {
				t.Errorf("the other process: %v", err)
			}
			acquire(t, test.state2, test.dir2).Release()
		})
	}
}

// TestWebRootOfStranger: a holder whose repository is not where hooks run is
// known by its number alone.
func TestWebRootOfStranger(t *testing.T) {
	web, odd := t.TempDir(), filepath.Join(t.TempDir(), "elsewhere")
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	h := newHolder(t, odd, web)
	b := busy(t, newState(t), web)
	if b.PID != h.Process.Pid || b.Holder != nil || !strings.Contains(b.Error(), fmt.Sprintf("same directory is running (process %d)", h.Process.Pid)) {
		t.Errorf("%v", b)
	}
	if text := (&Busy{}).Describe(); text != "another deployment is running" {
		t.Errorf("of nobody: %q", text)
	}
}

// TestKilled: the lock of a process that is killed is free at once, also for
// those who wait.
func TestKilled(t *testing.T) {
	state, other, web := newState(t), newState(t), t.TempDir()
	for name, states := range map[string][2]string{"one repository": {state, state}, "one web root": {state, other}} {
		t.Run(name, func(t *testing.T) {
			h := newHolder(t, states[0], web)
			busy(t, states[1], web)
			told := 0
			l, err := Acquire(t.Context(), states[1], web, "me", time.Hour, func(b *Busy) {
				told++
				if b.PID != h.Process.Pid {
					t.Errorf("waiting for %+v", b)
				}
				h.kill()
			})
			if err != nil || told != 1 {
				t.Fatalf("told %d times, %v", told, err)
			}
			defer l.Release()
			if b := busy(t, states[1], web); b.PID != os.Getpid() || b.Holder.Who != "me" || b.Holder.Phase != "starting" {
				t.Errorf("held by %+v", b.Holder)
			}
		})
	}
}

func TestWait(t *testing.T) {
	state := newState(t)
	l := acquire(t, state, "")
	for _, wait := range []time.Duration{-time.Second, 0, 30 * time.Millisecond} {
		told := 0
		start := time.Now()
		got, err := Acquire(t.Context(), state, "", "me", wait, func(*Busy) { told++ })
		took := time.Since(start)
		if b := (*Busy)(nil); !errors.As(err, &b) || got != nil || told != 1 || took < wait || b.Waited < 0 || b.Waited > took.Round(100*time.Millisecond) {
			t.Errorf("%s: %v, told %d times, took %s", wait, err, told, took)
		}
	}
	l.Release()
	got, err := Acquire(t.Context(), state, "", "me", 0, func(*Busy) { t.Error("nobody has it") })
	if err != nil {
		t.Fatal(err)
	}
	got.Release()
}

func TestCanceled(t *testing.T) {
	state, other, web := newState(t), newState(t), t.TempDir()
	acquire(t, state, web)
	for name, s := range map[string]string{"one repository": state, "one web root": other} {
		ctx, cancel := context.WithCancel(t.Context())
		l, err := Acquire(ctx, s, web, "me", time.Hour, func(*Busy) { cancel() })
		if !errors.Is(err, context.Canceled) || l != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if Held(other) != nil {
		t.Error("who gave up waiting for the web root holds the repository")
	}
	acquire(t, other, t.TempDir())
}

// TestOneAtATime: of many who want it, one has it.
func TestOneAtATime(t *testing.T) {
	states, web := []string{newState(t), newState(t)}, t.TempDir()
	var inside atomic.Int32
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 3 {
				l, err := Acquire(t.Context(), states[i%2], web, "me", time.Hour, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				for range 100 {
					runtime.Gosched()
				}
				inside.Add(-1)
				l.Release()
			}
		})
	}
	wg.Wait()
}

func TestHeld(t *testing.T) {
	state := newState(t)
	if b := Held(state); b != nil {
		t.Errorf("without a lock file: %+v", b)
	}
	l := acquire(t, state, "")
	l.Phase("a long phase, which makes the line longer")
	l.Phase("short")
	if b := Held(state); b == nil || b.Holder == nil || b.Holder.Phase != "short" || b.PID != os.Getpid() {
		t.Errorf("held: %+v", b)
	}
	l.Release()
	if b := Held(state); b != nil {
		t.Errorf("released: %+v", b)
	}
	acquire(t, state, "") // asking did not take it
	if b := Held(filepath.Join(state, "none")); b != nil {
		t.Errorf("no state directory: %+v", b)
	}
}

// TestReleaseWithCopies: a child has copies of the descriptors until it is
// another program. They do not hold the lock on.
func TestReleaseWithCopies(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), t.TempDir()
	l, err := Acquire(t.Context(), state, dir, "ann", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{l.file, l.dir} {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	l.Release()
	if busy := Held(state); busy != nil {
		t.Errorf("released, and %s", busy.Describe())
	}
	again, err := Acquire(t.Context(), state, dir, "ben", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	again.Release()
}

// TestFile: what the file says is for display; nothing in it, or in its place,
// does harm.
func TestFile(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "garbage": "not JSON", "cut short": `{"pid":12,"wh`, "zeros": "\x00\x00\x00", "long": strings.Repeat("x", 10_000)} {
		t.Run(name, func(t *testing.T) {
			state := newState(t)
			path := filepath.Join(state, FileName)
			l := acquire(t, state, "")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if b := busy(t, state, ""); b.Holder != nil || b.Describe() != "another deployment is running" {
				t.Errorf("%v", b)
			}
			l.Release()
			l = acquire(t, state, "")
			if b := busy(t, state, ""); b.Holder == nil || b.Holder.Who != "me" {
				t.Errorf("after it: %v", b)
			}
			l.Release()
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
				t.Errorf("the lock file: %v, %v", st, err)
			}
		})
	}
	state := newState(t)
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("kept\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(state, FileName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), state, "", "me", 0, nil); err == nil {
		t.Error("a symlink is locked")
	}
	if data, err := os.ReadFile(target); err != nil || string(data) != "kept\n" {
		t.Errorf("the symlink's target: %q, %v", data, err)
	}
	for name, dirs := range map[string][2]string{"state": {filepath.Join(state, "none"), ""}, "web root": {newState(t), filepath.Join(state, "none")}} {
		if _, err := Acquire(t.Context(), dirs[0], dirs[1], "me", 0, nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no %s: %v", name, err)
		}
	}
}

// TestForeignHolder: whoever locks the web root says with its working directory
// what we look at. Nothing there keeps a waiter beyond its time, and another
// account's words are not repeated.
func TestForeignHolder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		uid    int
		put    func(path string, pid int) error
		holder bool
	}{
		"a FIFO":           {os.Geteuid(), func(path string, _ int) error { return unix.Mkfifo(path, 0o666) }, false},
		"a symlink":        {os.Geteuid(), func(path string, _ int) error { return os.Symlink("/dev/zero", path) }, false},
		"a lock file":      {os.Geteuid(), writeHolder, true},
		"another account":  {65534, writeHolder, false},
		"its FIFO":         {65534, func(path string, _ int) error { return unix.Mkfifo(path, 0o666) }, false},
		"nothing is there": {os.Geteuid(), func(string, int) error { return nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.uid != os.Geteuid() && os.Geteuid() != 0 {
				t.Skip("needs root, to become another account")
			}
			dir := publicDir(t)
			web := filepath.Join(dir, "web")
			if err := errors.Join(os.Mkdir(filepath.Join(dir, "bluegreen"), 0o755), os.Mkdir(web, 0o755)); err != nil {
				t.Fatal(err)
			}
			pid := flockAs(t, test.uid, dir, web)
			if err := test.put(filepath.Join(dir, "bluegreen", FileName), pid); err != nil {
				t.Fatal(err)
			}
			state, done := newState(t), make(chan *Busy, 1)
			go func() {
				_, err := Acquire(t.Context(), state, web, "me", 0, nil)
				b, _ := errors.AsType[*Busy](err)
				done <- b
			}()
			select {
			case b := <-done:
				if b == nil || b.PID != pid || (b.Holder != nil) != test.holder {
					t.Errorf("%+v, want that process %d has it", b, pid)
				}
			case <-time.After(30 * time.Second):
				t.Error("it waits for what is in the place of the lock file")
			}
		})
	}
}

func writeHolder(path string, pid int) error {
	return os.WriteFile(path, fmt.Appendf(nil, `{"pid":%d,"who":"ann"}`, pid), 0o644)
}

// publicDir makes a directory that every account can look into.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lock")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// flockAs has another program lock web, which is not ours, as an account.
func flockAs(t *testing.T, uid int, dir, web string) (pid int) {
	t.Helper()
	cmd := exec.Command("flock", web, "sh", "-c", "echo locked; cat")
	cmd.Dir = dir
	if uid != os.Geteuid() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	return start(t, cmd).Process.Pid
}

// TestNotInherited: a program that the holder starts does not hold the lock on
// when the holder is gone.
func TestNotInherited(t *testing.T) {
	state, web := newState(t), t.TempDir()
	l := acquire(t, state, web)
	cmd := exec.Command("/bin/cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	l.Release()
	acquire(t, state, web)
}
