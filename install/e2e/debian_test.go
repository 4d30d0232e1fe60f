//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A debian is what the servers' disks lie over: this machine's root, as bare as
// it can be made.
type debian struct {
	layers string // as overlayfs takes them
	// full tells why git, web servers and sudo had to be left where they are
	// installed here: then install's own installing of packages is not tried.
	full error
}

// newDebian takes from the root what install is to install, and puts it into a
// package repository of the root's own, so that apt-get needs no internet.
func newDebian(t testing.TB) debian {
	t.Helper()
	resolver, err := os.ReadFile("/etc/resolv.conf") // it may lead into /run, which hosts have of their own
	if err != nil {
		t.Logf("there may be no names: %v", err)
	}
	bare := host{name: "debian", public: "198.51.100.2", gateway: dropletGateway}
	began := time.Now()
	h := newHost(t, bare, map[string]string{"/etc/resolv.conf": string(resolver)})
	h.sh(tidy)
	full := h.strip()
	if full != nil {
		h.crash()
		h = newHost(t, bare, nil) // what was taken away is there again
		h.sh(tidy)
		t.Logf("NOT FROM BARE SERVERS: the packages cannot be had, and those that are installed here are used: %v", full)
		for program, pack := range map[string]string{"git": "git", "apache2": "apache2", "nginx": "nginx-light", "sudo": "sudo"} {
			if _, err := exec.LookPath(program); err != nil {
				t.Fatalf("%s is not installed either: apt-get install --no-install-recommends %s", program, pack)
			}
		}
	}
	h.sh(offline)
	h.crash()
	t.Logf("what the servers have at first was made in %.1f s", time.Since(began).Seconds())
	return debian{layers: h.disk + "/upper:/", full: full}
}

// strip makes the root bare. All that it takes away it has downloaded in the
// end.
func (h *host) strip() error {
	if status, out := h.run(root, "sh", "-euc", purge); status != 0 {
		return fmt.Errorf("removing what is installed: %s", lastLines(out))
	}
	network, err := os.Open(outside)
	if err != nil {
		return err
	}
	defer network.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	c := h.commandIn(ctx, "--net="+outside, root, "sh", "-euc", download)
	c.ExtraFiles = []*os.File{network} // the same number there
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasSuffix(strings.ToLower(name), "_proxy") {
			c.Env = append(c.Env, kv)
		}
	}
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("downloading: %w", errors.Join(ctx.Err(), err, errors.New(lastLines(string(out)))))
	}
	return nil
}

// lastLines is the end of what a program has said.
func lastLines(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

const (
	// tidy removes what a new server does not have: people's accounts, keys, a
	// setting of git's. Manuals are not indexed: that takes longer than all else.
	tidy = `
rm -f /etc/gitconfig /etc/ssh/ssh_host_* /usr/sbin/policy-rc.d /var/lib/man-db/auto-update
awk -F: '$3 >= 1000 && $3 < 65000 { print $1 }' /etc/passwd | xargs -r -n 1 userdel`

	// purge removes packages with all that they have written.
	purge = `
export DEBIAN_FRONTEND=noninteractive SUDO_FORCE_REMOVE=yes
packages=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' git git-man 'apache2*' 'nginx*' 'libnginx-mod-*' sudo |
	sed -n 's/^installed //p')
[ -z "$packages" ] || apt-get purge -q -y $packages 2>&1
rm -rf /etc/apache2 /etc/nginx /etc/sudoers.d /var/lib/apache2 /var/lib/nginx`

	// download makes a package repository of what install will ask for.
	download = `
mkdir -p /media/debian/partial
cd /media/debian
get() {
	apt-get install -q -y -o Dir::Cache::archives=/media/debian --download-only --no-install-recommends git apache2 nginx sudo 2>&1
}
get || { apt-get update -q 2>&1; get; }
for file in *.deb; do
	name=$(dpkg-deb --field "$file" Package).deb
	mv "$file" "$name"
	dpkg-deb --field "$name"
	printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$name" "$(stat -c %s "$name")" "$(sha256sum "$name" | cut -d ' ' -f 1)"
done >Packages
rm -rf partial lock`

	// offline leaves apt-get nothing but that repository.
	offline = `
rm -rf /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/auth.conf.d /etc/apt/preferences.d /var/lib/apt/lists /var/cache/apt
mkdir -p /etc/apt/apt.conf.d /etc/apt/sources.list.d /etc/apt/preferences.d /var/lib/apt/lists/partial /var/cache/apt/archives/partial
: >/etc/apt/sources.list
[ ! -d /media/debian ] || echo 'deb [trusted=yes] file:/media/debian ./' >/etc/apt/sources.list`
)
