//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses are of the networks that are reserved for documentation; the
// droplets' are those that the simulator's API and metadata tell.
const (
	reservedIP = "203.0.113.10"
	metadataIP = "169.254.169.254"
	apiIP      = "192.0.2.80"
	apiName    = "api.digitalocean.com"
)

// setUpRouter makes this process's namespace the router between the hosts, and
// gives it the addresses of the cloud's own services.
func setUpRouter() error {
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":              "1",
		"net/ipv4/conf/all/send_redirects": "0", "net/ipv4/conf/default/send_redirects": "0",
		"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
	} {
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("setting up the router: %w", err)
		}
	}
	return piped("link set lo up\naddr add "+metadataIP+"/32 dev lo\naddr add "+apiIP+"/32 dev lo\n", "ip", "-batch", "-")
}

// connect gives the host a cable to the router, and addresses.
func (h *host) connect() {
	h.Helper()
	pid := fmt.Sprint(h.first.Process.Pid)
	there := fmt.Sprintf(`link set lo up
link set eth0 up
addr add %[1]s/32 dev eth0
route add %[2]s dev eth0 src %[1]s
route add default via %[2]s src %[1]s
`, h.public, h.gateway)
	here := fmt.Sprintf(`link add %[1]s type veth peer name eth0 netns %[2]s
addr add %[3]s/32 dev %[1]s
link set %[1]s up
route add %[4]s dev %[1]s src %[3]s
`, h.port(), pid, h.gateway, h.public)
	for _, address := range h.droplet {
		there += "addr add " + address + "/32 dev eth0\n"
		here += "route add " + address + " via " + h.public + " dev " + h.port() + "\n"
	}
	must(h, piped(here, "ip", "-batch", "-"))
	must(h, piped(there, "nsenter", "--target", pid, "--net", "ip", "-batch", "-"))
}

// port is the router's end of the cable.
func (h *host) port() string { return "to-" + h.name }

// disconnect pulls the cable: nobody hears the host's last words.
func (h *host) disconnect() {
	if err := exec.Command("ip", "link", "delete", h.port()).Run(); err != nil {
		h.Errorf("disconnecting %s: %v", h.name, err)
	}
}

// route has the reserved IP's traffic arrive at an anchor address, as
// DigitalOcean does it; "" is nowhere. Connections that are established stay.
// With back, a droplet can reach the IP that it has itself.
func route(anchor string, back bool) error {
	element, hairpin := "", ""
	if anchor != "" {
		element = "elements = { " + reservedIP + " : " + anchor + " }"
	}
	if back {
		hairpin = "ct status dnat ip saddr 198.51.100.0/24 masquerade"
	}
	return piped(`table ip cloud
delete table ip cloud
table ip cloud {
	map reserved { type ipv4_addr : ipv4_addr; `+element+` }
	chain arriving { type nat hook prerouting priority dstnat; dnat to ip daddr map @reserved; }
	chain leaving { type nat hook postrouting priority srcnat; `+hairpin+`; }
}
`, "nft", "-f", "-")
}

// enterNetwork moves the calling goroutine to the host's network, for the rest of
// its life: a socket is of the network in which it was made. Its thread ends
// with it.
func (h *host) enterNetwork() error {
	there, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", h.first.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(there)
	runtime.LockOSThread()
	return unix.Setns(there, unix.CLONE_NEWNET)
}

// piped runs a program with text on its standard input.
func piped(text, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...)
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return nil
}
