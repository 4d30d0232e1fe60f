package health

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestMain makes a machine that trusts httptest's certificate, for example.com
// and 127.0.0.1, and whose environment names a proxy that must not be used.
// Both are read once in a process's life, so no test can set them for itself.
func TestMain(m *testing.M) {
	server := httptest.NewTLSServer(nil)
	roots, err := os.CreateTemp("", "roots-*.pem")
	if err != nil {
		log.Fatal(err)
	}
	pem.Encode(roots, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	roots.Close()
	server.Close()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "from the proxy", http.StatusBadGateway)
	}))
	for name, value := range map[string]string{
		"SSL_CERT_FILE": roots.Name(), "SSL_CERT_DIR": "/nowhere",
		"HTTP_PROXY": proxy.URL, "HTTPS_PROXY": proxy.URL, "NO_PROXY": "",
	} {
		os.Setenv(name, value)
	}
	status := m.Run()
	proxy.Close()
	os.Remove(roots.Name())
	os.Exit(status)
}

// listen serves raw connections and closes each when serve returns.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// unused returns an address where nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// request reads a request without a body.
func request(conn net.Conn) {
	http.ReadRequest(bufio.NewReader(conn))
}

// untilClosed waits until the other side has gone.
func untilClosed(conn net.Conn) {
	io.Copy(io.Discard, conn)
}

// flood sends text until the other side has gone.
func flood(conn net.Conn, text string) {
	block := []byte(strings.Repeat(text, 1+4096/len(text)))
	for {
		if _, err := conn.Write(block); err != nil {
			return
		}
	}
}

func TestEvilAnswers(t *testing.T) {
	t.Parallel()
	// send answers with text and stays; the client has to leave.
	send := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			request(conn)
			io.WriteString(conn, text)
			untilClosed(conn)
		}
	}
	// then answers with text and floods.
	then := func(text, more string) func(net.Conn) {
		return func(conn net.Conn) {
			request(conn)
			io.WriteString(conn, text)
			flood(conn, more)
		}
	}
	const ok = "HTTP/1.1 200 OK\r\n\r\n"
	short := 300 * time.Millisecond
	xs := strings.Repeat("x", 200)
	for _, test := range []struct {
		name    string
		serve   func(net.Conn)
		check   Check
		healthy bool
		last    string // a regular expression for all of it
	}{
		{"endless body", then(ok, "x"), Check{Body: "never"}, false, `status 200, body "` + xs + `"... does not contain "never"`},
		{"endless body, regexp", then(ok, "x"), Check{BodyRegexp: regexp.MustCompile("y$")}, false, `status 200, body "` + xs + `"... does not match y\$`},
		{"endless body, nobody asks", then(ok, "x"), Check{}, true, `status 200`},
		{"endless body, seen enough", then(ok+"App", "x"), Check{Body: "App"}, true, `status 200`},
		{"endless body of an error", then("HTTP/1.1 500 No\r\n\r\n", "x"), Check{}, false, `status 500, body "` + xs + `"...`},
		{"endless chunks", then("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), Check{Body: "never"}, false, `status 200, body "` + xs + `"... does not contain "never"`},
		{"endless chunk header", then("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x"), Check{Body: "never"}, false, `status 200, body "" cut off: .+`},
		{"slow body", send(ok + "A"), Check{Body: "never", Timeout: short}, false, `status 200, body "A" cut off: timed out after 300ms`},
		{"slow body, nobody asks", send(ok + "A"), Check{}, true, `status 200`},
		{"slow body, seen enough", send(ok + "my App"), Check{Body: "App"}, true, `status 200`},
		{"slow body, a regexp needs all", send(ok + "App"), Check{BodyRegexp: regexp.MustCompile("^App$"), Timeout: short}, false, `status 200, body "App" cut off: timed out after 300ms`},
		{"slow body of an error", send("HTTP/1.1 500 No\r\n\r\nboo"), Check{Timeout: short}, false, `status 500, body "boo"`},
		{"slow header", send("HTTP/1.1 200 OK\r\nServer: "), Check{Timeout: short}, false, `timed out after 300ms`},
		{"slow chunk", send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nAp"), Check{Body: "never", Timeout: short}, false, `status 200, body "Ap" cut off: timed out after 300ms`},
		{"silence", untilClosed, Check{Timeout: short}, false, `timed out after 300ms`},
		{"1xx for ever", then("", "HTTP/1.1 100 Continue\r\n\r\n"), Check{}, false, `.*server response headers exceeded 65536 bytes.*`},
		{"103 for ever", then("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), Check{}, false, `.*server response headers exceeded 65536 bytes.*`},
		{"1xx and silence", send("HTTP/1.1 100 Continue\r\n\r\n"), Check{Timeout: short}, false, `timed out after 300ms`},
		{"1xx and an answer", send("HTTP/1.1 103 Early Hints\r\n\r\n" + ok), Check{}, true, `status 200`},
		{"another protocol", send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), Check{Timeout: short}, false, `status 101`},
		{"headers for ever", then("HTTP/1.1 200 OK\r\n", "X: y\r\n"), Check{}, false, `.*server response headers exceeded 65536 bytes.*`},
		{"a header for ever", then("HTTP/1.1 200 OK\r\nX: ", "y"), Check{}, false, `.*server response headers exceeded 65536 bytes.*`},
		{"a status for ever", then("HTTP/1.1 200 ", "y"), Check{}, false, `.*server response headers exceeded 65536 bytes.*`},
		{"escapes for a header", send("HTTP/1.1 200 OK\r\nbad\x1b[31m\r\n\r\n"), Check{}, false, `.*bad\\x1b\[31m.*`},
		{"long nonsense for a header", send("HTTP/1.1 200 OK\r\n" + strings.Repeat("bad", 10000) + "\r\n\r\n"), Check{}, false, `.{400,600}`},
		{"no http", send("\x1b]0;evil\x07\r\n\r\n"), Check{}, false, `.*malformed HTTP.*`},
		{"escapes in a body", send("HTTP/1.1 500 No\r\nContent-Length: 8\r\n\r\n\x1b[31m\n\xff\x9b"), Check{}, false, `status 500, body "\\x1b\[31m\\n\\xff\\x9b"`},
		{"body cut off", func(conn net.Conn) {
			request(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nApp")
		}, Check{Body: "never"}, false, `status 200, body "App" cut off: unexpected EOF`},
		{"reset", func(conn net.Conn) {
			request(conn)
			conn.(*net.TCPConn).SetLinger(0)
		}, Check{}, false, `read tcp .*: connection reset by peer`},
		{"closed", request, Check{}, false, `EOF`},
		{"tls: silence", untilClosed, Check{URL: "https://", Timeout: short}, false, `timed out after 300ms`},
		{"tls: plain http", send(ok), Check{URL: "https://", Timeout: time.Second}, false, `.*(does not look like a TLS handshake|timed out).*`},
		{"tls: flood", func(conn net.Conn) { flood(conn, "\x16\x03\x03\x40\x00") }, Check{URL: "https://"}, false, `.*(tls|remote error|reset).*`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			gone := make(chan struct{})
			address := listen(t, func(conn net.Conn) {
				test.serve(conn)
				close(gone) // a second attempt would panic
			})
			if test.check.URL == "" {
				test.check.URL = "http://"
			}
			test.check.URL += address
			r := run(t, once(test.check), Subject{})
			if r.Healthy != test.healthy || r.Attempts != 1 || !regexp.MustCompile("^(?:"+test.last+")$").MatchString(r.Last) {
				t.Errorf("%+v, want %s", r, test.last)
			}
			if r.Took > 3*time.Second {
				t.Errorf("took %s", r.Took)
			}
			select {
			case <-gone:
			case <-time.After(3 * time.Second):
				t.Error("the connection was left open")
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	address := unused(t)
	r := run(t, once(Check{Name: "home", URL: "http://" + address}), Subject{})
	if want := fmt.Sprintf("dial tcp %s: connect: connection refused", address); r.Healthy || r.Last != want {
		t.Errorf("%+v", r)
	}
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	var followed atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "/nonsense":
			w.Header()["Location"] = []string{"http://[::1/%zz"}
			w.WriteHeader(http.StatusMovedPermanently)
		case "/nowhere":
			w.WriteHeader(http.StatusFound)
		default:
			followed.Add(1)
		}
	}))
	defer server.Close()
	for _, test := range []struct {
		path    string
		status  []int
		healthy bool
		last    string
	}{
		{"/", nil, false, `status 302, redirects to "/elsewhere"`},
		{"/", []int{200}, false, `status 302, redirects to "/elsewhere"`},
		{"/", []int{301, 302}, true, `status 302, redirects to "/elsewhere"`},
		{"/nonsense", nil, false, `status 301, redirects to "http://[::1/%zz"`},
		{"/nowhere", nil, false, `status 302`},
	} {
		r := run(t, once(Check{URL: server.URL + test.path, Status: test.status}), Subject{})
		if r.Healthy != test.healthy || r.Last != test.last {
			t.Errorf("%s: %+v, want %s", test.path, r, test.last)
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects followed", n)
	}
}

// A bomb is shown as it comes: compressed.
func TestCompressed(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	w.Write(bytes.Repeat([]byte("App"), 1<<20))
	w.Close()
	asked := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Header
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	}))
	defer server.Close()
	r := run(t, once(Check{URL: server.URL, Body: "AppAppApp"}), Subject{})
	if r.Healthy || !strings.HasPrefix(r.Last, `status 200, body "\x1f\x8b\b`) || !strings.HasSuffix(r.Last, `does not contain "AppAppApp"`) {
		t.Errorf("%+v", r)
	}
	if accepts, found := (<-asked)["Accept-Encoding"]; found {
		t.Errorf("compression was asked for: %q", accepts)
	}
}

// selfSigned makes a certificate that nobody has signed but its owner.
func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames: []string{"example.com"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, host string
		self       bool
		sni        string
		last       string
	}{
		{"trusted", "", false, "", `status 200`},
		{"trusted, by the host's name", "example.com", false, "example.com", `status 200`},
		{"with a port", "example.com:8443", false, "example.com", `status 200`},
		{"another name", "www.example.org", false, "www.example.org", `tls: .* not www.example.org`},
		{"self-signed", "example.com", true, "example.com", `tls: .*certificate signed by unknown authority`},
	} {
		name := make(chan string, 1)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 1 || test.host != "" && r.Host != test.host {
				http.Error(w, r.Proto+" "+r.Host, http.StatusBadRequest)
			}
		}))
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.EnableHTTP2 = true
		server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			name <- hello.ServerName
			return nil, nil
		}}
		if test.self {
			server.TLS.Certificates = []tls.Certificate{selfSigned(t)}
		}
		server.StartTLS()
		r := run(t, once(Check{URL: server.URL, Host: test.host}), Subject{})
		server.Close()
		if r.Healthy != (test.last == "status 200") || !regexp.MustCompile("^(?:"+test.last+")$").MatchString(r.Last) {
			t.Errorf("%s: %+v", test.name, r)
		}
		if sni := <-name; sni != test.sni {
			t.Errorf("%s: server name %q, want %q", test.name, sni, test.sni)
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var last *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { last = r }))
	defer server.Close()
	for _, test := range []struct {
		check Check
		host  string
		want  map[string]string
	}{
		{Check{}, strings.TrimPrefix(server.URL, "http://"), map[string]string{"User-Agent": "bluegreen", "Connection": "close"}},
		{Check{Host: "www.example.com:81", Headers: map[string]string{"accept": "text/html", "User-agent": "me"}},
			"www.example.com:81", map[string]string{"Accept": "text/html", "User-Agent": "me", "Connection": "close"}},
	} {
		test.check.URL = server.URL + "/a%2fb?q=1#fragment"
		if r := run(t, once(test.check), Subject{}); !r.Healthy {
			t.Errorf("%+v", r)
		}
		if last.Method != "GET" || last.RequestURI != "/a%2fb?q=1" || last.Host != test.host || len(last.Header) != len(test.want) {
			t.Errorf("%s %s, host %s, headers %v", last.Method, last.RequestURI, last.Host, last.Header)
		}
		for name, value := range test.want {
			if got := last.Header.Get(name); got != value {
				t.Errorf("%s: %q, want %q", name, got, value)
			}
		}
	}
	r := run(t, once(Check{URL: "http://[::1\x1b"}), Subject{})
	if r.Healthy || !strings.HasPrefix(r.Last, "parse ") {
		t.Errorf("%+v", r)
	}
}

// 0.0.0.0 is this machine, and unlike 127.0.0.1 no exception to Go's rules for
// proxies.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(sequence(t, 200).URL, "http://"))
	if r := run(t, once(Check{URL: "http://0.0.0.0:" + port}), Subject{}); !r.Healthy {
		t.Errorf("%+v", r)
	}
}

func TestStatusAndBody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscan(r.URL.Query().Get("status"), &status)
		w.WriteHeader(status)
		io.WriteString(w, r.URL.Query().Get("body"))
	}))
	defer server.Close()
	s := Subject{Commit: "0123456789", Short: "0123", Environment: "blue", Tag: "release-1"}
	re := regexp.MustCompile
	for _, test := range []struct {
		query string
		check Check
		last  string
	}{
		{"status=200", Check{}, "status 200"},
		{"status=204", Check{}, "status 204"},
		{"status=299", Check{}, "status 299"},
		{"status=400", Check{}, "!status 400"},
		{"status=500&body=boom", Check{Body: "boom"}, `!status 500, body "boom"`},
		{"status=200", Check{Status: []int{204, 401}}, "!status 200"},
		{"status=401", Check{Status: []int{204, 401}}, "status 401"},
		{"status=404&body=gone", Check{Status: []int{404}, Body: "gone"}, "status 404"},
		{"status=200&body=of+0123456789", Check{Body: "of {commit}"}, "status 200"},
		{"status=200&body=0123+blue+release-1", Check{Body: "{short} {environment} {tag}"}, "status 200"},
		{"status=200&body=green", Check{Body: "{environment}"}, `!status 200, body "green" does not contain "blue"`},
		{"status=200&body={other}", Check{Body: "{other}"}, `status 200`},
		{"status=200", Check{Body: "App"}, `!status 200, body "" does not contain "App"`},
		{"status=200&body=App+1.2", Check{BodyRegexp: re(`^App \d\.\d$`)}, "status 200"},
		{"status=200&body=App+1.2.3", Check{BodyRegexp: re(`^App \d\.\d$`)}, `!status 200, body "App 1.2.3" does not match ^App \d\.\d$`},
		{"status=200&body=App+1", Check{Body: "App", BodyRegexp: re(`1`)}, "status 200"},
		{"status=200&body=App+2", Check{Body: "App", BodyRegexp: re(`1`)}, `!status 200, body "App 2" does not match 1`},
		{"status=200&body=app+1", Check{Body: "App", BodyRegexp: re(`1`)}, `!status 200, body "app 1" does not contain "App"`},
	} {
		test.check.URL = server.URL + "/?" + test.query
		last, unhealthy := strings.CutPrefix(test.last, "!")
		if r := run(t, once(test.check), s); r.Healthy == unhealthy || r.Last != last {
			t.Errorf("%s: %+v, want %s", test.query, r, last)
		}
	}
}

// A counter is an endless body that knows how much of it was read.
type counter struct{ n int }

func (c *counter) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	c.n += len(p)
	return len(p), nil
}

func (c *counter) Close() error { return nil }

func TestReadsNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		page   page
		status int
		want   int
	}{
		{"status", page{}, 200, 0},
		{"wrong status", page{contains: []byte("y")}, 500, 201},
		{"redirect", page{}, 302, 201},
		{"body", page{contains: []byte("y")}, 200, 65536},
		{"regexp", page{Check: Check{BodyRegexp: regexp.MustCompile("x")}}, 200, 65536},
		{"file", page{Check: Check{BodyFile: "a"}, file: []byte("xx"), size: 2}, 200, 3},
		{"file and body", page{Check: Check{BodyFile: "a"}, file: []byte("xx"), size: 2, contains: []byte("x")}, 200, 65536},
		{"big file", page{Check: Check{BodyFile: "a"}, file: make([]byte, maxBody), size: 1 << 20}, 200, 65536},
	} {
		body := &counter{}
		test.page.judge(t.Context(), &http.Response{StatusCode: test.status, Body: body, ContentLength: -1})
		if body.n != test.want {
			t.Errorf("%s: %d bytes read, want %d", test.name, body.n, test.want)
		}
	}
}

// What is looked for may come in pieces.
func TestReadInPieces(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"App", "my App", "ApApp and more"} {
		got, err := read(oneByOne{strings.NewReader(text)}, maxBody, []byte("App"))
		if err != nil || !strings.HasSuffix(string(got), "App") {
			t.Errorf("%q: stopped at %q, %v", text, got, err)
		}
	}
}

type oneByOne struct{ r io.Reader }

func (o oneByOne) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }
