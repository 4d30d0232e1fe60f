package digitalocean

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	reserved = "/metadata/v1/reserved_ip/ipv4/"
	floating = "/metadata/v1/floating_ip/ipv4/"
	anchor   = "/metadata/v1/interfaces/public/0/anchor_ipv4/address"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	type answers map[string]http.HandlerFunc
	for _, test := range []struct {
		name    string
		answers answers
		want    bool
		err     string
	}{
		{"yes", answers{reserved + "active": ok("true\n"), reserved + "ip_address": ok(ip + "\n")}, true, ""},
		{"another", answers{reserved + "active": ok("true"), reserved + "ip_address": ok("203.0.113.11")}, false, ""},
		{"no", answers{reserved + "active": ok("false"), floating + "active": ok("true"), floating + "ip_address": ok(ip)}, false, ""},
		{"older", answers{floating + "active": ok("true"), floating + "ip_address": ok(ip)}, true, ""},
		{"older, no", answers{floating + "active": ok("false")}, false, ""},
		{"neither", answers{}, false, "floating_ip/ipv4/active: status 404"},
		{"no address", answers{reserved + "active": ok("true")}, false, "reserved_ip/ipv4/ip_address: status 404"},
		{"not an address", answers{reserved + "active": ok("true"), reserved + "ip_address": ok("<b>\x1b")}, false,
			`reserved_ip/ipv4/ip_address: "<b>\x1b" is not an IPv4 address`},
		{"neither true nor false", answers{reserved + "active": ok("True")}, false, `reserved_ip/ipv4/active: "True" is neither true nor false`},
		{"empty", answers{reserved + "active": ok("")}, false, `reserved_ip/ipv4/active: "" is neither true nor false`},
		{"500", answers{reserved + "active": answer(500, "true"), floating + "active": ok("true")}, false, "reserved_ip/ipv4/active: status 500"},
		{"204", answers{reserved + "active": answer(204, "")}, false, "reserved_ip/ipv4/active: status 204"},
		{"redirect", answers{reserved + "active": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, floating+"active", http.StatusFound)
		}, floating + "active": ok("true")}, false, "reserved_ip/ipv4/active: status 302"},
		{"long", answers{reserved + "active": ok("true" + strings.Repeat(" ", 1021))}, false,
			"reserved_ip/ipv4/active: an answer of more than 1024 bytes"},
		{"cut", answers{reserved + "active": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "true")
		}}, false, "reserved_ip/ipv4/active: unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			for path, answer := range test.answers {
				a.on(path, answer)
			}
			got, err := Metadata{URL: a.url, Timeout: 5 * time.Second}.Holds(t.Context(), ip)
			if test.err != "" {
				wantError(t, err, "asking the droplet's metadata for "+test.err)
			} else if err != nil {
				t.Error(err)
			}
			if got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
	_, err := Metadata{URL: "http://127.0.0.1:1"}.Holds(t.Context(), "")
	wantError(t, err, `"" is not an IP address`)
}

func TestAnchor(t *testing.T) {
	t.Parallel()
	a := newAPI(t).on("/prefix"+anchor, ok("10.17.0.5\n"))
	m := Metadata{URL: a.url + "/prefix/", Timeout: 5 * time.Second}
	if got, err := m.Anchor(t.Context()); got != "10.17.0.5" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	for body, want := range map[string]string{
		"":             `"" is not an IPv4 address`,
		"10.17.0":      `"10.17.0" is not an IPv4 address`,
		"fe80::1%eth0": `"fe80::1%eth0" is not an IPv4 address`,
	} {
		a.on("/prefix"+anchor, ok(body))
		got, err := m.Anchor(t.Context())
		wantError(t, err, "asking the droplet's metadata for interfaces/public/0/anchor_ipv4/address: "+want)
		if got != "" {
			t.Errorf("%q", got)
		}
	}
}

// All requests of one call have one deadline, and no proxy answers for the
// droplet.
func TestMetadataTimeout(t *testing.T) {
	t.Parallel()
	url, _ := raw(t, func(c net.Conn) {
		takeRequest(c)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		drip(c, "t", 10*time.Millisecond)
	})
	start := time.Now()
	_, err := Metadata{URL: url, Timeout: 100 * time.Millisecond}.Holds(t.Context(), ip)
	wantError(t, err, "asking the droplet's metadata for reserved_ip/ipv4/active: no complete answer within 100ms")
	if took := time.Since(start); took > 4*time.Second || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%#v after %s", err, took)
	}
	_, err = Metadata{URL: "http://192.0.2.1", Timeout: 50 * time.Millisecond}.Holds(t.Context(), ip)
	if err == nil {
		t.Error("the proxy was believed")
	}
}
