package install

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/config"
)

// TestOptions refuses options that cannot be.
func TestOptions(t *testing.T) {
	t.Parallel()
	droplets := map[string]int{"blue": 1}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"user":           {Options{User: "Deploy"}, `--user: "Deploy" is not an account's name`},
		"web":            {Options{Web: "iis"}, `--web: "iis" is none of apache, nginx and none`},
		"ip":             {Options{IP: "2001:db8::1"}, `--ip: "2001:db8::1" is not an IPv4 address`},
		"repo":           {Options{Repo: "sample_app"}, `"sample_app" is not an absolute path without detours`},
		"directory":      {Options{Directory: "/var/www/../x"}, `"/var/www/../x" is not an absolute path without detours`},
		"environment":    {Options{Environment: "a b"}, `--environment: `},
		"space":          {Options{Repo: "/srv/my app"}, `--repo: "/srv/my app" has a character`},
		"dash":           {Options{Repo: "/srv/-app"}, `or a name that begins with a dot or dash`},
		"unit":           {Options{Repo: "/srv/c++"}, `has a character other than letters, digits and /._-`},
		"droplets alone": {Options{Droplets: droplets}, `--droplet, --token-file, --api-url and --metadata-url go with --ip`},
		"token alone":    {Options{TokenFile: "token"}, `go with --ip`},
		"url alone":      {Options{APIURL: "http://api"}, `go with --ip`},
		"metadata alone": {Options{MetadataURL: "http://meta"}, `go with --ip`},
		"one droplet":    {Options{IP: reservedIP, Droplets: droplets}, `--ip needs one more --droplet NAME=ID`},
		"branch":         {Options{Branch: "a..b"}, `--branch: "a..b" is not a branch name`},
		"floating":       {Options{Environment: "blue", Directory: "/"}, `--directory: `},
		"no droplet":     {Options{IP: reservedIP, Droplets: droplets, Environment: "green"}, `--ip needs --droplet green=ID`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			c.o.Root, c.o.HostName = s.root, "blue"
			before := s.snapshot()
			_, err := New(c.o)
			if wrong := (*OptionError)(nil); !errors.As(err, &wrong) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			same(t, "what is there", before, s.snapshot())
		})
	}
}

// A refusalCase is a server, or a request, that is left as it is.
type refusalCase struct {
	before func(*server, *Options)
	reason string
	hint   string
}

// TestRefusals has each of them refused before anything is changed.
func TestRefusals(t *testing.T) {
	t.Parallel()
	all := map[string]refusalCase{}
	for _, some := range []map[string]refusalCase{refusedRequests(), refusedSystems(), refusedRepositories(), refusedKeys()} {
		maps.Copy(all, some)
	}
	for name, c := range all {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).furnish()
			o := s.options()
			c.before(s, &o)
			before := s.snapshot()
			i, err := New(o)
			if err == nil {
				i.host.Enter = s.enter
				_, planned := i.Plan(context.Background())
				if _, err = try(&i.Work); (planned == nil) != (err == nil) {
					t.Errorf("the plan says %v", planned)
				}
			}
			refusal := (*Refusal)(nil)
			if !errors.As(err, &refusal) {
				t.Fatalf("it is not refused: %v", err)
			}
			if !strings.Contains(refusal.Reason, c.reason) || !strings.Contains(refusal.Hint, c.hint) || c.hint == "" {
				t.Errorf("the reason is %q, want %q; the hint is %q, want %q", refusal.Reason, c.reason, refusal.Hint, c.hint)
			}
			same(t, "what is there", before, s.snapshot())
		})
	}
}

func refusedRequests() map[string]refusalCase {
	directory := func(dir string) func(*server, *Options) { return func(_ *server, o *Options) { o.Directory = dir } }
	configured := func(text string, change func(*Options)) func(*server, *Options) {
		return func(s *server, o *Options) {
			s.write(toml, text, 0o644)
			change(o)
		}
	}
	const promotion = "environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { blue = 1 }\n"
	leaveOut := "change the file, or leave the option out"
	return map[string]refusalCase{
		"root":                   {func(_ *server, o *Options) { o.User = "root" }, "pushes must not come in as root", "leave --user out"},
		"a system's web root":    {directory("/etc/www"), "/etc/www is no place for a web root", "such as /var/www/html"},
		"all as a web root":      {directory("/var"), "/var is no place for a web root", "such as /var/www/html"},
		"the programs' web root": {directory(ProgramsDir), "is no place for a web root", "such as /var/www/html"},
		"the home as a web root": {func(s *server, o *Options) {
			s.write("/etc/passwd", strings.ReplaceAll(s.read("/etc/passwd"), home, "/srv/apps/deploy"), 0o644)
			o.Repo, o.Directory = "/srv/git/app", "/srv/apps"
		}, `"/srv/apps" has the home of deploy in it`, "a directory of its own below it"},
		"the web root in the repo": {directory(repo + "/www"), "must not lie in each other", "--directory or --repo"},
		"the repo in the web root": {func(_ *server, o *Options) { o.Repo, o.Directory = "/srv/www/app", "/srv/www" }, "must not lie in each other", "--directory or --repo"},
		"the web root in the repo, by a symlink": {func(s *server, o *Options) {
			o.Directory = "/srv/www/x"
			s.mkdir("/srv", 0o755)
			must(s, os.Symlink(repo, s.path("/srv/www")))
		}, "must not lie in each other", "--directory or --repo"},
		"a web root that leads to the system": {func(s *server, o *Options) {
			o.Directory = "/srv/www"
			s.mkdir("/srv", 0o755)
			must(s, os.Symlink("/etc", s.path("/srv/www")))
		}, "/srv/www is no place for a web root", "such as /var/www/html"},
		"a system's repository":        {func(_ *server, o *Options) { o.Repo = "/usr/lib" }, "/usr/lib is no place for a repository", "below the account's home"},
		"another environment":          {configured("environment = \"green\"\n", func(o *Options) { o.Environment = "blue" }), `has environment = "green", and --environment asks for "blue"`, leaveOut},
		"another directory":            {configured("", func(o *Options) { o.Directory = "/srv/www" }), `deploy.directory = "/var/www/html", and --directory asks for "/srv/www"`, leaveOut},
		"another branch":               {configured("[deploy]\nbranch = \"main\"\n", func(o *Options) { o.Branch = "master" }), `deploy.branch = "main"`, leaveOut},
		"a promotion that is not":      {configured("environment = \"blue\"\n", func(o *Options) { o.IP = reservedIP; o.Droplets = map[string]int{"blue": 1} }), "without a [promotion]", "add it to the file"},
		"another IP":                   {configured(promotion, func(o *Options) { o.IP = "203.0.113.11" }), `promotion.ip = "203.0.113.10", and --ip asks for "203.0.113.11"`, leaveOut},
		"other droplets":               {configured(promotion, func(o *Options) { o.Droplets = map[string]int{"blue": 2} }), `promotion.droplets`, leaveOut},
		"another API":                  {configured(promotion, func(o *Options) { o.APIURL = "http://127.0.0.1" }), `promotion.api_url`, leaveOut},
		"other metadata":               {configured(promotion, func(o *Options) { o.MetadataURL = "http://127.0.0.1" }), `promotion.metadata_url`, leaveOut},
		"a token for no file":          {configured(promotion, func(o *Options) { o.TokenFile = "token" }), "names no file for the token", `token_file = "/etc/bluegreen/token"`},
		"a configuration as a symlink": {func(s *server, _ *Options) { must(s, os.Symlink("config", s.path(toml))) }, "is not a regular file", "the file itself"},
		"a configuration as a FIFO":    {func(s *server, _ *Options) { must(s, syscall.Mkfifo(s.path(toml), 0o644)) }, "is not a regular file", "the file itself"},
	}
}

// TestPlaces hands over no directory that is more than a web root.
func TestPlaces(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	for dir, free := range map[string]bool{
		"/home/deploy/.ssh": false, "/home/deploy/.config/x": false, "/home/deploy": false, "/home/ann": false, "/usr/local/sbin": false,
		"/usr/lib/systemd": false, "/usr/libexec": false, ProgramsDir: false, recordsDir: false, "/root/.ssh": false, "/root/www": false,
		"/var/spool/cron": false, "/var/backups": false, "/var/lib/x": false, "/var/log/x": false, "/var/cache/x": false, "/etc/bluegreen": false,
		"/var/www": true, "/var/www/html": true, "/srv/x": true, "/opt/x": true, "/home/deploy/site": true, "/home/ann/site": true, "/users": true, "/rooted": true,
	} {
		o := s.options()
		o.Directory = dir
		_, err := New(o)
		if refusal := (*Refusal)(nil); free && err != nil || !free && !errors.As(err, &refusal) {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func refusedSystems() map[string]refusalCase {
	passwd := func(line string) func(*server, *Options) {
		return func(s *server, _ *Options) { s.write("/etc/passwd", line+"\n", 0o644) }
	}
	return map[string]refusalCase{
		"another root":         {passwd("deploy:x:0:0::/home/deploy:/bin/sh"), "deploy is root under another name", "--user"},
		"no home":              {passwd("deploy:x:54321:54321::/:/bin/sh"), `deploy has no home of its own: "/"`, "usermod --home /home/deploy deploy"},
		"no shell":             {passwd("deploy:x:54321:54321::/home/deploy:/usr/sbin/nologin"), "the shell of deploy, /usr/sbin/nologin, runs no command", "usermod --shell /bin/sh deploy"},
		"another's repository": {passwd("deploy:x:4711:4711::/home/deploy:/bin/sh"), "belongs to", cmp.Or(map[bool]string{true: "--user 54321"}[os.Geteuid() == 0], "--user ")},
		"no apt-get": {func(s *server, _ *Options) {
			must(s, os.Remove(s.path("/usr/bin/apt-get")))
			must(s, os.Remove(s.path("/usr/sbin/apache2")))
			must(s, os.Remove(s.path("/usr/bin/git")))
		}, "there is no apt-get here, and these are missing: apache2, git", "this system's own package manager"},
		"an old git": {func(s *server, _ *Options) {
			must(s, os.Remove(s.path("/usr/sbin/apache2")))
			s.instead = func(argv []string) []string {
				if slices.Equal(argv, []string{"git", "version"}) {
					return []string{"echo", "git version 2.20.1"}
				}
				return nil
			}
		}, "git 2.20.1 is too old", "upgrade git"},
		"a file as a web root": {func(s *server, _ *Options) {
			must(s, os.Remove(s.path("/var/www/html")))
			s.write("/var/www/html", "", 0o644)
		}, "the web root /var/www/html is not a directory", "--directory"},
		"no programs":                {func(s *server, o *Options) { o.Programs = s.root }, "there is no program bluegreen in", "--programs DIR"},
		"a directory as a program":   {func(s *server, _ *Options) { s.mkdir(CommandPath, 0o755) }, CommandPath + " is a directory", "move it away"},
		"a program with two names":   {linked(CommandPath), CommandPath + " has another name", "-samefile " + CommandPath},
		"a unit that is a directory": {func(s *server, _ *Options) { s.mkdir(UnitPath(repo), 0o755) }, "is not a regular file", "move it away"},
		"an enabling that is a file": {func(s *server, _ *Options) {
			s.mkdir(filepath.Dir(WantsPath(repo)), 0o755)
			s.write(WantsPath(repo), "", 0o644)
		}, "is not a symlink", "move it away"},
		"a token that is a FIFO": {func(s *server, o *Options) {
			s.cloud(o)
			s.mkdir("/etc/bluegreen", 0o755)
			must(s, syscall.Mkfifo(s.path(TokenPath), 0o600))
		}, "the token's place /etc/bluegreen/token is not a regular file", "remove it"},
		"another repository's web root": {func(s *server, _ *Options) {
			s.mkdir(recordsDir, 0o755)
			s.write(RecordPath("/srv/shop"), `{"repo": "/srv/shop", "user": "shop", "directory": "/var/www"}`, 0o644)
		}, `the web root "/var/www/html" is that of /srv/shop, "/var/www"`, "with --directory"},
		"a program in its place that is another one": {func(s *server, o *Options) {
			s.installPrograms("second")
			o.Programs = s.path("/usr/local/bin")
		}, `it says it is "bluegreen the second", and this is version the first`, "--programs DIR"},
		"programs in their place that do not run": {func(s *server, o *Options) {
			s.installPrograms("foreign")
			o.Programs = s.path("/usr/local/bin")
		}, CommandPath + " is not the program that it should be: starting ", "--programs DIR"},
		"programs that are a file": {func(s *server, _ *Options) {
			s.mkdir("/usr/local/lib", 0o755)
			s.write(ProgramsDir, "", 0o644)
		}, ProgramsDir + " is not a directory", "move it away"},
		"a token that may be something else": {func(s *server, _ *Options) {
			s.write(toml, "environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { blue = 1 }\n"+
				"api_url = \"http://127.0.0.1:9\"\ntoken_file = \"/etc/secret\"\n", 0o644)
			s.write("/etc/secret", "a password\n", 0o640)
		}, "/etc/secret, the token's file, is there already, and is not deploy's alone", "chown deploy: /etc/secret && chmod 600 /etc/secret"},
		"a token of another account": {func(s *server, o *Options) {
			s.cloud(o)
			s.mkdir(recordsDir, 0o755)
			s.write(RecordPath("/srv/shop"), `{"repo": "/srv/shop", "user": "shop", "tokens": {"/etc/bluegreen/token": null}}`, 0o644)
		}, "is the token of /srv/shop, whose account is shop", "--user shop"},
	}
}

// linked gives a file, with the programs' content, a second name.
func linked(path string) func(*server, *Options) {
	return func(s *server, o *Options) {
		s.mkdir(filepath.Dir(path), 0o755)
		content, err := os.ReadFile(filepath.Join(o.Programs, "bluegreen"))
		must(s, err)
		s.write(path, string(content), 0o700)
		must(s, os.Link(s.path(path), s.path("/root/other")))
	}
}

func refusedRepositories() map[string]refusalCase {
	replaced := func(path string, make func(*server)) func(*server, *Options) {
		return func(s *server, _ *Options) {
			must(s, os.RemoveAll(s.path(path)))
			make(s)
		}
	}
	record := func(text string) func(*server, *Options) {
		return func(s *server, _ *Options) {
			s.mkdir(recordsDir, 0o755)
			s.write(RecordPath(repo), text, 0o644)
		}
	}
	return map[string]refusalCase{
		"a file":          {replaced(repo, func(s *server) { s.write(repo, "", 0o644) }), repo + " is there, and is not a directory", "--repo"},
		"a symlink":       {replaced(repo, func(s *server) { must(s, os.Symlink("/etc", s.path(repo))) }), "is no place for a repository", "below the account's home"},
		"a short symlink": {replaced(repo, func(s *server) { must(s, os.Symlink("other", s.path(repo))) }), repo + " is there, and is not a directory", "--repo"},
		"other files": {replaced(repo, func(s *server) {
			s.mkdir(repo, 0o755)
			s.write(repo+"/notes", "", 0o644)
		}), `has "notes" in it, and is not a bare repository`, "--repo"},
		"a working copy": {replaced(repo, func(s *server) { s.mkdir(repo+"/.git", 0o755) }), "but not a bare one", "git clone --bare"},
		"one with core.bare off": {func(s *server, _ *Options) {
			s.git("config", "--file", repo+"/config", "core.bare", "off")
		}, "but not a bare one", "git clone --bare"},
		"a detached HEAD": {func(s *server, _ *Options) {
			s.write(repo+"/HEAD", strings.Repeat("0123456789", 4)+"\n", 0o644)
			s.give(repo)
		}, "points at no branch", "git symbolic-ref HEAD refs/heads/master"},
		"hooks that are a file":      {replaced(repo+"/hooks", func(s *server) { s.write(repo+"/hooks", "", 0o644) }), "hooks is not a directory", "a directory of the repository's own"},
		"a hook that is a directory": {func(s *server, _ *Options) { s.mkdir(repo+"/hooks/post-receive", 0o755) }, "is neither a file nor a symlink", "move it away"},
		"a hook that is a FIFO":      {func(s *server, _ *Options) { must(s, syscall.Mkfifo(s.path(repo+"/hooks/pre-receive"), 0o755)) }, "is neither a file nor a symlink", "move it away"},
		"another of that name":       {record(`{"repo": "/srv/sample_app", "user": "deploy"}`), `another repository of that name is set up here already: "/srv/sample_app"`, "another name"},
		"another account":            {record(`{"repo": "/home/deploy/sample_app", "user": "git"}`), "is set up for the account git, not deploy", "bluegreen uninstall --repo /home/deploy/sample_app"},
		"a configuration with two names": {func(s *server, _ *Options) {
			s.write("/root/secret.toml", "environment = \"secret\"\n", 0o600)
			must(s, os.Link(s.path("/root/secret.toml"), s.path(toml)))
		}, toml + " has another name", "-samefile " + toml},
	}
}

func refusedKeys() map[string]refusalCase {
	named := func(text string) func(*server, *Options) {
		return func(s *server, o *Options) {
			o.Keys = []string{filepath.Join(filepath.Dir(s.root), "key")}
			must(s, os.WriteFile(o.Keys[0], []byte(text), 0o600))
		}
	}
	there := func(lines ...string) func(*server, *Options) {
		return func(s *server, _ *Options) {
			s.mkdir(home+"/.ssh", 0o755)
			s.write(keys, strings.Join(lines, "\n")+"\n", 0o644)
		}
	}
	return map[string]refusalCase{
		"no key":               {func(_ *server, o *Options) { o.Keys = []string{"/there/is/none"} }, "--key: stat /there/is/none", "id_ed25519.pub"},
		"a directory as a key": {func(s *server, o *Options) { o.Keys = []string{s.root} }, "is not a public key", "id_ed25519.pub"},
		"a private key":        {named("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"), "it is a private key", ".pub"},
		"half of a key":        {named(publicKey("ann")[:72]), "perhaps it was cut", "id_ed25519.pub"},
		"a key that is bound": {there(`restrict,command="/usr/local/bin/bluegreen --repo /srv/shop ssh ann" ` + publicKey("ann")),
			"is bound to another command already, in line 1", "see " + keys},
		"a key that is there twice":  {there(publicKey("ann"), publicKey("bob"), publicKey("ann")+" again"), "is there twice, in lines 1 and 3", "see " + keys},
		"a file as a directory":      {func(s *server, _ *Options) { s.write(home+"/.ssh", "", 0o644) }, ".ssh is not a directory", "make it a directory"},
		"a FIFO as a directory":      {func(s *server, _ *Options) { must(s, syscall.Mkfifo(s.path(home+"/.ssh"), 0o644)) }, ".ssh is not a directory", "make it a directory"},
		"a directory that is linked": {func(s *server, _ *Options) { must(s, os.Symlink("/etc", s.path(home+"/.ssh"))) }, ".ssh is not a directory", "make it a directory"},
		"keys that are linked": {func(s *server, _ *Options) {
			s.mkdir(home+"/.ssh", 0o755)
			must(s, os.Symlink("/etc/passwd", s.path(keys)))
		}, "authorized_keys is there, and is not a regular file", "the file itself"},
		"keys with two names": {func(s *server, _ *Options) {
			s.mkdir(home+"/.ssh", 0o755)
			s.write("/root/secret", "root's\n", 0o600)
			must(s, os.Link(s.path("/root/secret"), s.path(keys)))
		}, keys + " has another name", "-samefile " + keys},
	}
}

// TestConfigurationErrors tells of a wrong configuration as hooks do, before
// anything is changed.
func TestConfigurationErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"environment = 3\n":                      "bluegreen.toml:1: environment: ",
		"[peers]\ngreen = \"ftp://10.0.0.1/\"\n": "is not an http or https url",
	} {
		s := newServer(t).furnish()
		s.write(toml, text, 0o644)
		before := s.snapshot()
		_, err := New(s.options())
		if wrong := (*config.Error)(nil); !errors.As(err, &wrong) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		same(t, "what is there", before, s.snapshot())
	}
}

// TestForeignProgram leaves programs in place that run when the new ones do
// not, as those for another processor.
func TestForeignProgram(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.do(s.only(o, "programs"))
	before := s.snapshot()
	o.Programs = filepath.Join(filepath.Dir(s.programs), "foreign")
	_, err := try(s.only(o, "programs"))
	if stopped := (*Incomplete)(nil); !errors.As(err, &stopped) || stopped.Done != 0 || !strings.Contains(err.Error(), "this program does not run here") {
		t.Errorf("got %v", err)
	}
	same(t, "the programs", before, s.snapshot())
}
