package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// full returns the address of a machine that is not there, and does not even
// refuse: here, a socket whose queue is full.
func full(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	gone := full(t)
	for _, c := range []Check{{TCP: gone}, {URL: "http://" + gone}, {URL: "https://" + gone}, {URL: "http://a.invalid", Address: gone}} {
		c.Timeout = 100 * time.Millisecond
		if r := run(t, once(c), Subject{}); r.Healthy || r.Last != "timed out after 100ms" || r.Took > 900*time.Millisecond || !r.Unreachable {
			t.Errorf("%+v", r)
		}
	}
}

// A server that says anything at all, or was never asked, is not unreachable.
func TestNotUnreachable(t *testing.T) {
	t.Parallel()
	reset := listen(t, func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) })
	quiet := silent(t, nil, nil)
	for _, test := range []struct {
		check Check
		last  string // a part of it
	}{
		{Check{TCP: unused(t)}, "connection refused"},
		{Check{URL: "http://" + unused(t)}, "connection refused"},
		{Check{URL: "http://" + reset}, ""}, // reset, or cut off
		{Check{URL: "https://" + reset}, ""},
		{Check{URL: "http://" + quiet}, "timed out after 300ms"},
		{Check{URL: "https://" + quiet}, "timed out after 300ms"},
		{Check{URL: sequence(t, 500).URL}, "status 500"},
		{Check{URL: "http://no-such-host.invalid"}, ""}, // an answer, or the end of time
		{Check{TCP: "no-such-host.invalid:80"}, ""},
		{Check{TCP: "no-port"}, "missing port"},
		{Check{URL: "http://a.invalid:99999999"}, ""},
		{Check{URL: "gopher://a.invalid"}, "unsupported protocol scheme"},
		{Check{Command: []string{"false"}}, ""},
	} {
		test.check.Timeout = 300 * time.Millisecond
		r := run(t, once(test.check), Subject{Env: []string{"PATH=/bin:/usr/bin"}})
		if r.Healthy || r.Unreachable || !strings.Contains(r.Last, test.last) || r.Last == "" {
			t.Errorf("%+v: %+v", test.check, r)
		}
	}
	// Who is told to stop does not know.
	gone := full(t)
	for _, c := range []Check{{TCP: gone}, {URL: "http://" + gone}} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if r := runContext(ctx, t, once(c), Subject{}); r.Healthy || r.Unreachable || r.Last != "context canceled" {
			t.Errorf("%+v", r)
		}
	}
}

// Unreachable is about the attempt that Last is about.
func TestUnreachableIsTheLast(t *testing.T) {
	t.Parallel()
	var answers []answer
	ask := func(context.Context) answer {
		a := answers[0]
		answers = answers[1:]
		return a
	}
	lost, bad, good := answer{text: "lost", unreachable: true}, answer{text: "bad"}, answer{text: "good", healthy: true}
	for _, test := range []struct {
		answers []answer
		want    bool
	}{
		{[]answer{lost, bad, good}, false}, {[]answer{lost, lost}, true}, {[]answer{bad, lost}, true}, {[]answer{lost, bad}, false},
	} {
		answers = test.answers
		ctx, cancel := context.WithCancel(t.Context())
		r := Result{}
		c := Check{Timeout: time.Minute, Interval: time.Millisecond}
		c.repeat(ctx, ask, time.Now().Add(time.Hour), &r, func(string, int, string) {
			if len(answers) == 0 {
				cancel()
			}
		})
		if last := test.answers[len(test.answers)-1]; r.Unreachable != test.want || r.Last != last.text {
			t.Errorf("%+v: %+v", test.answers, r)
		}
	}
}

func TestUnanswered(t *testing.T) {
	t.Parallel()
	connect := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	for _, test := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{connect(syscall.EHOSTUNREACH), true},
		{connect(syscall.ENETUNREACH), true},
		{connect(syscall.ETIMEDOUT), true},
		{connect(syscall.ECONNREFUSED), false},
		{connect(syscall.ECONNRESET), false},
		{connect(syscall.EACCES), false},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}, false},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}, false},
		{io.EOF, false},
	} {
		if got := unanswered(test.err); got != test.want {
			t.Errorf("%v: %v", test.err, got)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "asked for "+r.Host+".") })
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	defer plain.Close()
	secure.Config.ErrorLog = discard()
	secure.StartTLS()
	defer secure.Close()
	at := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	port := func(s *httptest.Server) string { return s.URL[strings.LastIndexByte(s.URL, ':')+1:] }
	for _, test := range []struct {
		name  string
		check Check
		last  string // a beginning of it, or "" for healthy
	}{
		{"host and port", Check{URL: "http://www.invalid/", Address: at(plain), Body: "asked for www.invalid."}, ""},
		{"another port", Check{URL: "http://www.invalid:81/", Address: at(plain), Body: "asked for www.invalid:81."}, ""},
		{"the url's port", Check{URL: "http://www.invalid:" + port(plain), Address: "127.0.0.1", Body: "asked for www.invalid:"}, ""},
		{"Host", Check{URL: "http://www.invalid/", Address: at(plain), Host: "shop.invalid", Body: "asked for shop.invalid."}, ""},
		{"nobody there", Check{URL: plain.URL, Address: "127.0.0.1:1"}, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{"https", Check{URL: "https://example.com", Address: at(secure), Body: "asked for example.com."}, ""},
		{"https, the url's port", Check{URL: "https://example.com:" + port(secure), Address: "127.0.0.1"}, ""},
		{"https, another name", Check{URL: "https://www.invalid", Address: at(secure)}, "tls: failed to verify certificate: x509: certificate is valid for example.com"},
		{"https, Host", Check{URL: "https://www.invalid", Address: at(secure), Host: "example.com", Body: "asked for example.com."}, ""},
		{"https, no name of the address", Check{URL: "https://www.invalid:" + port(secure), Address: "127.0.0.1"}, "tls: failed to verify certificate"},
		{"tcp", Check{TCP: "www.invalid:81", Address: at(plain)}, ""},
		{"tcp, its port", Check{TCP: "www.invalid:" + port(plain), Address: "127.0.0.1"}, ""},
		{"tcp, nobody there", Check{TCP: at(plain), Address: "127.0.0.1:1"}, "dial tcp 127.0.0.1:1: connect: connection refused"},
	} {
		r := run(t, once(test.check), Subject{})
		if r.Healthy != (test.last == "") || !strings.HasPrefix(r.Last, test.last) {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ address, target, want string }{
		{"", "www.example.com:80", "www.example.com:80"},
		{"10.0.0.1", "www.example.com:443", "10.0.0.1:443"},
		{"10.0.0.1:8443", "www.example.com:443", "10.0.0.1:8443"},
		{"10.0.0.1:", "www.example.com:443", "10.0.0.1:443"},
		{"web-2", "www.example.com:443", "web-2:443"},
		{"::1", "www.example.com:443", "[::1]:443"},
		{"[::1]", "www.example.com:443", "[::1]:443"},
		{"[::1]:8443", "www.example.com:443", "[::1]:8443"},
		{"10.0.0.1", "[2001:db8::1]:80", "10.0.0.1:80"},
		{"10.0.0.1", "no-port", "no-port"},
	} {
		if got := place(test.address, test.target); got != test.want {
			t.Errorf("%q instead of %q: %q, want %q", test.address, test.target, got, test.want)
		}
	}
}
