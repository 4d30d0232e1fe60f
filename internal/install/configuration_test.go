package install

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	templates "bluegreen/install"
	"bluegreen/internal/config"
	"bluegreen/internal/simulator"
)

// TestPromotionAdded adds a promotion to a configuration that install has made
// and nobody has edited, whatever the options were then.
func TestPromotionAdded(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*Options){
		"as it is":      func(*Options) {},
		"nginx":         func(o *Options) { o.Web = "nginx" },
		"no web server": func(o *Options) { o.Web = "none" },
		"all named": func(o *Options) {
			o.Environment, o.Branch, o.Directory = "live", "main", "/srv/site"
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).furnish()
			o := s.options()
			first(&o)
			s.install(o)
			before := s.read(toml)

			o = s.options() // without what was said then
			s.cloud(&o)
			o.Droplets = map[string]int{"blue": blueDroplet, "live": greenDroplet}
			o.MetadataURL = "http://127.0.0.1:8/meta"
			lines := s.install(o)
			if want := "configuration: write " + toml + " (root, 0644), with the promotion; nobody has edited it"; !slices.Contains(lines, want) {
				t.Errorf("it does %q, want %q", lines, want)
			}
			was, err := config.Parse(toml, []byte(before), "blue")
			must(t, err)
			is, err := config.Parse(toml, []byte(s.read(toml)), "blue")
			must(t, err)
			if p := is.Promotion; p == nil || p.IP != reservedIP || p.Droplets["live"] != greenDroplet || p.TokenFile != TokenPath || p.APIURL != o.APIURL || p.MetadataURL != o.MetadataURL {
				t.Fatalf("the promotion is %+v", p)
			}
			if is.Environment != was.Environment || is.Deploy.Branch != was.Deploy.Branch || is.Deploy.Directory != was.Deploy.Directory || len(is.Health) != len(was.Health)+1 {
				t.Errorf("beyond the promotion it is\n%s\nand was\n%s", s.read(toml), before)
			}
			s.is(TokenPath, "0600")
			if again := s.install(o); len(again) > 0 {
				t.Errorf("done again it does %q", again)
			}
			o.Keys, o.IP, o.Droplets, o.TokenFile, o.APIURL, o.MetadataURL = nil, "", nil, "", "", ""
			if again := s.install(o); len(again) > 0 {
				t.Errorf("without the options it does %q", again)
			}
		})
	}
}

// TestPromotionNotAdded leaves alone a configuration that somebody has edited,
// and one that the options contradict.
func TestPromotionNotAdded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit   func(text string) string
		change func(*Options)
		want   string
	}{
		"a comment": {func(text string) string { return text + "# mine\n" }, func(*Options) {}, "without a [promotion]"},
		"a comment taken out": {func(text string) string { return strings.Replace(text, "#body", "body", 1) },
			func(*Options) {}, "without a [promotion]"},
		"another branch": {func(text string) string { return text }, func(o *Options) { o.Branch = "main" },
			`has deploy.branch = "master", and --branch asks for "main"`},
		"another environment": {func(text string) string { return text }, func(o *Options) { o.Environment = "green" },
			`has environment = "blue", and --environment asks for "green"`},
		"another directory": {func(text string) string { return text }, func(o *Options) { o.Directory = "/srv/www" },
			`has deploy.directory = "/var/www/html", and --directory asks for "/srv/www"`},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).furnish()
			s.install(s.options())
			s.write(toml, c.edit(s.read(toml)), 0o644)
			before := s.snapshot()
			o := s.options()
			s.cloud(&o)
			c.change(&o)
			_, err := New(o)
			refusal := (*Refusal)(nil)
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			same(t, "what is there", before, s.snapshot())
		})
	}
}

// TestPromotionNeedsMore refuses to add half of a promotion.
func TestPromotionNeedsMore(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options){
		"--ip needs --droplet blue=ID": func(o *Options) { o.Droplets = map[string]int{"green": 1} },
		"go with --ip":                 func(o *Options) { o.IP = "" },
	} {
		s := newServer(t).furnish()
		s.install(s.options())
		o := s.options()
		s.cloud(&o)
		change(&o)
		_, err := New(o)
		if wrong := (*OptionError)(nil); !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestConfigurationTaken remembers whose a configuration was that is written
// anew, too.
func TestConfigurationTaken(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	text, err := templates.Render(templates.Configuration, &templates.Site{
		Environment: "blue", Branch: "master", Directory: "/var/www/html", Server: "apache2"})
	must(t, err)
	s.write(toml, string(text), 0o664)
	s.give(toml)
	s.cloud(&o)
	s.install(o)
	s.is(toml, "0644")
	s.owned(rootID(), toml)
	s.uninstall()
	s.is(toml, "0664")
	s.owned(accountIDs(), toml)
}

// TestWarnings tells of what a person should know, and installs all the same.
func TestWarnings(t *testing.T) {
	t.Parallel()
	commands := func(text string) func(*server, *Options) {
		return func(s *server, _ *Options) { s.write(toml, text, 0o644) }
	}
	for name, c := range map[string]struct {
		before func(*server, *Options)
		want   string
	}{
		"no sshd": {func(s *server, _ *Options) { must(s, os.Remove(s.path("/usr/sbin/sshd"))) },
			"there is no sshd here, which pushes over ssh need: apt-get install openssh-server"},
		"a password": {func(s *server, _ *Options) { s.write("/etc/shadow", "deploy:$6$x$y:19000::::::\n", 0o640) },
			"deploy can log in with a password; usermod --password '*' deploy takes it away"},
		"an empty password": {func(s *server, _ *Options) { s.write("/etc/shadow", "deploy::19000::::::\n", 0o640) }, "deploy can log in with a password"},
		"hooks elsewhere, for all": {func(s *server, _ *Options) { s.write("/etc/gitconfig", "[core]\n\thooksPath = /srv/hooks\n", 0o644) },
			"git config --system core.hooksPath is /srv/hooks: no hook of this repository runs; unset it"},
		"hooks elsewhere, for the account": {func(s *server, _ *Options) { s.write(home+"/.gitconfig", "[core]\n\thooksPath = h\n", 0o644) },
			"git config --global core.hooksPath is h: no hook of this repository runs; unset it"},
		"a key with a shell": {func(s *server, _ *Options) {
			s.mkdir(home+"/.ssh", 0o755)
			s.write(keys, "\n"+publicKey("bob")+" Bob's\n", 0o644)
		}, keys + ", line 2: the key Bob-s (SHA256:"},
		"no token": {func(s *server, o *Options) { s.cloud(o); o.TokenFile = "" },
			"there is no token in /etc/bluegreen/token yet: bluegreen install --token-file FILE puts it there"},
		"a token that the API does not take": {func(s *server, o *Options) {
			s.cloud(o).Script(simulator.Fault{Status: 401, Times: -1})
		}, "promotions may not work yet: "},
		"an IP of a stranger": {func(s *server, o *Options) {
			c := s.cloud(o)
			c.AddDroplet(7, "stranger", "fra1")
			c.SetOwner(reservedIP, 7)
		}, "promotions may not work yet: "},
		"sudo for any environment": {commands("[promotion]\nprovider = \"command\"\nowner = [\"/bin/a\"]\nassign = [\"sudo\", \"/bin/b\", \"{to}\"]\n"),
			`sudoers: "sudo /bin/b {to}" is run with any environment's name; allow each in a file of your own in /etc/sudoers.d`},
		"sudo that cannot be written": {commands("[[health]]\ncommand = [\"sudo\", \"-E\", \"/bin/b\"]\n"),
			`sudoers: "sudo -E /bin/b": sudo's option "-E" is not one`},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).furnish()
			o := s.options()
			c.before(s, &o)
			i := s.prepare(o)
			_, err := i.Plan(context.Background())
			must(t, err)
			for _, when := range []string{"the plan", "the installation"} {
				if n := strings.Count(strings.Join(i.Warnings(), "\n"), c.want); n != 1 {
					t.Errorf("%s warns %d times of %q, want once: %q", when, n, c.want, i.Warnings())
				}
				for _, warning := range i.Warnings() {
					if strings.Contains(warning, canary) {
						t.Errorf("%s tells the token: %q", when, warning)
					}
				}
				s.do(&i.Work)
			}
		})
	}
}

// TestNext tells what to type on the development machine, and what is left to
// do.
func TestNext(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Options)
		next   []string
		hint   string
	}{
		"home":       {func(*Options) {}, []string{"git remote add blue deploy@192.0.2.1:sample_app", "git push blue master"}, ""},
		"elsewhere":  {func(o *Options) { o.Repo, o.Branch = "/srv/app.git", "main" }, []string{"git remote add blue deploy@192.0.2.1:/srv/app.git", "git push blue main"}, ""},
		"no key":     {func(o *Options) { o.Keys = nil }, []string{"git remote add blue deploy@192.0.2.1:sample_app", "git push blue master"}, "no key may push here yet: bluegreen install --user deploy --repo /home/deploy/sample_app --key id_ed25519.pub"},
		"Apache's":   {func(o *Options) { o.Directory = "/srv/site" }, nil, "DocumentRoot /srv/site, and <Directory /srv/site>"},
		"nginx's":    {func(o *Options) { o.Directory, o.Web = "/srv/site", "nginx" }, nil, "root /srv/site;"},
		"neither's":  {func(o *Options) { o.Directory, o.Web = "/srv/site", "none" }, nil, ""},
		"odd a name": {func(o *Options) { o.Environment = "~blue" }, []string{"git remote add production deploy@192.0.2.1:sample_app", "git push production master"}, ""},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			o := s.options()
			c.change(&o)
			i := s.prepare(o)
			s.do(&i.Work)
			if got := i.Next("192.0.2.1"); c.next != nil && !slices.Equal(got, c.next) {
				t.Errorf("next is %q, want %q", got, c.next)
			}
			hints := strings.Join(i.Hints(), "\n")
			if !strings.Contains(hints, c.hint) || c.hint == "" && hints != "" {
				t.Errorf("the hints are %q, want %q", hints, c.hint)
			}
		})
	}
}
