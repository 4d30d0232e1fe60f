package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}

func text(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestWriteFile(t *testing.T) {
	errStop := errors.New("stop")
	long := strings.Repeat("long\n", 10_000) // more than a buffer
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		write   func(io.Writer) error
		want    string // of the file afterwards
		err     error
	}{
		{"new", nil, text("new\n"), "new\n", nil},
		{"nothing", nil, text(""), "", nil},
		{"long", nil, text(long), long, nil},
		{"replace", func(t *testing.T, path string) { put(t, path, "old and longer\n") }, text("new\n"), "new\n", nil},
		{"after a crash", func(t *testing.T, path string) {
			put(t, path, "old\n")
			put(t, path+".new", "left over, and longer than the new one\n") // and readable by all
		}, text("new\n"), "new\n", nil},
		{"left over as a symlink", func(t *testing.T, path string) {
			put(t, path+".target", "target\n")
			if err := os.Symlink(path+".target", path+".new"); err != nil {
				t.Fatal(err)
			}
		}, text("new\n"), "new\n", nil},
		{"error", func(t *testing.T, path string) { put(t, path, "old\n") },
			func(io.Writer) error { return errStop }, "old\n", errStop},
		{"error after the first byte", func(t *testing.T, path string) { put(t, path, "old\n") },
			func(w io.Writer) error { return errors.Join(text("n")(w), errStop) }, "old\n", errStop},
		{"error after much", func(t *testing.T, path string) { put(t, path, "old\n") },
			func(w io.Writer) error { return errors.Join(text(long)(w), errStop) }, "old\n", errStop},
		{"error, no file before", nil, func(io.Writer) error { return errStop }, "", errStop},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, path+"/kept", "x")
		}, text("new\n"), "", syscall.EEXIST},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			if test.prepare != nil {
				test.prepare(t, path)
			}
			before := names(t, dir)
			err := WriteFile(path, 0o600, test.write)
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if err != nil && !strings.Contains(err.Error(), path) {
				t.Errorf("the error does not name the file: %v", err)
			}
			after := slices.DeleteFunc(slices.Clone(before), func(name string) bool { return name == "file.new" })
			if err == nil && !slices.Contains(after, "file") {
				after = append([]string{"file"}, after...)
			}
			if got := names(t, dir); !slices.Equal(got, after) {
				t.Errorf("left: %q, want %q", got, after)
			}
			if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
				if got := content(t, path); got != test.want {
					t.Errorf("%q, want %q", got, test.want)
				}
				if test.err == nil && st.Mode().Perm() != 0o600 {
					t.Errorf("mode %v", st.Mode())
				}
			}
			if test.name == "left over as a symlink" && content(t, path+".target") != "target\n" {
				t.Error("it was written through a symlink")
			}
		})
	}
	if err := WriteFile(filepath.Join(t.TempDir(), "none/file"), 0o600, text("x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

// TestWriteFileReplaces: who has the old file open goes on reading it.
func TestWriteFileReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	put(t, path, "old\n")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteFile(path, 0o600, text("new\n")); err != nil {
		t.Fatal(err)
	}
	if old, err := io.ReadAll(f); err != nil || string(old) != "old\n" {
		t.Errorf("the old file holds %q, %v", old, err)
	}
}

// TestNotSynced: where only the directory cannot be synced, the new file is in
// place, and the error says so.
func TestNotSynced(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "durable")
	if err == nil {
		err = os.Chmod(dir, 0o333) // who may not read it cannot sync it
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "file")
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with this goroutine
		unix.Setfsuid(65534)   // root may read everything; for others it does nothing
		done <- WriteFile(path, 0o600, text("new\n"))
	}()
	err = <-done
	if !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "it is in place") || content(t, path) != "new\n" {
		t.Errorf("%v", err)
	}
}

// fullDisk lets no file of this process grow past size bytes until it returns.
func fullDisk(t *testing.T, size int, do func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(size), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
			t.Error(err)
		}
	}()
	do()
}

// TestFullDisk: a write that the system cuts short leaves the old file, and a log
// as it was.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	file, log := filepath.Join(dir, "file"), filepath.Join(dir, "log")
	put(t, file, "old\n")
	put(t, log, "first\n")
	fullDisk(t, 10, func() {
		if err := WriteFile(file, 0o600, text("new and too long\n")); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("writing a file: %v", err)
		}
		if err := AppendLine(log, []byte("second")); !errors.Is(err, syscall.EFBIG) {
			t.Errorf("appending: %v", err)
		}
	})
	if got := content(t, file); got != "old\n" || !slices.Equal(names(t, dir), []string{"file", "log"}) {
		t.Errorf("%q, %q", got, names(t, dir))
	}
	if err := AppendLine(log, []byte("third")); err != nil {
		t.Fatal(err)
	}
	if got := content(t, log); got != "first\nthird\n" {
		t.Errorf("after that: %q", got)
	}
}

func TestAppendLine(t *testing.T) {
	for name, test := range map[string]struct{ before, line, want string }{
		"new":         {"", "a", "a\n"},
		"next":        {"a\n", "b", "a\nb\n"},
		"torn":        {"a\n{\"b", "c", "a\n{\"b\nc\n"},
		"only torn":   {"x", "c", "x\nc\n"},
		"torn twice":  {"a\n\n", "c", "a\n\nc\n"},
		"empty line":  {"a\n", "", "a\n\n"},
		"zeros":       {"a\n\x00\x00", "c", "a\n\x00\x00\nc\n"},
		"many before": {strings.Repeat("line\n", 10_000), "c", strings.Repeat("line\n", 10_000) + "c\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if test.before != "" {
				put(t, path, test.before)
			}
			line := []byte(test.line)
			if err := AppendLine(path, line); err != nil {
				t.Fatal(err)
			}
			if got := content(t, path); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if st, err := os.Stat(path); err != nil || test.before == "" && st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%v, %v", st.Mode(), err)
			}
		})
	}
	dir := t.TempDir()
	put(t, filepath.Join(dir, "target"), "kept\n")
	if err := os.Symlink("target", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := AppendLine(filepath.Join(dir, "link"), []byte("x")); err == nil || content(t, filepath.Join(dir, "target")) != "kept\n" {
		t.Errorf("through a symlink: %v", err)
	}
	if err := AppendLine(filepath.Join(dir, "none/log"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
}

// TestAppendLocked: who keeps the log locked keeps nobody waiting for ever.
func TestAppendLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	put(t, path, "a\n")
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := unix.Flock(int(reader.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if err := AppendLine(path, []byte("b")); err == nil || !strings.Contains(err.Error(), "another process keeps it locked for longer than 5s") || content(t, path) != "a\n" {
		t.Errorf("while it is locked: %v", err)
	}
	if err := unix.Flock(int(reader.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if err := AppendLine(path, []byte("c")); err != nil || content(t, path) != "a\nc\n" {
		t.Errorf("after that: %v", err)
	}
}

// TestAppendTogether: lines of several writers do not mix.
func TestAppendTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var wg sync.WaitGroup
	want := map[string]bool{}
	for i := range 8 {
		for j := range 10 {
			want[fmt.Sprintf("%d-%d %s", i, j, strings.Repeat("x", 1000*i))] = true
		}
		wg.Go(func() {
			for j := range 10 {
				if err := AppendLine(path, fmt.Appendf(nil, "%d-%d %s", i, j, strings.Repeat("x", 1000*i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for line := range bytes.Lines([]byte(content(t, path))) {
		if line = bytes.TrimSuffix(line, []byte("\n")); !want[string(line)] {
			t.Errorf("a line %.40q of %d bytes", line, len(line))
		}
		delete(want, string(line))
	}
	if len(want) != 0 {
		t.Errorf("%d lines are missing", len(want))
	}
}

func TestRemove(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	put(t, path, "x")
	for range 2 { // what is gone is gone
		if err := Remove(path); err != nil || len(names(t, dir)) != 0 {
			t.Errorf("%v, left: %q", err, names(t, dir))
		}
	}
	put(t, path, "x")
	if err := Remove(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a directory that is not empty: %v", err)
	}
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	for name, sync := range map[string]func(string) error{"directory": SyncDir, "filesystem": SyncFilesystem} {
		if err := sync(dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := sync(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s that is not there: %v", name, err)
		}
	}
}
