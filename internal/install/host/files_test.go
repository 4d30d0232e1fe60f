package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/gittest"
)

// me owns what the tests make.
func me() Account { return Account{Name: "me", UID: os.Geteuid(), GID: os.Getegid()} }

// TestOwnSymlinks follows root's symlinks inside the root, wherever they lead.
func TestOwnSymlinks(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/srv/site/page", "/var/www -> /srv", "/var/html -> ../../../srv/site", "/home/x -> ../var/html/page", "/abs -> /srv/../srv/site/page")
	for _, path := range []string{"/var/www/site/page", "/var/html/page", "/home/x", "/abs", "/var/www/../srv/site/./page"} {
		if text, err := h.ReadFile(path); string(text) != "/srv/site/page" || err != nil {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	if e, err := h.Look("/home/x"); err != nil || e.Target != "../var/html/page" {
		t.Errorf("the symlink itself is %+v, %v", e, err)
	}
	if e, err := h.Follow("/home/x"); err != nil || !e.Mode.IsRegular() {
		t.Errorf("what it leads to is %+v, %v", e, err)
	}
	must(t, h.WriteFile("/var/www/site/new", strings.NewReader("new"), me(), 0o640))
	if text, err := os.ReadFile(filepath.Join(h.Root, "srv/site/new")); string(text) != "new" || err != nil {
		t.Errorf("what was written is %q, %v", text, err)
	}
}

// TestNothing tells what is not there from what cannot be looked at.
func TestNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/etc/passwd", "/dangling -> /none", "/loop -> loop")
	for _, path := range []string{"/none", "/none/deeper", "/etc/none"} {
		for _, look := range []func(string) (*Entry, error){h.Look, h.Follow} {
			if e, err := look(path); e != nil || err != nil {
				t.Errorf("%s: %+v, %v", path, e, err)
			}
		}
		if names, err := h.List(path); names != nil || err != nil {
			t.Errorf("%s: %q, %v", path, names, err)
		}
		if _, err := h.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
		must(t, h.Remove(path))
	}
	if e, err := h.Follow("/dangling"); e != nil || err != nil {
		t.Errorf("a dangling symlink leads to %+v, %v", e, err)
	}
	if e, err := h.Look("/dangling"); err != nil || e == nil || e.Mode.Type() != fs.ModeSymlink {
		t.Errorf("a dangling symlink is %+v, %v", e, err)
	}
	for path, want := range map[string]string{"/etc/passwd/x": `looking at "/etc/passwd/x": not a directory`, "/loop/x": `looking at "/loop/x": too many levels of symbolic links`} {
		if _, err := h.Look(path); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestOthersSymlinks never leaves a directory that others can change.
func TestOthersSymlinks(t *testing.T) {
	t.Parallel()
	outside := func(h *Host) gittest.Snapshot { return gittest.Snap(t, filepath.Join(h.Root, "victim"), true) }
	for name, target := range map[string]string{"absolute": "/victim", "relative": "../../victim"} {
		h := newHost(t, "/victim/secret", "/home/them/dir -> "+target, "/home/them/file -> "+target+"/secret", "/home/them/.new.new -> "+target+"/secret")
		h.openUp(t, "home/them")
		before := outside(h)
		for _, path := range []string{"/home/them/dir/secret", "/home/them/dir/new", "/home/them/file"} {
			if text, err := h.ReadFile(path); err == nil {
				t.Errorf("%s: %s can be read: %q", name, path, text)
			}
			if err := h.Own(path, os.Geteuid(), os.Getegid(), 0o777); err == nil {
				t.Errorf("%s: %s can be given away", name, path)
			}
		}
		for what, err := range map[string]error{
			"written":              h.WriteFile("/home/them/dir/secret", strings.NewReader("x"), me(), 0o600),
			"made":                 h.Mkdir("/home/them/dir/new", me(), 0o755),
			"removed":              h.Remove("/home/them/dir/secret"),
			"linked":               h.Symlink("x", "/home/them/dir/secret"),
			"kept":                 h.Keep("/home/them/dir/secret", "/home/them/dir/kept"),
			"logged":               h.AppendLine("/home/them/dir/secret", "x"),
			"logged too":           h.AppendLine("/home/them/file", "x"),
			"owned as a directory": h.Own("/home/them/dir", os.Geteuid(), os.Getegid(), 0o700),
			"taken over":           h.Mkdir("/home/them/dir", me(), 0o700),
		} {
			if err == nil {
				t.Errorf("%s: something outside is %s", name, what)
			}
		}
		// What has the place of a new file is replaced, not followed.
		must(t, h.WriteFile("/home/them/file", strings.NewReader("mine"), me(), 0o600))
		must(t, h.WriteFile("/home/them/new", strings.NewReader("mine"), me(), 0o600))
		if text, err := h.ReadFile("/home/them/file"); string(text) != "mine" || err != nil {
			t.Errorf("%s: what was written is %q, %v", name, text, err)
		}
		if diff := before.Diff(outside(h)); diff != "" {
			t.Errorf("%s: outside:\n%s", name, diff)
		}
	}
}

// TestInsideSymlinks goes on below a directory of others, in it.
func TestInsideSymlinks(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/home/them/real/file", "/home/them/dir -> real", "/home/them/a/../b/")
	h.openUp(t, "home/them")
	if text, err := h.ReadFile("/home/them/dir/file"); string(text) != "/home/them/real/file" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
	if names, err := h.List("/home/them/dir"); !slices.Equal(names, []string{"file"}) || err != nil {
		t.Errorf("got %q, %v", names, err)
	}
	// What is owned is what was looked at.
	if err := h.Own("/home/them/dir", os.Geteuid(), os.Getegid(), 0o700); err == nil {
		t.Error("a symlink of others is owned")
	}
	if e, err := h.Look("/home/them/real"); err != nil || e.Mode.Perm() != 0o755 {
		t.Errorf("what it leads to is %+v, %v", e, err)
	}
}

// TestFIFO waits for nobody.
func TestFIFO(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/home/them/")
	h.openUp(t, "home/them")
	must(t, syscall.Mkfifo(filepath.Join(h.Root, "home/them/fifo"), 0o666))
	const fifo = "/home/them/fifo"
	if e, err := h.Look(fifo); err != nil || e.Mode.Type() != fs.ModeNamedPipe {
		t.Errorf("it is %+v, %v", e, err)
	}
	for what, err := range map[string]error{
		"read":        second(h.ReadFile(fifo)),
		"listed":      second(h.List(fifo)),
		"compared":    second(h.Same(fifo, os.Args[0])),
		"owned":       h.Own(fifo, os.Geteuid(), os.Getegid(), 0o600),
		"gone below":  second(h.Look(fifo + "/x")),
		"made below":  h.Mkdir(fifo+"/x", me(), 0o755),
		"written":     h.WriteFile(fifo+"/x", strings.NewReader(""), me(), 0o600),
		"appended to": h.AppendLine(fifo+"/x", "line"),
	} {
		if err == nil && what != "compared" {
			t.Errorf("a FIFO can be %s", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestReadFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/dir/", "/file")
	if _, err := h.ReadFile("/dir"); err == nil || err.Error() != `reading "/dir": it is not a regular file` {
		t.Errorf("a directory: %v", err)
	}
	must(t, os.Truncate(filepath.Join(h.Root, "file"), maxFile))
	if _, err := h.ReadFile("/file"); err != nil {
		t.Error(err)
	}
	must(t, os.Truncate(filepath.Join(h.Root, "file"), maxFile+1))
	if _, err := h.ReadFile("/file"); err == nil || err.Error() != `reading "/file": it is larger than 1048576 bytes` {
		t.Errorf("a large one: %v", err)
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/a")
	source := filepath.Join(t.TempDir(), "source")
	long := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"", "x", false}, {"x", "", false}, {"x", "x", true}, {long, long, true}, {long, long + "x", false},
		{long + "x", long, false}, {long + "x", long + "y", false}, {long + long, long + long, true},
	} {
		must(t, os.WriteFile(filepath.Join(h.Root, "a"), []byte(c.a), 0o644))
		must(t, os.WriteFile(source, []byte(c.b), 0o644))
		if got, err := h.Same("/a", source); got != c.want || err != nil {
			t.Errorf("%d and %d bytes: %t, %v", len(c.a), len(c.b), got, err)
		}
	}
	if got, err := h.Same("/none", source); got || err != nil {
		t.Errorf("without a file: %t, %v", got, err)
	}
	if _, err := h.Same("/a", source+"2"); err == nil {
		t.Error("without a source there is no error")
	}
}

// TestWriteFile replaces a file: who has the old one open keeps it, and a
// failure leaves it.
func TestWriteFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/etc/file")
	old, err := os.Open(filepath.Join(h.Root, "etc/file"))
	must(t, err)
	defer old.Close()
	must(t, h.WriteFile("/etc/file", strings.NewReader("new"), me(), 0o751))
	before, err := old.Stat()
	must(t, err)
	st, err := os.Stat(filepath.Join(h.Root, "etc/file"))
	must(t, err)
	if os.SameFile(before, st) || st.Mode().Perm() != 0o751 {
		t.Errorf("it is %v, the same one: %t", st.Mode(), os.SameFile(before, st))
	}
	broken := errors.New("broken")
	if err := h.WriteFile("/etc/file", &failing{broken}, me(), 0o600); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if text, err := h.ReadFile("/etc/file"); string(text) != "new" || err != nil {
		t.Errorf("after a failure it is %q, %v", text, err)
	}
	if names, err := h.List("/etc"); !slices.Equal(names, []string{"file"}) || err != nil {
		t.Errorf("after a failure there are %q, %v", names, err)
	}
	// sudo would read what has no dot in its name.
	temp, err := h.Stage("/etc/rules", strings.NewReader(""), me(), 0o440)
	if must(t, err); temp != "/etc/.rules.new" {
		t.Errorf("it is prepared as %s", temp)
	}
	must(t, h.Rename(temp, "/etc/rules"))
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestMkdir(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/srv/", "/data -> /srv/data")
	must(t, h.Mkdir("/srv/a/b/c", me(), 0o750))
	must(t, h.Mkdir("/srv/a", me(), 0o711)) // one that is there
	for path, want := range map[string]fs.FileMode{"/srv/a": 0o711, "/srv/a/b": 0o755, "/srv/a/b/c": 0o750} {
		e, err := h.Look(path)
		if must(t, err); e == nil || e.Mode.Perm() != want || e.UID != os.Geteuid() {
			t.Errorf("%s is %+v", path, e)
		}
	}
}

// TestOwn keeps setgid and sticky bits, and takes nothing with a second name.
func TestOwn(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/srv/dir/", "/srv/file")
	must(t, os.Chmod(filepath.Join(h.Root, "srv/dir"), 0o777|fs.ModeSetgid|fs.ModeSticky))
	must(t, h.Own("/srv/dir", os.Geteuid(), os.Getegid(), 0o755))
	if e, err := h.Look("/srv/dir"); err != nil || e.Mode != fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o755 {
		t.Errorf("it is %v, %v", e, err)
	}
	must(t, os.Link(filepath.Join(h.Root, "srv/file"), filepath.Join(h.Root, "srv/other")))
	want := `changing the owner of "/srv/file": it is neither a directory nor a regular file with one name`
	if err := h.Own("/srv/file", os.Geteuid(), os.Getegid(), 0o600); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	one, err := h.Look("/srv/file")
	must(t, err)
	two, err := h.Look("/srv/other")
	if must(t, err); !one.Same(two) || one.Names != 2 {
		t.Errorf("they are %+v and %+v", one, two)
	}
	if os.Geteuid() == 0 {
		must(t, h.Own("/srv/dir", 4711, 4712, 0o700))
		if e, err := h.Look("/srv/dir"); err != nil || !e.Is(Account{UID: 4711, GID: 4712}, 0o700) {
			t.Errorf("it is %+v, %v", e, err)
		}
	}
}

// TestSymlink exchanges what is there, and Keep keeps it.
func TestSymlink(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/hooks/file", "/hooks/link -> none", "/hooks/dir/x", "/hooks/.file.new")
	for _, name := range []string{"/hooks/file", "/hooks/link"} {
		before, err := h.Look(name)
		must(t, err)
		must(t, h.Keep(name, name+".kept"))
		must(t, h.Symlink("/target", name))
		kept, err := h.Look(name + ".kept")
		if must(t, err); !kept.Same(before) || kept.Target != before.Target {
			t.Errorf("%s: %+v is kept of %+v", name, kept, before)
		}
		if e, err := h.Look(name); err != nil || e.Target != "/target" {
			t.Errorf("%s is %+v, %v", name, e, err)
		}
	}
	if err := h.Symlink("/target", "/hooks/dir"); err == nil {
		t.Error("a symlink takes the place of a directory")
	}
	if err := h.Keep("/hooks/file", "/hooks/link"); err == nil || err.Error() != `keeping "/hooks/file": file exists` {
		t.Errorf("got %v", err)
	}
}

// TestAppendLine writes inside also where root's symlinks are absolute.
func TestAppendLine(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/data/log/install.log", "/var/log -> /data/log")
	must(t, h.AppendLine("/var/log/install.log", "a line"))
	if text, err := h.ReadFile("/data/log/install.log"); string(text) != "/data/log/install.log\na line\n" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}
