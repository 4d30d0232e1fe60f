package install

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func repositorySteps() []stepCase {
	return []stepCase{
		{name: "none", step: "repository", before: func(s *server, o *Options) { must(s, os.RemoveAll(s.path(repo))) },
			want: []string{"run git init --bare --initial-branch=master /home/deploy/sample_app, as deploy"},
			after: func(s *server) {
				s.owned(accountIDs(), repo, repo+"/config", repo+"/objects", repo+"/hooks")
				if bare := s.git("--git-dir="+repo, "rev-parse", "--is-bare-repository"); bare != "true\n" {
					s.Errorf("is it bare? %s", bare)
				}
			}},
		{name: "where the account may not write", step: "repository", before: func(s *server, o *Options) {
			o.Repo, o.Branch = "/srv/git/app.git", "main"
		}, want: []string{"run git init --bare --initial-branch=main /srv/git/app.git, as deploy"},
			after: func(s *server) {
				s.owned(rootID(), "/srv/git")
				s.owned(accountIDs(), "/srv/git/app.git", "/srv/git/app.git/config")
				s.is("/srv/git/app.git/HEAD", `"ref: refs/heads/main\n"`)
			}},
		{name: "a git init that was killed", step: "repository", before: func(s *server, o *Options) {
			must(s, os.Remove(s.path(repo+"/config")))
			must(s, os.RemoveAll(s.path(repo+"/objects")))
			s.write(repo+"/config.lock", "[core]\n", 0o644)
			s.write(repo+"/HEAD.lock", "", 0o644)
			s.give(repo)
		}, want: []string{"run git init --bare --initial-branch=master /home/deploy/sample_app, as deploy"},
			after: func(s *server) {
				if snap := s.snapshot(); snap[repo[1:]+"/config.lock"] != "" {
					s.Error("the lock of a git that is dead is still there")
				}
			}},
		{name: "one with another branch", step: "repository", before: func(s *server, o *Options) { o.Branch = "main" },
			want:  []string{"run git symbolic-ref HEAD refs/heads/main, in /home/deploy/sample_app (it is refs/heads/master)"},
			after: func(s *server) { s.is(repo+"/HEAD", `"ref: refs/heads/main\n"`) }},
		{name: "one that is there before git is", step: "repository", before: func(s *server, o *Options) {
			must(s, os.Remove(s.path("/usr/bin/git")))
		}},
		{name: "none", step: "configuration", want: []string{"write /home/deploy/sample_app/bluegreen.toml (root, 0644)"},
			after: func(s *server) {
				s.is(toml, "0644")
				s.owned(rootID(), toml)
			}},
		{name: "the account's", step: "configuration", before: func(s *server, o *Options) {
			s.write(toml, "environment = \"mine\"\n", 0o664)
			s.give(toml)
		}, want: []string{"give /home/deploy/sample_app/bluegreen.toml to root (0644)"},
			after: func(s *server) {
				s.is(toml, `0644 "environment = \"mine\"\n"`)
				s.owned(rootID(), toml)
			}},
		{name: "none", step: "hooks", before: func(s *server, o *Options) { must(s, os.RemoveAll(s.path(repo+"/hooks"))) },
			want: append([]string{"make the directory /home/deploy/sample_app/hooks (root, 0755)"}, hookLines("pre-receive", "proc-receive", "post-receive")...),
			after: func(s *server) {
				s.owned(rootID(), repo+"/hooks", repo+"/hooks/pre-receive")
				s.is(repo+"/hooks/post-receive", "-> "+ProgramsDir+"/post-receive")
			}},
		{name: "the tutorial's, beside others of that name", step: "hooks", before: func(s *server, o *Options) {
			must(s, os.Chmod(s.path(repo+"/hooks"), 0o775))
			s.write(repo+"/hooks/post-receive", hook, 0o755)
			s.write(repo+"/hooks/post-receive.before-bluegreen", "older", 0o755)
			s.give(repo)
		}, want: slices.Concat([]string{"give /home/deploy/sample_app/hooks to root (0755)"}, hookLines("pre-receive", "proc-receive"),
			[]string{hookLines("post-receive")[0] + "; what is there now is kept as post-receive.before-bluegreen.2"}),
			after: func(s *server) {
				if s.read(repo+"/hooks/post-receive.before-bluegreen.2") != hook || s.read(repo+"/hooks/post-receive.before-bluegreen") != "older" {
					s.Error("a hook was lost")
				}
				s.is(repo+"/hooks/post-receive.before-bluegreen.2", "0755")
			}},
		{name: "a symlink, and one that is ours already", step: "hooks", before: func(s *server, o *Options) {
			must(s, os.Chmod(s.path(repo+"/hooks"), 0o775))
			must(s, os.Symlink("../deploy.sh", s.path(repo+"/hooks/post-receive")))
			must(s, os.Symlink(ProgramsDir+"/pre-receive", s.path(repo+"/hooks/pre-receive")))
		}, want: slices.Concat([]string{"give /home/deploy/sample_app/hooks to root (0755)"}, hookLines("proc-receive"),
			[]string{hookLines("post-receive")[0] + "; what is there now is kept as post-receive.before-bluegreen"}),
			after: func(s *server) { s.is(repo+"/hooks/post-receive.before-bluegreen", "-> ../deploy.sh") }},
		{name: "one that an interrupted run has kept", step: "hooks", before: func(s *server, o *Options) {
			must(s, os.Chmod(s.path(repo+"/hooks"), 0o775))
			s.write(repo+"/hooks/post-receive", hook, 0o755)
			must(s, os.Link(s.path(repo+"/hooks/post-receive"), s.path(repo+"/hooks/post-receive.before-bluegreen")))
		}, want: slices.Concat([]string{"give /home/deploy/sample_app/hooks to root (0755)"}, hookLines("pre-receive", "proc-receive"),
			[]string{hookLines("post-receive")[0] + "; what is there now is kept as post-receive.before-bluegreen"})},
	}
}

func hookLines(names ...string) []string {
	var lines []string
	for _, name := range names {
		lines = append(lines, "link /home/deploy/sample_app/hooks/"+name+" to /usr/local/lib/bluegreen/"+name)
	}
	return lines
}

func settingSteps() []stepCase {
	set := func(s *server, settings ...string) {
		for i := 0; i < len(settings); i += 2 {
			s.git("config", "--file", repo+"/config", "--add", settings[i], settings[i+1])
		}
	}
	most := []string{"core.fsync", "all", "receive.fsckObjects", "yes", "receive.maxInputSize", "5m", "receive.advertisePushOptions", "1"}
	refs := func(want ...string) func(*server) {
		return func(s *server) {
			got := strings.Fields(s.git("config", "--file", repo+"/config", "--get-all", "receive.procReceiveRefs"))
			if slices.Sort(got); !slices.Equal(got, want) {
				s.Errorf("receive.procReceiveRefs is %q, want %q", got, want)
			}
		}
	}
	return []stepCase{
		{name: "none", step: "settings", want: []string{
			"run git config core.fsync all, in /home/deploy/sample_app",
			"run git config receive.fsckObjects true, in /home/deploy/sample_app",
			"run git config receive.maxInputSize 2g, in /home/deploy/sample_app",
			"run git config receive.advertisePushOptions true, in /home/deploy/sample_app",
			"run git config receive.procReceiveRefs refs/heads/master, refs/tags, in /home/deploy/sample_app",
		}, after: func(s *server) {
			refs("refs/heads/master", "refs/tags")(s)
			s.owned(accountIDs(), repo+"/config")
		}},
		{name: "as they should be, in other words", step: "settings", before: func(s *server, o *Options) {
			set(s, append(most, "receive.procReceiveRefs", "refs/tags", "receive.procReceiveRefs", "refs/heads/master")...)
		}},
		{name: "for another branch, and hooks elsewhere", step: "settings", before: func(s *server, o *Options) {
			set(s, append(most, "receive.procReceiveRefs", "refs/heads/master", "receive.procReceiveRefs", "refs/tags", "core.hooksPath", "my hooks")...)
			o.Branch = "main"
		}, want: []string{
			"run git config --unset-all core.hooksPath (it is my hooks), in /home/deploy/sample_app",
			"run git config receive.procReceiveRefs refs/heads/main, refs/tags (it is refs/heads/master, refs/tags), in /home/deploy/sample_app",
		}, after: refs("refs/heads/main", "refs/tags")},
		{name: "switched off, one of them twice", step: "settings", before: func(s *server, o *Options) {
			set(s, append(most, "receive.fsckObjects", "false", "receive.procReceiveRefs", "refs", "receive.procReceiveRefs", "refs")...)
		}, want: []string{
			"run git config receive.fsckObjects true (it is yes, false), in /home/deploy/sample_app",
			"run git config receive.procReceiveRefs refs/heads/master, refs/tags (it is refs, refs), in /home/deploy/sample_app",
		}, after: refs("refs/heads/master", "refs/tags")},
	}
}

func keySteps() []stepCase {
	const let = "let ann@laptop (SHA256:18fxwoMg2eOO4vXKKgoobGWGWt8wJq8WZPcSv7ERNd4) push, in /home/deploy/.ssh/authorized_keys"
	taken := []string{"give /home/deploy/.ssh to root (0755)", "give /home/deploy/.ssh/authorized_keys to root (0644)"}
	there := func(s *server, text string) {
		s.mkdir(home+"/.ssh", 0o700)
		s.write(keys, text, 0o600)
		s.give(home + "/.ssh")
	}
	holds := func(text string) func(*server) {
		return func(s *server) {
			if got := s.read(keys); got != text {
				s.Errorf("the keys are\n%swant\n%s", got, text)
			}
			s.is(keys, "0644")
			s.owned(rootID(), keys, home+"/.ssh")
		}
	}
	return []stepCase{
		{name: "none", step: "keys", want: []string{
			"make the directory /home/deploy/.ssh (root, 0755)", "write /home/deploy/.ssh/authorized_keys (root, 0644)", let,
		}, after: func(s *server) { holds(keyLine(s, "ann", repo) + "\n")(s) }},
		{name: "of others, which stay", step: "keys", before: func(s *server, o *Options) {
			there(s, "# ours\r\n"+publicKey("bob")) // no newline at its end
		}, want: append(slices.Clone(taken), let),
			after: func(s *server) { holds("# ours\r\n" + publicKey("bob") + "\n" + keyLine(s, "ann", repo) + "\n")(s) }},
		{name: "the same, which gives a shell", step: "keys", before: func(s *server, o *Options) {
			there(s, publicKey("bob")+"\nno-pty "+publicKey("ann")+" ann\n")
		}, want: append(slices.Clone(taken), let+", in the place of a line that gives a shell"),
			after: func(s *server) { holds(publicKey("bob") + "\n" + keyLine(s, "ann", repo) + "\n")(s) }},
		{name: "the same twice in the options", step: "keys", before: func(s *server, o *Options) { o.Keys = append(o.Keys, o.Keys[0]) },
			want: []string{"make the directory /home/deploy/.ssh (root, 0755)", "write /home/deploy/.ssh/authorized_keys (root, 0644)", let}},
		{name: "ours already, in files that the account has back", step: "keys", before: func(s *server, o *Options) {
			there(s, keyLine(s, "ann", repo)+"\n")
			o.Keys = nil
		}, want: taken},
		{name: "none of ours, and none asked for", step: "keys", before: func(s *server, o *Options) {
			there(s, publicKey("bob")+"\n")
			o.Keys = nil
		}, after: func(s *server) { s.is(keys, "0600") }},
	}
}

// TestAdoptedSettings has uninstall leave the settings as they were, which git
// writes in its own way.
func TestAdoptedSettings(t *testing.T) {
	t.Parallel()
	s := newServer(t).tutorial()
	list := func() string {
		lines := strings.Split(s.git("config", "--file", repo+"/config", "--list"), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	before := list()
	s.install(s.options())
	if list() == before {
		t.Fatal("install has set nothing")
	}
	s.uninstall()
	if got := list(); got != before {
		t.Errorf("the settings are\n%s\nwant\n%s", got, before)
	}
}
