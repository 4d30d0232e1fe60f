//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const (
	bluePublic, blueAnchor, bluePrivate    = "198.51.100.10", "10.17.0.10", "10.132.0.10"
	greenPublic, greenAnchor, greenPrivate = "198.51.100.11", "10.17.0.11", "10.132.0.11"
	dropletGateway                         = "198.51.100.1"
	developerIP, developerGateway          = "192.0.2.20", "192.0.2.1"
)

const (
	repository = "/home/deploy/sample_app"
	webRoot    = "/var/www/html"
	// unpacked is where the programs of a release lie before they are installed,
	// beside the key and the token.
	unpacked = "/root"
	// trustedCertificates is where programs look for authorities on Debian.
	trustedCertificates = "/etc/ssl/certs/ca-certificates.crt"
)

// ann is the developer, and mallory another one, who may push and wants more.
var (
	ann     = account{name: "ann", uid: 4711, gid: 4711, home: "/home/ann"}
	mallory = account{name: "mallory", uid: 4712, gid: 4712, home: "/home/mallory"}
)

// A story is what happens on the hosts.
type story struct {
	testing.TB
	*cloud
	*figures
	debian
	blue, green, dev *host
	programs         string // directory
	production       *visitors
	commits          map[string]string // by version
}

// newStory makes two bare servers, blue for Apache and green for any web server,
// a developers' machine with their accounts and keys, and a first commit.
func newStory(t testing.TB, programs string, d debian, f *figures, web string) *story {
	t.Helper()
	s := &story{TB: t, programs: programs, debian: d, figures: f, cloud: newCloud(t), commits: make(map[string]string)}
	trusted, err := os.ReadFile(trustedCertificates)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	files := map[string]string{
		"/etc/hosts": fmt.Sprintf("127.0.0.1 localhost\n%s blue\n%s green\n%s dev\n%s %s\n",
			bluePublic, greenPublic, developerIP, apiIP, apiName),
		"/etc/resolv.conf":  "", // there is no internet
		trustedCertificates: string(trusted) + s.authority,
	}
	s.blue = newHost(t, host{name: "blue", public: bluePublic, droplet: []string{blueAnchor, bluePrivate},
		gateway: dropletGateway, web: "apache", lower: d.layers}, files)
	s.green = newHost(t, host{name: "green", public: greenPublic, droplet: []string{greenAnchor, greenPrivate},
		gateway: dropletGateway, web: web, lower: d.layers}, files)
	s.dev = newHost(t, host{name: "dev", public: developerIP, gateway: developerGateway}, files)
	for _, developer := range []account{ann, mallory} {
		s.hire(developer)
	}
	for _, server := range s.servers() {
		server.write("/root/token", token+"\n", 0o600)
		server.write("/root/ann.pub", s.dev.sh("cat /home/ann/.ssh/id_ed25519.pub"), 0o644)
		server.write("/root/mallory.pub", s.dev.sh("cat /home/mallory/.ssh/id_ed25519.pub"), 0o644)
		s.unpack(server, s.programs, unpacked)
	}
	s.dev.must(ann, "git", "init", "--quiet", "--initial-branch=master", "sample_app")
	s.release("version-1")
	return s
}

func (s *story) servers() []*host { return []*host{s.blue, s.green} }

// hire makes a developer's account, with a key that no passphrase protects.
func (s *story) hire(who account) {
	s.Helper()
	s.dev.sh(fmt.Sprintf("useradd --uid %d --create-home --shell /bin/bash %s", who.uid, who.name))
	s.dev.must(who, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who.name+"@laptop", "-f", who.home+"/.ssh/id_ed25519")
	s.dev.must(who, "sh", "-euc", `cat >.ssh/config <<'END'
BatchMode yes
StrictHostKeyChecking accept-new
ServerAliveInterval 1
ServerAliveCountMax 3
END
git config --global user.name "$USER"
git config --global user.email "$USER@example.com"`)
}

// build builds the programs.
func build(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", dir+"/",
		"./hooks/pre-receive", "./hooks/proc-receive", "./hooks/post-receive", "./install/bluegreen")
	c.Dir = "../.."
	c.Env = append(c.Environ(), "CGO_ENABLED=0")
	if status, out := finished(t, c); status != 0 {
		t.Fatalf("building: %s", out)
	}
	return dir
}

// unpack puts programs on a server, as unpacking a tarball does.
func (s *story) unpack(server *host, programs, dir string) {
	s.Helper()
	server.sh("mkdir -p " + dir)
	must(s, piped("", "sh", "-euc", `cp -- "$1"/* "$2"`, "sh", programs, server.path(dir)))
}

// git runs git in the developer's work tree.
func (s *story) git(args ...string) string {
	s.Helper()
	status, out := s.try(args...)
	if status != 0 {
		s.Fatalf("git %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
	return out
}

// try is git where failing is an answer, too.
func (s *story) try(args ...string) (status int, out string) {
	s.Helper()
	status, out = s.dev.run(ann, append([]string{"git", "-C", "sample_app"}, args...)...)
	s.hidden(out)
	return status, out
}

// ssh runs what ann types after "ssh deploy@SERVER".
func (s *story) ssh(server *host, line string) (status int, out string) {
	s.Helper()
	status, out = s.dev.run(ann, "ssh", "deploy@"+server.name, line)
	s.hidden(out)
	return status, out
}

// hidden fails if the token can be read in a text.
func (s *story) hidden(text string) {
	s.Helper()
	if strings.Contains(text, token) {
		s.Errorf("the token is shown:\n%s", text)
	}
}

// release commits a version of the site: a page that says twice what it is, a
// style sheet that says it once, and a hundred pages more.
func (s *story) release(version string) {
	s.Helper()
	s.dev.must(ann, "sh", "-euc", `cd sample_app
mkdir -p pages
printf '<!doctype html><!-- %s --><title>App</title>\n' "$1" >index.html
i=0; while [ $i -lt 500 ]; do echo '<p>One of many lines of a page that takes a while to send.</p>'; i=$((i+1)); done >>index.html
printf '<!-- %s -->\n' "$1" >>index.html
printf '/* %s */\n' "$1" >style.css
i=0; while [ $i -lt 100 ]; do echo "$1" >pages/$i.html; i=$((i+1)); done
git add --all
git commit --quiet --message "$1"`, "sh", version)
	s.commits[version] = strings.TrimSpace(s.git("rev-parse", "HEAD"))
}

// pushed is a push that has to succeed. It returns when it began.
func (s *story) pushed(args ...string) time.Time {
	s.Helper()
	began := time.Now()
	out := s.git(append([]string{"push"}, args...)...)
	took := time.Since(began)
	s.Logf("$ git push %s    # %.2f s\n%s", strings.Join(args, " "), took.Seconds(), indent(out))
	s.succeeded(out, 1)
	return began
}

// refused is a push that has to fail, with a reason.
func (s *story) refused(reason string, args ...string) {
	s.Helper()
	status, out := s.try(append([]string{"push"}, args...)...)
	s.Logf("$ git push %s\n%s", strings.Join(args, " "), indent(out))
	if status == 0 || !strings.Contains(out, reason) {
		s.Errorf("git push %s: status %d, want it refused with %q", strings.Join(args, " "), status, reason)
	}
}

// succeeded checks that the hooks have ended a number of pushes with success.
func (s *story) succeeded(out string, pushes int) {
	s.Helper()
	if n := strings.Count("\n"+screen(out), "\nremote: success: "); n != pushes {
		s.Errorf("%d of %d pushes end with success:\n%s", n, pushes, indent(out))
	}
}

// undisturbed holds what production's visitors have seen since a moment against
// what they were promised, and adds it to the table, with what took how long.
func (s *story) undisturbed(what string, took time.Duration, since time.Time) {
	s.Helper()
	s.unharmed(s.production, what, took, since)
}

// unharmed is undisturbed for any visitors.
func (s *story) unharmed(who *visitors, what string, took time.Duration, since time.Time) {
	s.Helper()
	if seen := s.answered(who, what, took, since); seen.mixed > 0 {
		s.Errorf("%s: %s answered %s", what, who.name, seen)
	}
}

// answered adds to the table what visitors have seen of a server, and checks that
// it has always answered. One that is deployed to may answer with an old style
// sheet to a new page: files are replaced one by one.
func (s *story) answered(who *visitors, what string, took time.Duration, since time.Time) *count {
	s.Helper()
	seen := new(count)
	seen.add(who.since(since))
	s.figures.add(what, took, seen)
	if seen.requests == 0 || seen.lost > 0 {
		s.Errorf("%s: %s answered %s", what, who.name, seen)
	}
	return seen
}

// wholly checks that the web root of a server is exactly one version.
func (s *story) wholly(server *host, version string) {
	s.Helper()
	status, out := server.run(root, "runuser", "-u", "deploy", "--", "git", "--git-dir="+repository, "--work-tree="+webRoot,
		"diff", "--stat", s.commits[version], "--")
	if status != 0 || strings.TrimSpace(out) != "" {
		s.Errorf("the web root of %s is not %s: status %d\n%s", server.name, version, status, out)
	}
	if out := server.sh("cd " + webRoot + "; cat pages/*.html | sort | uniq -c"); strings.Join(strings.Fields(out), " ") != "100 "+version {
		s.Errorf("the pages of %s are not %s: %s", server.name, version, out)
	}
}
