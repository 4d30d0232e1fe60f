package doctor

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/version"
)

// TestMendsWork types what the doctor says into a shell, and examines again.
func TestMendsWork(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		harm  func(*patient)
		check string
		input string
	}{
		{"hooksPath everywhere", func(p *patient) {
			p.run("mv", filepath.Join(p.repo, "hooks"), filepath.Join(p.dir, "hooks"))
			p.must(os.Mkdir(filepath.Join(p.repo, "hooks"), 0o755))
			for _, file := range []string{"global", "system", "included"} {
				p.write(filepath.Join(p.dir, file), "[core]\n\thooksPath = "+p.dir+"/hooks\n", 0o644)
			}
			p.write(filepath.Join(p.dir, "system"), "[include]\n\tpath = included\n", 0o644)
			p.run("git", "config", "core.hooksPath", p.dir+"/hooks")
			p.environ("GIT_CONFIG_GLOBAL=" + p.dir + "/global")
			p.environ("GIT_CONFIG_SYSTEM=" + p.dir + "/system")
			p.environ("GIT_CONFIG_NOSYSTEM=0")
		}, "hooks", ""},
		{"a group may write", func(p *patient) { p.chmod("objects", 0o775); p.chmod("hooks", 0o775) }, "repository", ""},
		{"no directory of the token's", func(p *patient) {
			p.reconfigure(p.token, p.dir+"/etc/bluegreen/token")
			p.token = p.dir + "/etc/bluegreen/token"
		}, "token", canary + "\n"},
		{"another token", func(p *patient) { p.write(p.token, "dop_v1_other\n", 0o600) }, "promotion", canary + "\n"},
		{"not executable", func(p *patient) { p.ownHook("proc-receive", 0o600) }, "hooks", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			p.Host.Account = func(int) (Account, error) { return Account{Name: me.Username, Home: p.home, Shell: "/bin/sh"}, nil }
			test.harm(p)
			fixes := p.fixes(test.check)
			if len(fixes) == 0 {
				t.Fatal("nothing was found")
			}
			sudo := filepath.Join(p.dir, "sudo")
			p.write(filepath.Join(sudo, "sudo"), "#!/bin/sh\n[ \"$1\" = -u ] && shift 2\nexec \"$@\"\n", 0o755)
			for _, fix := range fixes {
				cmd := exec.Command("/bin/sh", "-c", fix)
				cmd.Env, cmd.Stdin = []string{"PATH=" + sudo + ":" + os.Getenv("PATH")}, strings.NewReader(test.input)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", fix, err, out)
				}
			}
			if test.name == "hooksPath everywhere" {
				p.run("rmdir", filepath.Join(p.repo, "hooks"))
				p.run("mv", filepath.Join(p.dir, "hooks"), filepath.Join(p.repo, "hooks"))
			}
			p.well(p.examine())
		})
	}
}

// fixes are the commands that mend what one check has found.
func (p *patient) fixes(check string) (fixes []string) {
	p.Helper()
	for _, f := range p.examine().amiss() {
		if f.Check == check {
			fixes = append(fixes, f.Fix)
		}
	}
	return fixes
}

// environ sets a variable of the host's.
func (p *patient) environ(kv string) {
	name, _, _ := strings.Cut(kv, "=")
	p.Host.Environ = append(slices.DeleteFunc(p.Host.Environ, func(other string) bool { return strings.HasPrefix(other, name+"=") }), kv)
}

// TestInstallAgain asks for the web server that is there, and for the place of
// other programs where those are wrong that install would take.
func TestInstallAgain(t *testing.T) {
	t.Parallel()
	installed := byRoot("bluegreen install --user deploy --repo ", "sudo bluegreen install --user deploy --repo ")
	for name, test := range map[string]struct {
		hook     string // where the hook leads to, in the throw-away root; "" for no hook
		programs []string
		options  string
	}{
		"nothing":      {"", nil, " --web none"},
		"apache":       {"", []string{"usr/sbin/apache2"}, ""},
		"nginx":        {"", []string{"usr/sbin/nginx"}, " --web nginx"},
		"both":         {"", []string{"usr/sbin/nginx", "usr/sbin/apache2"}, ""},
		"another hook": {"opt/post-receive", []string{"opt/post-receive"}, " --web none"},
		"our own": {"usr/local/lib/bluegreen/post-receive", []string{"usr/local/lib/bluegreen/post-receive"},
			" --web none --programs DIR # DIR is where the programs of version " + version.Number + " are"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			for _, path := range test.programs {
				p.write(filepath.Join(p.root, path), "#!/bin/sh\n", 0o755)
			}
			p.remove("hooks/post-receive")
			if test.hook != "" {
				p.link("hooks/post-receive", filepath.Join(p.root, test.hook))
			}
			if fixes, want := p.fixes("hooks"), installed+p.repo+test.options; len(fixes) != 1 || fixes[0] != want {
				t.Errorf("%q, want %s", fixes, want)
			}
		})
	}
}

// TestOfTheAccount finds what the account may change that keys must not.
func TestOfTheAccount(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	if os.Geteuid() == 0 { // then pushes are received by root, who may change all
		p.run("chown", "-R", "12345", p.repo, p.token)
		p.Host.UID = 12345
	}
	p.well(p.examine())
	toml, ssh := filepath.Join(p.repo, "bluegreen.toml"), filepath.Join(p.home, ".ssh")
	keys := filepath.Join(ssh, "authorized_keys")

	p.writable(p.www, toml)
	p.wants(p.examine(), "configuration", Warning, "deploy may change "+toml, "sudo chown root: "+toml)
	p.chmod("bluegreen.toml", 0o600)
	p.wants(p.examine(), "configuration", Warning, "deploy may change "+toml, fmt.Sprintf("sudo chown root:deploy %s && sudo chmod 640 %s", toml, toml))
	p.chmod("bluegreen.toml", 0o644)

	mend := fmt.Sprintf("sudo chown root: %s %s && sudo chmod a+rX %s %s", ssh, keys, ssh, keys)
	p.writable(p.www, ssh)
	p.wants(p.examine(), "keys", Warning, "deploy may let in other keys: it may write to "+ssh, mend)
	p.writable(p.www, keys)
	p.wants(p.examine(), "keys", Warning, "deploy may let in other keys: it may write to "+ssh, mend)
	// Where no key is bound, there is nothing that another one would get round.
	p.write(keys, publicKey()+"\n", 0o600)
	if found := p.examine().amiss(); len(found) != 1 || !strings.Contains(found[0].Text, "gives a shell") {
		t.Errorf("found:%s", show(found))
	}
}

// TestSudoOptions asks sudo about a command as the account that it would be run
// as, and not about what sudo will not tell.
func TestSudoOptions(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		run  string // of the configuration
		asks string
	}{
		"as another": {`["sudo", "-n", "-u", "postgres", "/usr/bin/psql", "-l"]`, "-n -l -u postgres -- /usr/bin/psql -l"},
		"long":       {`["sudo", "--user=postgres", "-H", "--", "/usr/bin/psql"]`, "-n -l -u postgres -- /usr/bin/psql"},
		"as root":    {`["/usr/bin/sudo", "/usr/bin/psql"]`, "-n -l -u root -- /usr/bin/psql"},
		"as a group": {`["sudo", "-g", "adm", "/usr/bin/psql"]`, ""},
		"nothing":    {`["sudo", "-n"]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			asked := filepath.Join(p.dir, "asked")
			p.write(filepath.Join(p.bin, "sudo"), "#!/bin/sh\necho \"$*\" >>"+asked+"\n", 0o755)
			p.reconfigure(`["sudo", "-n", "/bin/systemctl", "reload", "apache2"]`, test.run)
			p.well(p.examine())
			text, err := os.ReadFile(asked)
			if got := strings.TrimSpace(string(text)); got != test.asks || err != nil && test.asks != "" {
				t.Errorf("asked %q, want %q, %v", got, test.asks, err)
			}
		})
	}
}

// TestSmallDisk does not call a small filesystem full that is nearly empty.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.space(Space{Size: 100 << 20, Free: 999 << 20 / 10, Files: 25_688, Spare: 25_000})
	p.well(p.examine())
	p.space(Space{Size: 100 << 20, Free: 40 << 20})
	p.wants(p.examine(), "space", Warning, "there is little room for "+p.repo+": 40.0 MiB of 100.0 MiB are free (40.0%)", "df -h")
}

// TestAnotherAsks says who should, and takes nothing for broken that only the
// account may see or do.
func TestAnotherAsks(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.Host.UID = os.Geteuid() + 1
	p.Host.Writable = func(string) bool { return false }
	p.write(filepath.Join(p.bin, "sudo"), "#!/bin/sh\nexit 1\n", 0o755)
	p.must(os.Chmod(p.token, 0))
	p.must(os.Chmod(filepath.Join(p.repo, "bluegreen"), 0))
	p.must(os.Chmod(p.www, 0o555))
	p.Cleanup(func() {
		for path, mode := range map[string]fs.FileMode{filepath.Join(p.repo, "bluegreen"): 0o700, p.www: 0o755} {
			p.must(os.Chmod(path, mode))
		}
	})
	r := p.examine()
	p.wants(r, "repository", Warning, "belongs to deploy, and another account asks", "sudo -u deploy bluegreen --repo "+p.repo+" doctor")
	if found := r.amiss(); len(found) != 1 {
		t.Errorf("found:%s", show(found))
	}
}

// TestAccount knows what os/user does not tell.
func TestAccount(t *testing.T) {
	t.Parallel()
	if a, err := account(0); err != nil || a.Name != "root" || a.Home == "" || !filepath.IsAbs(a.Shell) {
		t.Errorf("%+v, %v", a, err)
	}
}
