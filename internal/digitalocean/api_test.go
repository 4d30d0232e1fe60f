package digitalocean

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"bluegreen/internal/promotion"
)

const (
	ip     = "203.0.113.10"
	canary = `dop_v1_CaNaRy+/"\%7`

	ipPath       = "/v2/reserved_ips/203.0.113.10"
	actionsPath  = ipPath + "/actions"
	listPath     = "/v2/reserved_ips"
	bluePath     = "/v2/droplets/3164494"
	greenPath    = "/v2/droplets/3164495"
	greenActions = greenPath + "/actions"
)

// proxied is what has come to the proxy that TestMain sets up.
var proxied struct {
	sync.Mutex
	hosts map[string]int
}

// TestMain makes a machine with a proxy, which is read once in a process's life.
// It answers "true" and "203.0.113.10" to whoever asks for metadata.
func TestMain(m *testing.M) {
	proxied.hosts = make(map[string]int)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxied.Lock()
		proxied.hosts[r.URL.Host]++
		proxied.Unlock()
		switch {
		case r.URL.Path == ipPath:
			io.WriteString(w, holding(3164494))
		case strings.HasSuffix(r.URL.Path, "/active"):
			io.WriteString(w, "true")
		default:
			io.WriteString(w, ip)
		}
	}))
	for name, value := range map[string]string{
		"HTTP_PROXY": proxy.URL, "http_proxy": proxy.URL, "NO_PROXY": "", "no_proxy": "",
	} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
	}
	status := m.Run()
	proxy.Close()
	os.Exit(status)
}

// An api answers requests to its paths, each with its answers in turn, the last
// one for ever.
type api struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	answers map[string][]http.HandlerFunc // "GET /v2/..."
	asked   []string                      // "GET /v2/...?query"
	bodies  []string
	agents  []string
	tokens  int // requests that had the token
}

func newAPI(t *testing.T) *api {
	a := &api{t: t, answers: make(map[string][]http.HandlerFunc)}
	server := httptest.NewUnstartedServer(a)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.asked = append(a.asked, r.Method+" "+r.URL.RequestURI())
	a.bodies = append(a.bodies, string(body))
	a.agents = append(a.agents, r.UserAgent())
	if r.Header.Get("Authorization") == "Bearer "+canary {
		a.tokens++
	}
	key := r.Method + " " + r.URL.Path
	answers := a.answers[key]
	if len(answers) > 1 {
		a.answers[key] = answers[1:]
	}
	a.mu.Unlock()
	if len(answers) == 0 {
		w.WriteHeader(404)
		io.WriteString(w, `{"id":"not_found","message":"The resource you were accessing could not be found."}`)
		return
	}
	answers[0](w, r)
}

// on sets the answers to a GET, or "POST /path".
func (a *api) on(path string, answers ...http.HandlerFunc) *api {
	if !strings.Contains(path, " ") {
		path = "GET " + path
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[path] = answers
	return a
}

func (a *api) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.asked)
}

// withToken returns how many requests had the token.
func (a *api) withToken() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func ok(body string) http.HandlerFunc { return answer(200, body) }

func holding(droplet int) string {
	return fmt.Sprintf(`{"reserved_ip":{"ip":%q,"locked":false,"region":{"slug":"nyc3"},"droplet":{"id":%d,"name":"web\u001b[31m"}}}`, ip, droplet)
}

const (
	nobody     = `{"reserved_ip":{"ip":"203.0.113.10","droplet":null,"region":{"slug":"nyc3"},"locked":false}}`
	noActions  = `{"actions":[],"links":{},"meta":{"total":0}}`
	blueActive = `{"droplet":{"id":3164494,"status":"active","region":{"slug":"nyc3"}}}`
	green      = `{"droplet":{"id":3164495,"status":%q,"region":{"slug":%q}}}`
	forbidden  = `{"id":"forbidden","message":"You are not authorized to perform this operation"}`
)

// healthy is an api where blue has the IP and green could take it.
func healthy(t *testing.T) *api {
	return newAPI(t).
		on(ipPath, ok(holding(3164494))).
		on(actionsPath, ok(noActions)).
		on(bluePath, ok(blueActive)).
		on(greenPath, ok(fmt.Sprintf(green, "active", "nyc3"))).
		on(greenActions, ok(noActions)).
		on(listPath, ok(`{"reserved_ips":[`+strings.TrimSuffix(strings.TrimPrefix(holding(3164494), `{"reserved_ip":`), "}")+`],"links":{}}`))
}

// provider returns a Provider that asks at url, where blue is this environment,
// with short pauses.
func provider(t testing.TB, url string, change ...func(*Options)) *Provider {
	t.Helper()
	o := Options{
		IP: ip, Droplets: map[string]int{"blue": 3164494, "green": 3164495}, Self: "blue", APIURL: url,
		Token: func() (string, error) { return canary, nil },
		Pace:  []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond}, Attempt: 5 * time.Second,
	}
	for _, c := range change {
		c(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func once(o *Options) { o.Pace = []time.Duration{} }

func quick(o *Options) { once(o); o.Attempt = 500 * time.Millisecond }

// checkText fails where a text that leaves the package is not one line, is
// long, or tells anything of the token.
func checkText(t testing.TB, text string) {
	t.Helper()
	if strings.Contains(strings.ToLower(text), "canary") {
		t.Errorf("the token is in %q", text)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || len(text) > 2000 {
		t.Errorf("not for a terminal: %q", text)
	}
}

// wantError checks an error's text and what it wraps.
func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		checkText(t, e.Error())
		checkText(t, fmt.Sprintf("%+v", e))
	}
	if err.Error() != want {
		t.Errorf("error\n%s, want\n%s", err, want)
	}
}

func state(t testing.TB, p *Provider, to string) *promotion.State {
	t.Helper()
	s, err := p.State(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	checkText(t, s.Foreign)
	checkText(t, s.Busy)
	for _, a := range s.Actions {
		checkText(t, a.Status)
	}
	return s
}

// raw serves connections as they come, and returns the url and how many came.
func raw(t testing.TB, serve func(conn net.Conn)) (url string, connections func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	count := 0
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			count++
			mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

// takeRequest reads a request's head, and a body that came with it.
func takeRequest(conn net.Conn) { conn.Read(make([]byte, 64<<10)) }

// untilClosed returns when the other side has gone.
func untilClosed(conn net.Conn) { io.Copy(io.Discard, conn) }

// drip sends until the other side has gone.
func drip(conn net.Conn, text string, every time.Duration) {
	for {
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
		time.Sleep(every) // the speed of the server is what is tested
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
