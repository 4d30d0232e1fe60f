package terraform_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A server is a directory in the place of /run, and of the programs that would
// change a machine.
type server struct {
	testing.TB
	dir string
}

// fakes are the programs, which note how they were called.
const fakes = `#!/bin/sh
cd '%[1]s'
echo "${0##*/}" "$@" >>called
if [ "${0##*/}" = bluegreen-setup ]; then
	stat -c '%%n %%a' run/bluegreen-setup run/bluegreen-setup/token >>called
	cat run/bluegreen-setup/* >>called
fi
[ ! -e "${0##*/}-fails" ]
`

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{t, t.TempDir()}
	for _, dir := range []string{"run", "bin"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"cloud-init", "bluegreen-setup"} {
		s.write("bin/"+program, fmt.Sprintf(fakes, s.dir), 0o755)
	}
	return s
}

func (s *server) write(name, text string, mode os.FileMode) {
	s.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode); err != nil {
		s.Fatal(err)
	}
}

// run runs a script as remote-exec does: its lines, by sh.
func (s *server) run(lines []string) (status int, out string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	script := strings.ReplaceAll(strings.Join(lines, "\n")+"\n", "/run/", s.dir+"/run/")
	c := exec.CommandContext(ctx, "sh", "-c", script)
	c.Env = []string{"PATH=" + s.dir + "/bin:" + os.Getenv("PATH")}
	text, err := c.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return c.ProcessState.ExitCode(), string(text)
}

// provision does what Terraform does with the provisioners, in their order,
// until one fails.
func (s *server) provision(d terraformData) (status int, out string) {
	s.Helper()
	for _, p := range d.Provisioners {
		switch p.Kind {
		case "file": // scp gives it the usual mode
			s.write(strings.TrimPrefix(*p.Destination, "/"), *p.Content, 0o644)
		case "remote-exec":
			if status, out = s.run(p.Inline); status != 0 {
				return status, out
			}
		default:
			s.Fatalf("what is a provisioner %q?", p.Kind)
		}
	}
	return status, out
}

func (s *server) called() string {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "called"))
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

// TestPromotion: each server is told all that promotions need, once its first
// boot is over; the token's file is root's alone, and gone afterwards.
func TestPromotion(t *testing.T) {
	t.Parallel()
	_, p := evaluated(t)
	for name, d := range p.promotion {
		if c := d.Connection; *c.User != "root" || c.Host != droplets()[name].GetAttr("ipv4_address").AsString() ||
			!strings.HasPrefix(*c.ScriptPath, "/root/") {
			t.Errorf("%s: the connection is %+v", name, c)
		}
		s := newServer(t)
		if status, out := s.provision(d); status != 0 || out != "" {
			t.Errorf("%s: status %d, %s", name, status, out)
		}
		want := "cloud-init status --wait\n" +
			"bluegreen-setup https://downloads.example.com/bluegreen_0.1.0_amd64.deb?a=1&b=2 " + strings.Repeat("0a", 32) +
			" --environment " + name + " --key " + s.dir + "/run/bluegreen-setup/pushers.pub --ip 203.0.113.10" +
			" --droplet blue=3164494 --droplet green=3164495 --token-file " + s.dir + "/run/bluegreen-setup/token\n" +
			"run/bluegreen-setup 700\nrun/bluegreen-setup/token 600\n" +
			key("ann") + "\n" + key("bob") + "\ndop_v1_move"
		if called := s.called(); called != want {
			t.Errorf("%s: it has called\n%s\nwant\n%s", name, called, want)
		}
		s.empty()
	}
}

// empty checks that nothing is left of the token.
func (s *server) empty() {
	s.Helper()
	if left, err := os.ReadDir(filepath.Join(s.dir, "run")); err != nil || len(left) > 0 {
		s.Errorf("it leaves %v, %v", left, err)
	}
}

// TestPromotionFails: a first boot that went wrong is made up for; a set-up
// that fails is said to have failed, and leaves no token either.
func TestPromotionFails(t *testing.T) {
	t.Parallel()
	_, p := evaluated(t)
	for program, want := range map[string]int{"cloud-init": 0, "bluegreen-setup": 1} {
		s := newServer(t)
		s.write(program+"-fails", "", 0o644)
		status, out := s.provision(p.promotion["blue"])
		if status != want || !strings.Contains(s.called(), "--ip 203.0.113.10") {
			t.Errorf("%s fails: status %d, %s", program, status, out)
		}
		if said := strings.Contains(s.called(), "cloud-init status --long\n"); said != (program == "cloud-init") {
			t.Errorf("%s fails: why the first boot went wrong is asked: %t", program, said)
		}
		s.empty()
	}
}
