package simulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

const post = "/v2/reserved_ips/" + ip + "/actions"

// The lies of Fault's table: what the POST, the action and the owner say.
func TestLies(t *testing.T) {
	t.Parallel()
	const actions = "/v2/reserved_ips/*/actions"
	for name, test := range map[string]struct {
		fault Fault
		want  string // the POST's status, the action's, the owner
	}{
		"none":                        {Fault{Method: "DELETE"}, "201 completed 3164495"},
		"errored, unmoved":            {Fault{Method: "POST", Path: actions, ActionStatus: "errored"}, "201 errored 3164494"},
		"errored, moved":              {Fault{Method: "POST", Path: actions, ActionStatus: "errored", Apply: true}, "201 errored 3164495"},
		"completed, unmoved":          {Fault{Method: "POST", Path: actions, ActionStatus: "completed"}, "201 completed 3164494"},
		"never ends":                  {Fault{Method: "POST", Path: actions, ActionStatus: "in-progress"}, "201 in-progress 3164494"},
		"never ends, moved":           {Fault{Method: "POST", Path: actions, ActionStatus: "in-progress", Apply: true}, "201 in-progress 3164495"},
		"unheard of":                  {Fault{Method: "POST", Path: actions, ActionStatus: "on-strike"}, "201 on-strike 3164494"},
		"a third":                     {Fault{Method: "POST", Path: actions, ActionStatus: "completed", Do: func(c *Cloud) { c.SetOwner(ip, third) }}, "201 completed 3164496"},
		"{}, undone":                  {Fault{Method: "POST", Path: actions, Status: 201, Body: "{}"}, "201 none 3164494"},
		"{}, done":                    {Fault{Method: "POST", Path: actions, Status: 201, Body: "{}", Apply: true}, "201 completed 3164495"},
		"503, undone":                 {Fault{Method: "POST", Path: actions, Status: 503}, "503 none 3164494"},
		"503, done":                   {Fault{Method: "POST", Path: actions, Status: 503, Apply: true}, "503 completed 3164495"},
		"reset, undone":               {Fault{Method: "POST", Path: actions, Reset: true}, "0 none 3164494"},
		"reset, done":                 {Fault{Method: "POST", Path: actions, Reset: true, Apply: true}, "0 completed 3164495"},
		"reset, errored":              {Fault{Method: "POST", Path: actions, Reset: true, ActionStatus: "errored"}, "0 errored 3164494"},
		"cut":                         {Fault{Method: "POST", Path: actions, Cut: true}, "201 completed 3164495"},
		"404 when read":               {Fault{Method: "GET", Path: actions + "/*", Status: 404, Times: -1}, "201 404 3164495"},
		"errored when read":           {Fault{Method: "GET", Path: actions + "/*", ActionStatus: "errored"}, "201 errored 3164495"},
		"somebody else is faster":     {Fault{Method: "POST", Path: actions, Do: func(c *Cloud) { c.SetOwner(ip, green) }}, "422 none 3164495"},
		"delayed":                     {Fault{Method: "POST", Path: actions, Delay: time.Millisecond}, "201 completed 3164495"},
		"not authorized, not applied": {Fault{Method: "POST", Path: actions, Status: 401}, "401 none 3164494"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(Options{})
			c := start(t, cloud)
			cloud.Script(test.fault)
			status := 0
			if r, err := http.DefaultTransport.RoundTrip(c.request(t.Context(), "POST "+post, fmt.Sprintf(`{"type":"assign","droplet_id":%d}`, green))); err == nil {
				r.Body.Close()
				status = r.StatusCode
			}
			got := fmt.Sprint(status, " ", c.newest(cloud), " ", cloud.Owner(ip))
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if call := cloud.Calls()[0]; call.Status != status {
				t.Errorf("%+v, but the status was %d", call, status)
			}
		})
	}
}

// newest is the status of the newest action as the API shows it.
func (c *caller) newest(cloud *Cloud) string {
	id := 0
	cloud.change(func() {
		if n := len(cloud.actions); n > 0 {
			id = cloud.actions[n-1].id
		}
	})
	if id == 0 {
		return "none"
	}
	r, o := c.ask(fmt.Sprintf("GET %s/%d", post, id))
	if r.StatusCode != 200 {
		return fmt.Sprint(r.StatusCode)
	}
	return o["action"].(object)["status"].(string)
}

func (c *caller) request(ctx context.Context, request, body string) *http.Request {
	c.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	return r
}

// Which requests a fault is for.
func TestFaultMatches(t *testing.T) {
	t.Parallel()
	requests := []string{
		"GET /v2/reserved_ips/" + ip, "GET " + post, "POST " + post, "GET /v2/droplets", "GET /v2/reserved_ips/" + ip,
		"GET /v2/reserved_ips/" + ip,
	}
	for _, test := range []struct {
		fault Fault
		want  string // 1 where it happens
		left  int
	}{
		{Fault{}, "100000", 0},
		{Fault{Times: 2}, "110000", 0},
		{Fault{Times: -1}, "111111", 1},
		{Fault{Skip: 1}, "010000", 0},
		{Fault{Skip: 9}, "000000", 1},
		{Fault{Method: "POST"}, "001000", 0},
		{Fault{Path: "/v2/reserved_ips/*", Times: -1}, "100011", 1},
		{Fault{Path: "/v2/reserved_ips/*", Times: -1, Skip: 1}, "000011", 1},
		{Fault{Path: "/v2/reserved_ips/*/actions", Times: 2}, "011000", 0},
		{Fault{Path: "/v2/reserved_ips", Times: -1}, "111011", 1},
		{Fault{Path: "/v2/droplets", Times: -1}, "000100", 1},
		{Fault{Path: "/v2/account"}, "000000", 1},
	} {
		cloud := newCloud(Options{})
		c := start(t, cloud)
		test.fault.Status = http.StatusTeapot
		cloud.Script(test.fault)
		var got strings.Builder
		for _, request := range requests {
			r, _ := c.ask(request, "{}")
			if r.StatusCode == http.StatusTeapot {
				got.WriteString("1")
			} else {
				got.WriteString("0")
			}
		}
		if got.String() != test.want || cloud.Scripted() != test.left {
			t.Errorf("%+v: %s and %d left, want %s and %d", test.fault, got.String(), cloud.Scripted(), test.want, test.left)
		}
	}
}

// Of several faults, each request gets the first that is for it.
func TestFaultsInTurn(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	cloud.Script(Fault{Status: 500}, Fault{Path: "/v2/account", Status: 502, Times: 2}, Fault{Status: 503, Times: -1})
	for _, want := range []int{500, 502, 502, 503, 503} {
		c.get(want, "GET /v2/account")
	}
	cloud.ClearScript()
	c.get(200, "GET /v2/account")
}

func TestScriptedAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault  Fault
		status int
		body   string // or its beginning
		header map[string]string
	}{
		"usual error": {Fault{Status: 403}, 403, `{"id":"forbidden","message":"You are not authorized`, nil},
		"empty error": {Fault{Status: 500, Empty: true}, 500, "", nil},
		"empty":       {Fault{Empty: true}, 200, "", nil},
		"page": {Fault{Status: 502, Body: "<html>", Header: map[string]string{"Content-Type": "text/html"}}, 502, "<html>",
			map[string]string{"Content-Type": "text/html"}},
		"too many": {Fault{Status: 429, Header: map[string]string{"Retry-After": "3600"}}, 429, `{"id":"too_many_requests"`,
			map[string]string{"Retry-After": "3600"}},
		"redirect": {Fault{Status: 307, Header: map[string]string{"Location": "http://192.0.2.1/"}}, 307, "",
			map[string]string{"Location": "http://192.0.2.1/"}},
		"header": {Fault{Header: map[string]string{"Ratelimit-Remaining": "0"}}, 200, `{"account":`,
			map[string]string{"Ratelimit-Remaining": "0", "Content-Type": "application/json; charset=utf-8"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(Options{})
			cloud.Script(test.fault)
			c := start(t, cloud)
			r, err := http.DefaultTransport.RoundTrip(c.request(t.Context(), "GET /v2/account", ""))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			if err != nil || r.StatusCode != test.status || !strings.HasPrefix(string(body), test.body) ||
				test.body == "" && len(body) > 0 {
				t.Errorf("status %d, %q, %v", r.StatusCode, body, err)
			}
			for name, want := range test.header {
				if got := r.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	cloud.Script(Fault{Reset: true})
	c := start(t, cloud)
	// A request with a body is not repeated by net/http.
	_, err := http.DefaultTransport.RoundTrip(c.request(t.Context(), "POST "+post, `{}`))
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v", err)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	cloud.Script(Fault{Cut: true})
	c := start(t, cloud)
	r, err := http.DefaultTransport.RoundTrip(c.request(t.Context(), "GET /v2/account", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || int64(len(body)) != r.ContentLength/2 || len(body) == 0 {
		t.Errorf("%d of %d bytes, %v", len(body), r.ContentLength, err)
	}
}

func TestEndless(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	cloud.Script(Fault{Endless: true, Body: `{"reserved_ip":`})
	c := start(t, cloud)
	r, err := http.DefaultTransport.RoundTrip(c.request(t.Context(), "GET /v2/account", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || len(body) != 1<<20 || !strings.HasPrefix(string(body), `{"reserved_ip": `) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

// A request that hangs ends when the client goes; one that is delayed was then
// not carried out, unless it was to be.
func TestClientGoes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fault Fault
		owner int
	}{
		"hang":           {Fault{Hang: true}, blue},
		"hang, done":     {Fault{Hang: true, Apply: true}, green},
		"delay":          {Fault{Delay: time.Hour}, blue},
		"delay, done":    {Fault{Delay: time.Hour, Apply: true}, green},
		"delay, errored": {Fault{Delay: time.Hour, ActionStatus: "errored"}, blue},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cloud := newCloud(Options{})
			arrived := make(chan bool)
			test.fault.Do = func(*Cloud) { close(arrived) }
			cloud.Script(test.fault)
			ended := make(chan bool)
			url, stop, err := Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				cloud.Handler().ServeHTTP(w, r)
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			c := &caller{t, url, "secret"}
			r := c.request(ctx, "POST "+post, fmt.Sprintf(`{"type":"assign","droplet_id":%d}`, green))
			go func() {
				<-arrived
				cancel()
			}()
			if _, err := http.DefaultTransport.RoundTrip(r); !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			<-ended
			if got := cloud.Owner(ip); got != test.owner {
				t.Errorf("%d has it, want %d", got, test.owner)
			}
			if call := cloud.Calls()[0]; call.Status != 0 {
				t.Errorf("%+v", call)
			}
		})
	}
}

// A server that stops lets go of what hangs, without an answer.
func TestServerStops(t *testing.T) {
	t.Parallel()
	for _, fault := range []Fault{{Hang: true}, {Delay: time.Hour}} {
		cloud := newCloud(Options{})
		url, stop, err := cloud.Start()
		if err != nil {
			t.Fatal(err)
		}
		fault.Do = func(*Cloud) { go stop() }
		cloud.Script(fault)
		c := &caller{t, url, "secret"}
		r, err := http.DefaultTransport.RoundTrip(c.request(t.Context(), "POST "+post, "{}"))
		if err == nil {
			r.Body.Close()
			t.Errorf("%+v: status %d", fault, r.StatusCode)
		}
		stop()
	}
}
