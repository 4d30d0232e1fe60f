//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// pushersKey tries what a key that may push must not do: each is refused.
func (s *story) pushersKey() {
	s.Helper()
	if said := s.asRoot(s.blue, "./bluegreen install --key mallory.pub"); !strings.Contains(said, "success: 1 change made") {
		s.Error("a key is not added alone")
	}
	s.blue.sh(`runuser -u deploy -- git init --quiet --bare /home/deploy/other
runuser -u deploy -- git init --quiet --bare /home/deploy/sample_app2
echo stranger >/home/deploy/diary; chown deploy: /home/deploy/diary`)
	before := s.written(s.blue)
	said := s.tryAll()
	for i, try := range tries {
		status, out := said[i].status, said[i].out
		s.hidden(out)
		reason, _, _ := strings.Cut(strings.TrimSpace(out), ": this key may")
		s.Logf("%s: mallory$ %s    # status %d\n%s", try.what, try.line, status, indent(reason))
		if status == 0 || status == 124 {
			s.Errorf("%s: %s was not refused: status %d", try.what, try.line, status)
		}
		for _, sign := range []string{"uid=", "stranger", "root:x:", "HTTP/1", "Listening", "deploy@blue:~$"} {
			if strings.Contains(out, sign) {
				s.Errorf("%s: %s gives %q", try.what, try.line, sign)
			}
		}
	}
	after := s.written(s.blue)
	for _, path := range differences(before, after) {
		if !strings.HasPrefix(path, repository+"/bluegreen/") { // refusals are in the history
			s.Errorf("a try has changed %s", path)
		}
	}
	s.account()
}

// An outcome is what became of a try.
type outcome struct {
	status int
	out    string
}

// tryAll runs all tries, some at once: each has its own connection.
func (s *story) tryAll() []outcome {
	said := make([]outcome, len(tries))
	turns := make(chan struct{}, 4)
	var running sync.WaitGroup
	for i, try := range tries {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c := s.dev.command(ctx, mallory, "timeout", "20", "sh", "-uc", try.line)
			out, err := c.CombinedOutput()
			said[i] = outcome{c.ProcessState.ExitCode(), string(out)}
			if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
				s.Errorf("%s: %v", try.line, err)
			}
		})
	}
	running.Wait()
	return said
}

// A try is one of mallory's, as a line of shell.
var tries = []struct{ what, line string }{
	{"a shell", `echo id | ssh -T deploy@blue`},
	{"a shell", `ssh deploy@blue id`},
	{"a shell", `ssh deploy@blue sh -c id`},
	{"a shell", `ssh deploy@blue 'bluegreen status; id'`},
	{"a shell", `ssh deploy@blue 'bluegreen status $(id)' && exit 0; ssh deploy@blue 'bluegreen status && id'`},
	{"a shell", `ssh deploy@blue "git-upload-pack 'sample_app'; id"`},
	{"a shell", `ssh deploy@blue git-shell -c id`},
	{"a shell", `ssh -s deploy@blue shell`},
	{"a terminal", `ssh -tt deploy@blue </dev/null`},
	{"a terminal", `ssh -tt deploy@blue bash </dev/null`},
	{"forwarding", `printf 'GET / HTTP/1.0\r\n\r\n' | ssh -W 127.0.0.1:80 deploy@blue`},
	{"forwarding", `ssh -N -o ExitOnForwardFailure=yes -R 9999:127.0.0.1:22 deploy@blue`},
	{"forwarding", `ssh -N -o ExitOnForwardFailure=yes -w 0:0 deploy@blue`},
	{"files", `echo x >x; scp x deploy@blue:x`},
	{"files", `echo x >x; scp -O x deploy@blue:x`},
	{"files", `scp deploy@blue:diary .`},
	{"files", `scp -O deploy@blue:diary .`},
	{"files", `echo ls | sftp -b - deploy@blue`},
	{"the token", `ssh deploy@blue cat /etc/bluegreen/token`},
	{"the token", `scp -O deploy@blue:/etc/bluegreen/token .`},
	{"the token", `ssh deploy@blue bluegreen --repo /etc/bluegreen status`},
	{"another repository", `git clone deploy@blue:other stolen1`},
	{"another repository", `git clone deploy@blue:/home/deploy/other stolen2`},
	{"another repository", `git clone deploy@blue:sample_app2 stolen3`},
	{"another repository", `git clone deploy@blue:sample_app/../other stolen4`},
	{"another repository", `ssh deploy@blue "git-upload-pack '/home/deploy/other'" </dev/null`},
	{"another repository", `ssh deploy@blue "git-receive-pack --http-backend-info-refs 'other'" </dev/null`},
	{"another repository", `ssh deploy@blue bluegreen --repo other status`},
	{"hooks", `echo x >x; ssh deploy@blue 'cat >sample_app/hooks/pre-receive' <x`},
	{"hooks", `echo x >x; scp -O x deploy@blue:sample_app/hooks/pre-receive`},
	{"hooks", `ssh deploy@blue git config core.hooksPath /tmp`},
	{"hooks", `ssh deploy@blue git -C sample_app config core.hooksPath /tmp`},
	{"configuration", `echo x >x; ssh deploy@blue 'tee sample_app/bluegreen.toml' <x`},
	{"configuration", `echo x >x; scp x deploy@blue:sample_app/bluegreen.toml`},
	{"what only operators on the server do", `ssh deploy@blue bluegreen install`},
	{"what only operators on the server do", `ssh deploy@blue bluegreen uninstall`},
	{"what only operators on the server do", `ssh deploy@blue bluegreen deploy HEAD`},
	{"what only operators on the server do", `ssh deploy@blue bluegreen doctor --fix`},
	{"more keys", `ssh deploy@blue 'cat >>.ssh/authorized_keys' <.ssh/id_ed25519.pub`},
	{"the password", `ssh -o BatchMode=no -o PreferredAuthentications=password,keyboard-interactive -o NumberOfPasswordPrompts=0 deploy@blue id`},
	{"another account", `ssh root@blue id`},
	{"deletion", `git init --quiet m; git -C m push deploy@blue:sample_app :master`},
	{"a tree that leaves the web root", `git init --quiet n && cd n && git fetch --quiet deploy@blue:sample_app master && git checkout --quiet FETCH_HEAD &&
	ln -s /etc/passwd passwd && git add . && git commit --quiet -m x && git push -o live deploy@blue:sample_app HEAD:master`},
}

// account tries what the account itself must not do, also if a command of the
// configuration is led astray: only root writes programs, configuration and
// keys.
func (s *story) account() {
	s.Helper()
	for _, path := range []string{
		"/usr/local/lib/bluegreen/pre-receive", "/usr/local/bin/bluegreen", repository + "/hooks/pre-receive",
		repository + "/hooks/new", repository + "/bluegreen.toml", "/home/deploy/.ssh/authorized_keys", "/etc/bluegreen/other",
		"/etc/systemd/system/bluegreen-recover-sample_app.service",
	} {
		status, out := s.blue.run(root, "runuser", "-u", "deploy", "--", "sh", "-c", `echo x >>"$1"`, "sh", path)
		if status == 0 {
			s.Errorf("the account may write %s\n%s", path, out)
		}
	}
	status, out := s.blue.run(root, "runuser", "-u", "deploy", "--", "sudo", "-n", "id")
	if status == 0 || strings.Contains(out, "uid=0") {
		s.Errorf("the account may become root:\n%s", out)
	}
	s.production.first("version-2", time.Now())
}
