package install

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestReplaced refuses what the account has put in the place of what was root's:
// the directories that it lies in are the account's.
func TestReplaced(t *testing.T) {
	t.Parallel()
	exchanged := func(path string, perm fs.FileMode) func(*server) {
		return func(s *server) {
			must(s, os.Rename(s.path(path), s.path(path+".away")))
			if path == toml || path == keys {
				s.write(path, "", perm)
			} else {
				s.mkdir(path, perm)
			}
			s.give(path)
		}
	}
	const copied = "cp /home/deploy/sample_app/bluegreen.toml /root/bluegreen.toml && less /root/bluegreen.toml && " +
		"install -m 644 /root/bluegreen.toml /home/deploy/sample_app/bluegreen.toml"
	for name, c := range map[string]struct {
		path   string
		attack func(*server)
		hint   string
	}{
		"the configuration": {toml, exchanged(toml, 0o664), copied},
		"the hooks":         {repo + "/hooks", exchanged(repo+"/hooks", 0o775), "chown root: /home/deploy/sample_app/hooks"},
		"the keys":          {keys, exchanged(keys, 0o660), "install -m 644 /root/authorized_keys " + keys},
		"the keys' place":   {home + "/.ssh", exchanged(home+"/.ssh", 0o770), "chown root: /home/deploy/.ssh"},
		"a symlink":         {toml, func(s *server) { must(s, os.Remove(s.path(toml))); must(s, os.Symlink("config", s.path(toml))) }, "remove it"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).furnish()
			s.install(s.options())
			prepared := s.prepare(s.options())
			c.attack(s)
			before := s.snapshot()
			o := s.options()
			o.Keys = nil
			_, err := New(o)
			_, late := try(&prepared.Work)
			for _, err := range []error{err, late} {
				refusal := (*Refusal)(nil)
				if !errors.As(err, &refusal) || !strings.HasPrefix(refusal.Reason, c.path+" was root's alone after install") || !strings.Contains(refusal.Hint, c.hint) {
					t.Errorf("got %v, %+v", err, refusal)
				}
			}
			same(t, "what is there", before, s.snapshot())
		})
	}
}

// demanding is a configuration that asks for all that root gives.
const demanding = `environment = "blue"
[deploy]
directory = "/srv/site"
[[command]]
run = ["sudo", "/bin/true"]
[promotion]
ip = "203.0.113.10"
droplets = { blue = 1 }
token_file = "/etc/bluegreen/token"
api_url = "http://127.0.0.1:9"
`

// demand has the account ask for what is not its own.
func (s *server) demand() {
	s.Helper()
	s.mkdir("/srv/site", 0o555)
	s.mkdir("/etc/bluegreen", 0o755)
	s.write(TokenPath, canary+"\n", 0o640)
	s.write(toml, demanding, 0o664)
	s.give(toml)
}

// TestUnseen takes a configuration of the account's over, and does what it asks
// root for in the next run alone, also where the first one was interrupted.
func TestUnseen(t *testing.T) {
	t.Parallel()
	for _, interrupted := range []bool{false, true} {
		s := newServer(t).furnish()
		s.demand()
		asked := func() (lines []string) {
			i := s.prepare(s.options())
			for _, line := range s.do(&i.Work) {
				for _, step := range []string{"web root: ", "token: ", "sudoers: "} {
					if strings.HasPrefix(line, step) {
						lines = append(lines, line)
					}
				}
			}
			warned := strings.Contains(strings.Join(i.Warnings(), "\n"), toml+" was the account's own")
			if warned != (len(lines) == 0) {
				t.Errorf("it does %q, and warns of %q", lines, i.Warnings())
			}
			return lines
		}
		if interrupted {
			i := s.prepare(s.options())
			at := slices.IndexFunc(i.steps, func(s step) bool { return s.name == "configuration" })
			i.steps = i.steps[:at+1]
			s.do(&i.Work)
		}
		if lines := asked(); len(lines) > 0 {
			t.Errorf("before anybody has looked it does %q", lines)
		}
		s.owned(rootID(), toml)
		s.is(toml, "0644")
		s.is("/srv/site", "0555")
		s.is(TokenPath, "0640")
		want := []string{
			"web root: give /srv/site to deploy (0755); what is in it stays as it is",
			"sudoers: write /etc/sudoers.d/bluegreen-sample_app (root, 0440), checked by visudo -c first",
			"token: give /etc/bluegreen/token to deploy (0600)",
		}
		if lines := asked(); !slices.Equal(lines, want) {
			t.Errorf("then it does %q, want %q", lines, want)
		}
	}
}

// TestHeldOpen takes files over that somebody has open: they cannot be written
// to afterwards.
func TestHeldOpen(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	s.write(toml, "environment = \"blue\"\n", 0o664)
	s.give(toml)
	s.write(keys, keyLine(t, "ann", repo)+"\n", 0o600)
	for _, file := range []string{toml, keys} {
		f, err := os.OpenFile(s.path(file), os.O_RDWR, 0)
		must(t, err)
		defer f.Close()
		defer func() {
			_, err := f.WriteString("# written later\n")
			must(t, err)
			if text := s.read(file); strings.Contains(text, "written later") {
				t.Errorf("%s is\n%s", file, text)
			}
		}()
	}
	o := s.options()
	o.Keys = nil // none is added, which writes the file anyway
	s.do(s.only(o, "configuration"))
	s.do(s.only(o, "keys"))
}

// TestExchangedMeanwhile does not take what the account puts in the place of a
// configuration that was read already.
func TestExchangedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.write(toml, "environment = \"blue\"\n", 0o644)
	i := s.prepare(s.options())
	s.demand()
	if _, err := i.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "somebody has just put another "+toml) {
		t.Errorf("it says %v", err)
	}
}
