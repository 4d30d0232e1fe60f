package install

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/simulator"
)

const (
	reservedIP                = "203.0.113.10"
	blueDroplet, greenDroplet = 3164494, 3164495
	canary                    = "dop_v1_0123456789abcdef"
)

// cloud starts an API, and asks for promotions with it.
func (s *server) cloud(o *Options) *simulator.Cloud {
	s.Helper()
	c := simulator.New(simulator.Options{Token: canary})
	c.AddDroplet(blueDroplet, "blue", "fra1")
	c.AddDroplet(greenDroplet, "green", "fra1")
	c.AddIP(reservedIP, "fra1", greenDroplet)
	url, stop, err := c.Start()
	must(s, err)
	s.Cleanup(stop)
	o.IP, o.APIURL = reservedIP, url
	o.Droplets = map[string]int{"blue": blueDroplet, "green": greenDroplet}
	o.TokenFile = filepath.Join(filepath.Dir(s.root), "token")
	must(s, os.WriteFile(o.TokenFile, []byte(canary+"\n"), 0o600))
	return c
}

func sudoSteps() []stepCase {
	const file = "/etc/sudoers.d/bluegreen-sample_app"
	commands := func(s *server, runs ...string) {
		text := ""
		for _, run := range runs {
			text += "[[command]]\nrun = [" + run + "]\n"
		}
		s.write(toml, text, 0o644)
	}
	return []stepCase{
		{name: "none", step: "token", before: func(s *server, o *Options) { s.cloud(o) },
			want: []string{"write /etc/bluegreen/token (root, 0600)"},
			after: func(s *server) {
				s.is(TokenPath, "0600 \""+canary+`\n"`)
				s.owned(rootID(), TokenPath)
				s.owned(rootID(), filepath.Dir(TokenPath))
				if strings.Contains(s.read(RecordPath(repo)), canary) {
					s.Error("the token is in the record")
				}
			}},
		{name: "an old one that others may read", step: "token", before: func(s *server, o *Options) {
			s.cloud(o)
			s.mkdir("/etc/bluegreen", 0o755)
			s.write(TokenPath, "old\n", 0o644)
		}, want: []string{"write /etc/bluegreen/token (root, 0600)"},
			after: func(s *server) { s.is(TokenPath, "0600 \""+canary+`\n"`) }},
		{name: "one that is there, and root's", step: "token", before: func(s *server, o *Options) {
			s.cloud(o)
			o.TokenFile = ""
			s.mkdir("/etc/bluegreen", 0o755)
			s.write(TokenPath, canary+"\n", 0o640)
		}, want: []string{"give /etc/bluegreen/token to root (0600)"},
			after: func(s *server) { s.owned(rootID(), TokenPath) }},
		{name: "one that is there, without a broker", step: "token", before: func(s *server, o *Options) {
			s.cloud(o)
			s.mkdir("/etc/bluegreen", 0o755)
			s.write(TokenPath, canary+"\n", 0o640)
			s.write(toml, fmt.Sprintf("environment = \"blue\"\n[promotion]\nip = %q\ndroplets = { blue = %d, green = %d }\ntoken_file = %q\napi_url = %q\n",
				reservedIP, blueDroplet, greenDroplet, TokenPath, o.APIURL), 0o644)
		}, want: []string{"give /etc/bluegreen/token to deploy (0600)"},
			after: func(s *server) { s.owned(accountIDs(), TokenPath) }},
		{name: "none, and none given", step: "token", before: func(s *server, o *Options) {
			s.cloud(o)
			o.TokenFile = ""
		}},
		{name: "for no promotion", step: "token"},
		{name: "for one that the environment has the token for", step: "token", before: func(s *server, o *Options) {
			s.write(toml, "environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { blue = 1 }\n", 0o644)
		}},
		{name: "for another provider", step: "token", before: func(s *server, o *Options) {
			s.write(toml, "[promotion]\nprovider = \"command\"\nowner = [\"/bin/a\"]\nassign = [\"/bin/b\", \"{to}\"]\n", 0o644)
		}},
		{name: "no command", step: "sudoers"},
		{name: "commands", step: "sudoers", before: func(s *server, o *Options) {
			commands(s, `"sudo", "/bin/systemctl", "reload", "apache2"`, `"/usr/local/bin/warm"`, `"/usr/bin/sudo", "-n", "-u", "www-data", "git", "gc"`,
				`"sudo", "/bin/systemctl", "reload", "apache2"`)
		}, want: []string{"write " + file + " (root, 0440), checked by visudo -c first"},
			after: func(s *server) {
				want := "# written by \"bluegreen install\" from /home/deploy/sample_app/bluegreen.toml:\n" +
					"# exactly these commands, with exactly these arguments\n" +
					"deploy ALL=(root) NOPASSWD: /bin/systemctl reload apache2\n" +
					"deploy ALL=(www-data) NOPASSWD: /usr/bin/git gc\n"
				if got := s.read(file); got != want {
					s.Errorf("the rules are\n%swant\n%s", got, want)
				}
				s.is(file, "0440")
				s.owned(rootID(), file)
			}},
		{name: "a command that is none any more", step: "sudoers", before: func(s *server, o *Options) {
			commands(s, `"sudo", "/bin/true"`)
			s.do(s.only(*o, "sudoers"))
			commands(s, `"/bin/true"`)
		}, want: []string{"remove " + file}},
		{name: "a name with a dot", step: "sudoers", before: func(s *server, o *Options) {
			o.Repo = "/srv/sample_app.git"
			s.mkdir(o.Repo, 0o755)
			s.write(o.Repo+"/bluegreen.toml", "[[command]]\nrun = [\"sudo\", \"/bin/true\"]\n", 0o644)
		}, want: []string{"write /etc/sudoers.d/bluegreen-sample_app,git (root, 0440), checked by visudo -c first"}},
	}
}

// TestSudoersRefused lets no rules in that visudo does not take: they would take
// sudo from everybody.
func TestSudoersRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.write(toml, "[[command]]\nrun = [\"sudo\", \"/bin/true\"]\n", 0o644)
	s.mkdir("/etc/sudoers.d", 0o750)
	s.instead = func(argv []string) []string {
		if argv[0] == "visudo" {
			return []string{"sh", "-c", "echo a syntax error >&2; exit 1"}
		}
		return nil
	}
	before := s.snapshot()
	_, err := try(s.only(s.options(), "sudoers"))
	if err == nil || !strings.Contains(err.Error(), `"visudo" exited with status 1, saying "a syntax error"`) {
		t.Errorf("it says %v", err)
	}
	same(t, "what is there", before, s.snapshot())
}

// TestTwoNames gives repositories rules of their own whose names are nearly the
// same.
func TestTwoNames(t *testing.T) {
	t.Parallel()
	if a, b := sudoersFor("/srv/a.b"), sudoersFor("/srv/a_b"); a == b || strings.Contains(filepath.Base(a), ".") {
		t.Errorf("the rules of two repositories are in %s and %s", a, b)
	}
}
