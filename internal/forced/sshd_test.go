package forced_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
	"bluegreen/internal/operator"
	"bluegreen/internal/receive"
)

// TestMain lets the test binary play the programs.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); name {
	case "bluegreen":
		os.Exit(operator.Main(operator.Program{Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr, Environ: os.Environ()}))
	case "pre-receive":
		os.Exit(receive.Main(name, receive.PreReceive, os.Args[1:]))
	case "proc-receive":
		os.Exit(receive.Main(name, receive.ProcReceive, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// A host is a server whose account has one key, which a real sshd lets in. There
// is no daemon: each connection has an sshd of its own, at the end of a pipe.
type host struct {
	*testing.T
	dir, home, repo, www string
	env                  []string // of the client
}

// newHost needs no privileges. Where sshd cannot run the test is skipped.
func newHost(t *testing.T) *host {
	t.Helper()
	gittest.NeedsSSH(t)
	dir := gittest.Dir(t)
	h := &host{T: t, dir: dir, home: filepath.Join(dir, "home"), repo: filepath.Join(dir, "home", "sample_app"), www: filepath.Join(dir, "www")}
	for _, path := range []string{h.home, h.www, h.path("bin"), h.path("dev")} {
		h.must(os.Mkdir(path, 0o700))
	}
	h.wire()
	h.serve()
	h.env = append(gittest.Environ(), "GIT_SSH_COMMAND=ssh -F "+h.path("ssh_config"), "LC_PAPER=de_DE.UTF-8",
		"DIGITALOCEAN_TOKEN=dop_v1_secret", "BLUEGREEN_USER=root", "GIT_PROTOCOL=version=2")
	gittest.Git(t, h.path("dev"), "init", "-q", "-b", "master", ".")
	gittest.Git(t, h.path("dev"), "remote", "add", "blue", "blue:sample_app")
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *host) write(path, text string, mode os.FileMode) {
	h.Helper()
	h.must(os.WriteFile(path, []byte(text), mode))
}

// wire makes the repository, with the hooks, and another one beside it.
func (h *host) wire() {
	h.Helper()
	self, err := os.Executable()
	h.must(err)
	for _, repo := range []string{h.repo, filepath.Join(h.home, "other.git")} {
		gittest.Git(h, "/", "init", "-q", "--bare", "-b", "master", repo)
	}
	for _, ref := range []string{"refs/heads/master", "refs/tags"} {
		gittest.Git(h, h.repo, "config", "--add", "receive.procReceiveRefs", ref)
	}
	for _, name := range []string{"bluegreen", "pre-receive", "proc-receive"} {
		h.must(os.Symlink(self, h.path("bin/"+name)))
	}
	for _, name := range []string{"pre-receive", "proc-receive"} {
		h.hook(name, "GORACE=atexit_sleep_ms=0 exec "+h.path("bin/"+name))
	}
	h.hook("post-receive", "env >"+h.path("env")) // what git's hooks get
	h.configure("")
}

func (h *host) hook(name, script string) {
	h.Helper()
	h.write(filepath.Join(h.repo, "hooks", name), "#!/bin/sh\n"+script+"\n", 0o755)
}

func (h *host) configure(more string) {
	h.Helper()
	h.write(filepath.Join(h.repo, "bluegreen.toml"), fmt.Sprintf("environment = \"blue\"\n[deploy]\ndirectory = %q\n%s", h.www, more), 0o644)
}

// serve sets sshd and its client up. The server would allow all that the line in
// authorized_keys does not.
func (h *host) serve() {
	h.Helper()
	line := fmt.Sprintf("restrict,command=\"GORACE=atexit_sleep_ms=0 %s --repo %s ssh ann\"", h.path("bin/bluegreen"), h.repo)
	gittest.SSH(h, h.dir, line, "SetEnv HOME="+h.home)
}

// client prepares a command on the developer's machine, with a deadline.
func (h *host) client(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(h.Context(), name, args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = h.path("dev"), h.env, 10*time.Second
	return cmd
}

// run runs a command on the developer's machine, and returns its status and what
// it printed.
func (h *host) run(name string, args ...string) (status int, stdout, stderr string) {
	h.Helper()
	cmd := h.client(name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		h.Fatalf("%s %q: %v", name, args, err)
	}
	status = cmd.ProcessState.ExitCode()
	if status == 255 && h.Failed() {
		h.Logf("sshd says:\n%s", h.log())
	}
	return status, out.String(), errs.String()
}

func (h *host) ssh(args ...string) (status int, stdout, stderr string) {
	h.Helper()
	return h.run("ssh", append([]string{"-F", h.path("ssh_config")}, args...)...)
}

// git runs git, which must succeed.
func (h *host) git(args ...string) string {
	h.Helper()
	status, out, errs := h.run("git", args...)
	if status != 0 {
		h.Fatalf("git %q: status %d\n%s%s\nsshd says:\n%s", args, status, out, errs, h.log())
	}
	return out + errs
}

func (h *host) commit(text string) {
	h.Helper()
	h.write(h.path("dev/index.html"), text, 0o644)
	h.git("add", "-A")
	h.git("commit", "-q", "-m", text)
}

// events is the history.
func (h *host) events() (events []map[string]any) {
	h.Helper()
	data, err := os.ReadFile(filepath.Join(h.repo, "bluegreen", "history.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		h.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var event map[string]any
		h.must(json.Unmarshal(line, &event))
		events = append(events, event)
	}
	return events
}

// TestOverSSH pushes, fetches and operates through a real sshd.
func TestOverSSH(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.commit("one")
	if out := h.git("push", "blue", "master"); !strings.Contains(out, "remote: success: ") {
		t.Errorf("git push says:\n%s", out)
	}
	if got, err := os.ReadFile(filepath.Join(h.www, "index.html")); string(got) != "one" {
		t.Errorf("the web root has %q, %v", got, err)
	}
	if last := h.events()[0]; last["pusher"] != "ann" || last["result"] != "succeeded" {
		t.Errorf("the history says %v", last)
	}
	for _, url := range []string{"blue:sample_app.git/", "ssh://blue" + h.repo, "ssh://blue/~/sample_app"} {
		h.git("fetch", "-q", url, "master")
		h.git("push", "-q", url, "HEAD:refs/heads/side")
	}
	h.git("clone", "-q", "blue:sample_app", h.path("clone"))

	for _, command := range []string{"bluegreen status", "bluegreen history -n 5", "bluegreen check", "bluegreen plan", "bluegreen plan HEAD"} {
		status, out, errs := h.ssh("blue", command)
		if status != 0 || errs != "" || strings.Contains(out, "\x1b") || !strings.Contains(out, "blue") && !strings.Contains(out, "ann") && !strings.Contains(out, "plan") {
			t.Errorf("%s: status %d\n%s%s", command, status, out, errs)
		}
	}
	status, out, errs := h.ssh("blue", "bluegreen", "status", "--json")
	var report struct{ Environment string }
	if err := json.Unmarshal([]byte(out), &report); status != 0 || err != nil || report.Environment != "blue" {
		t.Errorf("status %d, %v\n%s%s", status, err, out, errs)
	}
	for _, command := range []string{"bluegreen promote", "bluegreen rollback --unchecked"} {
		if status, _, errs := h.ssh("blue", command); status != 1 || !strings.Contains(errs, "error: promotion is not set up here\n") {
			t.Errorf("%s: status %d\n%s", command, status, errs)
		}
	}
	h.write(filepath.Join(h.repo, "bluegreen.toml"), "nonsense", 0o644)
	if status, _, errs := h.ssh("blue", "bluegreen check"); status != 2 || !strings.Contains(errs, "bluegreen.toml:1") {
		t.Errorf("a wrong configuration: status %d\n%s", status, errs)
	}
}

// TestEnvironmentOverSSH looks at what the client's environment becomes on the
// other side, where sshd accepts all of it.
func TestEnvironmentOverSSH(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.commit("one")
	h.git("push", "-q", "blue", "HEAD:refs/heads/side")
	data, err := os.ReadFile(h.path("env"))
	h.must(err)
	found := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		found[name] = value
	}
	for name, want := range map[string]string{"BLUEGREEN_USER": "ann", "HOME": h.home, "LC_PAPER": "de_DE.UTF-8", "GIT_PROTOCOL": "version=2",
		"DIGITALOCEAN_TOKEN": "", "SSH_ORIGINAL_COMMAND": "", "SSH_CLIENT": "", "SSH_AUTH_SOCK": "", "GORACE": ""} {
		if found[name] != want {
			t.Errorf("git's hooks see %s=%q, want %q", name, found[name], want)
		}
	}
}

// TestRefusedOverSSH tries what a pusher's key must not give.
func TestRefusedOverSSH(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.commit("one")
	h.git("push", "-q", "blue", "HEAD:refs/heads/side")
	for _, command := range []string{"", "sh", "id", "env", "bash -c 'id >" + h.path("owned") + "'", "bluegreen status; touch " + h.path("owned"), "bluegreen deploy HEAD",
		"bluegreen --repo " + h.path("home/other.git") + " status", "bluegreen status --repo " + h.path("home/other.git"), "cat bluegreen.toml", "scp -t .", "rsync --server . .",
		"git-receive-pack 'other.git'", "git-upload-archive 'sample_app'", "git-upload-pack '../home/other.git'", "git-upload-pack '" + h.home + "'"} {
		args := []string{"blue"}
		if command != "" {
			args = append(args, command)
		}
		status, out, errs := h.ssh(args...)
		if status != 1 || out != "" || !strings.HasPrefix(errs, "error: ") || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, h.repo) {
			t.Errorf("%q: status %d\n%s%s", command, status, out, errs)
		}
	}
	for _, args := range [][]string{{"push", "blue:other.git", "master"}, {"fetch", "blue:other.git"}, {"fetch", "ssh://blue/etc"}, {"archive", "--remote=blue:sample_app", "side"}} {
		if status, out, errs := h.run("git", args...); status == 0 || !strings.Contains(errs, "error: ") {
			t.Errorf("git %q: status %d\n%s%s", args, status, out, errs)
		}
	}
	for _, name := range []string{"scp", "sftp"} {
		args := map[string][]string{"scp": {"-O", "-F", h.path("ssh_config"), h.path("ann.pub"), "blue:owned"}, "sftp": {"-F", h.path("ssh_config"), "-b", "/dev/null", "blue"}}[name]
		if status, out, errs := h.run(name, args...); status == 0 {
			t.Errorf("%s: status %d\n%s%s", name, status, out, errs)
		}
	}
	for _, path := range []string{h.path("owned"), filepath.Join(h.home, "owned")} {
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("%q was made: %v", path, err)
		}
	}
	if len(h.events()) != 0 {
		t.Errorf("the history says %v", h.events())
	}
}

// TestNoForwarding asks sshd, which would allow it, for what "restrict" forbids.
func TestNoForwarding(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.must(err)
	defer l.Close()
	target := l.Addr().String()
	if status, out, errs := h.ssh("-o", "LogLevel=INFO", "-W", target, "blue"); status != 255 || !strings.Contains(errs, "administratively prohibited") {
		t.Errorf("-W: status %d\n%s%s", status, out, errs)
	}
	h.must(l.(*net.TCPListener).SetDeadline(time.Now())) // whoever has connected is waiting already
	if conn, err := l.Accept(); err == nil {
		conn.Close()
		t.Error("the server has connected to where the client wanted")
	}
	if status, out, errs := h.ssh("-o", "ExitOnForwardFailure=yes", "-R", "0:"+target, "blue", "bluegreen status"); status != 255 || !strings.Contains(errs, "remote port forwarding failed") {
		t.Errorf("-R: status %d\n%s%s", status, out, errs)
	}
	if status, out, errs := h.ssh("-tt", "blue", "bluegreen status"); !strings.Contains(errs, "PTY allocation request failed") || strings.Contains(out, "\x1b") {
		t.Errorf("-tt: status %d\n%s%s", status, out, errs)
	}
	// What the key is left with, sshd tells the client.
	status, out, errs := h.ssh("-o", "LogLevel=DEBUG1", "-A", "-X", "blue", "bluegreen status")
	options := ""
	for line := range strings.Lines(errs) {
		if _, after, found := strings.Cut(line, "key options: "); found && options == "" {
			options = strings.TrimSpace(after)
		}
	}
	if status != 0 || options != "command" {
		t.Errorf("-A -X: status %d, the key's options are %q\n%s%s", status, options, out, errs)
	}
}

// TestClientGone kills the client while the traffic moves: the promotion goes on
// to its end.
func TestClientGone(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	begun, proceed, owner := h.path("begun"), h.path("proceed"), h.path("owner")
	for _, fifo := range []string{begun, proceed} {
		h.must(syscall.Mkfifo(fifo, 0o600))
	}
	h.write(owner, "green\n", 0o600)
	h.configure(fmt.Sprintf("[promotion]\nprovider = \"command\"\nowner = [\"cat\", %q]\nassign = [\"/bin/sh\", \"-c\", %q, \"sh\", \"{to}\"]\n",
		owner, fmt.Sprintf("echo >%s; read go <%s; echo $1 >%s; echo moved", begun, proceed, owner)))
	h.commit("one")
	h.git("push", "-q", "blue", "master")
	h.must(os.Remove(h.path("sshd.log")))
	cmd := h.client("ssh", "-F", h.path("ssh_config"), "blue", "bluegreen promote")
	h.must(cmd.Start())
	h.must(await(func() error { _, err := os.ReadFile(begun); return err }))
	h.must(cmd.Process.Kill())
	cmd.Wait()
	h.until(func() bool { return strings.Contains(h.log(), "Close session") }) // nobody reads any more
	h.must(await(func() error { return os.WriteFile(proceed, []byte("\n"), 0) }))
	h.until(func() bool { return len(h.events()) == 2 })
	last := h.events()[len(h.events())-1]
	if last["event"] != "promote" || last["result"] != "succeeded" || last["pusher"] != "ann" || last["to"] != "blue" {
		t.Errorf("the history says %v", last)
	}
}

// log is what sshd says.
func (h *host) log() string {
	log, _ := os.ReadFile(h.path("sshd.log"))
	return string(log)
}

// until polls for what other processes bring about.
func (h *host) until(holds func() bool) {
	h.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("nothing happens; sshd says:\n%s", h.log())
		}
	}
}

// await is for what waits for another process.
func await(wait func() error) error {
	done := make(chan error, 1)
	go func() { done <- wait() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		return errors.New("nobody came")
	}
}
