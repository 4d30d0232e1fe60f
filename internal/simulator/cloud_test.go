package simulator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	ip, other        = "203.0.113.10", "203.0.113.11"
	blue, green      = 3164494, 3164495
	third, elsewhere = 3164496, 3164497
)

// newCloud is one with an IP that blue has, another that third has, and a
// droplet in another region.
func newCloud(o Options) *Cloud {
	c := New(o)
	c.AddDroplet(blue, "blue", "nyc3")
	c.AddDroplet(green, "green", "nyc3")
	c.AddDroplet(third, "third", "nyc3")
	c.AddDroplet(elsewhere, "elsewhere", "ams3")
	c.AddIP(ip, "nyc3", blue)
	c.AddIP(other, "nyc3", third)
	return c
}

// A caller asks the API, without a library in between.
type caller struct {
	t     *testing.T
	url   string
	token string
}

func start(t *testing.T, c *Cloud) *caller {
	t.Helper()
	url, stop, err := c.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return &caller{t, url, "secret"}
}

// ask makes a request of the form "GET /v2/…", or one with a body.
func (c *caller) ask(request string, body ...string) (*http.Response, object) {
	c.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(strings.Join(body, "")))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	o := object{}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&o); err != nil {
		c.t.Fatalf("%s: %q: %v", request, data, err)
	}
	return answer, o
}

// get follows keys into an answer, which must have the status.
func (c *caller) get(status int, request string, keys ...string) any {
	c.t.Helper()
	r, o := c.ask(request)
	if r.StatusCode != status {
		c.t.Errorf("%s: status %d, want %d", request, r.StatusCode, status)
	}
	var value any = o
	for _, key := range keys {
		within, _ := value.(object)
		value = within[key]
	}
	return value
}

// assign asks for an assignment, and returns the path of its action.
func (c *caller) assign(to int) string {
	c.t.Helper()
	r, o := c.ask("POST /v2/reserved_ips/"+ip+"/actions", fmt.Sprintf(`{"type":"assign","droplet_id":%d}`, to))
	action, _ := o["action"].(object)
	if r.StatusCode != 201 || action["status"] != "in-progress" || action["completed_at"] != nil {
		c.t.Fatalf("status %d, %v", r.StatusCode, o)
	}
	return fmt.Sprintf("/v2/reserved_ips/%s/actions/%.0f", ip, action["id"])
}

func TestAssign(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{Token: "secret"})
	c := start(t, cloud)
	action := c.assign(green)
	if got := cloud.Owner(ip); got != green {
		t.Errorf("%d has it", got)
	}
	want := object{
		"status": "completed", "type": "assign_ip", "resource_type": "reserved_ip",
		"resource_id": 203.*(1<<24) + 113*(1<<8) + 10, "region_slug": "nyc3",
	}
	got := c.get(200, "GET "+action, "action").(object)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
	}
	if got["completed_at"] == nil {
		t.Error("completed, but not when")
	}
	if got := c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip", "droplet", "id"); got != float64(green) {
		t.Errorf("the API says that %v has it", got)
	}
	if got := c.get(200, "GET /v2/floating_ips/"+ip, "floating_ip", "droplet", "name"); got != "green" {
		t.Errorf("the old API says that %v has it", got)
	}
	id := got["id"].(float64)
	moves := cloud.Moves()
	if len(moves) != 1 || moves[0].IP != ip || moves[0].From != blue || moves[0].To != green ||
		float64(moves[0].ActionID) != id || moves[0].Time.IsZero() {
		t.Errorf("%+v", moves)
	}
	c.get(404, "GET /v2/reserved_ips/"+other+strings.TrimPrefix(action, "/v2/reserved_ips/"+ip))
}

func TestUnassign(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	if r, _ := c.ask("POST /v2/reserved_ips/"+ip+"/actions", `{"type":"unassign"}`); r.StatusCode != 201 {
		t.Errorf("status %d", r.StatusCode)
	}
	if got := cloud.Owner(ip); got != 0 || cloud.Unassigns() != 1 {
		t.Errorf("%d has it after %d", got, cloud.Unassigns())
	}
	if got := c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip", "droplet"); got != nil {
		t.Errorf("%v has it", got)
	}
	if r, _ := c.ask("POST /v2/reserved_ips/"+ip+"/actions", `{"type":"unassign"}`); r.StatusCode != 422 {
		t.Errorf("status %d", r.StatusCode)
	}
	c.assign(blue)
	if cloud.Owner(ip) != blue || cloud.Unassigns() != 1 {
		t.Errorf("%+v", cloud.Moves())
	}
}

// What is refused has an error as the API's, and moves nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	const (
		taken   = "The droplet already has a floating IP assigned."
		missing = "The resource you were accessing could not be found."
	)
	nothing := func(*Cloud) {}
	for name, test := range map[string]struct {
		before      func(*Cloud)
		ip, body    string
		status      int
		id, message string
	}{
		"has it already":  {nothing, ip, `{"type":"assign","droplet_id":3164494}`, 422, "unprocessable_entity", taken},
		"has another":     {nothing, ip, `{"type":"assign","droplet_id":3164496}`, 422, "unprocessable_entity", taken},
		"another region":  {nothing, ip, `{"type":"assign","droplet_id":3164497}`, 422, "unprocessable_entity", otherRegion},
		"no such droplet": {nothing, ip, `{"type":"assign","droplet_id":1}`, 404, "not_found", missing},
		"no such IP":      {nothing, "203.0.113.99", `{"type":"assign","droplet_id":3164495}`, 404, "not_found", missing},
		"no such type":    {nothing, ip, `{"type":"steal","droplet_id":3164495}`, 422, "unprocessable_entity", unknownType},
		"no JSON":         {nothing, ip, `type=assign`, 400, "bad_request", "The request could not be understood."},
		"locked": {func(c *Cloud) { c.SetLocked(ip, true) }, ip, `{"type":"assign","droplet_id":3164495}`,
			422, "unprocessable_entity", "The floating IP already has a pending event."},
		"IP pending": {func(c *Cloud) { c.AddPending(ip) }, ip, `{"type":"unassign"}`,
			422, "unprocessable_entity", "The floating IP already has a pending event."},
		"droplet pending": {func(c *Cloud) { c.AddDropletPending(green) }, ip, `{"type":"assign","droplet_id":3164495}`,
			422, "unprocessable_entity", "Droplet already has a pending event."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := newCloud(Options{})
			test.before(cloud)
			r, o := start(t, cloud).ask("POST /v2/reserved_ips/"+test.ip+"/actions", test.body)
			if r.StatusCode != test.status || o["id"] != test.id || o["message"] != test.message {
				t.Errorf("status %d, %v", r.StatusCode, o)
			}
			if o["request_id"] == "" || o["request_id"] != r.Header.Get("X-Request-Id") {
				t.Errorf("%v, but header %q", o, r.Header.Get("X-Request-Id"))
			}
			if moves := cloud.Moves(); len(moves) != 0 {
				t.Errorf("%+v", moves)
			}
		})
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{Delay: time.Hour})
	c := start(t, cloud)
	action := c.assign(green)
	state := func() string {
		t.Helper()
		o := c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip").(object)
		return fmt.Sprint(c.get(200, "GET "+action, "action", "status"), " ", o["locked"], " ", o["droplet"].(object)["name"])
	}
	if got := state(); got != "in-progress true blue" {
		t.Errorf("at first %s", got)
	}
	if r, o := c.ask("POST /v2/reserved_ips/"+ip+"/actions", `{"type":"unassign"}`); r.StatusCode != 422 {
		t.Errorf("status %d, %v", r.StatusCode, o)
	}
	cloud.SetOwner(other, 0) // so that only what is on its way to green is in its way
	body := fmt.Sprintf(`{"type":"assign","droplet_id":%d}`, green)
	if r, o := c.ask("POST /v2/reserved_ips/"+other+"/actions", body); r.StatusCode != 422 {
		t.Errorf("status %d, %v", r.StatusCode, o)
	}
	cloud.Advance(59 * time.Minute)
	if got := state(); got != "in-progress true blue" || len(cloud.Moves()) != 1 {
		t.Errorf("before the hour %s, %v", got, cloud.Moves())
	}
	cloud.Advance(time.Minute)
	if got := state(); got != "completed false green" || cloud.Owner(ip) != green {
		t.Errorf("after the hour %s", got)
	}
}

func TestPending(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	end, endDroplet := cloud.AddPending(ip), cloud.AddDropletPending(green)
	for _, want := range []string{"true true in-progress in-progress", "false false completed completed"} {
		got := fmt.Sprint(
			c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip", "locked"), " ",
			c.get(200, "GET /v2/droplets/3164495", "droplet", "locked"), " ",
			c.get(200, "GET /v2/reserved_ips/"+ip+"/actions", "actions").([]any)[0].(object)["status"], " ",
			c.get(200, "GET /v2/droplets/3164495/actions", "actions").([]any)[0].(object)["status"])
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
		end()
		endDroplet()
	}
	c.assign(green)
	if cloud.Owner(ip) != green {
		t.Error("green does not have it")
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	for _, want := range []bool{true, false} {
		cloud.SetLocked(ip, want)
		if got := c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip", "locked"); got != want {
			t.Errorf("locked %v, want %v", got, want)
		}
	}
	c.assign(green)
}

func TestSetters(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	cloud.SetOwner(ip, third)
	cloud.SetOwner(ip, third)
	if moves := cloud.Moves(); len(moves) != 1 || moves[0].To != third || moves[0].ActionID != 0 {
		t.Errorf("%+v", moves)
	}
	cloud.SetDropletStatus(third, "off")
	if got := c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip", "droplet", "status"); got != "off" {
		t.Errorf("status %v", got)
	}
	for name, f := range map[string]func(){
		"droplet twice":   func() { cloud.AddDroplet(blue, "x", "nyc3") },
		"droplet 0":       func() { cloud.AddDroplet(0, "x", "nyc3") },
		"IP twice":        func() { cloud.AddIP(ip, "nyc3", 0) },
		"IPv6":            func() { cloud.AddIP("2001:db8::1", "nyc3", 0) },
		"unknown owner":   func() { cloud.AddIP("203.0.113.20", "nyc3", 1) },
		"unknown IP":      func() { cloud.Owner("203.0.113.21") },
		"unknown droplet": func() { cloud.SetOwner(ip, 1) },
		"no metadata":     func() { cloud.Metadata(1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			f()
		}()
	}
	cloud.Owner(ip) // the lock is free
}

func TestLists(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	c.assign(green)
	last := c.assign(blue)
	actions := c.get(200, "GET /v2/reserved_ips/"+ip+"/actions", "actions").([]any)
	if len(actions) != 2 || !strings.HasSuffix(last, fmt.Sprintf("/%.0f", actions[0].(object)["id"])) {
		t.Errorf("the newest is not the first of %v", actions)
	}
	if got := c.get(200, "GET /v2/droplets?name=green", "meta", "total"); got != 1. {
		t.Errorf("%v are called green", got)
	}
	var names []string
	next := "/v2/droplets?per_page=3"
	for next != "" {
		_, o := c.ask("GET " + next)
		for _, d := range o["droplets"].([]any) {
			names = append(names, d.(object)["name"].(string))
		}
		if total := o["meta"].(object)["total"]; total != 4. {
			t.Errorf("total %v", total)
		}
		pages, _ := o["links"].(object)["pages"].(object)
		next, _ = pages["next"].(string)
		next = strings.TrimPrefix(next, c.url)
	}
	if want := []string{"blue", "green", "third", "elsewhere"}; !slices.Equal(names, want) {
		t.Errorf("%v, want %v", names, want)
	}
	if got := c.get(200, "GET /v2/droplets?page=999999999&per_page=0", "droplets"); len(got.([]any)) != 0 {
		t.Errorf("past the end %v", got)
	}
	if got := c.get(200, "GET /v2/droplets?page=2&per_page=3", "links", "pages", "prev"); !strings.HasSuffix(got.(string), "page=1&per_page=3") {
		t.Errorf("the page before is %v", got)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		token, sent string
		status      int
	}{
		{"secret", "Bearer secret", 200}, {"secret", "bearer secret", 200}, {"", "Bearer anything", 200},
		{"secret", "Bearer wrong", 401}, {"secret", "", 401}, {"secret", "secret", 401}, {"secret", "Basic secret", 401},
		{"", "Bearer ", 401}, {"", "", 401},
	} {
		cloud := newCloud(Options{Token: test.token})
		r, err := http.NewRequestWithContext(t.Context(), "GET", start(t, cloud).url+"/v2/account", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", test.sent)
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		calls := cloud.Calls()
		if answer.StatusCode != test.status || calls[0].Authorized != (test.status == 200) {
			t.Errorf("%q for %q: status %d, %+v", test.sent, test.token, answer.StatusCode, calls)
		}
		if strings.Contains(fmt.Sprintf("%+v", calls), "secret") {
			t.Errorf("the token is kept: %+v", calls)
		}
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	c.assign(green)
	c.get(404, "GET /v2/nothing")
	c.get(404, "DELETE /v2/reserved_ips/"+ip)
	var got []string
	for _, call := range cloud.Calls() {
		got = append(got, strings.TrimSpace(fmt.Sprint(call.Method, " ", call.Path, " ", call.Status, " ", call.Body)))
		if call.Time.IsZero() {
			t.Errorf("%+v", call)
		}
	}
	want := []string{
		`POST /v2/reserved_ips/203.0.113.10/actions 201 {"type":"assign","droplet_id":3164495}`,
		"GET /v2/nothing 404", "DELETE /v2/reserved_ips/203.0.113.10 404",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{Limit: 2})
	c := start(t, cloud)
	for _, want := range []string{"200 1", "200 0", "429 0", "429 0"} {
		r, o := c.ask("GET /v2/account")
		if got := fmt.Sprint(r.StatusCode, " ", r.Header.Get("Ratelimit-Remaining")); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		wait, err := time.ParseDuration(r.Header.Get("Retry-After") + "s")
		if limited := r.StatusCode == 429; limited != (err == nil && wait > 0 && wait <= time.Minute) {
			t.Errorf("retry-after %q with %d", r.Header.Get("Retry-After"), r.StatusCode)
		} else if limited && (o["id"] != "too_many_requests" || o["message"] != "API Rate limit exceeded.") {
			t.Errorf("%v", o)
		}
		if r.Header.Get("Ratelimit-Limit") != "2" || r.Header.Get("Ratelimit-Reset") == "" {
			t.Errorf("%v", r.Header)
		}
	}
	cloud.Advance(time.Minute)
	c.get(200, "GET /v2/account")
}

func TestScopes(t *testing.T) {
	t.Parallel()
	const assign = "POST /v2/reserved_ips/" + ip + "/actions"
	requests := []string{
		"GET /v2/reserved_ips/" + ip, "GET /v2/reserved_ips", "GET /v2/reserved_ips/" + ip + "/actions", assign,
		"GET /v2/droplets", "GET /v2/droplets/3164494", "GET /v2/droplets/3164494/actions", "GET /v2/actions", "GET /v2/account",
	}
	for _, test := range []struct {
		scopes []string
		want   string
	}{
		{nil, "200 200 200 201 200 200 200 200 200"},
		{[]string{}, "403 403 403 403 403 403 403 403 403"},
		{[]string{"reserved_ip:read", "droplet:read"}, "200 200 200 403 200 200 200 403 403"},
		{[]string{"reserved_ip:update", "reserved_ip:read"}, "200 200 200 201 403 403 403 403 403"},
		{[]string{"account:read", "actions:read"}, "403 403 403 403 403 403 403 200 200"},
	} {
		c := start(t, newCloud(Options{Scopes: test.scopes}))
		var got []string
		for _, request := range requests {
			body := ""
			if request == assign {
				body = `{"type":"unassign"}`
			}
			r, o := c.ask(request, body)
			got = append(got, fmt.Sprint(r.StatusCode))
			if r.StatusCode == 403 && (o["id"] != "forbidden" || o["message"] != "You are not authorized to perform this operation") {
				t.Errorf("%v", o)
			}
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%v: %s, want %s", test.scopes, got, test.want)
		}
	}
	c := start(t, newCloud(Options{Scopes: []string{"reserved_ip:read"}}))
	o := c.get(200, "GET /v2/reserved_ips/"+ip, "reserved_ip").(object)
	if droplet, ok := o["droplet"]; droplet != nil || !ok || o["project_id"] != nil {
		t.Errorf("shown without the scopes: %v", o)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	cloud := newCloud(Options{})
	c := start(t, cloud)
	r, o := c.ask("POST /v2/reserved_ips", `{"droplet_id":3164495}`)
	created, _ := o["reserved_ip"].(object)
	if r.StatusCode != 202 || created["droplet"] != nil || created["locked"] != true {
		t.Fatalf("status %d, %v", r.StatusCode, o)
	}
	if got := cloud.Owner(created["ip"].(string)); got != green {
		t.Errorf("%d has it", got)
	}
	link, err := url.Parse(o["links"].(object)["actions"].([]any)[0].(object)["href"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.get(200, "GET "+link.Path, "action", "status"); got != "completed" {
		t.Errorf("status %v", got)
	}
	for body, want := range map[string]int{
		`{}`: 422, `{"droplet_id":3164494}`: 422, `{"droplet_id":1}`: 404, `{`: 400, `{"region":"ams3"}`: 202,
	} {
		if r, o := c.ask("POST /v2/reserved_ips", body); r.StatusCode != want {
			t.Errorf("%s: status %d, want %d: %v", body, r.StatusCode, want, o)
		}
	}
}
