package hooks_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"bluegreen/internal/gittest"
)

// TestBrokenSite deploys a site that answers 500: the push fails, nothing has
// changed, and the same push works once the site is mended.
func TestBrokenSite(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var files http.Handler
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			http.Error(w, "the database is\x1b[31m gone", http.StatusInternalServerError)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer site.Close()
	config := fmt.Sprintf("[[health]]\nname = \"home page\"\nurl = %q\nbody = \"version\"\nbody_file = \"page.html\"\ninterval = \"20s\"\nwithin = \"20s\"\n",
		site.URL+"/page.html")
	s := newServer(t, "", config, allHooks...)
	files = http.FileServer(http.Dir(s.www))

	one := s.commit(map[string]string{"page.html": "version one", "gone": "x", "dir/file": "x", "run": "#!"})
	s.pushed("master")
	s.holds(one)
	before, index := s.web(true), s.read("srv.git/index")

	broken.Store(true)
	s.must(os.Chmod(filepath.Join(s.dev, "run"), 0o755))
	two := s.commit(map[string]string{"page.html": "version two", "gone": "-", "dir": "a file now", "new/dir/file": "x"})
	status, out := s.push(nil, "master")
	if want := `! [remote rejected] master -> master ("home page" is not healthy: status 500, body "the database is\x1b[31m gone")`; status != 1 || !strings.Contains(out, want) {
		t.Errorf("git push: status %d, want 1 and %q\n%s", status, want, out)
	}
	if lines := remoteLines(out); !strings.HasPrefix(lines[len(lines)-1], `error: "home page" is not healthy: status 500`) {
		t.Errorf("the last line is %q", lines[len(lines)-1])
	}
	if d := diff(before, s.web(true)); d != "" {
		t.Errorf("the web root has changed:\n%s", d)
	}
	if s.read("srv.git/index") != index {
		t.Error("the index has changed")
	}
	if at := s.ref("refs/heads/master"); at != one {
		t.Errorf("master is at %s, want %s", at, one)
	}
	s.settled(one)
	event := s.last()
	if event["result"] != "failed" || event["commit"] != two || !strings.Contains(event["reason"].(string), "status 500") {
		t.Errorf("the history says %v", event)
	}

	broken.Store(false)
	s.pushed("master")
	s.holds(two)
	if event := s.last(); event["result"] != "succeeded" || event["previous"] != one {
		t.Errorf("the history says %v", event)
	}
}

func (s *server) read(path string) string {
	s.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, path))
	s.must(err)
	return string(data)
}

// asCheck is a configuration whose only check waits at the gate, when a push
// asks it.
func (g *gate) asCheck() string {
	return fmt.Sprintf("[[health]]\nname = \"slow\"\ncommand = [\"/bin/sh\", \"-c\", %q]\ntimeout = \"2m\"\nwithin = \"2m\"\n",
		`test -n "$BLUEGREEN_REF" || exit 0; `+g.Script)
}

// TestPusherKilled kills the pusher while a slow check runs: the deployment
// goes on to its end.
func TestPusherKilled(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{allHooks, {"post-receive"}} {
		for name, kill := range map[string]func(pid int) error{
			"SIGKILL to the client":            func(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) },
			"SIGINT to all of the terminal's":  func(pid int) error { return syscall.Kill(-pid, syscall.SIGINT) },
			"SIGHUP to all of the terminal's":  func(pid int) error { return syscall.Kill(-pid, syscall.SIGHUP) },
			"SIGPIPE to all of the terminal's": func(pid int) error { return syscall.Kill(-pid, syscall.SIGPIPE) },
		} {
			t.Run(fmt.Sprintf("%d hooks/%s", len(hooks), name), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, "", "", hooks...)
				s.commit(map[string]string{"page": "one", "gone": "x"})
				s.pushed("master")
				g := s.newGate()
				s.configure(g.asCheck())
				two := s.commit(map[string]string{"page": "two", "gone": "-"})

				push, out := s.start("master")
				g.wait()
				s.must(kill(push.Process.Pid))
				if _, err := push.Process.Wait(); err != nil {
					t.Fatal(err)
				}
				if !s.locked() {
					t.Error("the lock is free while the check runs")
				}
				g.pass()
				s.waitFree()
				push.Wait() // for out
				if at := s.ref("refs/heads/master"); at != two {
					t.Errorf("master is at %s, want %s\n%s", at, two, out)
				}
				s.holds(two)
				if event := s.last(); event["result"] != "succeeded" || event["commit"] != two {
					t.Errorf("the history says %v", event)
				}
				s.configure("")
				three := s.commit(map[string]string{"page": "three"})
				s.pushed("master")
				s.holds(three)
			})
		}
	}
}

// TestNobodyReads has a command write more than any pipe holds while the
// client is stopped: nothing waits for it.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{allHooks, {"post-receive"}} {
		t.Run(fmt.Sprintf("%d hooks", len(hooks)), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "", "", hooks...)
			s.commit(map[string]string{"page": "one"})
			s.pushed("master")
			g := s.newGate()
			s.configure(fmt.Sprintf("[[command]]\nrun = [\"/bin/sh\", \"-c\", %q]\ntimeout = \"2m\"\n",
				g.Script+`; i=0; while [ $i -lt 256 ]; do printf "%4095d\n" $i; i=$((i+1)); done`))
			two := s.commit(map[string]string{"page": "two"})
			push, _ := s.start("master")
			g.wait()
			s.must(push.Process.Signal(syscall.SIGSTOP))
			g.pass()
			s.waitFree()
			if at := s.ref("refs/heads/master"); at != two {
				t.Errorf("master is at %s, want %s", at, two)
			}
			if event := s.last(); event["result"] != "succeeded" || event["commit"] != two {
				t.Errorf("the history says %v", event)
			}
			s.must(push.Process.Kill())
			push.Process.Wait()
			s.holds(two)
		})
	}
}

// lostRace is what a pusher is told whom another one has overtaken: by us, or by
// git.
var lostRace = regexp.MustCompile(`has moved to [0-9a-f]{7} while this push was waiting|is at [0-9a-f]{7} now, and not at [0-9a-f]{7}: fetch first|` +
	`cannot lock ref|failed to update ref|remote ref updated since checkout|\(stale info\)|\(non-fast-forward\)|\(fetch first\)|incorrect old value provided`)

// TestPushersAtOnce has several developers push different commits at the same
// moment. One deployment follows the other, or is refused with a reason.
func TestPushersAtOnce(t *testing.T) {
	t.Parallel()
	const pushers = 8
	for _, hooks := range [][]string{allHooks, {"proc-receive"}, {"post-receive"}} {
		t.Run(strings.Join(hooks, ","), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "", "", hooks...)
			base := s.commit(map[string]string{"page": "base"})
			s.pushed("master")
			commits := make([]string, pushers)
			for i := range commits {
				s.run(s.dev, "git", "reset", "-q", "--hard", base)
				commits[i] = s.commit(map[string]string{"page": fmt.Sprint(i), fmt.Sprintf("file%d", i): "x", "dir/file": strings.Repeat("x", i)})
			}
			var wg sync.WaitGroup
			statuses := make([]int, pushers)
			for i, commit := range commits {
				force := ""
				if i%2 == 0 {
					force = "+" // what overwrites the others
				}
				wg.Go(func() {
					var out string
					statuses[i], out = s.push(nil, force+commit+":refs/heads/master")
					if statuses[i] != 0 && !lostRace.MatchString(out) {
						t.Errorf("pusher %d: status %d without a reason\n%s", i, statuses[i], out)
					}
				})
			}
			wg.Wait()
			at := s.ref("refs/heads/master")
			s.holds(at)
			deployed, refused := map[string]bool{}, 0
			var last string
			for _, e := range s.history()[1:] {
				switch e["result"] {
				case "succeeded":
					last = e["commit"].(string)
					deployed[last] = true
				case "refused":
					refused++
				default:
					t.Errorf("the history has %v", e)
				}
			}
			if last != at {
				t.Errorf("the last deployment was %s, and master is at %s", last, at)
			}
			for i, commit := range commits {
				if len(hooks) > 1 && deployed[commit] != (statuses[i] == 0) {
					t.Errorf("pusher %d: status %d, and deployed is %v", i, statuses[i], deployed[commit])
				}
			}
		})
	}
}

// TestLockHeld pushes while another deployment waits for its check.
func TestLockHeld(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	one := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	g := s.newGate()
	s.configure("lock_wait = \"0s\"\n" + g.asCheck())
	two := s.commit(map[string]string{"page": "two"})
	first, out := s.start("master")
	g.wait()

	three := s.commit(map[string]string{"page": "three"})
	status, second := s.push([]string{"BLUEGREEN_USER=grace"}, three+":refs/heads/master")
	held := regexp.MustCompile(`error: another deployment is running: ada, since \d\d:\d\d:\d\d, now checking \(process \d+\); waited 0s`)
	if status != 1 || !held.MatchString(second) {
		t.Errorf("a push while the lock is held: status %d, want 1 and %s\n%s", status, held, second)
	}
	if !strings.Contains(second, "hint: push again later, or wait longer: git push -o wait=5m") {
		t.Errorf("no hint:\n%s", second)
	}
	if event := s.last(); event["result"] != "refused" || event["commit"] != three || event["pusher"] != "grace" {
		t.Errorf("the history says %v", event)
	}
	status, text := s.status(nil, s.git, "bluegreen", "status", "--json")
	if status != 0 || !regexp.MustCompile(`"running": "another deployment is running: ada, since .*, now checking`).MatchString(text) {
		t.Errorf("bluegreen status: %d\n%s", status, text)
	}
	for _, command := range [][]string{{"recover"}, {"deploy", "master"}} {
		if status, text := s.status(nil, s.git, "bluegreen", command...); status != 1 || !strings.Contains(text, "another deployment is running: ada") {
			t.Errorf("bluegreen %s: %d\n%s", command[0], status, text)
		}
	}
	if at := s.ref("refs/heads/master"); at != one {
		t.Errorf("master is at %s, want %s", at, one)
	}

	// One that waits says so, once.
	status, second = s.push(nil, "-o", "wait=50ms", three+":refs/heads/master")
	if n := strings.Count(second, "remote: waiting: another deployment is running: ada"); status != 1 || n != 1 {
		t.Errorf("the push that waits says %d times that it waits:\n%s", n, second)
	}

	// One that waits long enough gets its turn, and finds that the branch has
	// moved on.
	waiting := s.command(s.dev, "git", "push", "-o", "wait=2m", "srv", three+":refs/heads/master")
	stderr, err := waiting.StderrPipe()
	s.must(err)
	s.must(waiting.Start())
	lines := bufio.NewScanner(stderr)
	var third string
	for lines.Scan() {
		if third += lines.Text() + "\n"; strings.Contains(lines.Text(), "remote: waiting: ") {
			g.pass()
		}
	}
	moved := regexp.MustCompile(`"refs/heads/master" (has moved to ` + two[:7] + ` while this push was waiting|is at ` + two[:7] + ` now, and not at ` + one[:7] + `: fetch first)`)
	if status := s.exitStatus(waiting.Wait()); status != 1 || !moved.MatchString(third) {
		t.Errorf("the push that waited: status %d\n%s", status, third)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first push: %v\n%s", err, out)
	}
	s.holds(two)
}

// TestLockHeldDropIn: with post-receive alone git has moved the ref before the lock
// is waited for, and pushing again would do nothing: the hint says what does.
func TestLockHeldDropIn(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "post-receive")
	s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	g := s.newGate()
	s.configure("lock_wait = \"0s\"\n" + g.asCheck() + "[promotion]\nprovider = \"command\"\nowner = [\"echo\", \"green\"]\nassign = [\"false\", \"{to}\"]\n")
	s.commit(map[string]string{"page": "two"})
	first, _ := s.start("master")
	g.wait()
	three := s.commit(map[string]string{"page": "three"})
	_, out := s.push(nil, "master")
	for _, want := range []string{"hint: when that is over, run \"bluegreen deploy master\" on the server",
		"error: " + three[:7] + " is not deployed, the web root is as it was: another deployment is running: ada"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
	if event := s.last(); event["result"] != "refused" || event["commit"] != three {
		t.Errorf("the history says %v", event)
	}
	_, out = s.push(nil, "HEAD:refs/tags/release-1")
	if !strings.Contains(out, "hint: git has stored the tag: run \"bluegreen promote\" on the server, or push a new tag") || !strings.Contains(out, "error: another deployment is running: ada") {
		t.Errorf("of the tag it says\n%s", out)
	}
	g.pass()
	first.Wait()
}

// TestSharedDirectory has two repositories deploy into one directory, which one
// of them knows by another name: one at a time.
func TestSharedDirectory(t *testing.T) {
	t.Parallel()
	a := newServer(t, "", "", allHooks...)
	b := newServer(t, "", "", allHooks...)
	b.www = filepath.Join(b.dir, "link")
	b.must(os.Symlink(a.www, b.www))
	g := a.newGate()
	a.configure(g.asCheck())
	b.configure("lock_wait = \"0s\"\n")
	a.commit(map[string]string{"page": "of a"})
	b.commit(map[string]string{"page": "of b"})
	push, out := a.start("master")
	g.wait()
	status, text := b.push(nil, "master")
	held := regexp.MustCompile(`error: another deployment is running: ada, since \d\d:\d\d:\d\d, now checking \(process \d+\)`)
	if status != 1 || !held.MatchString(text) {
		t.Errorf("a push to the other repository: status %d, want 1 and %s\n%s", status, held, text)
	}
	if content := a.read("www/page"); content != "of a" {
		t.Errorf("the page is %q", content)
	}
	g.pass()
	if err := push.Wait(); err != nil {
		t.Errorf("the first push: %v\n%s", err, out)
	}
	b.pushed("master")
	if content := a.read("www/page"); content != "of b" {
		t.Errorf("the page is %q", content)
	}
}

// holder returns the process that holds the lock, as the lock file says.
func (s *server) holder() int {
	s.Helper()
	var holder struct{ PID int }
	s.must(json.Unmarshal([]byte(s.read("srv.git/bluegreen/lock")), &holder))
	return holder.PID
}

// TestHolderKilled kills the hook that holds the lock while another push waits
// for it: the one that waits recovers, and goes on.
func TestHolderKilled(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{allHooks, {"post-receive"}} {
		t.Run(fmt.Sprintf("%d hooks", len(hooks)), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "", "", hooks...)
			one := s.commit(map[string]string{"page": "one"})
			s.pushed("master")
			g := s.newGate()
			s.configure("lock_wait = \"2m\"\n" + g.asCheck())
			two := s.commit(map[string]string{"page": "two", "new": "x"})
			first, out := s.start(two + ":refs/heads/master")
			g.wait()
			s.run(s.dev, "git", "reset", "-q", "--hard", one)
			three := s.commit(map[string]string{"page": "three"})
			waiting := s.command(s.dev, "git", "push", "srv", "+"+three+":refs/heads/master")
			stderr, err := waiting.StderrPipe()
			s.must(err)
			s.must(waiting.Start())
			var second string
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				second += lines.Text() + "\n"
				if strings.Contains(lines.Text(), "remote: waiting: ") {
					s.must(syscall.Kill(s.holder(), syscall.SIGKILL))
					g.pass() // whoever of the dead one's children waits there
					g.pass()
				}
			}
			if err := waiting.Wait(); err != nil {
				t.Errorf("the push that waited: %v\n%s", err, second)
			}
			if want := "remote: warning: the deployment of " + two[:7] + " that was interrupted at "; !strings.Contains(second, want) {
				t.Errorf("the push that waited does not say %q:\n%s", want, second)
			}
			if err := first.Wait(); (err == nil) != (len(hooks) == 1) {
				t.Errorf("the push whose hook was killed: %v\n%s", err, out)
			}
			s.holds(three)
			if at := s.ref("refs/heads/master"); at != three {
				t.Errorf("master is at %s, want %s", at, three)
			}
		})
	}
}

// TestShutdown sends a deployment the signals that ask it to end: it goes back.
func TestShutdown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		hooks  []string
		signal syscall.Signal
		argv   []string // instead of a push
	}{
		{"proc-receive", allHooks, syscall.SIGTERM, nil},
		{"post-receive", []string{"post-receive"}, syscall.SIGTERM, nil},
		{"bluegreen deploy, SIGTERM", allHooks, syscall.SIGTERM, []string{"bluegreen", "deploy", "side"}},
		{"bluegreen deploy, SIGINT", allHooks, syscall.SIGINT, []string{"bluegreen", "deploy", "side"}},
		{"bluegreen deploy, SIGHUP", allHooks, syscall.SIGHUP, []string{"bluegreen", "deploy", "side"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "", "", c.hooks...)
			one := s.commit(map[string]string{"page": "one"})
			s.pushed("master")
			two := s.commit(map[string]string{"page": "two", "new": "x"})
			s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
			before := s.web(true)
			g := s.newGate()
			s.configure(fmt.Sprintf("[[command]]\nrun = [\"/bin/sh\", \"-c\", %q]\n", g.Script))
			cmd := s.command(s.dev, "git", "push", "srv", "master")
			if c.argv != nil {
				cmd = s.command(s.git, c.argv[0], c.argv[1:]...)
			}
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			s.must(cmd.Start())
			g.wait()
			s.must(syscall.Kill(s.holder(), c.signal))
			status := s.exitStatus(cmd.Wait())
			if want := map[bool]int{true: 0, false: 1}[len(c.hooks) == 1]; status != want {
				t.Errorf("status %d, want %d\n%s", status, want, out.String())
			}
			if !strings.Contains(out.String(), "error: ") {
				t.Errorf("no error:\n%s", out.String())
			}
			s.settled(one)
			if d := diff(before, s.web(true)); d != "" {
				t.Errorf("the web root has changed:\n%s", d)
			}
			if event := s.last(); event["result"] != "failed" || event["commit"] != two {
				t.Errorf("the history says %v", event)
			}
		})
	}
}

// TestOvertaken has a second push deploy between the proc-receive and the
// post-receive of a first one: the first was deployed, and is told so.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	g := s.newGate()
	update := "#!/bin/sh\ntest \"$1\" = refs/heads/slow || exit 0\n" + g.Script + "\n"
	gittest.Script(s, filepath.Join(s.git, "hooks/update"), update)
	two := s.commit(map[string]string{"page": "two"})
	first, out := s.start("master", "master:slow")
	g.wait() // after proc-receive, before post-receive
	s.holds(two)
	three := s.commit(map[string]string{"page": "three"})
	s.pushed("master")
	g.pass()
	if err := first.Wait(); err != nil {
		t.Errorf("the first push: %v\n%s", err, out)
	}
	if !strings.Contains(out.String(), "success: "+two[:7]+" is deployed") || strings.Contains(out.String(), "was not deployed") {
		t.Errorf("the first push says\n%s", out)
	}
	s.holds(three)
	if n := len(s.history()); n != 3 {
		t.Errorf("the history has %d events, want 3", n)
	}
}

// TestOperatorBetween has the operator deploy something else between the
// proc-receive and the post-receive of a push: that stays.
func TestOperatorBetween(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	one := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	g := s.newGate()
	update := "#!/bin/sh\ntest \"$1\" = refs/heads/slow || exit 0\n" + g.Script + "\n"
	gittest.Script(s, filepath.Join(s.git, "hooks/update"), update)
	s.commit(map[string]string{"page": "two"})
	push, out := s.start("master", "master:slow")
	g.wait()
	s.run(s.git, "bluegreen", "deploy", one)
	g.pass()
	if err := push.Wait(); err != nil {
		t.Errorf("the push: %v\n%s", err, out)
	}
	s.holds(one)
}

// TestForeignRepository has somebody operate on a repository that belongs to
// another account, whose next push their files would stop. Root becomes that
// account; see TestRoot.
func TestForeignRepository(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("needs an ordinary user")
	}
	s := newServer(t, "", "")
	for _, command := range [][]string{{"deploy", "master"}, {"promote"}, {"rollback"}, {"recover"}} {
		status, out := s.status(nil, s.dir, "bluegreen", append([]string{"--repo", "/"}, command...)...)
		if status != 1 || !strings.Contains(out, "error: the repository belongs to root") || !strings.Contains(out, "hint: sudo -u root bluegreen --repo / ") {
			t.Errorf("bluegreen %s: status %d\n%s", command[0], status, out)
		}
	}
}

// TestOddPaths deploys from and to directories whose names a shell, TOML or
// git would like to understand.
func TestOddPaths(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	odd := filepath.Join(s.dir, "it's $HOME; \"a b\" %s ü")
	s.must(os.Mkdir(odd, 0o755))
	s.must(os.Rename(s.git, filepath.Join(odd, "srv.git")))
	s.must(os.Rename(s.www, filepath.Join(odd, "-www")))
	s.git, s.www = filepath.Join(odd, "srv.git"), filepath.Join(odd, "-www")
	s.run(s.dev, "git", "remote", "set-url", "srv", s.git)
	s.configure("[[command]]\nrun = [\"/bin/sh\", \"-c\", \"pwd\"]\n")
	one := s.commit(map[string]string{"page": "one", "-rf": "x", "$(id)": "x", "a b/'c'": "x", "*": "x", "%0a": "x", ":(top)x": "x", "ü": "x", "\xff": "x"})
	s.pushed("master")
	s.holds(one)
	two := s.commit(map[string]string{"page": "two", "-rf": "-", "*": "-", "a b/'c'": "y"})
	s.pushed("master")
	s.holds(two)
	s.run(s.git, "bluegreen", "deploy", "master~1")
	s.holds(one)
}
