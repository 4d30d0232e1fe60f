package environment

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/broker"
	"bluegreen/internal/config"
	"bluegreen/internal/deploy"
	"bluegreen/internal/gittest"
)

func open(t *testing.T, text string, environ ...string) (*Environment, string, error) {
	t.Helper()
	repo := gittest.Bare(t)
	if text != "" {
		if err := os.WriteFile(filepath.Join(repo, ConfigFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := Open(repo, append(gittest.Environ(), environ...), func(deploy.Notice) {})
	return e, repo, err
}

// TestDefaults opens a repository without a configuration: the bash script's
// place, taken.
func TestDefaults(t *testing.T) {
	t.Parallel()
	e, repo, err := open(t, "")
	if err != nil {
		t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	w := e.Worktree
	if e.Name != host || e.Rules().BranchRef() != "refs/heads/master" || w.Dir != "/var/www/html" || !w.Verify ||
		w.Symlinks != "inside" || w.MaxFiles != 1_000_000 || w.MaxBytes != 20_000_000_000 || len(e.Checks) != 0 || len(e.Commands) != 0 {
		t.Errorf("the defaults are %+v and %+v", e.Environment, w)
	}
	if w.StateDir != filepath.Join(repo, "bluegreen") || e.Journal.Dir != w.StateDir {
		t.Errorf("the state is in %q and %q", w.StateDir, e.Journal.Dir)
	}
	if _, err := os.Lstat(w.StateDir); !os.IsNotExist(err) {
		t.Errorf("whoever only reads makes the state directory: %v", err)
	}
}

// TestAll sets every key that this version knows and finds it where it is used.
func TestAll(t *testing.T) {
	t.Parallel()
	e, _, err := open(t, `
environment = "green"
[deploy]
branch = "live"
directory = "/srv/www"
verify = false
symlinks = "any"
max_files = 7
max_bytes = 8
[[health]]
name = "page"
url = "http://127.0.0.1/"
host = "www.example.com"
headers = { Accept = "text/html" }
status = [200, 204]
body = "App {short}"
body_regexp = "A.*p"
body_file = "index.html"
timeout = "2s"
interval = "3s"
within = "40s"
successes = 5
[[health]]
tcp = "127.0.0.1:5432"
[[health]]
command = ["smoke", "--fast"]
[[command]]
run = ["reload", "it"]
timeout = "6s"
[[command]]
at = "rolled-back"
run = ["again"]
`)
	if err != nil {
		t.Fatal(err)
	}
	w := e.Worktree
	if e.Name != "green" || e.Rules().BranchRef() != "refs/heads/live" || w.Dir != "/srv/www" || w.Verify || w.Symlinks != "any" || w.MaxFiles != 7 || w.MaxBytes != 8 {
		t.Errorf("%+v and %+v", e.Environment, w)
	}
	page := e.Checks[0]
	if page.Name != "page" || page.URL != "http://127.0.0.1/" || page.Host != "www.example.com" || page.Headers["Accept"] != "text/html" ||
		!slices.Equal(page.Status, []int{200, 204}) || page.Body != "App {short}" || page.BodyRegexp.String() != "A.*p" || page.BodyFile != "index.html" ||
		page.Timeout != 2*time.Second || page.Interval != 3*time.Second || page.Within != 40*time.Second || page.Successes != 5 {
		t.Errorf("%+v", page)
	}
	if len(e.Checks) != 3 || e.Checks[1].TCP != "127.0.0.1:5432" || !slices.Equal(e.Checks[2].Command, []string{"smoke", "--fast"}) {
		t.Errorf("%+v", e.Checks)
	}
	if len(e.Commands) != 2 || e.Commands[0].At != "deployed" || !slices.Equal(e.Commands[0].Run, []string{"reload", "it"}) ||
		e.Commands[0].Timeout != 6*time.Second || e.Commands[1].At != "rolled-back" {
		t.Errorf("%+v", e.Commands)
	}
}

// TestNothingTouched opens what is not in order, and finds it as it was.
func TestNothingTouched(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"[deploy]\nbrnach = 1\n", "[peers]\ngreen = \"ftp://10.0.0.1/\"\n", "\x00"} {
		_, repo, err := open(t, text)
		var wrong *config.Error
		if !errors.As(err, &wrong) {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := os.Lstat(filepath.Join(repo, "bluegreen")); !os.IsNotExist(err) {
			t.Errorf("%q: the state directory was made: %v", text, err)
		}
	}
	_, err := Open(t.TempDir(), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "is not a bare git repository") {
		t.Errorf("an empty directory: %v", err)
	}
	_, err = Open(filepath.Join(t.TempDir(), "missing"), nil, nil)
	if err == nil {
		t.Error("a directory that is not there is opened")
	}
}

// TestStateIsNoDirectory refuses a state directory that somebody else has put
// something in the place of.
func TestStateIsNoDirectory(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(path string) error{
		"file":    func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"symlink": func(path string) error { return os.Symlink(os.TempDir(), path) },
	} {
		repo := gittest.Bare(t)
		if err := make(filepath.Join(repo, "bluegreen")); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(repo, gittest.Environ(), nil); err == nil || !strings.Contains(err.Error(), "is not a directory") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCommandEnvironment keeps from commands what would turn them against the
// repository, and secrets.
func TestCommandEnvironment(t *testing.T) {
	t.Parallel()
	kept := []string{"HOME=/home/deploy", "USER=deploy", "LANG=de_DE.UTF-8", "LC_ALL=C", "TZ=UTC", "TMPDIR=/tmp", "PATH=/usr/bin"}
	dropped := []string{"GIT_DIR=.", "GIT_QUARANTINE_PATH=/x", "GIT_PUSH_OPTION_0=live", "DIGITALOCEAN_TOKEN=secret", "AWS_SECRET_ACCESS_KEY=x",
		"SSH_AUTH_SOCK=/x", "SSH_ORIGINAL_COMMAND=x", "LD_PRELOAD=/x", "BLUEGREEN_USER=ada", "BLUEGREEN_COMMIT=forged", "HOMER=x", "nonsense", "=x"}
	got := commandEnvironment(append(slices.Clone(dropped), kept...))
	if !slices.Equal(got, kept) {
		t.Errorf("got %q, want %q", got, kept)
	}
	for _, environ := range [][]string{nil, {"PATH="}} {
		if got := commandEnvironment(environ); len(got) != 1 || !strings.HasPrefix(got[0], "PATH=/usr/local/sbin:") {
			t.Errorf("without a PATH: %q", got)
		}
	}
}

// TestBroker has a broker asked in the API's place, whatever the token is. The
// lock is the same: one promotion of an IP runs at a time, with and without.
func TestBroker(t *testing.T) {
	t.Parallel()
	const text = "environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { green = 2, blue = 1 }\ntoken_file = \"/there/is/none\"\ntimeout = \"1m\"\n"
	without, _, err := open(t, text)
	if err != nil {
		t.Fatal(err)
	}
	with, _, err := open(t, text+"broker = [\"sudo\", \"-n\", \"broker\"]\n", "DIGITALOCEAN_TOKEN=secret")
	if err != nil {
		t.Fatal(err)
	}
	c, ok := with.Promotion.Mover.Provider.(*broker.Client)
	if !ok || !slices.Equal(c.Argv, []string{"sudo", "-n", "broker"}) || !slices.Equal(c.Environments, []string{"blue", "green"}) || c.Timeout != time.Minute {
		t.Fatalf("asked is %+v", with.Promotion.Mover.Provider)
	}
	if slices.ContainsFunc(c.Env, func(kv string) bool { return strings.Contains(kv, "secret") }) || len(c.Env) == 0 {
		t.Errorf("its environment is %q", c.Env)
	}
	// Landlock would take sudo from it.
	if dirs, _, free := with.Confinement(t.Context()); len(dirs) > 0 || !strings.HasPrefix(free, "promotion.broker ") {
		t.Errorf("with a broker it is confined to %q: %q", dirs, free)
	}
	if with.Promotion.Lock != without.Promotion.Lock || with.Promotion.Address == nil || with.Promotion.Holds == nil || with.Promotion.Anchor == nil {
		t.Errorf("with a broker it is %+v, without %+v", with.Promotion, without.Promotion)
	}
}
