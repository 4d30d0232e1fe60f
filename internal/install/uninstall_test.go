package install

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/install/host"
)

// TestUninstall undoes an installation: the site, the repository and its
// configuration stay, and the account, the packages and the log.
func TestUninstall(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	s.cloud(&o)
	s.install(o)
	s.write("/var/www/html/index.html", "the site", 0o644)
	installed := s.snapshot()
	plan := s.plan(&s.removal(repo).Work)
	same(t, "the plan has changed something", installed, s.snapshot())
	lines := s.uninstall()
	if !slices.Equal(plan, lines) {
		t.Errorf("it does\n%s\nand has planned\n%s", strings.Join(lines, "\n"), strings.Join(plan, "\n"))
	}
	after := s.snapshot()
	for path := range installed {
		switch {
		case after[path] == "" && !strings.Contains(strings.Join(lines, "\n"), "/"+path):
			t.Errorf("/%s is gone, and the plan did not say so", path)
		case after[path] != "" && strings.Contains(path, "bluegreen") && path != toml[1:] && !strings.HasPrefix(path, "var/log/"):
			t.Errorf("/%s has been left", path)
		}
	}
	for _, path := range []string{"/var/www/html/index.html", repo + "/HEAD", LogPath} {
		if after[path[1:]] != installed[path[1:]] {
			t.Errorf("%s is %q, and was %q", path, after[path[1:]], installed[path[1:]])
		}
	}
	s.owned(accountIDs(), repo+"/hooks", home, toml)
	if r := s.removal(repo); r.Recorded() || len(s.do(&r.Work)) > 0 {
		t.Error("it is not known that nothing is left to undo")
	}
}

// TestReinstalled sets up again what was undone.
func TestReinstalled(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	before := s.snapshot()
	s.install(s.options())
	installed := s.snapshot()
	s.uninstall()
	s.install(s.options())
	// git leaves the section of a setting that is gone.
	after := s.snapshot()
	after[repo[1:]+"/config"] = installed[repo[1:]+"/config"]
	// The configuration was not there then, and is now.
	after[RecordPath(repo)[1:]] = installed[RecordPath(repo)[1:]]
	same(t, "the second installation", installed, after)
	s.uninstall()
	must(t, os.Remove(s.path(toml)))
	s.gaveBack(before)
}

// TestShared has two repositories of one account on one server: what they share
// stays until both are gone, in either order, and then goes.
func TestShared(t *testing.T) {
	t.Parallel()
	const shop = "/home/deploy/shop"
	for name, order := range map[string][]string{"first": {repo, shop}, "second": {shop, repo}} {
		t.Run(name+" one first", func(t *testing.T) {
			t.Parallel()
			s := newServer(t).tutorial()
			s.mkdir("/var/www/shop", 0o755)
			s.give("/var/www/shop")
			s.git("init", "--quiet", "--bare", "--initial-branch=master", shop)
			before := s.snapshot()
			o := s.options()
			s.cloud(&o)
			s.install(o)
			o.Repo, o.Directory, o.Keys = shop, "/var/www/shop", []string{s.key("eve")}
			s.install(o)

			s.do(&s.removal(order[0]).Work)
			after := s.snapshot()
			for _, path := range []string{CommandPath, ProgramsDir + "/pre-receive", TokenPath, RecordPath(order[1]), UnitPath(order[1])} {
				if after[path[1:]] == "" {
					t.Errorf("%s went with the first repository", path)
				}
			}
			for _, path := range []string{RecordPath(order[0]), UnitPath(order[0]), order[0] + "/hooks/pre-receive"} {
				if after[path[1:]] != "" {
					t.Errorf("%s is left of the first repository", path)
				}
			}
			s.owned(rootID(), home+"/.ssh", keys, order[1]+"/hooks")
			if lines := strings.Count(s.read(keys), "restrict,"); lines != 1 {
				t.Errorf("%d keys may push:\n%s", lines, s.read(keys))
			}
			s.do(&s.removal(order[1]).Work)
			after = s.snapshot()
			for _, path := range []string{TokenPath, filepath.Dir(TokenPath), ProgramsDir, CommandPath, recordsDir} {
				if after[path[1:]] != "" {
					t.Errorf("%s has been left", path)
				}
			}
			for _, made := range []string{repo + "/bluegreen.toml", shop + "/bluegreen.toml"} {
				must(t, os.Remove(s.path(made)))
			}
			must(t, os.Remove(s.path(shop+"/config")))
			delete(before, shop[1:]+"/config")
			s.gaveBack(before)
		})
	}
}

// TestTokensOfTwo removes the tokens of two repositories with the last of them,
// also where each has one of its own.
func TestTokensOfTwo(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	o := s.options()
	s.cloud(&o)
	s.install(o)
	const shop, token = "/srv/shop", "/etc/bluegreen/shop"
	s.git("init", "--quiet", "--bare", "--initial-branch=master", home+"/shop")
	s.mkdir("/srv", 0o755)
	must(t, os.Rename(s.path(home+"/shop"), s.path(shop)))
	s.write(shop+"/bluegreen.toml", strings.NewReplacer(TokenPath, token, BrokerPath(repo), BrokerPath(shop), "/var/www/html", "/var/www/shop").Replace(s.read(toml)), 0o644)
	o.Repo, o.Keys = shop, nil
	s.install(o)
	s.is(token, "0600")
	s.uninstall()
	s.is(TokenPath, "0600")
	s.do(&s.removal(shop).Work)
	if left := s.snapshot(); left[TokenPath[1:]] != "" || left[token[1:]] != "" {
		t.Errorf("a token has been left")
	}
}

// TestFormerToken gives a token that was there before back to whom it belonged.
func TestFormerToken(t *testing.T) {
	t.Parallel()
	for _, given := range []bool{true, false} {
		s := newServer(t).furnish()
		o := s.options()
		s.cloud(&o)
		s.mkdir("/etc/bluegreen", 0o755)
		s.write(TokenPath, canary+"\n", 0o640)
		if !given {
			o.TokenFile = ""
		}
		s.install(o)
		s.is(TokenPath, "0600")
		s.uninstall()
		s.is(TokenPath, "0640 \""+canary+`\n" of `+rootID())
	}
}

// TestChangedSince leaves alone what somebody has changed since.
func TestChangedSince(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	s.install(s.options())
	s.git("config", "--file", repo+"/config", "receive.maxInputSize", "5g")
	must(t, os.Remove(s.path(repo+"/hooks/pre-receive")))
	s.write(repo+"/hooks/pre-receive", "somebody's", 0o755)
	s.write(keys, s.read(keys)+publicKey("eve")+" eve\n", 0o644)
	r := s.removal(repo)
	s.do(&r.Work)
	if got := s.git("config", "--file", repo+"/config", "receive.maxInputSize"); got != "5g\n" {
		t.Errorf("receive.maxInputSize is %s", got)
	}
	if warnings := strings.Join(r.Warnings(), "\n"); !strings.Contains(warnings, "receive.maxInputSize of "+repo+" was changed since, and stays: 5g") {
		t.Errorf("it warns of %q", warnings)
	}
	if got := s.read(repo + "/hooks/pre-receive"); got != "somebody's" {
		t.Errorf("the hook is %q", got)
	}
	if got, want := s.read(keys), "# developers\n"+publicKey("ann")+" ann\n"+publicKey("bob")+" bob\n"+publicKey("eve")+" eve\n"; got != want {
		t.Errorf("the keys are\n%s\nwant\n%s", got, want)
	}
	s.is(keys, "0600")
	s.owned(accountIDs(), keys, home+"/.ssh")
}

// TestRefsOfNoHook unsets what git would ask a hook for that is gone, also where
// somebody has set it to something else since: every push would be refused.
func TestRefsOfNoHook(t *testing.T) {
	t.Parallel()
	const key = "receive.procReceiveRefs"
	for _, values := range [][]string{{"refs/tags", "refs/heads/master"}, {"refs/heads/main", "refs/tags", "refs/heads/master"}, {"refs"}} {
		s := newServer(t).furnish()
		s.git("config", "--file", repo+"/config", key, "refs/heads/former")
		s.install(s.options())
		s.git("config", "--file", repo+"/config", "--unset-all", key)
		for _, value := range values {
			s.git("config", "--file", repo+"/config", "--add", key, value)
		}
		s.uninstall()
		if config := s.read(repo + "/config"); strings.Contains(strings.ToLower(config), strings.ToLower("procReceiveRefs")) {
			t.Errorf("%q: the configuration is\n%s", values, config)
		}
	}
	s := newServer(t).furnish()
	s.write(repo+"/hooks/proc-receive", "somebody's", 0o755)
	s.git("config", "--file", repo+"/config", key, "refs/heads/former")
	s.install(s.options())
	s.uninstall()
	if got := s.git("config", "--file", repo+"/config", "--get-all", key); got != "refs/heads/former\n" {
		t.Errorf("with a hook that comes back it is %q", got)
	}
}

// TestUndoneMeanwhile does what is left to undo, not what was when it looked.
func TestUndoneMeanwhile(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.install(s.options())
	early := s.removal(repo)
	s.uninstall()
	if lines := s.do(&early.Work); len(lines) > 0 || early.Recorded() {
		t.Errorf("it does %q", lines)
	}
}

// TestKeysMade gives files that install has made to the account, where others
// have been added to them.
func TestKeysMade(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.install(s.options())
	s.write(keys, s.read(keys)+publicKey("eve")+" eve\n", 0o644)
	s.uninstall()
	s.is(keys, "0600")
	s.is(home+"/.ssh", "0700")
	s.owned(accountIDs(), keys, home+"/.ssh")
}

// TestGone undoes what it can where the rest is gone.
func TestGone(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]func(*server){
		"the repository": func(s *server) { must(s, os.RemoveAll(s.path(repo))) },
		"the account":    func(s *server) { s.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644) },
		"the home":       func(s *server) { must(s, os.RemoveAll(s.path(home))) },
		"the programs":   func(s *server) { must(s, os.RemoveAll(s.path(ProgramsDir))) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			s := newServer(t).tutorial()
			s.install(s.options())
			gone(s)
			s.uninstall()
			after := s.snapshot()
			for _, path := range []string{RecordPath(repo), UnitPath(repo), WantsPath(repo), CommandPath, ProgramsDir, repo + "/hooks/pre-receive"} {
				if after[path[1:]] != "" {
					t.Errorf("%s has been left", path)
				}
			}
		})
	}
}

// TestAccountGone takes the keys of an account away that is gone: another one
// could come to have its home.
func TestAccountGone(t *testing.T) {
	t.Parallel()
	for _, there := range []string{"", publicKey("bob") + " bob\n"} {
		s := newServer(t).furnish()
		if there != "" {
			s.mkdir(home+"/.ssh", 0o700)
			s.write(keys, there, 0o600)
			s.give(home + "/.ssh")
		}
		s.install(s.options())
		s.write("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
		s.uninstall()
		if there == "" {
			if left := s.snapshot()[home[1:]+"/.ssh"]; left != "" {
				t.Errorf("of the keys is left %q", left)
			}
			continue
		}
		s.is(keys, "0600")
		if got := s.read(keys); got != there {
			t.Errorf("the keys are %q, want %q", got, there)
		}
	}
}

// TestElsewhere names the repository that was set up, where another one of its
// name is asked for.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.install(s.options())
	_, err := Uninstall(s.root, "/root/sample_app")
	refusal := (*Refusal)(nil)
	if !errors.As(err, &refusal) || refusal.Hint != "bluegreen uninstall --repo /home/deploy/sample_app" ||
		refusal.Reason != "/root/sample_app was not set up by install; of that name /home/deploy/sample_app was" {
		t.Errorf("got %v, %+v", err, refusal)
	}
}

// TestKeptHookGone does not leave a repository without the hook that it had.
func TestKeptHookGone(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	s.install(s.options())
	must(t, os.Remove(s.path(repo+"/hooks/post-receive.before-bluegreen")))
	before := s.snapshot()
	_, err := try(&s.removal(repo).Work)
	refusal := (*Refusal)(nil)
	if !errors.As(err, &refusal) || !strings.HasSuffix(refusal.Reason, "post-receive.before-bluegreen, the hook that was there before, is gone") {
		t.Errorf("got %v", err)
	}
	same(t, "what is there", before, s.snapshot())
}

// TestRecords tells of records that cannot be read.
func TestRecords(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.mkdir(recordsDir, 0o755)
	s.write(RecordPath(repo), "{", 0o644)
	if _, err := New(s.options()); err == nil || !strings.Contains(err.Error(), `reading "/var/lib/bluegreen/sample_app.json": `) {
		t.Errorf("install says %v", err)
	}
	if _, err := Uninstall(s.root, repo); err == nil || !strings.Contains(err.Error(), `reading "/var/lib/bluegreen/sample_app.json": `) {
		t.Errorf("uninstall says %v", err)
	}
	if records, err := otherRecords(&host.Host{Root: s.root}, "/srv/shop"); err == nil {
		t.Errorf("another repository has %v", records)
	}
}
