//go:build e2e

package e2e_test

import (
	"encoding/json"
	"strings"
	"time"
)

// operate asks the operator's questions over ssh.
func (s *story) operate() {
	s.Helper()
	for _, question := range []struct{ line, want string }{
		{"bluegreen status", "blue"},
		{"bluegreen history", "release-2"},
		{"bluegreen check", "healthy"},
		{"bluegreen plan", "0 to delete"},
	} {
		status, out := s.ssh(s.blue, question.line)
		s.Logf("$ ssh deploy@blue %s\n%s", question.line, indent(out))
		if status != 0 || !strings.Contains(out, question.want) {
			s.Errorf("%s: status %d, want %q in it", question.line, status, question.want)
		}
	}
	_, out := s.ssh(s.blue, "bluegreen status --json")
	var facts struct {
		Environment, Commit string
		Live, Healthy       bool
		Drift               []string
	}
	if err := json.Unmarshal([]byte(out), &facts); err != nil {
		s.Fatalf("bluegreen status --json: %v\n%s", err, out)
	}
	if facts.Environment != "blue" || facts.Commit != s.commits["version-2"] || !facts.Live || !facts.Healthy || len(facts.Drift) > 0 {
		s.Errorf("bluegreen status --json on blue: %+v", facts)
	}
	_, out = s.ssh(s.blue, "bluegreen history --json")
	var events []struct{ Event, Pusher, Result string }
	if err := json.Unmarshal([]byte(out), &events); err != nil {
		s.Fatalf("bluegreen history --json: %v\n%s", err, out)
	}
	for _, e := range events {
		if e.Pusher != "ann@laptop" {
			s.Errorf("the history does not tell who pushed: %+v", e)
		}
	}
}

// failing pushes a release that is not healthy to green, and mends it.
func (s *story) failing() {
	s.Helper()
	s.configure(s.green, `
[[health]]
name   = "the word"
url    = "http://127.0.0.1/pages/0.html"
body   = "version-"
within = "2s"
`)
	began := time.Now()
	s.release("sorry")
	s.refused(`"the word" is not healthy`, "green", "master")
	s.wholly(s.green, "version-1")
	s.release("version-3")
	s.pushed("green", "master")
	s.wholly(s.green, "version-3")
	s.undisturbed("a release that fails on the idle server", 0, began)
}

// configure appends to a server's configuration, as its operator would.
func (s *story) configure(server *host, text string) {
	s.Helper()
	server.sh("cat >>" + repository + "/bluegreen.toml <<'END'" + text + "END")
}

// doctor finds nothing, then what was broken, and mends it.
func (s *story) doctor() {
	s.Helper()
	examine := func(want int, args ...string) string {
		s.Helper()
		argv := append([]string{"bluegreen", "--repo", repository, "doctor"}, args...)
		status, out := s.blue.run(root, argv...)
		s.hidden(out)
		s.Logf("root@blue# %s\n%s", strings.Join(argv, " "), indent(out))
		if status != want {
			s.Errorf("%q: status %d, want %d", argv, status, want)
		}
		return out
	}
	examine(0)
	s.blue.sh("chmod 644 /etc/bluegreen/token; git config --file " + repository + "/config --unset-all receive.procReceiveRefs")
	if out := examine(1); !strings.Contains(out, "/etc/bluegreen/token") || !strings.Contains(out, "procReceiveRefs") {
		s.Error("doctor does not find what is broken")
	}
	examine(0, "--fix")
	examine(0)
}

// uninstall leaves green's site and repository, and takes the rest.
func (s *story) uninstall() {
	s.Helper()
	began := time.Now()
	version := s.production.last().version
	status, out := s.blue.run(root, "bluegreen", "--repo", repository, "uninstall")
	s.Logf("root@blue# bluegreen uninstall\n%s", indent(out))
	if status != 0 {
		s.Fatalf("uninstall: status %d", status)
	}
	s.wholly(s.blue, "version-2")
	for _, gone := range []string{
		repository + "/hooks/pre-receive", repository + "/hooks/proc-receive", repository + "/hooks/post-receive",
		"/usr/local/bin/bluegreen", "/usr/local/lib/bluegreen", "/etc/systemd/system/multi-user.target.wants/bluegreen-recover-sample_app.service",
	} {
		if status, _ := s.blue.run(root, "test", "-e", gone); status == 0 {
			s.Errorf("uninstall has left %s", gone)
		}
	}
	s.production.first(version, time.Now())
	s.undisturbed("uninstall on the other server", 0, began)
}

// secrets looks for the token where it must not be.
func (s *story) secrets() {
	s.Helper()
	for _, server := range s.servers() {
		_, out := server.run(root, "grep", "-rlF", token, "/etc", "/home", "/var", "/root", "/run")
		for path := range strings.Lines(out) {
			switch path = strings.TrimSpace(path); path {
			case "/etc/bluegreen/token", "/root/token":
			default:
				s.Errorf("the token is in %s on %s", path, server.name)
			}
		}
	}
}
