package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A stepCase is a step on one server.
type stepCase struct {
	name   string
	step   string
	before func(*server, *Options)
	want   []string // what it does; PROGRAMS is where the programs come from
	after  func(*server)
}

// TestSteps carries out each step alone: the plan says what is done, and changes
// nothing; what was planned is done; and then nothing is left to do.
func TestSteps(t *testing.T) {
	t.Parallel()
	for _, c := range slices.Concat(systemSteps(), repositorySteps(), settingSteps(), keySteps(), sudoSteps(), bootSteps()) {
		t.Run(strings.ReplaceAll(c.step+": "+c.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			if c.step != "packages" && c.step != "record" && c.step != "account" {
				s.furnish()
			}
			o := s.options()
			if c.before != nil {
				c.before(s, &o)
			}
			before := s.snapshot()
			s.expect("the plan", c.want, s.plan(s.only(o, c.step)), o)
			same(t, "the plan has changed something", before, s.snapshot())
			s.expect("the step", c.want, s.do(s.only(o, c.step)), o)
			if again := s.do(s.only(o, c.step)); len(again) > 0 {
				t.Errorf("done again it does %q", again)
			}
			if c.after != nil {
				c.after(s)
			}
		})
	}
}

// only is the work of one step, without noting it in a log.
func (s *server) only(o Options, name string) *Work {
	s.Helper()
	i := s.prepare(o)
	i.steps = slices.DeleteFunc(i.steps, func(other step) bool { return other.name != name })
	if len(i.steps) != 1 {
		s.Fatalf("there is no step %q", name)
	}
	return &i.Work
}

// expect compares what was done with what should be, each line without its
// step.
func (s *server) expect(what string, want, got []string, o Options) {
	s.Helper()
	for i, line := range got {
		_, line, _ = strings.Cut(line, ": ")
		got[i] = strings.ReplaceAll(line, o.Programs, "PROGRAMS")
	}
	if !slices.Equal(got, want) {
		s.Errorf("%s:\n\t%s\nwant:\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// is tells what there is at a path: its snapshot.
func (s *server) is(path, want string) {
	s.Helper()
	if got := s.snapshot()[path[1:]]; !strings.Contains(got, want) {
		s.Errorf("%s is %q, want %q", path, got, want)
	}
}

// owned tells whose things are.
func (s *server) owned(owner string, paths ...string) {
	s.Helper()
	snap := s.snapshot()
	for _, path := range paths {
		if got := snap[path[1:]]; !strings.HasSuffix(got, " of "+owner) {
			s.Errorf("%s is %q, want it to be of %s", path, got, owner)
		}
	}
}

func systemSteps() []stepCase {
	const get = "run apt-get -o DPkg::Lock::Timeout=300 "
	const install = get + "install -y --no-install-recommends "
	return []stepCase{
		{name: "a new server", step: "record", want: []string{
			"write /var/lib/bluegreen/sample_app.json, what was here before, for uninstall",
			"write /var/log/bluegreen/install.log, the log of what is done",
		}, after: func(s *server) {
			s.is(RecordPath(repo), "0644")
			s.owned(rootID(), RecordPath(repo), LogPath, filepath.Dir(LogPath))
		}},
		{name: "Apache", step: "packages", want: []string{get + "update", install + "apache2 git sudo"}},
		{name: "nginx", step: "packages", before: func(s *server, o *Options) { o.Web = "nginx" },
			want: []string{get + "update", install + "git nginx sudo"}},
		{name: "no web server", step: "packages", before: func(s *server, o *Options) { o.Web = "none" },
			want: []string{get + "update", install + "git sudo"}},
		{name: "what is there", step: "packages", before: func(s *server, o *Options) {
			s.furnish()
			must(s, os.Rename(s.path("/usr/sbin/apache2"), s.path("/usr/local/bin/httpd")))
		}},
		{name: "one is missing", step: "packages", before: func(s *server, o *Options) {
			s.furnish()
			must(s, os.Remove(s.path("/usr/bin/sudo")))
		}, want: []string{get + "update", install + "sudo"}},
		{name: "none", step: "account", want: []string{"run useradd --create-home --shell /bin/sh --password '*' deploy"},
			after: func(s *server) { s.owned(accountIDs(), home) }},
		{name: "another name", step: "account", before: func(s *server, o *Options) { o.User = "git" },
			want: []string{"run useradd --create-home --shell /bin/sh --password '*' git"}},
		{name: "without a home", step: "account", before: func(s *server, o *Options) {
			s.furnish()
			must(s, os.RemoveAll(s.path(home)))
		}, want: []string{"make the directory /home/deploy (deploy, 0755)"},
			after: func(s *server) { s.owned(accountIDs(), home) }},
		{name: "none", step: "web root", before: func(s *server, o *Options) { must(s, os.RemoveAll(s.path("/var/www"))) },
			want: []string{"make the directory /var/www/html (deploy, 0755)"},
			after: func(s *server) {
				s.owned(accountIDs(), "/var/www/html")
				s.owned(rootID(), "/var/www")
			}},
		{name: "root's", step: "web root", before: func(s *server, o *Options) {
			must(s, os.Remove(s.path("/var/www/html")))
			s.mkdir("/var/www/html", 0o755)
			s.write("/var/www/html/page", "root's", 0o640)
			must(s, os.Chmod(s.path("/var/www/html"), 0o555))
		}, want: []string{"give /var/www/html to deploy (0755); what is in it stays as it is"},
			after: func(s *server) {
				s.is("/var/www/html/page", `0640 "root's" of `+rootID())
				s.is("/var/www/html", "0755")
				st, err := os.Stat(s.path("/var/www/html"))
				must(s, err)
				if uid, gid := ids(st); uid != account().UID || gid != os.Getegid() {
					s.Errorf("the web root is of %d:%d, want the account and the group that it had", uid, gid)
				}
			}},
		{name: "a symlink of root's", step: "web root", before: func(s *server, o *Options) {
			must(s, os.Remove(s.path("/var/www/html")))
			s.mkdir("/srv/site", 0o500)
			must(s, os.Symlink("/srv/site", s.path("/var/www/html")))
		}, want: []string{"give /var/www/html to deploy (0700); what is in it stays as it is"},
			after: func(s *server) { s.is("/srv/site", "0700") }},
		{name: "none", step: "programs", want: programLines(CommandPath, ProgramsDir+"/pre-receive", ProgramsDir+"/proc-receive", ProgramsDir+"/post-receive"),
			after: func(s *server) {
				s.is(CommandPath, "0755")
				s.owned(rootID(), CommandPath, ProgramsDir, ProgramsDir+"/pre-receive")
			}},
		{name: "older ones", step: "programs", before: func(s *server, o *Options) {
			s.do(s.only(*o, "programs"))
			s.upgraded(o)
		}, want: programLines(CommandPath, ProgramsDir+"/pre-receive", ProgramsDir+"/proc-receive", ProgramsDir+"/post-receive")},
		{name: "one that anybody may write, and one that is a symlink", step: "programs", before: func(s *server, o *Options) {
			s.do(s.only(*o, "programs"))
			must(s, os.Chmod(s.path(ProgramsDir+"/pre-receive"), 0o777))
			must(s, os.Rename(s.path(CommandPath), s.path("/usr/bin/bluegreen")))
			must(s, os.Symlink("../../bin/bluegreen", s.path(CommandPath)))
		}, want: append(programLines(CommandPath), "give /usr/local/lib/bluegreen/pre-receive to root (0755)"),
			after: func(s *server) { s.is("/usr/bin/bluegreen", "0755") }},
		{name: "a directory that a crash has left", step: "programs", before: func(s *server, o *Options) {
			s.do(s.only(*o, "programs"))
			must(s, os.Chmod(s.path(ProgramsDir), 0o700))
		}, want: []string{"give /usr/local/lib/bluegreen to root (0755)"}},
		{name: "as packages lay them out", step: "programs", before: func(s *server, o *Options) {
			s.installPrograms("first")
			o.Programs = s.path("/usr/local/bin")
		}},
	}
}

// installPrograms copies programs to where install puts them, so that they can
// be run at once: no descriptor of this process is left open for writing.
func (s *server) installPrograms(version string) {
	s.Helper()
	s.mkdir(ProgramsDir, 0o755)
	for _, p := range programs() {
		out, err := exec.Command("cp", "testdata/"+version+"/"+p.name, s.path(p.path)).CombinedOutput()
		if err != nil {
			s.Fatalf("%v: %s", err, out)
		}
		must(s, os.Chmod(s.path(p.path), 0o755))
	}
}

// upgraded takes the second version of the programs.
func (s *server) upgraded(o *Options) {
	o.Programs = filepath.Join(filepath.Dir(s.programs), "second")
}

func programLines(paths ...string) []string {
	var lines []string
	for _, path := range paths {
		lines = append(lines, "write "+path+" (root, 0755), from PROGRAMS/"+filepath.Base(path))
	}
	return lines
}

func bootSteps() []stepCase {
	const unit = "/etc/systemd/system/bluegreen-recover-sample_app.service"
	const link = "/etc/systemd/system/multi-user.target.wants/bluegreen-recover-sample_app.service"
	return []stepCase{
		{name: "none", step: "boot", want: []string{"write " + unit + " (root, 0644)", "link " + link + " to it"},
			after: func(s *server) {
				s.is(link, "-> "+unit)
				text := s.read(unit)
				for _, line := range []string{
					"ExecStart=/usr/local/bin/bluegreen --repo /home/deploy/sample_app recover\n", "User=deploy\n",
					"Before=apache2.service nginx.service\n", "RequiresMountsFor=/home/deploy/sample_app /var/www/html\n",
				} {
					if !strings.Contains(text, line) {
						s.Errorf("the unit has no %q:\n%s", line, text)
					}
				}
			}},
		{name: "another one, not enabled", step: "boot", before: func(s *server, o *Options) {
			s.do(s.only(*o, "boot"))
			s.write(unit, "[Service]\n", 0o666)
			must(s, os.Remove(s.path(link)))
		}, want: []string{"write " + unit + " (root, 0644)", "link " + link + " to it"},
			after: func(s *server) { s.is(unit, "0644") }},
	}
}
