package install

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// TestHostile has the account put things in root's way, everywhere it can. The
// installation may succeed, be refused or fail; it may not wait, and what lies
// outside of the account's home it neither writes nor gives away.
func TestHostile(t *testing.T) {
	t.Parallel()
	begin := newServer(t).tutorial()
	hooks := repo + "/hooks"
	link := func(target, path string) func(*server) {
		return func(s *server) {
			must(s, os.RemoveAll(s.path(path)))
			must(s, os.Symlink(target, s.path(path)))
		}
	}
	fifo := func(path string) func(*server) {
		return func(s *server) {
			must(s, os.RemoveAll(s.path(path)))
			must(s, syscall.Mkfifo(s.path(path), 0o777))
		}
	}
	second := func(victim, path string) func(*server) {
		return func(s *server) {
			os.Remove(s.path(path))
			must(s, os.Link(s.path(victim), s.path(path)))
		}
	}
	for name, attack := range map[string]func(*server){
		"keys elsewhere":                 link("/victim/secret", keys),
		"keys elsewhere, relative":       link("../../../victim/secret", keys),
		"keys that are not there":        link("/victim/new", keys),
		"keys with a second name":        second("/victim/secret", keys),
		"keys as a FIFO":                 fifo(keys),
		"keys as a directory":            func(s *server) { must(s, os.Remove(s.path(keys))); s.mkdir(keys, 0o777) },
		"the keys' directory elsewhere":  link("/victim", home+"/.ssh"),
		"the keys' directory upwards":    link("../../victim", home+"/.ssh"),
		"the keys' directory as a FIFO":  fifo(home + "/.ssh"),
		"the next keys elsewhere":        link("/victim/secret", home+"/.ssh/.authorized_keys.new"),
		"hooks elsewhere":                link("/victim", hooks),
		"hooks as a FIFO":                fifo(hooks),
		"a hook elsewhere":               link("/victim/secret", hooks+"/post-receive"),
		"a hook with a second name":      second("/victim/secret", hooks+"/post-receive"),
		"a hook as a FIFO":               fifo(hooks + "/pre-receive"),
		"the next hook elsewhere":        link("/victim/secret", hooks+"/.post-receive.new"),
		"the configuration elsewhere":    link("/victim/secret", toml),
		"the configuration as a FIFO":    fifo(toml),
		"the configuration, two names":   second("/victim/secret", toml),
		"the next configuration":         link("/victim/secret", repo+"/.bluegreen.toml.new"),
		"the repository elsewhere":       link("/victim", repo),
		"the repository as a FIFO":       fifo(repo),
		"git's settings elsewhere":       link("/victim/settings", repo+"/config"),
		"git's settings, two names":      second("/victim/settings", repo+"/config"),
		"git's settings, locked":         link("/victim/secret", repo+"/config.lock"),
		"HEAD elsewhere":                 link("/victim/secret", repo+"/HEAD"),
		"the web root elsewhere":         link("/victim", home+"/site"),
		"the web root's parent":          link("/victim", home+"/sites"),
		"the web root's parent, upwards": link("../../victim", home+"/sites"),
		"the token as a FIFO":            fifo(home + "/token"),
		"the token elsewhere":            link("/victim/secret", home+"/token"),
		"the token with a second name":   second("/victim/secret", home+"/token"),
		"the next token elsewhere":       link("/victim/secret", home+"/.token.new"),
		"the tokens' directory":          link("/victim", home+"/tokens"),
		"the tokens' directory, upwards": link("../../victim", home+"/tokens"),
		"a directory as the next hook":   func(s *server) { s.mkdir(hooks+"/.pre-receive.new/x", 0o777) },
		"a directory as the next config": func(s *server) { s.mkdir(repo+"/.bluegreen.toml.new/x", 0o777) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := begin.copy(t)
			s.besieged()
			attack(s)
			s.guarded(func(ctx context.Context, o Options) {
				s.lured(name, &o)
				if i, err := New(o); err == nil {
					i.host.Enter = s.enter
					i.Do(ctx, func(Step, Change) {})
				}
			})
		})
	}
}

// TestHostileUninstall is TestHostile for uninstall.
func TestHostileUninstall(t *testing.T) {
	t.Parallel()
	begin := newServer(t).tutorial()
	begin.write(toml, "", 0o666)
	begin.give(toml)
	begin.install(begin.options())
	for name, attack := range map[string]func(*server){
		"keys elsewhere": func(s *server) {
			must(s, os.Rename(s.path(home+"/.ssh"), s.path(home+"/.ssh2")))
			s.mkdir(home+"/.ssh", 0o777)
			must(s, os.Symlink("/victim/secret", s.path(keys)))
		},
		"keys with a second name": func(s *server) {
			must(s, os.RemoveAll(s.path(home+"/.ssh")))
			s.mkdir(home+"/.ssh", 0o777)
			must(s, os.Link(s.path("/victim/secret"), s.path(keys)))
		},
		"the keys' directory elsewhere": func(s *server) {
			must(s, os.RemoveAll(s.path(home+"/.ssh")))
			must(s, os.Symlink("/victim", s.path(home+"/.ssh")))
		},
		"hooks elsewhere": func(s *server) {
			must(s, os.Rename(s.path(repo+"/hooks"), s.path("/victim/hooks")))
			must(s, os.Symlink("/victim/hooks", s.path(repo+"/hooks")))
		},
		"the configuration elsewhere": func(s *server) {
			must(s, os.Remove(s.path(toml)))
			must(s, os.Symlink("/victim/secret", s.path(toml)))
		},
		"the configuration with a second name": func(s *server) {
			must(s, os.Remove(s.path(toml)))
			must(s, os.Link(s.path("/victim/secret"), s.path(toml)))
		},
		"the repository elsewhere": func(s *server) {
			must(s, os.Rename(s.path(repo), s.path("/victim/app")))
			must(s, os.Symlink("/victim/app", s.path(repo)))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := begin.copy(t)
			s.besieged()
			attack(s)
			s.guarded(func(ctx context.Context, _ Options) {
				if r, err := Uninstall(s.root, repo); err == nil {
					r.host.Enter = s.enter
					r.Do(ctx, func(Step, Change) {})
				}
			})
		})
	}
}

// besieged lays out what the account is after, and makes its places writable
// for others: where an ordinary user plays root and the account both, that
// tells its directories from root's.
func (s *server) besieged() {
	s.Helper()
	s.mkdir("/victim", 0o755)
	s.write("/victim/secret", "root:*:19000:0:99999:7:::\n", 0o640)
	s.write("/victim/settings", "[core]\n\tbare = true\n", 0o600)
	for _, dir := range []string{home, repo, repo + "/hooks", home + "/.ssh"} {
		must(s, os.Chmod(s.path(dir), 0o777))
	}
}

// lured has an operator ask for places that an attack is about.
func (s *server) lured(attack string, o *Options) {
	s.Helper()
	token := ""
	switch {
	case strings.HasPrefix(attack, "the web root's"):
		o.Directory = home + "/sites/new"
	case strings.HasPrefix(attack, "the web root"):
		o.Directory = home + "/site"
	case strings.HasPrefix(attack, "the tokens'"):
		token = home + "/tokens/token"
	case strings.Contains(attack, "token"):
		token = home + "/token"
	}
	if token == "" {
		return
	}
	s.write(toml, "environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { blue = 1 }\ntoken_file = \""+token+"\"\n"+
		"api_url = \"http://127.0.0.1:9\"\n", 0o644)
	o.TokenFile = filepath.Join(filepath.Dir(s.root), "token")
	must(s, os.WriteFile(o.TokenFile, []byte(canary+"\n"), 0o600))
}

// guarded does something, and looks whether it ends and whether what is not the
// account's is as it was.
func (s *server) guarded(do func(context.Context, Options)) {
	s.Helper()
	o := s.options()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	victim := gittest.Snap(s, s.path("/victim"), true)
	owners := s.snapshot()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(ctx, o)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		s.Fatal("it waits for ever")
	}
	same(s, "what is root's", victim, gittest.Snap(s, s.path("/victim"), true))
	for path, what := range s.snapshot() {
		if strings.HasPrefix(path, "victim") && owners[path] != what {
			s.Errorf("/%s is %q, and was %q", path, what, owners[path])
		}
	}
	s.secret()
}

// secret looks whether root has copied what the account may not read.
func (s *server) secret() {
	s.Helper()
	of, err := os.Stat(s.path("/victim/secret"))
	must(s, err)
	must(s, filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if st, statErr := os.Stat(path); statErr == nil && !os.SameFile(of, st) && strings.Contains(string(text), "root:*:19000") {
			s.Errorf("the secret is in %s", path)
		}
		return err
	}))
}
