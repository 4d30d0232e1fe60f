package digitalocean

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bluegreen/internal/promotion"
)

// canned answers without a network.
type canned func(*http.Request) (int, []byte)

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body := c(r)
	return &http.Response{StatusCode: status, Request: r, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body))}, nil
}

const asking = "asking DigitalOcean for 203.0.113.10: "

func TestRetries(t *testing.T) {
	t.Parallel()
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, holding(3164494)) // complete JSON, but not all of the answer
	}
	drop := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	limited := func(name, value string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, value)
			answer(429, `{"id":"too_many_requests","message":"API Rate limit exceeded."}`)(w, r)
		}
	}
	good := ok(holding(3164494))
	for _, test := range []struct {
		name    string
		answers []http.HandlerFunc
		tries   int
		want    string // "" for blue
	}{
		{"500", []http.HandlerFunc{answer(500, ""), good}, 2, ""},
		{"all kinds", []http.HandlerFunc{drop, cut, answer(502, "<html>"), good}, 4, ""},
		{"unreadable", []http.HandlerFunc{ok("<html>"), ok(""), ok("{}"), good}, 4, ""},
		{"429", []http.HandlerFunc{limited("X-Nothing", ""), good}, 2, ""},
		{"429 with 0", []http.HandlerFunc{limited("Retry-After", "0"), good}, 2, ""},
		{"429 with a date that is over", []http.HandlerFunc{limited("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"), good}, 2, ""},
		{"429 with a reset that is over", []http.HandlerFunc{limited("Ratelimit-Reset", "1415984218"), good}, 2, ""},
		{"429 with nonsense", []http.HandlerFunc{limited("Retry-After", "soon"), good}, 2, ""},
		{"too often", []http.HandlerFunc{answer(500, ""), answer(500, ""), answer(500, ""), answer(503, ""), good}, 4,
			asking + "503 with an empty body"},
		{"always cut", []http.HandlerFunc{cut}, 4, asking + "an answer of 200, cut off: unexpected EOF"},
		{"always dropped", []http.HandlerFunc{drop}, 4, asking + "EOF"},
		{"401", []http.HandlerFunc{answer(401, ""), good}, 1, asking + "401 with an empty body (the token is wrong, expired or revoked)"},
		{"403", []http.HandlerFunc{answer(403, forbidden), good}, 1,
			asking + "403: You are not authorized to perform this operation (the token needs the scope reserved_ip:update)"},
		{"404", []http.HandlerFunc{answer(404, "x"), good}, 1, asking + "404 with a body that is not JSON"},
		{"422", []http.HandlerFunc{answer(422, "{}"), good}, 1, asking + "422 without a reason"},
		{"304", []http.HandlerFunc{answer(304, ""), good}, 1, asking + "304 with an empty body"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t).on(ipPath, test.answers...)
			s, err := provider(t, a.url).State(t.Context(), "")
			if test.want != "" {
				wantError(t, err, test.want)
			} else if err != nil || s.Owner != "blue" {
				t.Errorf("%+v, %v", s, err)
			}
			if n := len(a.requests()); n != test.tries {
				t.Errorf("%d attempts, want %d", n, test.tries)
			}
		})
	}
}

// A pause that would go past the deadline is not begun.
func TestNoTimeToWait(t *testing.T) {
	t.Parallel()
	later := time.Now().Add(time.Hour)
	for name, value := range map[string]string{
		"Retry-After":     "3600",
		"retry-after":     later.UTC().Format(http.TimeFormat),
		"Ratelimit-Reset": fmt.Sprint(later.Unix()),
	} {
		a := newAPI(t).on(ipPath, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, value)
			answer(429, `{"message":"API Rate limit exceeded."}`)(w, r)
		})
		for _, ctx := range []context.Context{within(t, time.Minute), t.Context()} {
			start := time.Now()
			_, err := provider(t, a.url).State(ctx, "")
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %s", took)
			}
			if err == nil || !strings.HasPrefix(err.Error(), asking+"429: API Rate limit exceeded. (the API asks to wait ") ||
				!strings.HasSuffix(err.Error(), "), which is longer than there is time for") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n := len(a.requests()); n != 2 {
			t.Errorf("%d requests", n)
		}
	}
	// Neither is one of ours.
	a := newAPI(t).on(ipPath, answer(500, ""))
	_, err := provider(t, a.url, func(o *Options) { o.Pace = []time.Duration{time.Hour} }).State(within(t, time.Minute), "")
	wantError(t, err, asking+"500 with an empty body")
}

func TestRequestedPause(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, test := range []struct {
		after, reset, left string
		want               time.Duration
	}{
		{"", "", "", 0},
		{"7", "1800000100", "0", 7 * time.Second},
		{"0", "1800000100", "0", 0},
		{"99999999999999", "", "", 24 * time.Hour},
		{"-7", "", "", 0},
		{"soon", "1800000100", "0", 100 * time.Second},
		{now.Add(30 * time.Second).UTC().Format(http.TimeFormat), "", "", 30 * time.Second},
		{now.Add(-30 * time.Second).UTC().Format(http.TimeFormat), "", "", 0},
		{"", "1800000100", "", 100 * time.Second},
		{"", "1800000100", "0", 100 * time.Second},
		{"", "1800000100", "4750", 0}, // the limit of a minute, not of the hour
		{"", "1700000000", "0", 0},
		{"", "-9223372036854775808", "0", 0},
		{"", "9223372036854775807", "0", 24 * time.Hour},
	} {
		h := http.Header{}
		h.Set("Retry-After", test.after)
		h.Set("Ratelimit-Reset", test.reset)
		h.Set("Ratelimit-Remaining", test.left)
		if got := requestedPause(h, now); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

// What is asked for is waited for.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var refused atomic.Int64
	a := newAPI(t).on(ipPath, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "1")
		refused.Store(time.Now().UnixNano())
		answer(429, "{}")(w, r)
	}, func(w http.ResponseWriter, r *http.Request) {
		if pause := time.Since(time.Unix(0, refused.Load())); pause < time.Second {
			t.Errorf("asked again after %s", pause)
		}
		ok(holding(3164494))(w, r)
	})
	state(t, provider(t, a.url), "")
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	io.Copy(w, io.LimitReader(zeros{}, 10<<20))
	w.Close()
	for _, test := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"silent", untilClosed, "no complete answer within 500ms"},
		{"slow head", func(c net.Conn) { drip(c, "H", 10*time.Millisecond) }, "no complete answer within 500ms"},
		{"slow body", func(c net.Conn) {
			io.WriteString(c, head+"\r\n")
			drip(c, "{", 10*time.Millisecond)
		}, "an answer of 200, cut off: no complete answer within 500ms"},
		{"endless body", func(c net.Conn) {
			io.WriteString(c, head+"\r\n")
			drip(c, strings.Repeat(" ", 32<<10), 0)
		}, "an answer of more than 65536 bytes"},
		{"endless error", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 500 Oh\r\n\r\n")
			drip(c, strings.Repeat(" ", 32<<10), 0)
		}, "an answer of more than 65536 bytes"},
		{"endless head", func(c net.Conn) {
			io.WriteString(c, head)
			drip(c, "X: "+strings.Repeat("x", 1000)+"\r\n", 0)
		}, "net/http: HTTP/1.x transport connection broken: net/http: server response headers exceeded 65536 bytes; aborted"},
		{"no end of 1xx", func(c net.Conn) {
			drip(c, "HTTP/1.1 103 Early Hints\r\n\r\n", 10*time.Millisecond)
		}, "no complete answer within 500ms"},
		{"101", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			untilClosed(c)
		}, "an answer of 101, cut off: no complete answer within 500ms"},
		{"gzip bomb", func(c net.Conn) {
			fmt.Fprintf(c, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", head, bomb.Len(), bomb.Bytes())
		}, `an answer that cannot be read: invalid character '\x1f' looking for beginning of value`},
		{"not http", func(c net.Conn) { fmt.Fprintf(c, "SSH-2.0-\x1b[31mOpenSSH%s\r\n", canary) },
			`net/http: HTTP/1.x transport connection broken: malformed HTTP response "SSH-2.0-\x1b[31mOpenSSH[token]"`},
		{"bad header", func(c net.Conn) { fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n\x1b %s\r\n\r\n", url.QueryEscape(canary)) },
			`net/http: HTTP/1.x transport connection broken: malformed MIME header: missing colon: "\x1b [token]"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			url, connections := raw(t, func(c net.Conn) {
				takeRequest(c)
				test.serve(c)
			})
			start := time.Now()
			change := once // ample time
			switch {
			case strings.Contains(test.want, "within"):
				change = quick
			case strings.Contains(test.want, "more than"):
				change = func(*Options) {} // time to try again, but no reason
			}
			_, err := provider(t, url, change).State(t.Context(), "")
			if n := connections(); n != 1 {
				t.Errorf("asked %d times", n)
			}
			wantError(t, err, asking+test.want)
			if took := time.Since(start); took > 4*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// After the end of the context nothing is asked again, and what was seen before
// is said.
func TestContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := newAPI(t).on(ipPath, answer(500, ""), func(http.ResponseWriter, *http.Request) {
		cancel()
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	})
	_, err := provider(t, a.url).State(ctx, "")
	wantError(t, err, asking+"500 with an empty body")
	if !errors.Is(err, context.Canceled) || len(a.requests()) != 2 {
		t.Errorf("%#v after %q", err, a.requests())
	}
	_, err = provider(t, a.url).State(ctx, "")
	wantError(t, err, asking+"context canceled")
	if !errors.Is(err, context.Canceled) || len(a.requests()) != 2 {
		t.Errorf("%#v after %q", err, a.requests())
	}
	// In a pause, too.
	waiting, stop := context.WithCancel(t.Context())
	p := provider(t, newAPI(t).on(ipPath, answer(500, "")).url, func(o *Options) { o.Pace = []time.Duration{time.Minute} })
	time.AfterFunc(50*time.Millisecond, stop)
	start := time.Now()
	_, err = p.State(waiting, "")
	if took := time.Since(start); !errors.Is(err, context.Canceled) || took > 5*time.Second {
		t.Errorf("%v after %s", err, took)
	}
}

// However an assignment ends, it is sent once.
func TestAssignOnce(t *testing.T) {
	t.Parallel()
	const doing = "asking DigitalOcean to assign 203.0.113.10 to droplet 3164495 (green): "
	for _, test := range []struct {
		name string
		end  func(net.Conn)
		want string // the end of it
	}{
		{"eof", func(net.Conn) {}, "EOF"},
		{"reset", func(c net.Conn) { c.(*net.TCPConn).SetLinger(0) }, "connection reset by peer"},
		{"silence", untilClosed, "no complete answer within 100ms"},
		{"cut off", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{\"action\":{\"id\":1}}")
		}, "an answer of 201, cut off: unexpected EOF"},
		{"refusal cut off", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\n{}")
		}, "an answer of 403, cut off: unexpected EOF"},
		{"too long", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 201 Created\r\n\r\n"+strings.Repeat(" ", 70<<10))
			untilClosed(c)
		}, "an answer of more than 65536 bytes"},
		{"moved", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 308 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
		}, `, which is not followed`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var posts atomic.Int32
			url, connections := raw(t, func(c net.Conn) {
				head := make([]byte, 64<<10)
				n, _ := c.Read(head)
				if bytes.HasPrefix(head[:n], []byte("GET")) {
					// Kept alive: the assignment could go over this connection.
					body := holding(3164494)
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
					n, _ = c.Read(head)
				}
				if bytes.HasPrefix(head[:n], []byte("POST")) {
					posts.Add(1)
					test.end(c)
				}
			})
			p := provider(t, url, func(o *Options) {
				if test.name == "silence" {
					o.Attempt = 100 * time.Millisecond
				}
			})
			state(t, p, "")
			action, err := p.Assign(t.Context(), "green", nil)
			if err == nil || action != 0 || !strings.HasPrefix(err.Error(), doing) || !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("%d, %v", action, err)
			}
			if rejection := (*promotion.Rejection)(nil); errors.As(err, &rejection) {
				t.Errorf("%v proves nothing", err)
			}
			if posts.Load() != 1 || connections() != 2 {
				t.Errorf("sent %d times, over %d connections in all", posts.Load(), connections())
			}
		})
	}
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	other := newAPI(t).on(ipPath, ok(holding(3164494))).on("POST "+ipPath, answer(201, "{}"))
	host := strings.TrimPrefix(other.url, "http://")
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, test := range []struct{ location, want string }{
			{other.url + ipPath + "?" + canary, `"` + host + `"`},
			{"//" + host + "/%zz\u202e", `"//` + host + `/%zz\u202e"`},
			{"http://[::1%" + canary, `"http://[::1%[token]"`},
		} {
			a := newAPI(t)
			redirect := func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Location"] = []string{test.location}
				w.WriteHeader(status)
			}
			a.on(ipPath, redirect).on("POST "+actionsPath, redirect)
			p := provider(t, a.url)
			_, err := p.State(t.Context(), "")
			wantError(t, err, fmt.Sprintf("%s%d, a redirect to %s, which is not followed", asking, status, test.want))
			_, err = p.Assign(t.Context(), "green", nil)
			wantError(t, err, fmt.Sprintf("asking DigitalOcean to assign 203.0.113.10 to droplet 3164495 (green): "+
				"%d, a redirect to %s, which is not followed", status, test.want))
			if n := len(a.requests()); n != 2 {
				t.Errorf("%d requests", n)
			}
		}
	}
	if got := other.requests(); len(got) != 0 {
		t.Errorf("the other host was asked %q", got)
	}
}

// Even a request to another host would not carry the token.
func TestTokenForTheAPIOnly(t *testing.T) {
	t.Parallel()
	a, other := healthy(t), newAPI(t)
	p := provider(t, a.url)
	for _, at := range []string{a.url, other.url, strings.Replace(a.url, "127.0.0.1", "localhost", 1)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+ipPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := p.client.HTTPClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if req.Header.Get("Authorization") != "" {
			t.Error("the caller's request was changed")
		}
	}
	if len(a.requests()) != 2 || a.withToken() != 1 || len(other.requests()) != 1 || other.withToken() != 0 {
		t.Errorf("%d of %q, %d of %q", a.withToken(), a.requests(), other.withToken(), other.requests())
	}
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"/do/api", "/do/api/", "/a%2Fb"} {
		var asked atomic.Value
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Store(r.RequestURI)
			ok(holding(3164494))(w, r)
		}))
		defer server.Close()
		state(t, provider(t, server.URL+prefix), "")
		if want := strings.TrimRight(prefix, "/") + ipPath; asked.Load() != want {
			t.Errorf("asked for %q, want %q", asked.Load(), want)
		}
	}
}

// The API is asked through the environment's proxy.
func TestProxy(t *testing.T) {
	t.Parallel()
	asked := func() int {
		proxied.Lock()
		defer proxied.Unlock()
		return proxied.hosts["api.invalid"]
	}
	before := asked()
	if s := state(t, provider(t, "http://api.invalid"), ""); s.Owner != "blue" || asked() != before+1 {
		t.Errorf("%+v, and the proxy was asked %d times", s, asked()-before)
	}
}

// The server's texts are escaped and cut, and give no token away.
func TestMessages(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100)
	for _, test := range []struct{ message, want string }{
		{"\x1b[31mred\n\u202e \u0085", `\x1b[31mred\n\u202e \u0085`},
		{`say "no" \ `, `say "no" \ `},
		{long, long},
		{long + "x", long + "..."},
		{"x" + long, "x" + long[:198] + "..."},
		{"Bearer " + canary, "Bearer [token]"},
		{strings.ToLower(canary) + canary, "[token][token]"},
		{url.QueryEscape(canary), "[token]"},
		{url.PathEscape(canary) + "&" + url.QueryEscape(url.QueryEscape(canary)), "[token]&[token]"},
		{fmt.Sprintf("%q", canary), `"[token]"`},
		{fmt.Sprintf("%x", canary), fmt.Sprintf("%x", canary)},
		{percent(canary), "[token]"},
		{strings.Repeat("x", 195) + canary, strings.Repeat("x", 195) + "[toke..."},
	} {
		a := newAPI(t).on(ipPath, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(422)
			fmt.Fprintf(w, `{"message":%s}`, quoteJSON(t, test.message))
		})
		_, err := provider(t, a.url).State(t.Context(), "")
		wantError(t, err, asking+"422: "+test.want)
	}
	// In what is no error, too.
	body := strings.ReplaceAll(holding(42), `web\u001b[31m`, strings.Trim(quoteJSON(t, canary), `"`))
	actions := fmt.Sprintf(`{"actions":[{"id":1,"status":%s},{"id":2,"status":"in-progress","type":%[1]s}]}`, quoteJSON(t, canary))
	a := healthy(t).on(ipPath, ok(body)).on(actionsPath, ok(noActions)).on(greenActions, ok(actions))
	s := state(t, provider(t, a.url), "green")
	if s.Foreign != `it belongs to droplet 42 ("[token]"), which is not in promotion.droplets` ||
		s.Occupied != "droplet 3164495 has a pending event (action 2, [token])" {
		t.Errorf("%+v", s)
	}
	s = state(t, provider(t, a.on(actionsPath, ok(actions)).url), "green")
	if s.Actions[1].Status != "[token]" {
		t.Errorf("%+v", s)
	}
}

// percent url-encodes all of a text.
func percent(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
