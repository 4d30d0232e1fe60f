//go:build e2e

// Package e2e_test plays the README's walk-through on three machines that are
// one: blue, green and a developer's, each with its own root, processes and
// network, and between them a cloud that moves a real address. sshd, Apache,
// nginx, git, users and sudo are Debian's.
//
// The test runs itself again in namespaces of its own. In them everything that
// it mounts, starts and configures lives, and with them it goes: when the test
// ends, fails, panics, is interrupted or killed, nothing is left to clean up.
package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	// inCloud is set in the environment of the test that runs in its own
	// namespaces.
	inCloud = "BLUEGREEN_E2E_IN_CLOUD"
	// scratch is where the hosts' disks are mounted: memory that the test alone
	// sees, over a directory in which nobody keeps sources.
	scratch = "/dev/shm"
	// outside is the network of the machine itself, from which packages come.
	outside = "/proc/self/fd/3"
)

func TestMain(m *testing.M) {
	if os.Args[0] == hostProcess {
		err := runHost(os.Args[1], os.Args[2], os.Args[3])
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	if os.Getenv(inCloud) == "" {
		status, err := enterCloud()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(status)
	}
	if err := furnish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enterCloud runs this test again in its own namespaces, and returns its exit
// status. The kernel kills that one when this process ends, however it ends, and
// this one with its parent; as that one is the first process of its namespace,
// all others there end with it.
func enterCloud() (int, error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("this needs root, for namespaces and mounts: sudo make e2e")
	}
	if err := lookForPrograms(); err != nil {
		return 1, err
	}
	// "go test", killed, does not take the test with it by itself.
	runtime.LockOSThread() // parents and children are threads here
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0); err != nil {
		return 1, err
	}
	network, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return 1, err
	}
	defer network.Close()
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), inCloud+"=1", "TMPDIR="+scratch)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.ExtraFiles = []*os.File{network} // see outside
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err = c.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("entering namespaces: %w", err)
	}
	return 0, nil
}

// lookForPrograms says in one line what is to be installed.
func lookForPrograms() error {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	var missing []string
	for _, p := range []struct{ program, pack string }{
		{"sshd", "openssh-server"}, {"ssh", "openssh-client"}, {"git", "git"}, {"ip", "iproute2"}, {"nft", "nftables"},
		{"nsenter", "util-linux"}, {"useradd", "passwd"}, {"apt-get", "apt"},
	} {
		if _, err := exec.LookPath(p.program); err != nil {
			missing = append(missing, p.pack)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not everything is here: apt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	return nil
}

// furnish prepares the namespaces: from here on no mount reaches the machine.
func furnish() error {
	unix.Umask(0o022)
	unix.CloseOnExec(3) // no host is to have a way outside
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating the mounts: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("disks", scratch, "tmpfs", unix.MS_NOSUID, "mode=1777"); err != nil {
		return fmt.Errorf("mounting the disks: %w", err)
	}
	if err := unix.Sethostname([]byte("cloud")); err != nil {
		return err
	}
	return setUpRouter()
}
