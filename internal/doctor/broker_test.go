package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/broker"
	"bluegreen/internal/digitalocean"
	"bluegreen/internal/install"
)

// brokerVariable has this program be the broker, for the API that it names.
const brokerVariable = "DOCTOR_TEST_BROKER"

// answer is what the broker does, without the trust in root's files.
func answer(api string) int {
	token, question := os.Args[1], os.Args[2:]
	s := broker.Server{Open: func() (broker.Provider, []string, error) {
		p, err := digitalocean.New(digitalocean.Options{IP: reservedIP, Droplets: map[string]int{"blue": blue, "green": green}, Self: "blue",
			APIURL: api, Token: func() (string, error) { return digitalocean.ReadToken(token) }})
		return p, []string{"blue", "green"}, err
	}}
	if err := s.Answer(context.Background(), question, os.Stdout); err != nil {
		return 2
	}
	return 0
}

// newBrokered makes a server in order, whose promotions go through a broker.
func newBrokered(t *testing.T) *patient {
	t.Helper()
	p := newPatient(t)
	p.token = filepath.Join(p.root, install.TokenPath)
	p.write(p.token, canary+"\n", 0o600)
	p.reconfigure(`token_file = "`+filepath.Join(p.dir, "token")+`"`, "token_file = \""+install.TokenPath+"\"\n"+install.BrokerLine(p.repo))
	e := p.open()
	text, err := install.BrokerText(e.Config)
	p.must(err)
	p.write(filepath.Join(p.root, install.BrokerPath(p.repo)), text, 0o644)
	self, err := os.Executable()
	p.must(err)
	// Those that are listed may be run, and what is run is this program.
	p.write(filepath.Join(p.bin, "sudo"), "#!/bin/sh\n[ -e "+p.dir+"/refuses ] && { echo 'sudo: a password is required' >&2; exit 1; }\n"+
		"[ \"$2\" = -l ] && exit\nshift 5\nexec env "+brokerVariable+"="+e.Config.Promotion.APIURL+" GORACE=atexit_sleep_ms=0 "+self+" "+p.token+" \"$@\"\n", 0o755)
	return p
}

// TestBroker finds nothing wrong with a broker that is in order, and each thing
// that is not.
func TestBroker(t *testing.T) {
	t.Parallel()
	file := func(p *patient) string { return filepath.Join(p.root, install.BrokerPath(p.repo)) }
	for _, test := range []struct {
		name  string
		harm  func(*patient)
		check string
		text  string
		fix   string
	}{
		{"in order", func(*patient) {}, "", "", ""},
		{"no file", func(p *patient) { p.must(os.Remove(file(p))) }, "broker", "there is no /etc/bluegreen/brokers/repo.git.toml", "bluegreen install --user "},
		{"a file of others", func(p *patient) { p.must(os.Chmod(file(p), 0o666)) }, "broker", "the broker refuses its file: others than root may change ", "chmod go-w"},
		{"a place of others", func(p *patient) { p.must(os.Chmod(filepath.Dir(file(p)), 0o777)) }, "broker", "the broker refuses its file", "chown root: "},
		{"another droplet", func(p *patient) {
			p.reconfigure("green = 3164495", "green = 99")
			p.AddDroplet(99, "new", "fra1")
		}, "broker", "is not of the same [promotion] as ", "bluegreen install"},
		{"sudo refuses", func(p *patient) { p.write(filepath.Join(p.dir, "refuses"), "", 0o644) }, "broker promotion sudo outside", "saying \"sudo: a password is required\"", "bluegreen install"},
		{"no token", func(p *patient) { p.must(os.Remove(p.token)) }, "token promotion", "there is no token in /etc/bluegreen/token", "install -D -o root -m 600 /dev/stdin /etc/bluegreen/token"},
		{"an empty token", func(p *patient) { p.write(p.token, "", 0o600) }, "promotion", "is empty", "install -D -o root -m 600 /dev/stdin /etc/bluegreen/token"},
		{"another token", func(p *patient) { p.write(p.token, "dop_v1_other\n", 0o600) }, "promotion", "the API does not accept the token", "/etc/bluegreen/token # paste a token with the scope"},
		{"a token of others", func(p *patient) { p.must(os.Chmod(p.token, 0o640)) }, "token promotion", "may be read by others than root", "chmod 600 /etc/bluegreen/token"},
		{"a token that others change", func(p *patient) { p.must(os.Chmod(p.token, 0o620)) }, "token promotion", "the token is not root's alone", "bluegreen install"},
		{"no sudo", func(p *patient) { p.onlyProgram("sudo") }, "broker sudo promotion outside", "sudo is not installed, and the broker is run by it", "apt-get install sudo"},
		{"a broker of their own", func(p *patient) { p.reconfigure(`"/usr/local/bin/bluegreen", `, `"/opt/bluegreen", `) }, "broker", "is not the one that install sets up", "editor "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := newBrokered(t)
			test.harm(p)
			found := test.name == "in order"
			wrong := p.examine().amiss()
			for _, f := range wrong {
				found = found || strings.Contains(f.Text, test.text) && strings.Contains(f.Fix, test.fix)
				if !strings.Contains(test.check, f.Check) {
					t.Errorf("%q was found, too: %s", f.Check, f.Text)
				}
			}
			if !found {
				t.Errorf("not found: %q, %q; but:%s", test.text, test.fix, show(wrong))
			}
		})
	}
}

// TestWithoutBroker tells what to add where the account can read the token.
func TestWithoutBroker(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	for _, f := range p.examine().Findings {
		if f.Check == "broker" && f.Level == Warning && strings.Contains(f.Text, "deploy can read the API's token") &&
			strings.Contains(f.Text, install.BrokerLine(p.repo)) && strings.Contains(f.Fix, "editor ") && strings.Contains(f.Fix, "bluegreen install --user ") {
			return
		}
	}
	t.Error("nothing is said")
}
