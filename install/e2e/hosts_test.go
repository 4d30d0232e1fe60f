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
	"os/signal"
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
	c := exec.Command("/proc/self/exe", h.name, h.disk)
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
	switch h.web {
	case "apache":
		h.sh(`apache2ctl start >/var/log/apache-start.log 2>&1 || { cat /var/log/apache-start.log; exit 1; }`)
	case "nginx":
		h.sh(`nginx >/var/log/nginx-start.log 2>&1 || { cat /var/log/nginx-start.log; exit 1; }`)
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
	enter := []string{"--target", strconv.Itoa(h.first.Process.Pid), "--mount", "--uts", "--ipc", "--net", "--pid",
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

// runHost is the first process of a host. It makes the root, says "up", reaps
// orphans, and ends, with all others, when its standard input does.
func runHost(name, disk string) error {
	// What this process has mounted, its own namespace's end unmounts.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	if err := mountRoot(filepath.Join(disk, "root"), disk); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	go func() {
		for range children {
			for {
				if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && err != unix.EINTR {
					break
				}
			}
		}
	}()
	fmt.Println("up")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
	return nil
}

// mountRoot mounts this machine's root with the disk over it, what a running
// system has in it, and makes that the root of this process.
func mountRoot(dir, disk string) error {
	// xino keeps the numbers of files that are written for the first time, as on
	// any real filesystem.
	layers := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work,xino=on", disk, disk)
	if err := unix.Mount("root", dir, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mounting the root (%s): %w", layers, err)
	}
	const tight = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, dir string
		flags     uintptr
		data      string
	}{
		{"proc", "/proc", tight, ""},
		{"sysfs", "/sys", tight | unix.MS_RDONLY, ""},
		{"tmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmpfs", "/run/lock", tight, "mode=1777"},
		{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if err := os.MkdirAll(dir+m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, dir+m.dir, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	for minor, name := range map[uint32]string{3: "null", 5: "zero", 7: "full", 8: "random", 9: "urandom"} {
		path := dir + "/dev/" + name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("making /dev/%s: %w", name, err)
		}
		if err := os.Chmod(path, 0o666); err != nil {
			return err
		}
	}
	if err := unix.Mknod(dir+"/dev/tty", unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))); err != nil {
		return fmt.Errorf("making /dev/tty: %w", err)
	}
	for name, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(to, dir+"/dev/"+name); err != nil {
			return err
		}
	}
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	return unix.Chdir("/")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// indent is how output of the hosts appears in the log.
func indent(out string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(out, "\n"), "\n", "\n    ")
}
