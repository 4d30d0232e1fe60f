//go:build e2e

package nginx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

// programs are what the stories need of the machine and of this module.
type programs struct {
	nginx string
	bin   string // the directory of the hooks and of bluegreen
}

func build(t *testing.T) programs {
	t.Helper()
	// Debian has it where ordinary users do not look.
	must(t, os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin"))
	p := programs{bin: t.TempDir()}
	for _, program := range []string{"nginx", "curl", "flock"} {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatalf("%v: apt-get install nginx-light curl util-linux", err)
		}
		if program == "nginx" {
			p.nginx = path
		}
	}
	cmd := exec.Command("go", "build", "-o", p.bin, "bluegreen/hooks/...", "bluegreen/install/bluegreen")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A server is a machine as the README describes it, in a directory: nginx with
// the files of this example, a bare repository for each environment, and a
// developer. Green has the traffic.
type server struct {
	testing.TB
	programs
	dir string
	env []string
	// The addresses of the visitors' side, of where nginx tells what it has
	// loaded, and of the environments.
	proxy, tell, blue, green string
}

func newServer(t testing.TB, p programs) *server {
	t.Helper()
	s := &server{TB: t, programs: p, dir: gittest.Dir(t)}
	for _, dir := range []string{"bluegreen", "www/blue", "www/green", "home"} {
		must(t, os.MkdirAll(s.path(dir), 0o755))
	}
	s.env = append(gittest.Environ(), "HOME="+s.path("home"), "TMPDIR="+s.path("home"), "BLUEGREEN_USER=ada")
	// Stands before nginx, so that a story can do something at a moment of its
	// choice.
	s.write("nginx", fmt.Sprintf(`#!/bin/sh
case " $* " in
*" -t "*) moment=test ;;
*" -s reload "*) moment=reload ;;
esac
at() { [ ! -f "%[1]s/$1-$moment" ] || . "%[1]s/$1-$moment"; }
at before
%[2]q "$@"
status=$?
at after
exit $status
`, s.dir, p.nginx))
	must(t, os.Chmod(s.path("nginx"), 0o755))
	must(t, os.Symlink("green.conf", s.path("bluegreen/live.conf")))
	s.startNginx()
	return s
}

func (s *server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *server) write(name, text string) {
	s.Helper()
	must(s, os.WriteFile(s.path(name), []byte(text), 0o644))
}

func (s *server) read(name string) string {
	s.Helper()
	data, err := os.ReadFile(s.path(name))
	must(s, err)
	return string(data)
}

// shipped is a file of this example, with other places: pairs of what stands in
// the file, and must, and what takes its place.
func (s *server) shipped(name string, places ...string) string {
	s.Helper()
	data, err := os.ReadFile(name)
	must(s, err)
	for pair := range slices.Chunk(places, 2) {
		if !strings.Contains(string(data), pair[0]) {
			s.Fatalf("%s has no %q", name, pair[0])
		}
	}
	return strings.NewReplacer(places...).Replace(string(data))
}

// startNginx starts nginx, not as the system's, on ports that were free a
// moment before.
func (s *server) startNginx() {
	s.Helper()
	for range 5 {
		s.proxy, s.tell, s.blue, s.green = s.free(), s.free(), s.free(), s.free()
		s.write("bluegreen/blue.conf", s.shipped("blue.conf", "127.0.0.1:8081", s.blue, "127.0.0.1:8079", s.tell))
		s.write("bluegreen/green.conf", s.shipped("green.conf", "127.0.0.1:8082", s.green, "127.0.0.1:8079", s.tell))
		s.write("bluegreen.conf", s.shipped("nginx.conf", "/etc/nginx/bluegreen", s.path("bluegreen"), "listen 80;", "listen "+s.proxy+";",
			"127.0.0.1:8081", s.blue, "127.0.0.1:8082", s.green, "/var/www", s.path("www")))
		s.write("nginx.conf", s.mainConfiguration())
		if s.nginxRuns() {
			return
		}
		if !strings.Contains(s.read("error.log"), "Address already in use") {
			break
		}
	}
	s.Fatalf("nginx does not start:\n%s", s.read("error.log"))
}

func (s *server) free() string {
	s.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(s, err)
	defer l.Close()
	return l.Addr().String()
}

// mainConfiguration is what Debian's /etc/nginx/nginx.conf would be, below the
// server's directory.
func (s *server) mainConfiguration() string {
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the directories of a test are for the account that runs it
	}
	text := fmt.Sprintf("%sdaemon off;\nworker_processes 2;\npid %[2]s/nginx.pid;\nerror_log %[2]s/error.log;\nevents { worker_connections 256; }\n"+
		"http {\naccess_log off;\n", user, s.dir)
	for _, module := range []string{"client_body", "proxy", "fastcgi", "scgi", "uwsgi"} {
		text += fmt.Sprintf("%s_temp_path %s/temp-%s;\n", module, s.dir, module)
	}
	return text + fmt.Sprintf("include %s/bluegreen.conf;\n}\n", s.dir)
}

func (s *server) nginxRuns() bool {
	s.Helper()
	cmd := exec.Command(s.programs.nginx, "-c", s.path("nginx.conf"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(s, cmd.Start())
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	s.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM) // it takes its workers with it
		select {
		case <-ended:
		case <-time.After(patience):
			cmd.Process.Kill()
			s.Errorf("nginx does not end:\n%s", &out)
		}
		if s.Failed() {
			s.Logf("nginx:\n%s%s", &out, s.read("error.log"))
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-ended:
			return false
		case <-tick.C:
			if body, err := get(http.DefaultTransport, "http://"+s.tell+"/"); err == nil && body == "green" {
				return true
			}
		}
	}
	return false
}

// get returns the body of an answer that must be a 200, without its line end.
func get(transport http.RoundTripper, url string) (string, error) {
	client := http.Client{Transport: transport, Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// until waits for what can be seen only by looking.
func (s *server) until(what string, is func() bool) {
	s.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(deadline) {
			s.Fatalf("%s: not after %s", what, patience)
		}
	}
}

// page is what visitors see.
func (s *server) page() string {
	s.Helper()
	body, err := get(&http.Transport{DisableKeepAlives: true}, "http://"+s.proxy+"/")
	must(s, err)
	return body
}

// argv is the script with the places of this server.
func (s *server) argv(more ...string) []string {
	s.Helper()
	script, err := filepath.Abs("traffic")
	must(s, err)
	return append([]string{"/usr/bin/env", "TRAFFIC_DIR=" + s.path("bluegreen"), "TRAFFIC_NGINX=" + s.path("nginx"),
		"TRAFFIC_CONF=" + s.path("nginx.conf"), "TRAFFIC_URL=http://" + s.tell + "/", "TRAFFIC_PATIENCE=10", script}, more...)
}

// traffic runs the script in a process group of its own, as the hooks do, and
// returns its exit status, -1 for a signal, and what it printed.
func (s *server) traffic(args ...string) (status int, stdout, stderr string) {
	s.Helper()
	return s.run(s.dir, s.argv(args...)...)
}

func (s *server) run(dir string, argv ...string) (status int, stdout, stderr string) {
	s.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// serves checks that an environment has the traffic, whoever is asked: the
// script, nginx, and the link that the next reload follows. shown is the page.
func (s *server) serves(environment, shown string) {
	s.Helper()
	if status, out, errs := s.traffic("owner"); status != 0 || out != environment+"\n" || errs != "" {
		s.Errorf("traffic owner: status %d, %q, %q, want %s", status, out, errs, environment)
	}
	if got, err := get(http.DefaultTransport, "http://"+s.tell+"/"); err != nil || got != environment {
		s.Errorf("nginx has loaded %q (%v), want %s", got, err, environment)
	}
	s.leads(environment)
	if got := s.page(); got != shown {
		s.Errorf("visitors see %q, want %q", got, shown)
	}
}

// repositories makes both environments, and deploys "v1" to both. Lines of more
// end the configuration of both.
func (s *server) repositories(more string) {
	s.Helper()
	s.git(s.dir, "init", "-q", "-b", "master", "dev")
	for _, name := range []string{"blue", "green"} {
		repo := s.path(name + ".git")
		s.git(s.dir, "init", "-q", "-b", "master", "--bare", repo)
		s.git(repo, "config", "--add", "receive.procReceiveRefs", "refs/heads/master")
		s.git(repo, "config", "--add", "receive.procReceiveRefs", "refs/tags")
		s.git(repo, "config", "receive.advertisePushOptions", "true")
		must(s, os.RemoveAll(filepath.Join(repo, "hooks")))
		must(s, os.Mkdir(filepath.Join(repo, "hooks"), 0o755))
		for _, hook := range []string{"pre-receive", "proc-receive", "post-receive"} {
			must(s, os.Symlink(filepath.Join(s.bin, hook), filepath.Join(repo, "hooks", hook)))
		}
		s.write(name+".git/bluegreen.toml", s.configuration(name)+more)
		s.git(s.path("dev"), "remote", "add", name, repo)
	}
	s.commit(map[string]string{"index.html": "v1"})
	for _, name := range []string{"blue", "green"} {
		if status, out := s.push(name, "-o", "live", "master"); status != 0 {
			s.Fatalf("the first push to %s: status %d\n%s", name, status, out)
		}
	}
}

// configuration is the example's, as an operator would fill it in, and with
// shorter times.
func (s *server) configuration(environment string) string {
	s.Helper()
	address := map[string]string{"blue": s.blue, "green": s.green}[environment]
	argv := ""
	for _, arg := range s.argv() {
		argv += fmt.Sprintf("%q, ", arg)
	}
	return s.shipped("bluegreen.toml",
		`environment = "blue"`, fmt.Sprintf("environment = %q", environment),
		`directory = "/var/www/blue"`, fmt.Sprintf("directory = %q", s.path("www/"+environment)),
		"http://127.0.0.1:8081/", "http://"+address+"/",
		"http://127.0.0.1/", "http://"+s.proxy+"/",
		`"sudo", "-n", "/usr/local/sbin/traffic", `, argv,
		`within = "10s"`, `within = "3s"`, `bake = "10s"`, `bake = "1s"`)
}

func (s *server) git(dir string, args ...string) string {
	s.Helper()
	return strings.TrimSpace(gittest.Run(s, dir, s.env, "", args...))
}

// commit writes files, removes those whose text is "-", and returns the commit.
func (s *server) commit(files map[string]string) string {
	s.Helper()
	for name, text := range files {
		if text == "-" {
			must(s, os.Remove(s.path("dev/"+name)))
			continue
		}
		s.write("dev/"+name, text+"\n")
	}
	s.git(s.path("dev"), "add", "-A")
	s.git(s.path("dev"), "commit", "-q", "-m", "a change")
	return s.git(s.path("dev"), "rev-parse", "HEAD")
}

// push runs git push, and returns its exit status and all that it printed.
func (s *server) push(args ...string) (int, string) {
	s.Helper()
	status, out, errs := s.run(s.path("dev"), append([]string{"git", "push"}, args...)...)
	return status, out + errs
}

// pushed pushes what must succeed, and returns the last line of the hooks.
func (s *server) pushed(args ...string) string {
	s.Helper()
	status, out := s.push(args...)
	if last := lastLine(out); status != 0 || !strings.HasPrefix(last, "success: ") {
		s.Fatalf("git push %s: status %d\n%s", strings.Join(args, " "), status, out)
	}
	return lastLine(out)
}

// refused pushes a tag to blue that must not be promoted, with words that the
// last line must have.
func (s *server) refused(tag string, words ...string) {
	s.Helper()
	status, out := s.push("blue", tag)
	last := lastLine(out)
	if status != 1 || !strings.HasPrefix(last, "error: ") {
		s.Errorf("git push blue %s: status %d\n%s", tag, status, out)
	}
	for _, word := range words {
		if !strings.Contains(last, word) {
			s.Errorf("the last line does not say %q: %s", word, last)
		}
	}
	if at := s.git(s.path("blue.git"), "for-each-ref", "refs/tags/"+tag); at != "" {
		s.Errorf("the tag is there: %s", at)
	}
}

// lastLine is the last line of the hooks.
func lastLine(out string) (last string) {
	for line := range strings.Lines(strings.ReplaceAll(out, "\r", "\n")) {
		if text, found := strings.CutPrefix(line, "remote: "); found && strings.TrimSpace(text) != "" {
			last = strings.TrimSpace(text)
		}
	}
	return last
}

// bluegreen runs the operator's command for an environment.
func (s *server) bluegreen(environment string, args ...string) (int, string) {
	s.Helper()
	status, out, errs := s.run(s.dir, append([]string{filepath.Join(s.bin, "bluegreen"), "--repo", s.path(environment + ".git")}, args...)...)
	return status, out + errs
}

// live checks whom both environments believe to have the traffic, and that
// nothing is left to recover.
func (s *server) live(environment string) {
	s.Helper()
	for _, asked := range []string{"blue", "green"} {
		status, out := s.bluegreen(asked, "status", "--json")
		var report struct {
			LiveEnvironment string `json:"live_environment"`
			Unfinished      any
		}
		if err := json.Unmarshal([]byte(out), &report); status != 0 || err != nil {
			s.Errorf("bluegreen status of %s: %d, %v\n%s", asked, status, err, out)
		}
		if report.LiveEnvironment != environment || report.Unfinished != nil {
			s.Errorf("%s says that %q is live, want %s; unfinished: %v", asked, report.LiveEnvironment, environment, report.Unfinished)
		}
	}
}

// visitors ask for the page all the time: one with a new connection each time,
// one with a connection that is kept.
type visitors struct {
	*server
	cancel context.CancelFunc
	done   sync.WaitGroup
	mu     sync.Mutex
	seen   map[string]int
	failed []error
	reused int
}

func (s *server) visit() *visitors {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitors{server: s, cancel: cancel, seen: map[string]int{}}
	s.Cleanup(cancel)
	v.done.Go(func() { v.ask(ctx, &http.Transport{DisableKeepAlives: true}) })
	v.done.Go(func() { v.ask(ctx, &http.Transport{MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1}) })
	return v
}

// ask asks until ctx ends, and once more.
func (v *visitors) ask(ctx context.Context, transport *http.Transport) {
	defer transport.CloseIdleConnections()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last = true
		}
		body, err := get(counting{v, transport}, "http://"+v.proxy+"/")
		v.mu.Lock()
		if err != nil {
			v.failed = append(v.failed, err)
		} else {
			v.seen[body]++
		}
		v.mu.Unlock()
	}
}

// counting counts the requests that had a connection from before.
type counting struct {
	*visitors
	http.RoundTripper
}

func (c counting) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused {
			c.mu.Lock()
			c.reused++
			c.mu.Unlock()
		}
	}}
	return c.RoundTripper.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// saw ends the visits: no request has failed, and each of the pages was seen,
// and no other.
func (v *visitors) saw(pages ...string) {
	v.Helper()
	v.cancel()
	v.done.Wait()
	for _, err := range v.failed {
		v.Errorf("a visitor's request failed: %v", err)
	}
	for page, n := range v.seen {
		if !slices.Contains(pages, page) {
			v.Errorf("visitors saw %q %d times", page, n)
		}
	}
	for _, page := range pages {
		if v.seen[page] == 0 {
			v.Errorf("no visitor saw %q", page)
		}
	}
	if v.reused == 0 {
		v.Error("no connection was kept")
	}
	v.Logf("visitors saw %v", v.seen)
}
