package simulator

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"
)

// site is a server that names itself.
func site(t *testing.T, name string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func forward(t *testing.T, c *Cloud, backends map[int]string) *Forwarder {
	t.Helper()
	f, err := c.Forward(ip, backends)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// dial opens a connection that a test can wait for.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// ask makes a request over the connection.
func ask(conn net.Conn) (string, error) {
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	return string(body), err
}

// refused sees that a new connection gets no answer: it may be reset before
// connect returns, or after.
func refused(t *testing.T, f *Forwarder) {
	t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	got, err := ask(conn)
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%q answers: %v", got, err)
	}
}

func TestForwardFollowsTheOwner(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{Delay: time.Hour})
	f := forward(t, cloud, map[int]string{blue: site(t, "blue"), green: site(t, "green")})
	first := dial(t, f.Addr())
	want := func(conn net.Conn, name string) {
		t.Helper()
		if got, err := ask(conn); got != name {
			t.Errorf("%q answers, want %q: %v", got, name, err)
		}
	}
	want(first, "blue")
	start(t, cloud).assign(green)
	want(dial(t, f.Addr()), "blue")
	cloud.Advance(time.Hour)
	want(dial(t, f.Addr()), "green")
	want(first, "blue") // established before
	for _, nobody := range []int{0, third} {
		cloud.SetOwner(ip, nobody)
		refused(t, f)
	}
}

func TestForwardDown(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	f := forward(t, cloud, map[int]string{blue: site(t, "blue")})
	before := dial(t, f.Addr())
	if _, err := ask(before); err != nil {
		t.Fatal(err)
	}
	f.SetDown(true)
	if _, err := before.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("established: %v", err)
	}
	refused(t, f)
	f.SetDown(false)
	if got, err := ask(dial(t, f.Addr())); got != "blue" {
		t.Errorf("%q answers: %v", got, err)
	}
}

func TestForwardHang(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	f := forward(t, cloud, map[int]string{blue: site(t, "blue")})
	f.SetHang(true)
	conn := dial(t, f.Addr())
	conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
	var timeout net.Error
	if got, err := ask(conn); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%q, %v", got, err)
	}
	f.SetHang(false)
	if got, err := ask(dial(t, f.Addr())); got != "blue" {
		t.Errorf("%q answers: %v", got, err)
	}
}

func TestForwardWithoutBackend(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	f := forward(t, newCloud(Options{}), map[int]string{blue: l.Addr().String()})
	refused(t, f)
}

// Each side may end its half, and hears the other to the end.
func TestForwardHalves(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		all, _ := io.ReadAll(conn)
		fmt.Fprintf(conn, "read %d bytes", len(all))
	}()
	f := forward(t, newCloud(Options{}), map[int]string{blue: l.Addr().String()})
	conn := dial(t, f.Addr()).(*net.TCPConn)
	io.WriteString(conn, strings.Repeat("x", 100_000))
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "read 100000 bytes" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestForwardClose(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	f := forward(t, cloud, map[int]string{blue: site(t, "blue")})
	open := dial(t, f.Addr())
	if _, err := ask(open); err != nil {
		t.Fatal(err)
	}
	f.SetHang(true)
	dial(t, f.Addr())
	f.Close()
	if _, err := open.Read(make([]byte, 1)); err == nil || len(f.conns) != 0 {
		t.Errorf("%v, %d connections are left", err, len(f.conns))
	}
	if conn, err := net.Dial("tcp", f.Addr()); err == nil {
		conn.Close()
		t.Error("somebody listens still")
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{Delay: time.Hour})
	c := start(t, cloud)
	handlers := map[int]http.Handler{blue: cloud.Metadata(blue), green: cloud.Metadata(green)}
	read := func(droplet int, path string) string {
		t.Helper()
		w := httptest.NewRecorder()
		handlers[droplet].ServeHTTP(w, httptest.NewRequest("GET", "/metadata/v1/"+path, nil))
		if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("%s is %q", path, got)
		}
		if w.Code != 200 {
			return fmt.Sprint(w.Code)
		}
		return w.Body.String()
	}
	for path, want := range map[string]string{
		"id": "3164494", "region": "nyc3", "hostname": "blue", "nothing": "404", "interfaces/public/7": "404",
		"reserved_ip/ipv4/active": "true", "reserved_ip/ipv4/ip_address": ip,
		"floating_ip/ipv4/active": "true", "floating_ip/ipv4/ip_address": ip,
		"interfaces/public/0/anchor_ipv4/address": "10.17.0.10", "interfaces/public/0/ipv4/address": "198.51.100.10",
		"": "floating_ip/\nhostname\nid\ninterfaces/\nregion\nreserved_ip/", "reserved_ip/ipv4": "active\nip_address",
		"reserved_ip/": "ipv4/",
	} {
		if got := read(blue, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	live := func(want string) {
		t.Helper()
		var got []string
		for _, droplet := range []int{blue, green} {
			got = append(got, read(droplet, "reserved_ip/ipv4/active"), read(droplet, "reserved_ip/ipv4/ip_address"))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	live("true " + ip + " false 404")
	c.assign(green)
	live("true " + ip + " false 404")
	cloud.Advance(time.Hour)
	live("false 404 true " + ip)
	cloud.SetMetadataLag(true)
	cloud.SetOwner(ip, blue)
	live("false 404 true " + ip)
	cloud.SetMetadataLag(false)
	live("true " + ip + " false 404")
}
