package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	templates "bluegreen/install"
	"bluegreen/internal/broker"
	"bluegreen/internal/config"
)

const rules = "/etc/sudoers.d/bluegreen-sample_app"

// unbrokered is a configuration with a promotion as install made it before
// there were brokers.
func (s *server) unbrokered(o *Options) string {
	s.Helper()
	text, err := templates.Render(templates.Configuration, &templates.Site{Environment: "blue", Branch: "master",
		Directory: "/var/www/html", Server: "apache2", IP: o.IP, Droplets: o.Droplets, TokenFile: TokenPath, APIURL: o.APIURL})
	must(s, err)
	return string(text)
}

// warnings installs, and returns what is warned of.
func (s *server) warnings(o Options) string {
	s.Helper()
	i := s.prepare(o)
	s.do(&i.Work)
	return strings.Join(i.Warnings(), "\n")
}

// TestBroker has a first installation set the broker up: its file and the token
// are root's, and the account may run exactly what the hooks ask. A change of
// the configuration reaches both.
func TestBroker(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	s.cloud(&o)
	if warned := s.warnings(o); strings.Contains(warned, "can read") {
		t.Errorf("it warns of %s", warned)
	}
	c, err := config.Parse(toml, []byte(s.read(toml)), "host")
	must(t, err)
	if want := []string{"sudo", "-n", "/usr/local/bin/bluegreen", "broker", "--config", "/etc/bluegreen/brokers/sample_app.toml"}; !slices.Equal(c.Promotion.Broker, want) {
		t.Errorf("promotion.broker is %q", c.Promotion.Broker)
	}
	if !strings.Contains(s.read(toml), "\n"+BrokerLine(repo)+"\n") {
		t.Errorf("there is no %s in\n%s", BrokerLine(repo), s.read(toml))
	}
	file := s.path(BrokerPath(repo))
	b, err := config.Load(file, "")
	must(t, err)
	if p := b.Promotion; b.Environment != "blue" || p.IP != reservedIP || p.Droplets["green"] != greenDroplet || p.APIURL != o.APIURL || p.TokenFile != TokenPath || p.Timeout != c.Promotion.Timeout {
		t.Errorf("the broker's file is %+v", p)
	}
	must(t, broker.Private(s.root, file, os.Geteuid()))
	must(t, broker.Private(s.root, s.path(TokenPath), os.Geteuid()))
	s.is(BrokerPath(repo), "0644")
	s.is(TokenPath, "0600")
	s.owned(rootID(), TokenPath, BrokerPath(repo), filepath.Dir(BrokerPath(repo)))
	if unit := s.read(UnitPath(repo)); strings.Contains(unit, "NoNewPrivileges") {
		t.Errorf("the unit that recovers cannot use sudo:\n%s", unit)
	}
	var want []string
	for _, question := range []string{"state", "state blue", "fit blue", "assign blue", "address blue", "state green", "fit green", "assign green", "address green"} {
		want = append(want, "deploy ALL=(root) NOPASSWD: /usr/local/bin/bluegreen broker --config /etc/bluegreen/brokers/sample_app.toml "+question)
	}
	if got := strings.Split(strings.TrimSpace(s.read(rules)), "\n")[2:]; !slices.Equal(got, want) {
		t.Errorf("the rules are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	s.write(toml, strings.NewReplacer(`"green" = `, `"red" = 7, "green" = `, reservedIP, "203.0.113.99").Replace(s.read(toml)), 0o644)
	o.IP, o.Droplets, o.APIURL, o.TokenFile = "", nil, "", ""
	lines := s.install(o)
	if want := []string{"broker: write " + BrokerPath(repo) + " (root, 0644)", "sudoers: write " + rules + " (root, 0440), checked by visudo -c first"}; !slices.Equal(lines, want) {
		t.Errorf("after a change it does %q, want %q", lines, want)
	}
	if b, err = config.Load(file, ""); err != nil || b.Promotion.Droplets["red"] != 7 || b.Promotion.IP != "203.0.113.99" || !strings.Contains(s.read(rules), "assign red\n") {
		t.Errorf("the broker's file is %+v, %v, and the rules\n%s", b, err, s.read(rules))
	}
	if again := s.install(o); len(again) > 0 {
		t.Errorf("done again it does %q", again)
	}
}

// TestBrokerAdded leaves the token to the account of a configuration that
// somebody has edited, says what to add, and takes it when that was added. The
// other way it goes, too.
func TestBrokerAdded(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	edited := s.unbrokered(&o) + "# mine\n"
	s.write(toml, edited, 0o644)
	advice := "deploy can read the API's token; to make it root's alone, add to [promotion] in " + toml + ": " + BrokerLine(repo) + "; then run: bluegreen install --repo " + repo
	if warned := s.warnings(o); strings.Count(warned, advice) != 1 {
		t.Errorf("it warns of %s, want %s", warned, advice)
	}
	s.owned(accountIDs(), TokenPath)
	if s.snapshot()[BrokerPath(repo)[1:]] != "" || s.snapshot()[rules[1:]] != "" {
		t.Error("there is a broker that nobody asked for")
	}
	held, err := os.OpenFile(s.path(TokenPath), os.O_RDWR, 0)
	must(t, err)
	defer held.Close()

	o.TokenFile = ""
	s.write(toml, strings.Replace(edited, "[promotion]\n", "[promotion]\n"+BrokerLine(repo)+"\n", 1), 0o644)
	warned := s.warnings(o)
	if os.Geteuid() == 0 { // else root and the account are one
		if !strings.Contains(warned, "deploy could read the token until now: revoke it") {
			t.Errorf("it warns of %s", warned)
		}
		_, err = held.WriteString("another")
		must(t, err)
	}
	s.is(TokenPath, "0600 \""+canary+`\n"`)
	s.owned(rootID(), TokenPath)
	s.is(BrokerPath(repo), "0644")
	if again := s.install(o); len(again) > 0 {
		t.Errorf("done again it does %q", again)
	}

	s.write(toml, edited, 0o644)
	s.install(o)
	s.owned(accountIDs(), TokenPath)
	if left := s.snapshot(); left[BrokerPath(repo)[1:]] != "" || left[filepath.Dir(BrokerPath(repo))[1:]] != "" || left[rules[1:]] != "" {
		t.Error("without the line the broker stays")
	}
}

// TestBrokerForUntouched adds the broker to a configuration that nobody has
// edited since install made it.
func TestBrokerForUntouched(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	s.write(toml, s.unbrokered(&o), 0o644)
	keys := o.Keys
	o = s.options()
	o.Keys = keys
	if lines, want := s.install(o), "configuration: write "+toml+" (root, 0644), with the broker; nobody has edited it"; !slices.Contains(lines, want) {
		t.Errorf("it does %q, want %q", lines, want)
	}
	c, err := config.Parse(toml, []byte(s.read(toml)), "host")
	must(t, err)
	if !slices.Equal(c.Promotion.Broker, Broker(repo)) || c.Promotion.IP != reservedIP {
		t.Errorf("the promotion is %+v", c.Promotion)
	}
	s.is(BrokerPath(repo), "0644")
	if again := s.install(o); len(again) > 0 {
		t.Errorf("done again it does %q", again)
	}
}

// TestBrokerUnseen does nothing as root for a broker that the account has asked
// for, before an operator had the time to look.
func TestBrokerUnseen(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	o.IP, o.Droplets = "", nil
	api := o.APIURL
	o.APIURL, o.TokenFile = "", ""
	s.mkdir("/etc/bluegreen", 0o755)
	s.write(TokenPath, canary+"\n", 0o600)
	s.write(toml, fmt.Sprintf("environment = \"blue\"\n[promotion]\nip = %q\ndroplets = { blue = 1, green = 2 }\napi_url = %q\n%s\n", reservedIP, api, BrokerLine(repo)), 0o664)
	s.give(toml)
	s.install(o)
	left := s.snapshot()
	if left[BrokerPath(repo)[1:]] != "" || left[rules[1:]] != "" {
		t.Error("root does what nobody has looked at")
	}
	s.install(o)
	s.is(BrokerPath(repo), "0644")
	s.owned(rootID(), TokenPath)
}

// TestBrokerRefused sets no broker up where others than root could have it do
// something else, or where another repository's account needs the token.
func TestBrokerRefused(t *testing.T) {
	t.Parallel()
	other := func(user string) func(*server, *Options) {
		return func(s *server, _ *Options) {
			s.mkdir(recordsDir, 0o755)
			s.write(RecordPath("/srv/shop"), `{"repo": "/srv/shop", "user": "`+user+`", "tokens": {"/etc/bluegreen/token": null}}`, 0o644)
		}
	}
	for name, c := range map[string]struct {
		before func(*server, *Options)
		reason string
		hint   string
	}{
		"a directory of others": {func(s *server, _ *Options) {
			s.mkdir("/etc/bluegreen", 0o775)
			must(s, os.Chmod(s.path("/etc/bluegreen"), 0o777))
		},
			BrokerPath(repo) + ", the broker's file, would not be root's alone there: others may change /etc/bluegreen", "chown root: /etc/bluegreen"},
		"a token at the account's": {func(s *server, _ *Options) {
			s.mkdir(home+"/secret", 0o777)
			s.write(toml, strings.Replace(s.read(toml), `"`+TokenPath+`"`, `"`+home+`/secret/token"`, 1), 0o644)
		}, "the token's file, would not be root's alone there", "or name a file in another place"},
		"a symlink": {func(s *server, _ *Options) {
			s.mkdir("/etc/elsewhere", 0o755)
			must(s, os.Symlink("elsewhere", s.path("/etc/bluegreen")))
		},
			"others may change /etc/bluegreen", "name a file in another place"},
		"a token that an account reads": {other("deploy"), "is the token of /srv/shop, too, whose account has to read it", "name another file in token_file"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).furnish()
			o := s.options()
			s.cloud(&o)
			s.write(toml, strings.Replace(s.unbrokered(&o), "[promotion]\n", "[promotion]\n"+BrokerLine(repo)+"\n", 1), 0o644)
			c.before(s, &o)
			i := s.prepare(o)
			_, err := i.Plan(context.Background())
			refusal := (*Refusal)(nil)
			if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, c.reason) || !strings.Contains(refusal.Hint, c.hint) {
				t.Errorf("got %v, %+v", err, refusal)
			}
		})
	}
	// Nobody has asked for a broker: the token stays one that both read.
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	other("deploy")(s, &o)
	if warned := s.warnings(o); !strings.Contains(warned, "deploy can read the API's token") || strings.Contains(s.read(toml), "\nbroker = ") {
		t.Errorf("it warns of %s, and writes\n%s", warned, s.read(toml))
	}
	// And one without a broker does not take what a broker has.
	s = newServer(t).furnish()
	o = s.options()
	s.cloud(&o)
	other("deploy")(s, &o)
	s.mkdir(brokersDir, 0o755)
	s.write(BrokerPath("/srv/shop"), "", 0o644)
	s.write(toml, s.unbrokered(&o)+"# mine\n", 0o644)
	i := s.prepare(o)
	_, err := i.Plan(context.Background())
	if refusal := (*Refusal)(nil); !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, "whose broker alone may read it") || !strings.Contains(refusal.Hint, BrokerLine(repo)) {
		t.Errorf("got %v", err)
	}
}

// TestBrokersOfTwo lets the brokers of two repositories, of two accounts even,
// have one token.
func TestBrokersOfTwo(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	s.install(o)
	o.Repo, o.Directory, o.Keys = home+"/shop", "/var/www/shop", nil
	s.install(o)
	s.is(BrokerPath(home+"/shop"), "0644")
	s.uninstall()
	left := s.snapshot()
	if left[BrokerPath(repo)[1:]] != "" || left[rules[1:]] != "" || left[BrokerPath(home + "/shop")[1:]] == "" {
		t.Error("not the one broker alone has gone")
	}
	s.is(TokenPath, "0600")
	s.do(&s.removal(home + "/shop").Work)
	for path := range s.snapshot() {
		if strings.HasPrefix(path, "etc/bluegreen") || strings.HasPrefix(path, "etc/sudoers.d/") {
			t.Errorf("uninstall leaves /%s", path)
		}
	}
}

// TestBrokerOfTheirOwn leaves a broker alone that is the operator's.
func TestBrokerOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	s.write(toml, strings.Replace(s.unbrokered(&o), "[promotion]\n", "[promotion]\nbroker = [\"sudo\", \"/opt/broker\"]\n", 1), 0o644)
	if warned := s.warnings(o); !strings.Contains(warned, "is one of your own") {
		t.Errorf("it warns of %s", warned)
	}
	if left := s.snapshot(); left[TokenPath[1:]] != "" || left[BrokerPath(repo)[1:]] != "" {
		t.Error("something is set up for it")
	}
}

// TestBrokerStopped stops right before each change in turn. It ends as an
// undisturbed installation does, and so does uninstall.
func TestBrokerStopped(t *testing.T) {
	t.Parallel()
	begin := newServer(t).furnish()
	o := begin.options()
	begin.cloud(&o)
	with := func(s *server) Options {
		own := s.options()
		own.IP, own.APIURL, own.Droplets, own.TokenFile = o.IP, o.APIURL, o.Droplets, o.TokenFile
		return own
	}
	done, stopped := begin.copy(t), begin.copy(t)
	done.install(with(done))
	stopped.oneByOne(func() *Work { return &stopped.prepare(with(stopped)).Work })
	same(t, "the installation", done.snapshot(), stopped.snapshot())
	done.uninstall()
	stopped.oneByOne(func() *Work { return &stopped.removal(repo).Work })
	same(t, "uninstall", done.snapshot(), stopped.snapshot())
	for path := range done.snapshot() {
		if strings.HasPrefix(path, "etc/bluegreen") {
			t.Errorf("uninstall leaves /%s", path)
		}
	}
}
