package forced

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// home makes an account's home with a repository, another one, and symlinks.
func home(t testing.TB, names ...string) Key {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name, "objects"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "HEAD"), []byte("ref: refs/heads/master\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Key{Repo: filepath.Join(dir, names[0]), Home: dir, Account: "deploy"}
}

// TestGit asks for the repository by each of its names, and for others.
func TestGit(t *testing.T) {
	t.Parallel()
	k := home(t, "app", "other", "app2", "app2.git", "-x")
	for link, target := range map[string]string{"link": "app", "away": "other", "looped": "looped", "nowhere": "nothing"} {
		if err := os.Symlink(target, filepath.Join(k.Home, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"app", "app/", "app//", "./app", "app/.", "other/../app", "app.git", "app.git/", "~/app", "~/app/", "~//app", "~deploy/app",
		k.Repo, k.Repo + "/", k.Repo + ".git", "/" + k.Repo, "link", "link/../app"} {
		for _, service := range []string{"receive-pack", "upload-pack"} {
			for _, git := range []string{"git-", "git "} {
				line := git + service + " " + shellQuote([]string{path})
				if c, err := k.Allow(line); err != nil || c.Git != service || c.Operator != nil {
					t.Errorf("%s: %+v, %v", line, c, err)
				}
			}
		}
	}
	for _, path := range []string{"", ".", "/", "~", "~/", "~deploy", "~root/app", "~deploy2/app", "other", "other/", "app2", "app2.git", "away", "looped", "nowhere",
		"app/objects", "app/HEAD", "app/..", "app/hooks", "..", "-x", "--help", "--upload-pack=id", "missing", k.Home, "/etc", "app\\", "app ", "\xff",
		strings.Repeat("a/", 3000) + "app", strings.Repeat("a", 300)} {
		line := "git-upload-pack " + shellQuote([]string{path})
		c, err := k.Allow(line)
		if err == nil || !strings.Contains(err.Error(), `this key is for "`+k.Repo+`" only`) {
			t.Errorf("%.99s: %+v, %v", line, c, err)
		}
	}
}

// TestSuffix holds the two names that may stand for one repository apart where
// there are two repositories.
func TestSuffix(t *testing.T) {
	t.Parallel()
	k := home(t, "app.git")
	for path, allowed := range map[string]bool{"app": true, "app.git": true, "app.git.git": true, "app.gi": false} {
		if got := k.names(path); got != allowed {
			t.Errorf("%q: %v", path, got)
		}
	}
	k = home(t, "app", "app.git")
	if !k.names("app") || k.names("app.git") {
		t.Error("app is the repository of the key, and app.git is another one")
	}
	// A directory that is no repository is in nobody's way, as with git.
	k = home(t, "app.git")
	if err := os.Mkdir(filepath.Join(k.Home, "app"), 0o700); err != nil {
		t.Fatal(err)
	}
	if !k.names("app") {
		t.Error("git would take app.git for app")
	}
}

// TestHomeless has no home: relative paths lead nowhere.
func TestHomeless(t *testing.T) {
	t.Parallel()
	k := home(t, "app")
	k.Home, k.Account = "", ""
	for path, allowed := range map[string]bool{"app": false, "~/app": false, "~/": false, k.Repo: true} {
		if got := k.names(path); got != allowed {
			t.Errorf("%q: %v", path, got)
		}
	}
	k.Home = filepath.Dir(k.Repo)
	if k.names("~") || !k.names("~/app") {
		t.Error("an account without a name has a home, too")
	}
}

var operatorLines = []struct {
	line string
	want string // "" where it is refused
}{
	{"bluegreen status", "status"},
	{"'bluegreen' \"status\" --json", "status --json"},
	{"bluegreen status --json --json", "status --json --json"},
	{"bluegreen history", "history"},
	{"bluegreen history -n 5", "history --number=5"},
	{"bluegreen history -n=5 --json", "history --number=5 --json"},
	{"bluegreen history --number 5", "history --number=5"},
	{"bluegreen history --number=5", "history --number=5"},
	{"bluegreen check --json", "check --json"},
	{"bluegreen plan", "plan"},
	{"bluegreen plan HEAD~1 --json", "plan --json -- HEAD~1"},
	{"bluegreen plan --json master^{commit}", "plan --json -- master^{commit}"},
	{"bluegreen promote", "promote"},
	{"bluegreen promote --wait 5m", "promote --wait=5m"},
	{"bluegreen rollback --wait=0s --unchecked", "rollback --wait=0s --unchecked"},

	{"bluegreen", ""},
	{"bluegreen ''", ""},
	{"bluegreen --json status", ""},
	{"bluegreen -h", ""},
	{"bluegreen help", ""},
	{"bluegreen --version", ""},
	{"bluegreen deploy master", ""},
	{"bluegreen recover", ""},
	{"bluegreen doctor --fix", ""},
	{"bluegreen install", ""},
	{"bluegreen uninstall", ""},
	{"bluegreen completion bash", ""},
	{"bluegreen __complete status", ""},
	{"bluegreen ssh ann", ""},
	{"bluegreen status extra", ""},
	{"bluegreen status -j", ""},
	{"bluegreen status --json=true", ""},
	{"bluegreen status --jso", ""},
	{"bluegreen status -- --json", ""},
	{"bluegreen status --help", ""},
	{"bluegreen status ''", ""},
	{"bluegreen status --repo=/etc", ""},
	{"bluegreen status --repo /etc", ""},
	{"bluegreen --repo /etc status", ""},
	{"bluegreen history -n", ""},
	{"bluegreen history -n5", ""},
	{"bluegreen history -n -1", ""},
	{"bluegreen history -n 0", ""},
	{"bluegreen history -n 99999999999999999999", ""},
	{"bluegreen history --number", ""},
	{"bluegreen history --number --json", ""},
	{"bluegreen plan --output=x", ""},
	{"bluegreen plan -- master", ""},
	{"bluegreen plan -x", ""},
	{"bluegreen plan ''", ""},
	{"bluegreen plan a b", ""},
	{"bluegreen plan " + strings.Repeat("a", maxRevision+1), ""},
	{"bluegreen promote green", ""},
	{"bluegreen promote --unchecked", ""},
	{"bluegreen promote --wait", ""},
	{"bluegreen promote --wait soon", ""},
	{"bluegreen promote --wait -5m", ""},
	{"bluegreen promote --wait=", ""},
	{"bluegreen rollback --unchecked=false", ""},
	{"bluegreen rollback --wait --unchecked", ""},
	{"/usr/local/bin/bluegreen status", ""},
	{"BLUEGREEN_USER=root bluegreen status", ""},
	{"bluegreen status; id", ""},
	{"bluegreen status | sh", ""},
	{"bluegreen status > /tmp/x", ""},
	{"bluegreen plan $(id)", ""},
	{"bluegreen plan `id`", ""},
	{"bluegreen status\nid", ""},
	{"bluegreen\x00status", ""},
}

// others are what clients send that want something else.
var others = []string{
	"", " ", "''", "sh", "bash -i", "-bash", "id", "cat bluegreen.toml", "sudo id", "git", "git ''", "git-", "git status", "git config -l",
	"git --exec-path=/tmp receive-pack app", "git -c core.sshCommand=id upload-pack app", "git --git-dir app receive-pack app",
	"git-receive-pack", "git-receive-pack app app", "git-upload-pack --strict app", "git upload-pack --timeout=1 app", "git-upload-archive app",
	"git upload-archive 'app'", "git-shell -c id", "git-receive-pack app;id", "git-receive-pack 'app' && id", "git-receive-pack $HOME/app", "git-receive-pack 'app",
	"git-receive-pack\tapp\tx", "/usr/bin/git-receive-pack app", "git-receive-pack\x1b app", "git-lfs-authenticate app upload", "git-http-backend",
	"scp -t /tmp", "scp -f app/config", "/usr/lib/openssh/sftp-server", "internal-sftp", "rsync --server -e.Lsf . app", "svnserve -t", "env", "printenv DIGITALOCEAN_TOKEN",
	"eval bluegreen status", "exec git-receive-pack app", "command git-receive-pack app", "nc 127.0.0.1 80", "\xff\xfe", strings.Repeat("a ", 10_000),
}

// TestOperator asks for each of the operator's commands, in each way.
func TestOperator(t *testing.T) {
	t.Parallel()
	k := home(t, "app")
	for _, test := range operatorLines {
		c, err := k.Allow(test.line)
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%.99q is allowed: %+v", test.line, c)
		case test.want != "" && (err != nil || c.Git != "" || !slices.Equal(c.Operator, strings.Fields(test.want))):
			t.Errorf("%q: %+v, %v; want %s", test.line, c, err, test.want)
		case test.want == "":
			printable(t, test.line, err)
		}
	}
	for _, repo := range []string{"--repo /etc", "--repo=/etc", "--repo"} {
		if _, err := k.Allow("bluegreen status " + repo); err == nil || err.Error() != `--repo is refused: this key is for "`+k.Repo+`" only` {
			t.Errorf("%s: %v", repo, err)
		}
	}
}

// TestWrongValue names what was asked for as it was asked.
func TestWrongValue(t *testing.T) {
	t.Parallel()
	k := home(t, "app")
	for words, want := range map[string]string{
		"promote --wait=-1s": `"--wait=-1s" is refused: allowed is bluegreen promote [--wait DURATION]`,
		"promote --wait -1s": `"--wait -1s" is refused: allowed is bluegreen promote [--wait DURATION]`,
		"promote --wait":     `"--wait" is refused: allowed is bluegreen promote [--wait DURATION]`,
		"history -n=0":       `"-n=0" is refused: allowed is bluegreen history [-n N] [--json]`,
	} {
		if _, err := k.Allow("bluegreen " + words); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", words, err, want)
		}
	}
}

func TestOthers(t *testing.T) {
	t.Parallel()
	k := home(t, "app")
	for _, line := range others {
		c, err := k.Allow(line)
		if err == nil {
			t.Errorf("%.99q is allowed: %+v", line, c)
			continue
		}
		printable(t, line, err)
		if !strings.HasSuffix(err.Error(), `this key may push to "`+k.Repo+`" and fetch from it, and run bluegreen status, history, check, plan, promote and rollback`) {
			t.Errorf("%.99q: the refusal does not say what is allowed: %v", line, err)
		}
	}
}

// printable holds a refusal to one line of reasonable length.
func printable(t *testing.T, line string, err error) {
	t.Helper()
	text := err.Error()
	if len(text) > 1200 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		t.Errorf("%.99q: the refusal is %q", line, text)
	}
}

// FuzzAllow holds whatever is allowed to the list.
func FuzzAllow(f *testing.F) {
	for _, test := range operatorLines {
		f.Add(test.line)
	}
	for _, line := range append(slices.Clone(others), "git-receive-pack 'app'", "git upload-pack '~/app/'") {
		f.Add(line)
	}
	k := home(f, "app", "other")
	f.Fuzz(func(t *testing.T, line string) {
		c, err := k.Allow(line)
		if err != nil {
			printable(t, line, err)
			return
		}
		if c.Git != "" {
			words, err := Split(line)
			if err != nil || c.Git != "receive-pack" && c.Git != "upload-pack" || c.Operator != nil || !strings.Contains(words[len(words)-1], "app") {
				t.Errorf("%q: %+v", line, c)
			}
			return
		}
		if !slices.Contains([]string{"status", "history", "check", "plan", "promote", "rollback"}, c.Operator[0]) {
			t.Errorf("%q: %+v", line, c)
		}
		for i, arg := range c.Operator[1:] {
			flag, _, _ := strings.Cut(arg, "=")
			behind := c.Operator[i] == "--" && i == len(c.Operator)-2 && c.Operator[0] == "plan"
			if !behind && !slices.Contains([]string{"--json", "--number", "--wait", "--unchecked", "--"}, flag) || behind && strings.HasPrefix(arg, "-") {
				t.Errorf("%q: %q in %+v", line, arg, c)
			}
		}
	})
}

func TestEnviron(t *testing.T) {
	t.Parallel()
	kept := []string{"HOME=/home/deploy", "USER=deploy", "LOGNAME=deploy", "PATH=/usr/bin", "TZ=Europe/Berlin", "LANG=de_DE.UTF-8", "LC_ALL=C", "LC_TIME=", "GIT_PROTOCOL=version=2"}
	dropped := []string{
		"DIGITALOCEAN_TOKEN=dop_v1_secret", "BLUEGREEN_USER=root", "BLUEGREEN_COMMIT=x", "SSH_ORIGINAL_COMMAND=x", "SSH_AUTH_SOCK=/tmp/x", "SSH_CONNECTION=x",
		"GIT_DIR=/etc", "GIT_EXEC_PATH=/tmp", "GIT_CONFIG_COUNT=1", "GIT_PROTOCOL=VERSION=2", "GIT_PROTOCOL=version=2;id", "GIT_PROTOCOL=",
		"GIT_PROTOCOL=" + strings.Repeat("a", 65), "LD_PRELOAD=/tmp/x", "SHELL=/bin/sh", "TMPDIR=/tmp", "XDG_CONFIG_HOME=/tmp", "HTTPS_PROXY=http://x", "GODEBUG=x", "GORACE=x", "GOTRACEBACK=x",
		"LC_ALL=../../tmp/x", "LANG=/tmp/x", "LC_TIME=\x1b[31m", "LC_X=" + strings.Repeat("a", 65), "LC_ =C", "LANGUAGE=de", "TZ=/tmp/x", "TZ=:/tmp/x", "TZ=a/../../x",
		"HOMER=x", "PATH=", "nonsense", "=x", "",
	}
	got := Environ(append(slices.Clone(dropped), kept...), "ann")
	if want := append([]string{"BLUEGREEN_USER=ann"}, kept...); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Environ(dropped, "ann"); !slices.Equal(got, []string{"BLUEGREEN_USER=ann", "PATH=/usr/local/bin:/usr/bin:/bin"}) {
		t.Errorf("without a PATH: %q", got)
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"ann", "ann@example.com", "a.b-c_d", "7", strings.Repeat("a", 100)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "a b", "a\nb", `a"b`, "a,b", "größe", "\x1b", "a/b", "a=b", strings.Repeat("a", 101)} {
		err := CheckName(name)
		if err == nil {
			t.Errorf("%q is a name", name)
			continue
		}
		printable(t, name, err)
	}
}
