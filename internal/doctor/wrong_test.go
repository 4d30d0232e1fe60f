package doctor

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
	"bluegreen/internal/worktree"
)

// TestOneThingWrong breaks one thing at a time. It is found, and nothing else
// is; what can be mended is, once.
func TestOneThingWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		harm  func(*patient)
		check string
		level Level
		text  string // a part of it
		fix   string // a part of it
		fixed bool   // by Mend
	}{
		// The configuration and the repository.
		{"unknown key", func(p *patient) { p.reconfigure("marker", "marekr") }, "configuration", Broken, "bluegreen.toml:4: deploy.marekr: unknown key; did you mean \"marker\"?", "editor ", false},
		{"configuration of others", func(p *patient) { p.chmod("bluegreen.toml", 0o664) }, "configuration", Warning, "may be written by others (mode 0664)", "chmod go-w", false},
		{"not bare", func(p *patient) { p.run("git", "config", "core.bare", "false") }, "repository", Broken, "is not bare", "core.bare true", false},
		{"open to all", func(p *patient) { p.chmod("objects", 0o777) }, "repository", Broken, "every account of this machine may write to ", byRoot("chmod -R go-w ", "sudo chmod -R go-w "), false},
		{"open to a group", func(p *patient) { p.chmod("objects", 0o775) }, "repository", Warning, "a group may write to ", "chmod -R go-w", false},
		{"git 2.28", func(p *patient) { p.oldGit("2.28.0") }, "git", Broken, "git 2.28.0 is older than 2.29", "apt-get install git", false},
		{"git 2.33", func(p *patient) { p.oldGit("2.33.1") }, "git", Broken, "git 2.33.1 is older than 2.34", "apt-get install git", false},
		{"git 2.35", func(p *patient) { p.oldGit("2.35.9") }, "git", Warning, "git 2.35.9 is older than 2.36", "apt-get install git", false},
		{"HEAD elsewhere", func(p *patient) { p.run("git", "symbolic-ref", "HEAD", "refs/heads/main") }, "head", Warning, "HEAD points at refs/heads/main, and refs/heads/master is deployed", "symbolic-ref HEAD refs/heads/master", false},
		{"HEAD detached", func(p *patient) { p.write(filepath.Join(p.repo, "HEAD"), p.commit+"\n", 0o644) }, "head", Warning, "HEAD is detached", "symbolic-ref HEAD refs/heads/master", false},

		// Git's settings.
		{"no procReceiveRefs for the branch", func(p *patient) { p.procReceiveRefs("refs/tags") }, "settings", Broken, "receive.procReceiveRefs does not name refs/heads/master", "config --add receive.procReceiveRefs refs/heads/master", true},
		{"no procReceiveRefs for tags", func(p *patient) { p.procReceiveRefs("refs/heads/master") }, "settings", Broken, "receive.procReceiveRefs does not name refs/tags", "config --add receive.procReceiveRefs refs/tags", true},
		{"procReceiveRefs by a prefix", func(p *patient) { p.procReceiveRefs("refs/heads", "refs/tags/release-") }, "settings", Broken, "does not name refs/tags", "", true},
		{"procReceiveRefs but for deletions", func(p *patient) { p.procReceiveRefs("am:refs/heads", "refs/tags") }, "settings", Broken, "does not name refs/heads/master", "", true},
		{"no push options", func(p *patient) { p.run("git", "config", "receive.advertisePushOptions", "no") }, "settings", Warning, "receive.advertisePushOptions is not true", "receive.advertisePushOptions true", true},
		{"no fsck", func(p *patient) { p.run("git", "config", "--unset", "receive.fsckObjects") }, "settings", Warning, "receive.fsckObjects is not true", "receive.fsckObjects true", true},
		{"no limit", func(p *patient) { p.run("git", "config", "receive.maxInputSize", "0") }, "settings", Warning, "receive.maxInputSize is not 2g", "receive.maxInputSize 2g", true},
		{"no fsync", func(p *patient) { p.run("git", "config", "core.fsync", "committed") }, "settings", Warning, "core.fsync is not all", "core.fsync all", true},

		// The hooks.
		{"no pre-receive", func(p *patient) { p.remove("hooks/pre-receive") }, "hooks", Warning, "there is no pre-receive", "bluegreen install", false},
		{"no proc-receive", func(p *patient) { p.remove("hooks/proc-receive") }, "hooks", Broken, "git refuses every push to those refs", "bluegreen install", false},
		{"dangling", func(p *patient) { p.remove("hooks/post-receive"); p.link("hooks/post-receive", "/nonexistent/hook") }, "hooks", Broken, "leads to /nonexistent/hook, which is not there", "bluegreen install", false},
		{"a directory", func(p *patient) {
			p.remove("hooks/pre-receive")
			p.must(os.Mkdir(filepath.Join(p.repo, "hooks/pre-receive"), 0o755))
		}, "hooks", Broken, "is not a file", "bluegreen install", false},
		{"not executable", func(p *patient) { p.ownHook("proc-receive", 0o644) }, "hooks", Broken, "proc-receive is not executable for deploy: git ignores it", "chmod a+rx", true},
		{"another program", func(p *patient) {
			p.remove("hooks/post-receive")
			p.write(filepath.Join(p.repo, "hooks/post-receive"), "#!/bin/sh\ntouch "+p.dir+"/ran\n", 0o755)
		}, "hooks", Warning, "is another program than bluegreen's", "bluegreen install", false},
		{"another version", func(p *patient) { p.Host.Environ = append(p.Host.Environ, said+"=0.0.9") }, "hooks", Warning, "\"pre-receive 0.0.9\", and this is version", "bluegreen install", false},
		{"hooksPath", func(p *patient) {
			p.run("mv", filepath.Join(p.repo, "hooks"), filepath.Join(p.dir, "hooks"))
			p.run("git", "config", "core.hooksPath", filepath.Join(p.dir, "hooks"))
		}, "hooks", Broken, "core.hooksPath makes git look for hooks in ", "--unset-all core.hooksPath", false},
		{"hooks of the account", func(p *patient) { p.writable(filepath.Join(p.repo, "hooks")) }, "hooks", Warning, byRoot("pushes are received by root", "deploy may replace the hooks"), byRoot("install --user deploy", "chown -R root: "), false},
		{"noexec", func(p *patient) { p.mounts("2 1 8:2 / " + hookDir(p) + " rw,noexec - tmpfs tmpfs rw\n") }, "hooks", Broken, " is mounted noexec", "mount -o remount,exec ", false},
		{"noexec programs", func(p *patient) {
			dir := filepath.Join(p.root, "usr/local/lib/bluegreen")
			p.must(os.MkdirAll(dir, 0o755))
			p.mounts("2 1 8:2 / " + filepath.Join(p.root, "usr") + " rw,noexec - ext4 /dev/sda2 rw\n")
		}, "programs", Broken, "is mounted noexec", "mount -o remount,exec ", false},
		{"upgraded package", func(p *patient) { p.packaged("0.2.0", "0.1.0") }, "programs", Warning, "are not those of the package", "/usr/bin/bluegreen install --user", false},
		{"no pre-receive and a package", func(p *patient) { p.packaged("0.2.0", "0.2.0"); p.remove("hooks/pre-receive") }, "hooks", Warning, "there is no pre-receive", "/usr/bin/bluegreen install", false},

		// The web root.
		{"no web root", func(p *patient) { p.run("mv", p.www, p.www+".away") }, "web root", Broken, "does not exist", "install -d -o deploy", false},
		{"a file", func(p *patient) { p.run("mv", p.www, p.www+".away"); p.write(p.www, "", 0o644) }, "web root", Broken, "is not a directory", "editor", false},
		{"not writable", func(p *patient) { p.writable() }, "web root", Broken, "deploy may not write to the web root", "chown deploy: ", false},
		{"in the repository", func(p *patient) {
			p.reconfigure(p.www, filepath.Join(p.repo, "www"))
			p.must(os.Mkdir(filepath.Join(p.repo, "www"), 0o755))
			p.writable(filepath.Join(p.repo, "www"))
		}, "configuration", Broken, "must not lie in each other", "editor", false},
		{"another mount", func(p *patient) { p.mounts("2 1 8:2 / " + p.www + " rw - ext4 /dev/sda2 rw\n") }, "web root", Warning, "is on another mount than the repository", "", false},
		{"read-only", func(p *patient) { p.mounts("2 1 8:2 / " + p.www + " ro - ext4 /dev/sda2 rw\n") }, "web root", Broken, "is mounted read-only", "mount -o remount,rw", false},
		{"an error made it read-only", func(p *patient) { p.mounts("2 1 8:2 / " + p.www + " rw - ext4 /dev/sda2 ro\n") }, "web root", Broken, "is mounted read-only", "mount -o remount,rw", false},
		{"a directory for releases", func(p *patient) {
			p.reconfigure("[deploy]\n", "[deploy]\nreleases = \""+p.dir+"/releases\"\n")
		}, "web root", Broken, "with deploy.releases it must be a symlink", "bluegreen install", false},
		{"a link out of the releases", func(p *patient) {
			p.reconfigure("[deploy]\n", "[deploy]\nreleases = \""+p.dir+"/releases\"\n")
			p.run("mv", p.www, p.www+".away")
			p.must(os.Symlink(p.www+".away", p.www))
		}, "web root", Broken, "leads out of deploy.releases", "editor", false},
		{"open web root", func(p *patient) { p.must(os.Chmod(p.www, 0o777)) }, "web root", Warning, "every account of this machine may write to the web root", "chmod o-w", false},
		{"nearly full", func(p *patient) { p.space(Space{Size: 100 << 30, Free: 9 << 30}) }, "space", Warning, "9.0 GiB of 100.0 GiB are free (9.0%)", "df -h", false},
		{"a small disk", func(p *patient) { p.space(Space{Size: 2 << 30, Free: 1<<30 - 1}) }, "space", Warning, "1.0 GiB of 2.0 GiB are free (50.0%)", "df -h", false},
		{"full", func(p *patient) { p.space(Space{Size: 100 << 30, Free: 1 << 30}) }, "space", Broken, "1.0 GiB of 100.0 GiB are free (1.0%)", "df -h", false},
		{"few inodes", func(p *patient) { p.space(Space{Size: 100 << 30, Free: 50 << 30, Files: 500_000, Spare: 99_999}) }, "space", Warning, "99999 of 500000 inodes are free", "df -i", false},
		{"no inodes", func(p *patient) { p.space(Space{Size: 100 << 30, Free: 50 << 30, Files: 500_000, Spare: 9_999}) }, "space", Broken, "9999 of 500000 inodes are free (2.0%)", "df -i", false},

		// What deployments have left.
		{"drift", func(p *patient) { p.write(filepath.Join(p.www, "about.html"), "them", 0o644) }, "state", Warning, "1 tracked files in ", "bluegreen --repo ", false},
		{"an old index.lock", func(p *patient) { p.indexLock(time.Hour) }, "state", Warning, "a git command has left ", "rm ", true},
		{"a new index.lock", func(p *patient) { p.indexLock(time.Minute) }, "state", Warning, "is running, or has just died", "rm ", false},
		{"a history that is none", func(p *patient) {
			p.remove("bluegreen/history.jsonl")
			p.must(os.Mkdir(filepath.Join(p.repo, "bluegreen/history.jsonl"), 0o755))
		}, "state", Broken, "reading the history", "chown", false},
		{"an interrupted deployment", interrupted, "state", Broken, "the deployment of ", "bluegreen --repo ", true},
		{"a damaged journal", func(p *patient) { p.write(filepath.Join(p.repo, "bluegreen/transaction.json"), "{", 0o600) }, "state", Broken, "journal is damaged", "recover", false},
		{"a deployment runs", func(p *patient) {
			l, err := lock.Acquire(p.Context(), filepath.Join(p.repo, "bluegreen"), p.www, "ben", 0, nil)
			p.must(err)
			p.Cleanup(l.Release)
		}, "state", Warning, "another deployment is running: ben", "status", false},

		// The health checks.
		{"sick", func(p *patient) { p.site = answering(500, "it broke") }, "health", Broken, "\"home page\" is not healthy: status 500", "check", false},
		{"nothing is checked", func(p *patient) { p.reconfigure("name = \"home page\"", "at = \"promoted\"") }, "health", Warning, "nothing is checked", "editor", false},
		{"the outside sees another", func(p *patient) {
			p.SetOwner(reservedIP, blue)
			p.write(filepath.Join(p.www, "release.json"), "{}", 0o644)
		}, "outside", Broken, "\"production\" is not healthy", "check", false},
		{"nobody asks the outside", func(p *patient) {
			p.SetOwner(reservedIP, blue)
			p.reconfigure("at = \"promoted\"", "at = \"deployed\"")
			p.reconfigure(`body = '"commit":"{commit}"'`, "")
		}, "outside", Warning, "nothing asks the outside", "editor", false},

		// The promotion.
		{"token of others", func(p *patient) { p.must(os.Chmod(p.token, 0o640)) }, "token", Broken, "may be read by others (mode 0640)", "chmod 600", true},
		{"no token", func(p *patient) { p.must(os.Remove(p.token)) }, "token", Broken, "no such file", "install -D -o deploy -m 600 /dev/stdin", false},
		{"an empty token", func(p *patient) { p.write(p.token, "\n", 0o600) }, "token", Broken, "the token is empty", "install -D -o deploy -m 600 /dev/stdin", false},
		{"token by a symlink", func(p *patient) { p.run("mv", p.token, p.token+"2"); p.must(os.Symlink(p.token+"2", p.token)) }, "token", Broken, "is a symlink", "install -D -o deploy", false},
		{"token by a FIFO", func(p *patient) { p.must(os.Remove(p.token)); p.must(syscall.Mkfifo(p.token, 0o600)) }, "token", Broken, "is a FIFO", "install -D -o deploy", false},
		{"no DIGITALOCEAN_TOKEN", func(p *patient) { p.reconfigure("token_file", "#") }, "token", Broken, "promotion.token_file is not set, and in DIGITALOCEAN_TOKEN the token is empty", "editor", false},
		{"another token", func(p *patient) { p.write(p.token, "dop_v1_other\n", 0o600) }, "promotion", Broken, "the API does not accept the token", "reserved_ip:update", false},
		{"an IP of others", func(p *patient) { p.AddDroplet(42, "other", "fra1"); p.SetOwner(reservedIP, 42) }, "promotion", Broken, "it belongs to droplet 42", "editor", false},
		{"no such IP", func(p *patient) { p.reconfigure(reservedIP, "203.0.113.11") }, "promotion", Broken, "203.0.113.11: 404", "", false},
		{"no such droplet", func(p *patient) { p.reconfigure("green = 3164495", "green = 99"); p.SetOwner(reservedIP, blue) }, "promotion", Broken, "droplet 99 (green) does not exist", "promotion.droplets.green", false},
		{"a droplet is off", func(p *patient) { p.SetDropletStatus(green, "off") }, "promotion", Broken, "droplet 3164495 (green) is off", "power it on", false},
		{"another region", func(p *patient) {
			p.AddDroplet(43, "far", "nyc3")
			p.reconfigure("green = 3164495", "green = 3164495, far = 43")
		}, "promotion", Broken, "is in nyc3 and 203.0.113.10 in fra1", "region", false},
		{"the IP is locked", func(p *patient) { p.SetLocked(reservedIP, true) }, "promotion", Warning, "203.0.113.10 is locked", "status", false},
		{"another droplet", func(p *patient) { p.reconfigure("blue = 3164494", "blue = 44"); p.AddDroplet(44, "new", "fra1") }, "metadata", Broken, "this is droplet \"3164494\", and promotion.droplets says that blue is 44", "editor", false},
		{"no metadata", func(p *patient) {
			p.reconfigure("metadata_url = \"http://127.0.0.1", "metadata_url = \"http://127.0.0.1:1/\"#")
		}, "metadata", Warning, "the droplet's metadata does not answer", "curl", false},
		{"a slow clock", func(p *patient) { p.clockOff(-30 * time.Second) }, "clock", Warning, "the clock is off by -", "timesyncd", false},
		{"a fast clock", func(p *patient) { p.clockOff(2 * time.Minute) }, "clock", Broken, "the clock is off by ", "timesyncd", false},
		{"no signers file", func(p *patient) { p.must(os.Remove(p.signers)) }, "signers", Broken, "who may sign tags cannot be read", "editor", false},
		{"nobody may sign", func(p *patient) { p.write(p.signers, "# nobody\n", 0o644) }, "signers", Broken, "names nobody", "editor", false},
		{"a line that is no signer", func(p *patient) { p.write(p.signers, "ann@example.com "+publicKey()+"\nben@example.com\n", 0o644) }, "signers", Broken, "signers:2: there is no key in the line", "editor", false},
		{"no ssh-keygen", func(p *patient) { p.onlyProgram("ssh-keygen") }, "signers", Broken, "ssh-keygen is not installed", "apt-get install", false},

		// The machine.
		{"no boot unit", func(p *patient) {
			p.must(os.Remove(filepath.Join(p.root, "etc/systemd/system/bluegreen-recover-repo.git.service")))
		}, "boot", Warning, "nothing recovers at boot", "bluegreen install", false},
		{"a unit for another", func(p *patient) {
			p.write(filepath.Join(p.root, "etc/systemd/system/bluegreen-recover-repo.git.service"), "ExecStart=bluegreen --repo "+p.repo+"2 recover\n", 0o644)
		}, "boot", Warning, "is not about " + "", "bluegreen install", false},
		{"not enabled", func(p *patient) {
			p.run("rm", "-r", filepath.Join(p.root, "etc/systemd/system/multi-user.target.wants"))
		}, "boot", Warning, "is not enabled", "systemctl enable bluegreen-recover-repo.git.service", false},
		{"a key with a shell", func(p *patient) { p.key(publicKey() + " ben@laptop") }, "keys", Warning, "authorized_keys:3: the key of \"ben@laptop\" gives a shell", "editor +3", false},
		{"a key that forwards", func(p *patient) { p.key(`command="/bin/true" ` + publicKey()) }, "keys", Warning, "may forward ports", "editor +3", false},
		{"a key that gets back", func(p *patient) { p.key(`restrict,pty,port-forwarding,command="/bin/sh" ` + publicKey()) }, "keys", Warning, "gets back what restrict has taken: port-forwarding, pty", "editor +3", false},
		{"a key with another command", func(p *patient) {
			p.key(`restrict,command="/usr/local/bin/bluegreen --repo /r ssh a; sh" ` + publicKey())
		}, "keys", Warning, `runs "/usr/local/bin/bluegreen --repo /r ssh a; sh": what that gives`, "editor +3", false},
		{"no shell", func(p *patient) { p.shell("/usr/sbin/nologin") }, "keys", Broken, "the shell of deploy, /usr/sbin/nologin, runs no command for sshd", "usermod --shell /bin/sh deploy", false},
		{"sudo refuses", func(p *patient) { p.reconfigure(`"apache2"]`, `"nginx"]`) }, "sudo", Warning, `may not run "sudo -n /bin/systemctl reload nginx"`, "bluegreen install", false},
		{"no sudo", func(p *patient) { p.onlyProgram("sudo") }, "sudo", Broken, "sudo is not installed", "apt-get install sudo", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			if test.check == "health" || test.check == "outside" || test.check == "web root" {
				p.configure(map[string]string{"WITHIN": "2s"}) // else it is long asked what does not answer
			}
			test.harm(p)
			r := p.examine()
			p.wants(r, test.check, test.level, test.text, test.fix)
			if r.Misconfigured != (test.check == "configuration" && test.level == Broken) {
				t.Errorf("misconfigured: %v", r.Misconfigured)
			}
			if _, err := os.Lstat(filepath.Join(p.dir, "ran")); err == nil {
				t.Error("a program was run that is not ours")
			}
			mended := r.Mend(t.Context())
			if (len(mended) > 0) != test.fixed {
				t.Fatalf("mended %+v", mended)
			}
			for _, m := range mended {
				if m.Err != nil {
					t.Errorf("%s: %v", m.Fix, m.Err)
				}
			}
			if r = p.examine(); test.fixed && (len(r.amiss()) > 0 || len(r.Mend(t.Context())) > 0) {
				t.Errorf("still wrong after it was mended:%s", show(r.amiss()))
			}
		})
	}
}

// wants checks that a finding is there, and that nothing else is amiss but
// what follows from it in the same check.
func (p *patient) wants(r *Report, check string, level Level, text, fix string) {
	p.Helper()
	found := false
	for _, f := range r.amiss() {
		found = found || f.Level == level && strings.Contains(f.Text, text) && strings.Contains(f.Fix, fix)
		if f.Check != check && !(check == "web root" && f.Check == "health") {
			p.Errorf("%q was found, too: %s", f.Check, f.Text)
		}
	}
	if !found {
		p.Errorf("not found: %s %q, %q; but:%s", level, text, fix, show(r.amiss()))
	}
}

// byRoot is what holds where the tests are run by root, or else.
func byRoot(yes, no string) string {
	if os.Geteuid() == 0 {
		return yes
	}
	return no
}

func (p *patient) chmod(path string, mode os.FileMode) {
	p.Helper()
	p.must(os.Chmod(filepath.Join(p.repo, path), mode))
}

func (p *patient) remove(path string) {
	p.Helper()
	p.must(os.Remove(filepath.Join(p.repo, path)))
}

func (p *patient) link(path, target string) {
	p.Helper()
	p.must(os.Symlink(target, filepath.Join(p.repo, path)))
}

// oldGit puts a git before the real one that says it is older.
func (p *patient) oldGit(version string) {
	p.Helper()
	p.write(filepath.Join(p.bin, "git"), "#!/bin/sh\n[ \"$1\" = version ] && echo git version "+version+" && exit\nPATH=${PATH#*:} exec git \"$@\"\n", 0o755)
}

func (p *patient) procReceiveRefs(refs ...string) {
	p.Helper()
	p.run("git", "config", "--unset-all", "receive.procReceiveRefs")
	for _, ref := range refs {
		p.run("git", "config", "--add", "receive.procReceiveRefs", ref)
	}
}

func (p *patient) writable(paths ...string) {
	p.Host.Writable = func(path string) bool {
		for _, w := range paths {
			if path == w {
				return true
			}
		}
		return path == p.www && len(paths) > 0
	}
}

func (p *patient) space(s Space) {
	p.Host.Statfs = func(string) (Space, error) { return s, nil }
}

func (p *patient) indexLock(age time.Duration) {
	p.Helper()
	path := filepath.Join(p.repo, "index.lock")
	p.write(path, "", 0o644)
	then := time.Now().Add(-age)
	p.must(os.Chtimes(path, then, then))
}

func (p *patient) clockOff(off time.Duration) {
	p.Host.Now = func() time.Time { return time.Now().Add(off) }
}

func (p *patient) shell(shell string) {
	p.Host.Account = func(int) (Account, error) { return Account{Name: "deploy", Home: p.home, Shell: shell}, nil }
}

func (p *patient) key(line string) {
	p.Helper()
	path := filepath.Join(p.home, ".ssh/authorized_keys")
	data, err := os.ReadFile(path)
	p.must(err)
	p.write(path, string(data)+line+"\n", 0o644)
}

// onlyProgram leaves git in the PATH, and what the tests brought but for one
// program.
func (p *patient) onlyProgram(not string) {
	p.Helper()
	p.must(os.Remove(filepath.Join(p.bin, not)))
	p.write(filepath.Join(p.bin, "git"), "#!/bin/sh\nPATH='"+os.Getenv("PATH")+"' exec git \"$@\"\n", 0o755)
	for i, kv := range p.Host.Environ {
		if strings.HasPrefix(kv, "PATH=") {
			p.Host.Environ[i] = "PATH=" + p.bin
		}
	}
}

// packaged puts the operator's command where a package has it, and where install
// copies it to.
func (p *patient) packaged(program, copied string) {
	p.Helper()
	p.write(filepath.Join(p.root, "usr/bin/bluegreen"), program, 0o755)
	p.write(filepath.Join(p.root, "usr/local/bin/bluegreen"), copied, 0o755)
}

func hookDir(p *patient) string {
	p.Helper()
	program, err := filepath.EvalSymlinks(os.Getenv(hookVariable))
	p.must(err)
	return filepath.Dir(program)
}

// interrupted leaves what a deployment leaves that was killed before it changed
// anything.
func interrupted(p *patient) {
	p.Helper()
	e := p.open()
	held, err := e.Journal.Deployed()
	p.must(err)
	id := "interrupted"
	p.must(e.Journal.Begin(&journal.Transaction{
		ID: id, Phase: journal.Activating, Started: time.Now(), Held: held.Tree, Deployed: *held,
		Event: journal.Event{ID: id, Time: time.Now(), Event: journal.Deploy, Environment: "blue", Ref: "refs/heads/master", Commit: held.Commit, Previous: held.Commit},
		Refs:  []git.RefUpdate{{Name: "refs/heads/next", New: held.Commit}},
		Work:  worktree.Record{Directory: worktree.Path(p.www), Tree: held.Tree},
	}))
}

// TestPrivateTmp finds a web root that the web server does not see.
func TestPrivateTmp(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	var err error
	p.www, err = os.MkdirTemp("/tmp", "bluegreen-doctor-")
	p.must(err)
	t.Cleanup(func() { os.RemoveAll(p.www) })
	p.must(os.Chmod(p.www, 0o755))
	p.configure(nil)
	p.deploy(p.commit)
	p.well(p.examine())
	unit := filepath.Join(p.root, "etc/systemd/system/nginx.service.d")
	p.write(filepath.Join(p.root, "usr/lib/systemd/system/apache2.service"), "[Service]\nPrivateTmp=true\n", 0o644)
	p.wants(p.examine(), "private /tmp", Broken, "apache2.service has PrivateTmp", "systemctl edit apache2.service")
	p.write(filepath.Join(p.root, "etc/systemd/system/apache2.service.d/tmp.conf"), "[Service]\nPrivateTmp=no\n", 0o644)
	p.well(p.examine())
	p.write(filepath.Join(unit, "10.conf"), "[Service]\nPrivateTmp=yes\n", 0o644)
	p.wants(p.examine(), "private /tmp", Broken, "nginx.service has PrivateTmp", "systemctl edit nginx.service")
	p.write(filepath.Join(unit, "20.conf"), "[Service]\nPrivateTmp=no\n", 0o644)
	p.well(p.examine())
}

// well checks that nothing is amiss.
func (p *patient) well(r *Report) {
	p.Helper()
	if wrong := r.amiss(); len(wrong) > 0 {
		p.Errorf("found:%s", show(wrong))
	}
}

// TestLive asks the outside where the IP is here.
func TestLive(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.SetOwner(reservedIP, blue)
	r := p.examine()
	p.well(r)
	for _, f := range r.Findings {
		if f.Check == "outside" && f.Text != "the check of the outside passes" {
			t.Error(f.Text)
		}
	}
}

// TestForeignFiles finds what another account has written. Only root can make
// such files.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	p := newPatient(t)
	p.run("chown", "-R", "12345", p.repo)
	p.Host.UID = 12345
	p.run("chown", "-R", "0", filepath.Join(p.repo, "hooks"), filepath.Join(p.repo, "bluegreen.toml"))
	p.run("chown", "12345", p.token)
	p.well(p.examine())
	p.writable(filepath.Join(p.repo, "hooks"))
	p.wants(p.examine(), "hooks", Warning, "deploy may replace the hooks: it may write to ", "sudo chown -R root: "+filepath.Join(p.repo, "hooks"))
	p.writable(p.www)
	p.run("chown", "0", filepath.Join(p.repo, "objects"), filepath.Join(p.repo, "refs"))
	p.wants(p.examine(), "repository", Broken, "another account than deploy, the repository's, owns ", "sudo chown -R deploy: "+filepath.Join(p.repo, "objects"))
	p.run("chown", "-R", "12345", p.repo)
	p.run("chown", "0", filepath.Join(p.repo, "config"))
	p.wants(p.examine(), "repository", Warning, "owns "+p.repo+"/config", "sudo chown -R deploy: "+p.repo+"/config")
	p.run("git", "--git-dir", p.repo, "config", "--unset", "receive.fsckObjects")
	p.run("chown", "-R", "12345", p.repo)
	r := p.examine()
	if mended := r.Mend(t.Context()); len(mended) != 1 || mended[0].Err == nil || !strings.Contains(mended[0].Err.Error(), "only deploy may do that") {
		t.Errorf("mended as another account: %+v", mended)
	}
}

// TestPrivateGroup lets the group write that is the account's alone.
func TestPrivateGroup(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.chmod("objects", 0o775)
	info, err := os.Stat(filepath.Join(p.repo, "objects"))
	p.must(err)
	group := int(info.Sys().(*syscall.Stat_t).Gid)
	if group == 0 {
		group = 12345
		p.run("chown", ":12345", filepath.Join(p.repo, "objects"))
	}
	a := Account{Name: "deploy", Home: p.home, Shell: "/bin/sh", Group: group}
	p.Host.Account = func(int) (Account, error) { return a, nil }
	p.well(p.examine())
	a.Group++
	p.wants(p.examine(), "repository", Warning, "a group may write to ", "chmod -R go-w")
}

// TestNoRepository is an error, not a finding.
func TestNoRepository(t *testing.T) {
	t.Parallel()
	h := ThisHost(gittest.Environ())
	for _, dir := range []string{t.TempDir(), "/nonexistent"} {
		if r, err := Examine(t.Context(), Options{Repo: dir, Host: h}); err == nil {
			t.Errorf("%s: %+v", dir, r)
		}
	}
}

// TestDropIn examines a repository with the one hook of the first way to wire
// it, and no configuration.
func TestDropIn(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.remove("bluegreen.toml")
	p.remove("hooks/pre-receive")
	p.remove("hooks/proc-receive")
	p.run("git", "config", "--unset-all", "receive.procReceiveRefs")
	found := map[string]Level{}
	for _, f := range p.examine().amiss() {
		if f.Check == "web root" || f.Check == "state" {
			continue // the machine's own /var/www/html
		}
		found[f.Check+": "+strings.Fields(f.Text)[3]] = f.Level
	}
	want := map[string]Level{"hooks: pre-receive": Warning, "hooks: proc-receive": Warning, "health: without": Warning}
	if !maps.Equal(found, want) {
		t.Errorf("found %v", found)
	}
}
