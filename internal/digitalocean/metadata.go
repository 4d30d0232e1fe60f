package digitalocean

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// maxMetadata is the most that is read of one answer of the metadata service.
const maxMetadata = 1 << 10

// Metadata asks the metadata service of the droplet that this runs on: without
// a token, without the API, and perhaps a moment behind it.
type Metadata struct {
	URL     string        // "http://169.254.169.254", may have a path
	Timeout time.Duration // of one call, all its requests together; 0 is 1s
}

// Holds tells whether this droplet has the reserved IP. An error says nothing
// about it.
func (m Metadata) Holds(ctx context.Context, ip string) (bool, error) {
	want, err := netip.ParseAddr(ip)
	if err != nil {
		return false, fmt.Errorf("%q is not an IP address", ip)
	}
	ctx, cancel := m.limit(ctx)
	defer cancel()
	// Services that do not know the newer name know the older one.
	name := "reserved_ip"
	active, err := m.get(ctx, name+"/ipv4/active")
	if statusOf(err) == http.StatusNotFound {
		name = "floating_ip"
		active, err = m.get(ctx, name+"/ipv4/active")
	}
	if err != nil {
		return false, err
	}
	switch active {
	case "true":
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("asking the droplet's metadata for %s/ipv4/active: %s is neither true nor false", name, excerpt(active))
	}
	has, err := m.address(ctx, name+"/ipv4/ip_address")
	return has == want && err == nil, err
}

// Anchor returns the droplet's anchor IP, where traffic to the reserved IP
// arrives.
func (m Metadata) Anchor(ctx context.Context) (string, error) {
	ctx, cancel := m.limit(ctx)
	defer cancel()
	anchor, err := m.address(ctx, "interfaces/public/0/anchor_ipv4/address")
	if err != nil {
		return "", err
	}
	return anchor.String(), nil
}

func (m Metadata) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := cmp.Or(m.Timeout, time.Second)
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("no complete answer within %s", limit))
}

// address reads an IPv4 address.
func (m Metadata) address(ctx context.Context, path string) (netip.Addr, error) {
	text, err := m.get(ctx, path)
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := netip.ParseAddr(text)
	if err != nil || !address.Is4() {
		return netip.Addr{}, fmt.Errorf("asking the droplet's metadata for %s: %s is not an IPv4 address", path, excerpt(text))
	}
	return address, nil
}

// get reads one value.
func (m Metadata) get(ctx context.Context, path string) (string, error) {
	value, status, err := m.exchange(ctx, strings.TrimRight(m.URL, "/")+"/metadata/v1/"+path)
	if err != nil {
		return "", &failure{
			text:   fmt.Sprintf("asking the droplet's metadata for %s: %s", path, printable(ended(ctx, err).Error(), maxError)),
			status: status, cause: ctx.Err(),
		}
	}
	return value, nil
}

// exchange makes one request. It uses a transport itself: a client would follow
// redirects.
func (m Metadata) exchange(ctx context.Context, address string) (value string, status int, err error) {
	only := new(http.Protocols)
	only.SetHTTP1(true)
	transport := &http.Transport{
		Proxy: nil, DialContext: new(net.Dialer).DialContext, Protocols: only,
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections() // ends a dial that nobody waits for
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", resp.StatusCode, fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata+1))
	if err != nil {
		return "", 0, err
	}
	if len(body) > maxMetadata {
		return "", 0, fmt.Errorf("an answer of more than %d bytes", maxMetadata)
	}
	return strings.TrimSpace(string(body)), resp.StatusCode, nil
}
