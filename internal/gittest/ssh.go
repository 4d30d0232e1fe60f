package gittest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
)

// Sshd is the server's program.
const Sshd = "/usr/sbin/sshd"

// NeedsSSH skips a test where sshd cannot run.
func NeedsSSH(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(Sshd); err != nil {
		t.Skip("there is no " + Sshd + ": apt-get install openssh-server")
	}
	if _, err := os.Stat("/run/sshd"); err != nil && os.Geteuid() == 0 {
		t.Skip("sshd needs /run/sshd where root runs it")
	}
}

// SSH writes into dir what a server and a client need that have one key, "ann":
// sshd_config, and ssh_config, for which the server is the host "blue". There is
// no daemon: each connection has an sshd of its own, at the end of a pipe. options
// come before the key in authorized_keys, settings after those of the server, who
// allows all that there is.
func SSH(t testing.TB, dir, options, settings string) {
	t.Helper()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"host", "ann"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path(name)).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	public, err := os.ReadFile(path("ann.pub"))
	must(t, err)
	must(t, os.WriteFile(path("authorized_keys"), fmt.Appendf(nil, "%s %s", options, public), 0o644))
	must(t, os.WriteFile(path("sshd_config"), fmt.Appendf(nil, `HostKey %[1]s/host
AuthorizedKeysFile %[1]s/authorized_keys
StrictModes no
UsePAM no
PidFile none
LogLevel VERBOSE
PermitRootLogin yes
AllowTcpForwarding yes
AllowAgentForwarding yes
PermitTTY yes
PermitTunnel yes
X11Forwarding yes
AcceptEnv *
%[2]s
Subsystem sftp internal-sftp
`, dir, settings), 0o644))
	account, err := user.Current()
	must(t, err)
	must(t, os.WriteFile(path("ssh_config"), fmt.Appendf(nil, `Host blue
User %[2]s
IdentityFile %[1]s/ann
IdentitiesOnly yes
BatchMode yes
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
LogLevel ERROR
SendEnv LC_* DIGITALOCEAN_TOKEN BLUEGREEN_USER GIT_PROTOCOL
ProxyCommand %[3]s -i -f %[1]s/sshd_config -E %[1]s/sshd.log
`, dir, account.Username, Sshd), 0o644))
}
