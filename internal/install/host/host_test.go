package host

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// newHost is a system in a throw-away root: directories end with a slash,
// symlinks have an arrow.
func newHost(t *testing.T, paths ...string) *Host {
	t.Helper()
	h := &Host{Root: filepath.Join(gittest.Dir(t), "root")}
	must(t, os.Mkdir(h.Root, 0o755))
	for _, path := range paths {
		path, target, link := strings.Cut(path, " -> ")
		real := filepath.Join(h.Root, path)
		must(t, os.MkdirAll(filepath.Dir(real), 0o755))
		switch {
		case link:
			must(t, os.Symlink(target, real))
		case strings.HasSuffix(path, "/"):
			must(t, os.MkdirAll(real, 0o755))
		default:
			must(t, os.WriteFile(real, []byte(path), 0o755))
		}
	}
	return h
}

// open makes a directory one that others can change.
func (h *Host) openUp(t *testing.T, dir string) {
	t.Helper()
	must(t, os.Chmod(filepath.Join(h.Root, dir), 0o777))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/etc/")
	if a, err := h.Account("deploy"); a != nil || err != nil {
		t.Errorf("without a file: %v, %v", a, err)
	}
	must(t, os.WriteFile(filepath.Join(h.Root, "etc/passwd"), []byte(
		"# comment\nroot:x:0:0:root:/root:/bin/bash\nhalf:x:1:1\nbad:x:one:1::/:/bin/sh\ndeploy:x:1001:1002:,,,:/home/deploy:/bin/sh\ndeploy2:x:1003:1003::/:"), 0o644))
	a, err := h.Account("deploy")
	if want := (Account{Name: "deploy", UID: 1001, GID: 1002, Home: "/home/deploy", Shell: "/bin/sh"}); err != nil || a == nil || *a != want {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, name := range []string{"half", "bad", "# comment", "deplo", ""} {
		if a, err := h.Account(name); a != nil || err != nil {
			t.Errorf("%q: %v, %v", name, a, err)
		}
	}
	if name, number := h.NameOf(1003), h.NameOf(7); name != "deploy2" || number != "7" {
		t.Errorf("1003 is %s, 7 is %s", name, number)
	}
}

func TestHasPassword(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/etc/")
	must(t, os.WriteFile(filepath.Join(h.Root, "etc/shadow"), []byte("a:*:1::\nb:!:1::\nc::1::\nd:$6$x$y:1::\ne:!$6$x$y:1::\nf"), 0o600))
	for name, want := range map[string]bool{"a": false, "b": false, "c": true, "d": true, "e": false, "f": false, "nobody": false} {
		if got, err := h.HasPassword(name); got != want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
	if got, err := newHost(t).HasPassword("a"); got || err != nil {
		t.Errorf("without a file: %t, %v", got, err)
	}
}

// TestProgram finds programs inside, also behind absolute symlinks.
func TestProgram(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/usr/bin/git", "/usr/sbin/sshd", "/opt/tool", "/usr/bin/tool -> /etc/alternatives/tool", "/etc/alternatives/tool -> /opt/tool",
		"/usr/bin/dangling -> /usr/lib/none", "/usr/bin/outside -> "+os.Args[0], "/usr/bin/dir/", "/usr/bin/plain", "/usr/local/bin/twice", "/usr/bin/twice")
	must(t, os.Chmod(filepath.Join(h.Root, "usr/bin/plain"), 0o644))
	for name, want := range map[string]string{
		"git": "/usr/bin/git", "sshd": "/usr/sbin/sshd", "tool": "/usr/bin/tool", "twice": "/usr/local/bin/twice",
		"dangling": "", "outside": "", "dir": "", "plain": "", "none": "",
	} {
		if got := h.Program(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// /usr/local belongs to a group on some systems: what is in it counts.
	merged := newHost(t, "/usr/bin/tool -> /opt/tool", "/opt/tool")
	merged.openUp(t, "usr/bin")
	if got := merged.Program("tool"); got != "/usr/bin/tool" {
		t.Errorf("in a directory of others it is %q", got)
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	h := newHost(t, "/srv/site/", "/var/www -> /srv", "/home/a -> ../srv/./site", "/loop -> loop", "/up -> ../../../srv")
	for path, want := range map[string]string{
		"/srv/site": "/srv/site", "/var/www/site/x": "/srv/site/x", "/home/a": "/srv/site", "/home/a/../y": "/srv/y",
		"/none/at/all": "/none/at/all", "/": "/", "/up/site": "/srv/site", "/loop/x": "/loop/x",
	} {
		if got := h.Resolve(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// TestEntering has programs run as they would be inside.
func TestEntering(t *testing.T) {
	t.Parallel()
	deploy := &Account{Name: "deploy", UID: 7, GID: 8, Home: "/home/deploy"}
	for want, h := range map[string]*Host{
		"git version": {Root: "/"},
		"chroot --userspec=7:8 --groups=8 / git version":      {Root: "/"},
		"chroot /srv/root git version":                        {Root: "/srv/root"},
		"chroot --userspec=7:8 --groups=8 /srv/r git version": {Root: "/srv/r"},
	} {
		as := (*Account)(nil)
		if strings.Contains(want, "userspec") {
			as = deploy
		}
		c := h.command(as, time.Second, []string{"git", "version"})
		if got := strings.Join(c.Argv, " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		home := "HOME=/root"
		if as != nil {
			home = "HOME=/home/deploy"
		}
		if !slices.Contains(c.Env, home) || !slices.Contains(c.Env, "PATH="+search) || c.Dir != "/" {
			t.Errorf("%q runs in %q with %q", want, c.Dir, c.Env)
		}
	}
}

// TestRun tells of the program that failed, not of the way into the root.
func TestRun(t *testing.T) {
	t.Parallel()
	h := &Host{Root: "/", Enter: func(_ *Account, argv []string) []string {
		return []string{"/bin/sh", "-c", argv[1]}
	}}
	ctx := context.Background()
	if out, err := h.Read(ctx, nil, time.Minute, "tool", "echo $HOME; echo noise >&2"); out != "/root\n" || err != nil {
		t.Errorf("got %q, %v", out, err)
	}
	must(t, h.Run(ctx, nil, time.Minute, "tool", "exit 0"))
	want := `"tool" exited with status 3, saying "it broke"`
	if err := h.Run(ctx, nil, time.Minute, "tool", "echo it broke; exit 3"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := h.Read(ctx, nil, time.Minute, "tool", "echo it broke >&2; exit 3"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := h.Run(ctx, nil, time.Millisecond, "tool", "while :; do :; done"); err == nil || !strings.Contains(err.Error(), `"tool" did not end within 1ms`) {
		t.Errorf("got %v", err)
	}
}

// TestSuperuser stands for root, whoever runs the tests.
func TestSuperuser(t *testing.T) {
	t.Parallel()
	root := Superuser()
	if root.Name != "root" || root.UID != os.Geteuid() || os.Geteuid() == 0 && root.GID != 0 {
		t.Errorf("root is %+v", root)
	}
}
