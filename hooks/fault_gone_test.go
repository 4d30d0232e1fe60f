//go:build e2e

package hooks_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// TestConnectionBreaks pushes through a real sshd and kills the client at each
// step of the deployment, and at any moment. The deployment goes on to its end;
// nothing stays, neither a hook nor a lock.
func TestConnectionBreaks(t *testing.T) {
	t.Parallel()
	needs(t, "ssh", "ssh-keygen", "unshare", gittest.Sshd)
	for _, k := range deployments() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.bin = buildWithFaults(t)
			w := newSSHWalker(t, k)
			defer func() { w.found.print(t) }()
			limit := campaign(t)
			for _, n := range w.points(limit > 0) {
				if !t.Failed() { // one failure is enough to read
					w.killClientAt(n)
				}
			}
			end := time.Now().Add(limit)
			for n := 0; n < 3 || time.Now().Before(end) && !t.Failed(); n++ {
				w.killClientAnytime()
			}
		})
	}
}

// An sshWalker is a server that is pushed to through sshd.
type sshWalker struct {
	struckWalker
	ssh []string // what goes into the pusher's environment
}

func newSSHWalker(t *testing.T, k killing) *sshWalker {
	w := &sshWalker{struckWalker: struckWalker{walker: k.newWalker(t), found: figures{what: k.name + ": the pusher's connection breaks"}}}
	gittest.SSH(t, w.dir, "", "MaxStartups 100")
	port := startSSHD(t, w.dir)
	w.ssh = []string{fmt.Sprintf("GIT_SSH_COMMAND=ssh -F %s/ssh_config -o ProxyCommand=none -o HostName=127.0.0.1 -o Port=%d"+
		" -o SendEnv=BLUEGREEN_* -o SendEnv=GIT_CONFIG_* -o SendEnv=TMPDIR", w.dir, port)}
	return w
}

// startSSHD starts a daemon with the configuration in dir, and waits for it.
func startSSHD(t *testing.T, dir string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	port = l.Addr().(*net.TCPAddr).Port
	must(t, l.Close())
	// What sshd needs in /run, where Debian's unit makes it, it alone sees. It keeps no
	// other test's disk.
	const alone = `mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd || exit
		while read -r _ dir _; do case $dir in */disk) umount -l "$dir" ;; esac; done </proc/self/mounts
		exec "$@"`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", alone, "sh",
		gittest.Sshd, "-D", "-f", filepath.Join(dir, "sshd_config"), "-E", filepath.Join(dir, "sshd.log"),
		"-o", "ListenAddress=127.0.0.1", "-o", fmt.Sprintf("Port=%d", port))
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return port
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not listen: %v", err)
		}
	}
}

// pushOverSSH starts a push of the new commit, in a process group of its own. gone
// is closed when the client has ended.
func (w *sshWalker) pushOverSSH(env []string) (kill func(), gone chan struct{}) {
	push := w.command(w.dev, "git", "push", "-q", "ssh://blue"+w.git, "+"+w.walker.new+":refs/heads/master")
	push.Env = append(append(push.Env, w.ssh...), env...)
	push.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	w.must(push.Start())
	gone = make(chan struct{})
	go func() {
		push.Wait()
		close(gone)
	}()
	return func() { syscall.Kill(-push.Process.Pid, syscall.SIGKILL) }, gone
}

// killClientAt kills the client when the deployment is at its nth step.
func (w *sshWalker) killClientAt(n int) {
	env, path := w.faults(0)
	what := fmt.Sprintf("the client was killed at step %d", n)
	kill, gone := w.pushOverSSH(append(env, "BLUEGREEN_STOP=1"))
	struck := false
	ended := w.watch(gone, true, func() {
		if len(w.steps(path)) == n {
			struck = true
			kill()
			<-gone
		}
	})
	if !struck {
		w.Errorf("%s: there was none", what)
	}
	if held := w.after(what, ended); held != w.walker.new {
		w.Errorf("%s: the web root holds %s", what, held)
	}
}

// killClientAnytime kills it when it has come as far as the server, or some time
// after that.
func (w *sshWalker) killClientAnytime() {
	pause := rand.N(200 * time.Millisecond)
	what := fmt.Sprintf("the client was killed %s after it had arrived", pause)
	kill, gone := w.pushOverSSH(nil)
	w.until("the push arrives", func() bool { return len(w.processes()) > 0 || isClosed(gone) })
	select {
	case <-gone:
	case <-time.After(pause):
	}
	kill()
	w.after(what, w.watch(gone, true, func() {}))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// after looks at what a push has left whose client is gone, and returns what the
// web root holds.
func (w *sshWalker) after(what string, ended bool) (held string) {
	w.found.times++
	if !ended {
		w.found.hung++
	}
	w.waitFree()
	w.tidyGit(true)
	held = w.verify(what)
	w.count(held)
	if w.Failed() {
		log, _ := os.ReadFile(filepath.Join(w.dir, "sshd.log"))
		lines := strings.Split(string(log), "\n")
		w.Logf("sshd says:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	if !w.pushMore(what) {
		w.found.stuck++
	}
	w.restore()
	return held
}
