package lock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childOfName tells this program that it is to hold the lock of a name.
const childOfName = "BLUEGREEN_TEST_LOCK_NAME"

// holdName acquires the lock, says so, and holds it until its input ends.
func holdName(name string) int {
	n, err := AcquireName(context.Background(), name, 0, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("locked")
	io.Copy(io.Discard, os.Stdin)
	n.Release()
	return 0
}

// newName is a name that no other test on this machine uses.
func newName(t *testing.T) string {
	return fmt.Sprintf("%s %d %d", t.Name(), os.Getpid(), time.Now().UnixNano())
}

func acquireName(t *testing.T, name string) *Named {
	t.Helper()
	n, err := AcquireName(t.Context(), name, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Release)
	return n
}

// busyName fails unless others have the name.
func busyName(t *testing.T, name string) *Busy {
	t.Helper()
	n, err := AcquireName(t.Context(), name, 0, nil)
	b := (*Busy)(nil)
	if !errors.As(err, &b) {
		if err == nil {
			n.Release()
		}
		t.Fatalf("error %v, want that it is busy", err)
	}
	return b
}

func TestNames(t *testing.T) {
	long := newName(t) + strings.Repeat("x", 200)
	bytes80 := long[:80]
	for _, test := range []struct {
		name, a, b string
		busy       bool
	}{
		{"one", newName(t), "", true},
		{"two", newName(t), newName(t), false},
		{"a beginning of the other", long[:70], long[:69], false},
		{"80 bytes", bytes80, "", true},
		{"81 bytes", bytes80 + "x", "", true},
		{"80 and 81 bytes", bytes80, bytes80 + "x", false},
		{"long", long, "", true},
		{"long, and another", long, long + "x", false},
		{"not printable", newName(t) + "\x00\n", "", true},
		{"not printable, and another", newName(t) + "\x00\n", newName(t) + "\x00", false},
		{"not ASCII", newName(t) + "é", "", true},
		{"empty, and another", "", newName(t), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.b == "" {
				test.b = test.a
			}
			held := acquireName(t, test.a)
			if !test.busy {
				acquireName(t, test.b).Release()
				return
			}
			if b := busyName(t, test.b); b.PID != os.Getpid() || b.What != test.a {
				t.Errorf("held by %+v", b)
			}
			held.Release()
			again := acquireName(t, test.b)
			held.Release() // once more, which does no harm
			busyName(t, test.a)
			again.Release()
		})
	}
}

func TestSocketName(t *testing.T) {
	for name, want := range map[string]string{
		"promotion of 203.0.113.10": "\x00bluegreen-promotion of 203.0.113.10",
		strings.Repeat("~", 80):     "\x00bluegreen-" + strings.Repeat("~", 80),
		"\n":                        "\x00bluegreen-01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b",
		"\x7f":                      "\x00bluegreen-620bfdaa346b088fb49998d92f19a7eaf6bfc2fb0aee015753966da1028cb731",
	} {
		if got := socketName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := socketName(strings.Repeat("~", 81)); len(got) != len("\x00bluegreen-")+64 {
		t.Errorf("81 bytes: %q", got)
	}
}

// TestNameOfAnotherProcess: the holder is named, and what it had is free when
// it ends, as when it is killed.
func TestNameOfAnotherProcess(t *testing.T) {
	for how, end := range map[string]func(*holder){
		"released": func(h *holder) { h.stdin.Close(); h.Wait() },
		"killed":   func(h *holder) { h.kill() },
	} {
		t.Run(how, func(t *testing.T) {
			name := newName(t)
			h := startHolder(t, t.TempDir(), childOfName+"="+name)
			want := fmt.Sprintf("another %s is running on this machine (process %d); waited 0s", name, h.Process.Pid)
			if b := busyName(t, name); b.Error() != want || b.PID != h.Process.Pid || b.Holder != nil {
				t.Errorf("%v, want %s", b, want)
			}
			told := 0
			n, err := AcquireName(t.Context(), name, time.Hour, func(b *Busy) {
				told++
				if b.PID != h.Process.Pid {
					t.Errorf("waiting for %+v", b)
				}
				end(h)
			})
			if err != nil || told != 1 {
				t.Fatalf("told %d times, %v", told, err)
			}
			defer n.Release()
			if b := busyName(t, name); b.PID != os.Getpid() {
				t.Errorf("held by %+v", b)
			}
		})
	}
}

// TestNameOfSilence: a holder that cannot be asked is busy without a number,
// at once: its queue is full, or it does not listen.
func TestNameOfSilence(t *testing.T) {
	for how, backlog := range map[string]int{"full": 0, "not listening": -1} {
		t.Run(how, func(t *testing.T) {
			name := newName(t)
			address := &unix.SockaddrUnix{Name: socketName(name)}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Bind(fd, address); err != nil {
				t.Fatal(err)
			}
			if backlog >= 0 {
				if err := unix.Listen(fd, backlog); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					listener(address)
				}
			}
			want := fmt.Sprintf("another %s is running on this machine", name)
			if b := busyName(t, name); b.PID != 0 || b.Describe() != want {
				t.Errorf("%v, want %s", b, want)
			}
		})
	}
}

func TestDescribeName(t *testing.T) {
	for want, b := range map[string]Busy{
		"another promotion of 203.0.113.10 is running on this machine (process 123)": {What: "promotion of 203.0.113.10", PID: 123},
		"another promotion of é \"x\" is running on this machine":                    {What: `promotion of é "x"`},
		`another "a\n\x1b[31m" is running on this machine (process 1)`:               {What: "a\n\x1b[31m", PID: 1},
	} {
		if got := b.Describe(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestNameAskedOften: the holder of a name that many wait for is known to all.
func TestNameAskedOften(t *testing.T) {
	name := newName(t)
	acquireName(t, name)
	for range 100 {
		if pid := listener(&unix.SockaddrUnix{Name: socketName(name)}); pid != os.Getpid() {
			t.Fatalf("held by %d", pid)
		}
	}
}

func TestNameWait(t *testing.T) {
	name := newName(t)
	acquireName(t, name)
	for _, wait := range []time.Duration{-time.Second, 0, 30 * time.Millisecond, 120 * time.Millisecond} {
		told := 0
		start := time.Now()
		got, err := AcquireName(t.Context(), name, wait, func(*Busy) { told++ })
		took := time.Since(start)
		if b := (*Busy)(nil); !errors.As(err, &b) || got != nil || told != 1 || took < wait || b.Waited < 0 || b.Waited > took.Round(100*time.Millisecond) {
			t.Errorf("%s: %v, told %d times, took %s", wait, err, told, took)
		}
	}
}

func TestNameCanceled(t *testing.T) {
	name := newName(t)
	held := acquireName(t, name)
	ctx, cancel := context.WithCancel(t.Context())
	n, err := AcquireName(ctx, name, time.Hour, func(*Busy) { cancel() })
	if !errors.Is(err, context.Canceled) || n != nil {
		t.Errorf("%v", err)
	}
	held.Release()
	acquireName(t, name)
}

// TestNameOneAtATime: of many who want it, one has it.
func TestNameOneAtATime(t *testing.T) {
	name := newName(t)
	var inside atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3 {
				n, err := AcquireName(t.Context(), name, time.Hour, nil)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the name", n)
				}
				for range 100 {
					runtime.Gosched()
				}
				inside.Add(-1)
				n.Release()
			}
		})
	}
	wg.Wait()
}

// TestNameNotInherited: a program that the holder starts does not hold the
// name on when the holder is gone.
func TestNameNotInherited(t *testing.T) {
	name := newName(t)
	n := acquireName(t, name)
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
	n.Release()
	acquireName(t, name)
}
