//go:build e2e

package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// hostProcess is the name of the first process of a host.
const hostProcess = "bluegreen-e2e-host"

// A host is a machine: a root of its own over this machine's, which is never
// written, its own processes, network and name.
type host struct {
	testing.TB
	name    string
	public  string   // its address
	droplet []string // its addresses as a droplet: where a reserved IP's traffic arrives, and in the private network
	gateway string
	web     string // "apache", "nginx" or ""
	lower   string // what the disk lies over, as overlayfs takes it; "" is this machine's root, emptied

	disk  string // a directory: what the host has written is in it
	first *exec.Cmd
	power io.Closer
}

// An account is whom a command runs as.
type account struct {
	name     string
	uid, gid int
	home     string
}

var root = account{name: "root", home: "/root"}

// newHost makes a host with nothing on its disk but some files, by path, and
// boots it.
func newHost(t testing.TB, h host, files map[string]string) *host {
	t.Helper()
	h.TB = t
	h.disk = filepath.Join(t.TempDir(), h.name)
	for _, dir := range []string{"upper", "work", "root"} {
		must(t, os.MkdirAll(filepath.Join(h.disk, dir), 0o755))
	}
	if h.lower == "" {
		must(t, empty(filepath.Join(h.disk, "upper")))
		h.lower = "/"
	}
	for path, text := range files {
		path = filepath.Join(h.disk, "upper", path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
	}
	t.Cleanup(h.crash)
	h.boot()
	return &h
}

// boot starts the first process, connects the network, and starts what the
// server's boot would start.
func (h *host) boot() {
	h.Helper()
	c := exec.Command("/proc/self/exe", h.name, h.disk, h.lower)
	c.Args[0] = hostProcess
	c.Env = []string{"PATH=" + searchPath}
	c.Stderr = os.Stderr
	stdin, err := c.StdinPipe()
	must(h, err)
	stdout, err := c.StdoutPipe()
	must(h, err)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	must(h, c.Start())
	h.first, h.power = c, stdin
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "up\n" {
		h.Fatalf("%s does not boot: %q, %v", h.name, line, err)
	}
	h.connect()
	h.startServices()
}

// crash ends everything on the host at once, as when its power is cut. What was
// written stays: this shows killed processes, not lost writes.
func (h *host) crash() {
	if h.first == nil {
		return
	}
	h.disconnect()
	h.power.Close()
	h.first.Process.Kill()
	h.first.Wait() // returns when all other processes of its namespace have ended
	h.first = nil
}

// startServices does what systemd would: first the unit that install has left,
// then the services.
func (h *host) startServices() {
	h.Helper()
	if h.web == "" {
		return
	}
	h.recoverAtBoot()
	h.sh(`ssh-keygen -A >/dev/null; mkdir -p /run/sshd; /usr/sbin/sshd -E /var/log/sshd.log`)
	h.startWeb()
}

// startWeb starts the web server, if it is installed and does not run: nothing
// else does so where there is no systemd.
func (h *host) startWeb() {
	h.Helper()
	switch h.web {
	case "apache":
		h.sh(`[ ! -x /usr/sbin/apache2 ] || apache2ctl start >/run/start.log 2>&1 || { cat /run/start.log; exit 1; }`)
	case "nginx":
		h.sh(`[ ! -x /usr/sbin/nginx ] || [ -s /run/nginx.pid ] || nginx >/run/start.log 2>&1 || { cat /run/start.log; exit 1; }`)
	}
}

// recoverAtBoot runs the enabled units that are before the web server, by their
// own lines.
func (h *host) recoverAtBoot() {
	h.Helper()
	units := h.sh(`cd /etc/systemd/system/multi-user.target.wants 2>/dev/null && ls | grep '^bluegreen-' || true`)
	for _, unit := range strings.Fields(units) {
		text := h.sh("cat /etc/systemd/system/multi-user.target.wants/" + unit)
		settings := make(map[string]string)
		for line := range strings.Lines(text) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
				settings[name] = value
			}
		}
		if !strings.Contains(settings["Before"], "apache2.service") {
			h.Errorf("%s is not before the web server:\n%s", unit, text)
		}
		argv := append([]string{"runuser", "-u", settings["User"], "--"}, strings.Fields(settings["ExecStart"])...)
		status, out := h.run(root, argv...)
		if status != 0 {
			h.Errorf("at boot %q on %s: status %d", argv, h.name, status)
		}
		h.Logf("%s, at boot: %s\n%s", h.name, strings.Join(argv, " "), indent(out))
	}
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// command is a program on the host.
func (h *host) command(ctx context.Context, as account, argv ...string) *exec.Cmd {
	return h.commandIn(ctx, "--net", as, argv...)
}

// commandIn is a program on the host in the network that nsenter's option names.
func (h *host) commandIn(ctx context.Context, net string, as account, argv ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(h.first.Process.Pid), "--mount", "--uts", "--ipc", net, "--pid",
		"--root", "--wd", "--setuid", strconv.Itoa(as.uid), "--setgid", strconv.Itoa(as.gid), "--",
		"env", "--chdir=" + as.home}
	c := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	c.Env = []string{"PATH=" + searchPath, "HOME=" + as.home, "USER=" + as.name, "LOGNAME=" + as.name, "LANG=C.UTF-8"}
	c.WaitDelay = time.Second
	return c
}

// run runs a program to its end, and returns its exit status and all that it
// has printed.
func (h *host) run(as account, argv ...string) (status int, out string) {
	h.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return finished(h, h.command(ctx, as, argv...))
}

func finished(t testing.TB, c *exec.Cmd) (status int, out string) {
	t.Helper()
	data, err := c.CombinedOutput()
	exit := (*exec.ExitError)(nil)
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), string(data)
	case err != nil:
		t.Fatalf("%q: %v\n%s", c.Args, err, data)
	}
	return 0, string(data)
}

// must runs a program that has to succeed.
func (h *host) must(as account, argv ...string) string {
	h.Helper()
	status, out := h.run(as, argv...)
	if status != 0 {
		h.Fatalf("%s@%s %q: status %d\n%s", as.name, h.name, argv, status, out)
	}
	return out
}

// sh runs lines of shell as root, which have to succeed.
func (h *host) sh(script string) string {
	h.Helper()
	return h.must(root, "sh", "-euc", script)
}

// write writes a file on the host, as root.
func (h *host) write(path, text string, mode os.FileMode) {
	h.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := h.command(ctx, root, "sh", "-euc", `mkdir -p "${1%/*}"; cat >"$1"; chmod "$2" "$1"`, "sh", path, fmt.Sprintf("%o", mode))
	c.Stdin = strings.NewReader(text)
	if status, out := finished(h, c); status != 0 {
		h.Fatalf("writing %s on %s: %s", path, h.name, out)
	}
}

// path is where this process sees a file of the host's that no symlink leads to.
func (h *host) path(path string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.first.Process.Pid, path)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// indent is how output of the hosts appears in the log.
func indent(out string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(screen(out), "\n"), "\n", "\n    ")
}

// screen is what a terminal shows of output in the end: what follows a carriage
// return covers what is there.
func screen(out string) string {
	var shown strings.Builder
	for line := range strings.Lines(out) {
		var cells []rune
		for part := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), "\r") {
			over := []rune(part)
			cells = append(over, cells[min(len(over), len(cells)):]...)
		}
		shown.WriteString(strings.TrimRight(string(cells), " ") + "\n")
	}
	return shown.String()
}
