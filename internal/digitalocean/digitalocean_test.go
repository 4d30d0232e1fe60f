package digitalocean

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/promotion"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.IP = "" }, `"" is not an IPv4 address`},
		{func(o *Options) { o.IP = "../droplets" }, `"../droplets" is not an IPv4 address`},
		{func(o *Options) { o.IP = "2001:db8::1" }, `"2001:db8::1" is not an IPv4 address`},
		{func(o *Options) { o.Self = "red" }, `this environment, "red", has no droplet`},
		{func(o *Options) { o.Droplets = nil }, `this environment, "blue", has no droplet`},
		{func(o *Options) { o.Droplets = map[string]int{"blue": -1} }, `-1, of "blue", is not a droplet's id`},
		{func(o *Options) { o.Droplets = map[string]int{"blue": 1, "green": 1} }, `"blue" and "green" are both droplet 1`},
		{func(o *Options) { o.Token = nil }, "nothing gives a token"},
		{func(o *Options) { o.APIURL = "" }, `the API's address, "", is not an http or https url`},
		{func(o *Options) { o.APIURL = "ftp://example.com" }, `the API's address, "ftp://example.com", is not an http or https url`},
		{func(o *Options) { o.APIURL = "https://me:pass@example.com" }, `the API's address, "https://me:xxxxx@example.com", carries a user name`},
		{func(o *Options) { o.APIURL = "https://me:pa%ss@example.com" }, `the API's address is not a url`},
		{func(o *Options) { o.APIURL = "https://example.com/?a=b" }, `the API's address, "https://example.com/?a=b", goes on after its path`},
	} {
		o := Options{
			IP: ip, Droplets: map[string]int{"blue": 3164494}, Self: "blue", APIURL: "https://api.digitalocean.com",
			Token: func() (string, error) { t.Error("asked for the token"); return "", nil },
		}
		test.change(&o)
		_, err := New(o)
		wantError(t, err, test.want)
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	locked := strings.Replace(holding(3164494), `"locked":false`, `"locked":true`, 1)
	for _, test := range []struct {
		name   string
		answer string
		self   http.HandlerFunc
		want   promotion.State
	}{
		{"blue", holding(3164494), nil, promotion.State{Owner: "blue"}},
		{"green", holding(3164495), nil, promotion.State{Owner: "green"}},
		{"locked", locked, nil, promotion.State{Owner: "blue", Busy: "203.0.113.10 is locked"}},
		{"another's", holding(42), nil, promotion.State{
			Foreign: `it belongs to droplet 42 ("web\x1b[31m"), which is not in promotion.droplets`}},
		{"another's, locked", strings.Replace(holding(42), `"locked":false`, `"locked":true`, 1), nil, promotion.State{
			Foreign: `it belongs to droplet 42 ("web\x1b[31m"), which is not in promotion.droplets`, Busy: "203.0.113.10 is locked"}},
		{"nobody's", nobody, ok(blueActive), promotion.State{}},
		{"hidden", nobody, answer(403, forbidden), promotion.State{
			Foreign: "the API shows no droplet for it, and the token may not see droplets: it needs the scope droplet:read", Hidden: true}},
		{"hidden, without the key", `{"reserved_ip":{"ip":"203.0.113.10"}}`, answer(403, forbidden), promotion.State{
			Foreign: "the API shows no droplet for it, and the token may not see droplets: it needs the scope droplet:read", Hidden: true}},
		{"no such droplet", nobody, answer(404, "{}"), promotion.State{
			Foreign: "the API shows no droplet for it, and the droplet of this environment, droplet 3164494 (blue), does not exist or the token may not see it", Hidden: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t).on(ipPath, ok(test.answer))
			want := []string{"GET " + ipPath}
			if test.self != nil {
				a.on(bluePath, test.self)
				want = append(want, "GET "+bluePath)
			}
			if s := state(t, provider(t, a.url), ""); fmt.Sprint(*s) != fmt.Sprint(test.want) {
				t.Errorf("%+v, want %+v", *s, test.want)
			}
			if got := a.requests(); !slices.Equal(got, want) || a.withToken() != len(want) {
				t.Errorf("asked %q, %d with the token, want %q", got, a.withToken(), want)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.agents[0] != userAgent {
				t.Errorf("user agent %q", a.agents[0])
			}
		})
	}
}

// What does not say who the owner is, is an error, never nobody.
func TestOwnerUnknown(t *testing.T) {
	t.Parallel()
	const asking = "asking DigitalOcean for 203.0.113.10: "
	for _, test := range []struct{ body, want string }{
		{`{}`, asking + "an answer without a reserved IP"},
		{`null`, asking + "an answer without a reserved IP"},
		{`{"reserved_ip":null}`, asking + "an answer without a reserved IP"},
		{`{"reserved_ip":{}}`, asking + `an answer without it, but with ""`},
		{`{"reserved_ip":{"ip":"203.0.113.1","droplet":{"id":3164494}}}`, asking + `an answer without it, but with "203.0.113.1"`},
		{`{"reserved_ip":{"ip":"203.0.113.10","droplet":{}}}`, asking + "an answer without the id of its droplet"},
		{`{"reserved_ip":{"ip":"203.0.113.10","droplet":{"id":-3164494}}}`, asking + "an answer without the id of its droplet"},
		{`{"reserved_ip":{"ip":"203.0.113.10","droplet":{"id":"3164494"}}}`, asking +
			"an answer that cannot be read: json: cannot unmarshal string into Go struct field Droplet.reserved_ip.droplet.id of type int"},
		{``, asking + "an answer that cannot be read: EOF"},
		{`{"reserved_ip":{"ip":"203.0.11`, asking + "an answer that cannot be read: unexpected EOF"},
		{`<html>`, asking + "an answer that cannot be read: invalid character '<' looking for beginning of value"},
	} {
		a := newAPI(t).on(ipPath, ok(test.body)).on(bluePath, ok(blueActive))
		s, err := provider(t, a.url).State(t.Context(), "")
		wantError(t, err, test.want)
		if s != nil || len(a.requests()) != 4 {
			t.Errorf("%s: %+v after %q", test.body, s, a.requests())
		}
	}
	// The droplet that tells whether the token sees droplets must be there, too.
	a := newAPI(t).on(ipPath, ok(nobody)).on(bluePath, ok(`{}`))
	_, err := provider(t, a.url).State(t.Context(), "")
	wantError(t, err, "asking DigitalOcean for droplet 3164494 (blue): an answer without a droplet")
	a.on(bluePath, ok(fmt.Sprintf(green, "active", "nyc3")))
	_, err = provider(t, a.url).State(t.Context(), "")
	wantError(t, err, "asking DigitalOcean for droplet 3164494 (blue): an answer without it, but with droplet 3164495")
	a.on(bluePath, answer(500, ""))
	_, err = provider(t, a.url).State(t.Context(), "")
	wantError(t, err, "asking DigitalOcean for droplet 3164494 (blue): 500 with an empty body")
}

func TestPending(t *testing.T) {
	t.Parallel()
	const busy = `{"actions":[{"id":4,"status":"completed"},{"id":5,"status":"in-progress","type":"power_on"}]}`
	for _, test := range []struct {
		name        string
		ip, droplet http.HandlerFunc
		want        promotion.State
	}{
		{"nothing", ok(noActions), ok(noActions), promotion.State{Owner: "blue"}},
		{"sorted", ok(`{"actions":[{"id":7,"status":"errored"},{"id":8,"status":"\u001bnew"},{"id":6,"status":"completed"}]}`), ok(noActions),
			promotion.State{Owner: "blue", Actions: []promotion.Action{{ID: 8, Status: `\x1bnew`}, {ID: 7, Status: "errored"}, {ID: 6, Status: "completed"}}}},
		{"on the IP", ok(`{"actions":[{"id":123,"status":"in-progress"}]}`), ok(busy), promotion.State{
			Owner: "blue", Busy: "action 123 on 203.0.113.10 is in progress",
			Occupied: "droplet 3164495 has a pending event (action 5, power_on)", Actions: []promotion.Action{{ID: 123, Status: "in-progress"}}}},
		{"on the droplet", ok(noActions), ok(busy), promotion.State{
			Owner: "blue", Occupied: "droplet 3164495 has a pending event (action 5, power_on)"}},
		{"droplet's hidden", ok(noActions), answer(403, forbidden), promotion.State{Owner: "blue"}},
		{"droplet gone", ok(noActions), answer(404, "{}"), promotion.State{Owner: "blue"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := healthy(t).on(actionsPath, test.ip).on(greenActions, test.droplet)
			if s := state(t, provider(t, a.url), "green"); fmt.Sprint(*s) != fmt.Sprint(test.want) {
				t.Errorf("%+v, want %+v", *s, test.want)
			}
			// The owner comes last: see State.
			want := []string{"GET " + actionsPath + "?per_page=10", "GET " + greenActions + "?per_page=10", "GET " + ipPath}
			if got := a.requests(); !slices.Equal(got, want) {
				t.Errorf("asked %q, want %q", got, want)
			}
		})
	}
	foreign := healthy(t).on(ipPath, ok(holding(42))).on(greenActions, ok(busy))
	if s := state(t, provider(t, foreign.url), "green"); s.Owner != "" || s.Foreign == "" || s.Occupied == "" {
		t.Errorf("%+v", s)
	}
}

func TestPendingUnknown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path   string
		answer http.HandlerFunc
		want   string
	}{
		{actionsPath, answer(403, forbidden), "asking DigitalOcean for the actions of 203.0.113.10: " +
			"403: You are not authorized to perform this operation (the token needs the scope reserved_ip:update)"},
		{actionsPath, ok("{}"), "asking DigitalOcean for the actions of 203.0.113.10: an answer without actions"},
		{actionsPath, ok(`{"actions":[{}]}`), "asking DigitalOcean for the actions of 203.0.113.10: an answer without the id or the status of an action"},
		{greenActions, ok("{}"), "asking DigitalOcean for the actions of droplet 3164495 (green): an answer without actions"},
		{greenActions, answer(500, ""), "asking DigitalOcean for the actions of droplet 3164495 (green): 500 with an empty body"},
	} {
		s, err := provider(t, healthy(t).on(test.path, test.answer).url).State(t.Context(), "green")
		wantError(t, err, test.want)
		if s != nil {
			t.Errorf("%+v", s)
		}
	}
	_, err := provider(t, "http://127.0.0.1:1").State(t.Context(), "red")
	wantError(t, err, `"red" is not in promotion.droplets`)
}

func TestFit(t *testing.T) {
	t.Parallel()
	if err := provider(t, healthy(t).url).Fit(t.Context(), "green"); err != nil {
		t.Error(err)
	}
	// The environment that has the IP fits, too: it is not another one.
	if err := provider(t, healthy(t).url).Fit(t.Context(), "blue"); err != nil {
		t.Error(err)
	}
	// What a region is, not every token is told.
	if err := provider(t, healthy(t).on(greenPath, ok(fmt.Sprintf(green, "active", ""))).url).Fit(t.Context(), "green"); err != nil {
		t.Error(err)
	}
	const held = `{"reserved_ips":[{"ip":"203.0.113.12","droplet":null},{"ip":"203.0.113.11","droplet":{"id":3164495}}],"links":{}}`
	for _, test := range []struct {
		path         string
		answer       http.HandlerFunc
		reason, hint string
	}{
		{ipPath, answer(404, "{}"), "DigitalOcean knows no reserved IP 203.0.113.10", "promotion.ip"},
		{greenPath, answer(404, "{}"), "droplet 3164495 (green) does not exist", "promotion.droplets.green"},
		{greenPath, ok(fmt.Sprintf(green, "off", "nyc3")), "droplet 3164495 (green) is off", "power it on"},
		{greenPath, ok(fmt.Sprintf(green, "archive", "nyc3")), "droplet 3164495 (green) is archive", "power it on"},
		{greenPath, ok(fmt.Sprintf(green, "active", "ams2")), "droplet 3164495 (green) is in ams2 and 203.0.113.10 in nyc3", "region"},
		{listPath, ok(held), "droplet 3164495 (green) holds 203.0.113.11 already, and a droplet can hold one", "unassign 203.0.113.11"},
	} {
		err := provider(t, healthy(t).on(test.path, test.answer).url).Fit(t.Context(), "green")
		wantError(t, err, test.reason)
		misfit := (*promotion.Misfit)(nil)
		if !errors.As(err, &misfit) || !strings.Contains(misfit.Hint, test.hint) {
			t.Errorf("%#v", err)
		}
	}
}

func TestFitUnknown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path   string
		answer http.HandlerFunc
		want   string
	}{
		{ipPath, ok("{}"), "asking DigitalOcean for 203.0.113.10: an answer without a reserved IP"},
		{greenPath, answer(403, forbidden), "asking DigitalOcean for droplet 3164495 (green): 403: " +
			"You are not authorized to perform this operation (the token needs the scope reserved_ip:update)"},
		{greenPath, ok(fmt.Sprintf(green, "", "nyc3")), "asking DigitalOcean for droplet 3164495 (green): an answer without its status"},
		{listPath, ok("{}"), "asking DigitalOcean for the reserved IPs: an answer without reserved IPs"},
		{listPath, ok(`{"reserved_ips":[{"ip":"$(id)"}]}`), `asking DigitalOcean for the reserved IPs: an answer with "$(id)" for a reserved IP`},
	} {
		err := provider(t, healthy(t).on(test.path, test.answer).url).Fit(t.Context(), "green")
		wantError(t, err, test.want)
		if misfit := (*promotion.Misfit)(nil); errors.As(err, &misfit) {
			t.Errorf("%v is a misfit", err)
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	page := func(droplet int, next string) http.HandlerFunc {
		return ok(fmt.Sprintf(`{"reserved_ips":[{"ip":"203.0.113.11","droplet":{"id":%d}}],"links":{"pages":{"next":%q}}}`, droplet, next))
	}
	// The links lead elsewhere: pages are counted.
	other := newAPI(t)
	a := healthy(t).on(listPath, page(1, other.url), page(2, other.url), page(3164495, ""))
	err := provider(t, a.url).Fit(t.Context(), "green")
	wantError(t, err, "droplet 3164495 (green) holds 203.0.113.11 already, and a droplet can hold one")
	want := []string{listPath + "?page=1&per_page=5", listPath + "?page=2&per_page=5", listPath + "?page=3&per_page=5"}
	var got []string
	for _, r := range a.requests() {
		if strings.HasPrefix(r, "GET "+listPath+"?") {
			got = append(got, strings.TrimPrefix(r, "GET "))
		}
	}
	if !slices.Equal(got, want) || len(other.requests()) != 0 {
		t.Errorf("asked %q, want %q, and %q elsewhere", got, want, other.requests())
	}
	endless := healthy(t).on(listPath, page(1, "https://example.com/?page=2"))
	err = provider(t, endless.url).Fit(t.Context(), "green")
	wantError(t, err, "asking DigitalOcean for the reserved IPs: there are more than 100 pages")
	if n := len(endless.requests()); n != 102 {
		t.Errorf("%d requests", n)
	}
}

func TestAssign(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		body string
		want int
	}{
		{`{"action":{"id":72531856,"status":"in-progress","type":"assign_ip"}}`, 72531856},
		{`{"action":{"id":9,"status":"errored"}}`, 9},
		{`{"action":{"id":-9}}`, 0},
		{`{"action":null}`, 0},
		{`{}`, 0},
	} {
		a := newAPI(t).on("POST "+actionsPath, answer(201, test.body))
		action, err := provider(t, a.url).Assign(t.Context(), "green", nil)
		if action != test.want || err != nil {
			t.Errorf("%s: %d, %v", test.body, action, err)
		}
		var sent map[string]any
		a.mu.Lock()
		if err := json.Unmarshal([]byte(a.bodies[0]), &sent); err != nil {
			t.Errorf("%q: %v", a.bodies[0], err)
		}
		a.mu.Unlock()
		if len(a.requests()) != 1 || a.withToken() != 1 || fmt.Sprint(sent) != "map[droplet_id:3.164495e+06 type:assign]" {
			t.Errorf("asked %q with %v", a.requests(), sent)
		}
	}
}

func TestAssignRefused(t *testing.T) {
	t.Parallel()
	const asking = "asking DigitalOcean to assign 203.0.113.10 to droplet 3164495 (green): "
	reason := `{"id":"why","message":"no","request_id":"4d9d"}`
	for _, test := range []struct {
		status   int
		body     string
		want     string
		rejected bool
	}{
		{400, reason, "400: no", true},
		{401, `{"id":"unauthorized","message":"Unable to authenticate you"}`, "401: Unable to authenticate you (the token is wrong, expired or revoked)", true},
		{403, forbidden, "403: You are not authorized to perform this operation (the token needs the scope reserved_ip:update)", true},
		{404, reason, "404: no", true},
		{429, reason, "429: no (the API asks to wait 1h0m0s)", true},
		{408, reason, "408: no", false},
		{409, reason, "409: no", false},
		{422, `{"id":"unprocessable_entity","message":"Droplet already has a pending event."}`, "422: Droplet already has a pending event.", false},
		{500, reason, "500: no (request 4d9d)", false},
		{502, "<html><h1>Bad Gateway " + canary, "502 with a body that is not JSON", false},
		{503, "\n", "503 with an empty body", false},
		{504, `{"id":"only_an_id","message":null}`, "504: only_an_id", false},
		{504, `{"error":7}`, "504 without a reason", false},
		{504, `[]`, "504 without a reason", false},
		{201, "<html>", "an answer that cannot be read: invalid character '<' looking for beginning of value", false},
		{201, `{"action":{"id":1`, "an answer that cannot be read: unexpected EOF", false},
		{201, "", "an answer that cannot be read: EOF", false},
		// With godo's own decoding these end in a nil pointer.
		{500, `{"Response":null}`, "500 without a reason", false},
		{500, `{"Response":{"Body":null,"StatusCode":201},"message":"no"}`, "500: no", false},
	} {
		a := newAPI(t).on("POST "+actionsPath, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "3600")
			answer(test.status, test.body)(w, r)
		})
		action, err := provider(t, a.url).Assign(t.Context(), "green", nil)
		want := asking + test.want
		if test.rejected {
			want = "refused: " + want
		}
		wantError(t, err, want)
		if rejection := (*promotion.Rejection)(nil); errors.As(err, &rejection) != test.rejected || action != 0 {
			t.Errorf("%d %s: %d, %#v", test.status, test.body, action, err)
		}
		if n := len(a.requests()); n != 1 {
			t.Errorf("%d %s: sent %d times", test.status, test.body, n)
		}
	}
}

func TestAssignNotSent(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	_, err := provider(t, a.url).Assign(t.Context(), "red", nil)
	wantError(t, err, `refused: "red" is not in promotion.droplets`)
	_, err = provider(t, a.url, func(o *Options) {
		o.Token = func() (string, error) { return "", errors.New("gone") }
	}).Assign(t.Context(), "green", nil)
	wantError(t, err, "refused: asking DigitalOcean to assign 203.0.113.10 to droplet 3164495 (green): looking for the token: gone")
	if rejection := (*promotion.Rejection)(nil); !errors.As(err, &rejection) || len(a.requests()) != 0 {
		t.Errorf("%#v after %q", err, a.requests())
	}
}

// FuzzAnswer: whatever the API answers, nothing panics, and nobody is taken for
// the owner whose id is not there.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		holding(3164494), holding(42), nobody, "{}", "null", "<html>", "", forbidden,
		`{"reserved_ip":{"ip":"203.0.113.10","droplet":{"id":31644940}}}`,
		`{"reserved_ip":{"ip":"203.0.113.10","droplet":{"id":3.164494e6}}}`,
		`{"Response":{"Body":null}}`, `{"RESERVED_IP":{"Ip":"203.0.113.10","Droplet":{"ID":3164495}}}`,
	} {
		f.Add(200, []byte(body))
		f.Add(500, []byte(body))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			status = 200
		}
		p := provider(t, "http://api.invalid", once)
		p.client.HTTPClient.Transport.(*exchange).connect = canned(func(r *http.Request) (int, []byte) {
			if r.URL.Path == bluePath {
				return 200, []byte(blueActive)
			}
			return status, body
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := p.State(ctx, "")
		if err != nil {
			wantError(t, err, err.Error())
			return
		}
		checkText(t, s.Foreign+s.Busy)
		if s.Owner == "" {
			return
		}
		var said struct {
			IP struct {
				Droplet struct{ ID json.Number }
			} `json:"reserved_ip"`
		}
		if err := json.NewDecoder(strings.NewReader(string(body))).Decode(&said); err != nil {
			t.Fatalf("owner %q of what is not JSON: %v", s.Owner, err)
		}
		if want := map[string]string{"blue": "3164494", "green": "3164495"}[s.Owner]; want == "" || said.IP.Droplet.ID.String() != want {
			t.Fatalf("owner %q of droplet %s", s.Owner, said.IP.Droplet.ID)
		}
		if s.Foreign != "" {
			t.Fatalf("%+v", s)
		}
	})
}
