package simulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/digitalocean/godo"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// A contract is DigitalOcean's OpenAPI document, to hold requests and answers
// against.
type contract struct{ router routers.Router }

func TestMain(m *testing.M) {
	openapi3.DefineIPv4Format() // for the whole library, so before any test
	os.Exit(m.Run())
}

// loadContract reads the document, and makes it say what it leaves open: hardly
// anything in it is required, so that {} would pass for an action.
func loadContract(t *testing.T) *contract {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "openapi", "digitalocean.json")
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		t.Skipf("DigitalOcean's OpenAPI document is not at %s beside the repository", path)
	}
	doc, err := openapi3.NewLoader().LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.DisableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	tighten(doc)
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return &contract{router}
}

func tighten(doc *openapi3.T) {
	doc.Servers = nil // any host
	schemas := doc.Components.Schemas
	for _, name := range []string{"reserved_ip", "floating_ip"} {
		s := schemas[name].Value
		s.Required = []string{"ip", "region", "droplet", "locked"}
		// The first branch, for null, lets any object pass.
		s.Properties["droplet"].Value.AnyOf[0].Value = &openapi3.Schema{Nullable: true, Enum: []any{nil}}
	}
	schemas["action"].Value.Required = []string{
		"id", "status", "type", "started_at", "completed_at", "resource_id", "resource_type", "region_slug",
	}
	schemas["error"].Value.Required = []string{"id", "message", "request_id"}
	for _, response := range doc.Components.Responses {
		for _, header := range response.Value.Headers {
			header.Value.Required = true
		}
		for _, media := range response.Value.Content {
			requireAll(media.Schema)
			for _, part := range media.Schema.Value.AllOf {
				requireAll(part)
			}
		}
	}
}

// requireAll makes the properties of an answer's outermost object required.
func requireAll(ref *openapi3.SchemaRef) {
	if ref.Ref != "" && !strings.HasSuffix(ref.Ref, "/pagination") {
		return // what it refers to has its own list
	}
	for name := range ref.Value.Properties {
		if !slices.Contains(ref.Value.Required, name) {
			ref.Value.Required = append(ref.Value.Required, name)
		}
	}
}

// hold is a middleware that reports each request and each answer that the
// document does not allow. What next abandons or hijacks is not held to it.
func (c *contract) hold(next http.Handler, report func(error)) http.Handler {
	options := &openapi3filter.Options{
		IncludeResponseStatus: true,
		SkipSettingDefaults:   true,
		MultiError:            true,
		AuthenticationFunc: func(_ context.Context, in *openapi3filter.AuthenticationInput) error {
			if !strings.HasPrefix(in.RequestValidationInput.Request.Header.Get("Authorization"), "Bearer ") {
				return errors.New("no bearer token")
			}
			return nil
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		complain := func(what string, err error) {
			if err != nil {
				report(fmt.Errorf("%s of %s %s: %w", what, r.Method, r.URL, err))
			}
		}
		route, params, err := c.router.FindRoute(r)
		if err != nil {
			complain("path", err)
			next.ServeHTTP(w, r)
			return
		}
		input := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route, Options: options}
		complain("request", openapi3filter.ValidateRequest(r.Context(), input))
		rec := &recorder{ResponseWriter: w}
		next.ServeHTTP(rec, r)
		if rec.status == 0 {
			return
		}
		complain("answer", openapi3filter.ValidateResponse(r.Context(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: input, Status: rec.status, Header: w.Header(),
			Body: io.NopCloser(&rec.body), Options: options,
		}))
	})
}

// A recorder keeps a copy of the answer.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.body.Write(b)
	return r.ResponseWriter.Write(b)
}

// newGodo is DigitalOcean's client, which speaks to a server that h is behind.
func newGodo(t *testing.T, h http.Handler, token string) *godo.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	client, err := godo.New(server.Client(), godo.SetBaseURL(server.URL+"/"),
		godo.SetRequestHeaders(map[string]string{"Authorization": "Bearer " + token}))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestContract(t *testing.T) {
	t.Parallel()
	document := loadContract(t)
	for name, test := range map[string]struct {
		scopes   []string
		statuses []int // that are seen, so that there is something to hold
	}{
		"all scopes":  {nil, []int{200, 201, 202, 401, 404, 422, 429, 503}},
		"no droplets": {[]string{"account:read", "actions:read", "reserved_ip:read", "reserved_ip:update"}, []int{200, 201, 401, 403, 404, 422, 429, 503}},
		"none":        {[]string{}, []int{401, 403, 429, 503}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(Options{Token: "secret", Scopes: test.scopes})
			c.AddIP("203.0.113.12", "nyc3", 0)
			held := document.hold(c.Handler(), func(err error) { t.Error(err) })
			everyCall(t, c, newGodo(t, held, "secret"))
			everyCall(t, c, newGodo(t, held, "wrong"))
			c.Script(Fault{Status: 429, Times: -1})
			everyCall(t, c, newGodo(t, held, "secret"))
			c.ClearScript()
			c.Script(Fault{Status: 503, Times: -1})
			everyCall(t, c, newGodo(t, held, "secret"))
			var statuses []int
			for _, call := range c.Calls() {
				statuses = append(statuses, call.Status)
			}
			slices.Sort(statuses)
			if statuses = slices.Compact(statuses); !slices.Equal(statuses, test.statuses) {
				t.Errorf("answered %v, want %v", statuses, test.statuses)
			}
		})
	}
}

// everyCall asks everything, in good and in bad circumstances. That the answers
// keep to the contract is for the server to see.
func everyCall(t *testing.T, c *Cloud, client *godo.Client) {
	t.Helper()
	ctx, page := t.Context(), &godo.ListOptions{Page: 2, PerPage: 1}
	defer c.AddPending(other)()
	defer c.AddDropletPending(elsewhere)()
	client.Account.Get(ctx)
	client.ReservedIPs.Get(ctx, "203.0.113.99")
	for _, to := range []int{green, green, blue, third, elsewhere, 1} {
		a, _, _ := client.ReservedIPActions.Assign(ctx, ip, to)
		client.ReservedIPs.Get(ctx, ip)
		if a != nil {
			client.ReservedIPActions.Get(ctx, ip, a.ID)
			client.Actions.Get(ctx, a.ID)
		}
	}
	client.ReservedIPActions.Assign(ctx, other, blue)
	client.ReservedIPs.Get(ctx, other)
	client.ReservedIPActions.Unassign(ctx, "203.0.113.12")
	client.ReservedIPActions.Unassign(ctx, ip)
	client.ReservedIPs.Get(ctx, ip)
	client.ReservedIPActions.Get(ctx, ip, 1)
	client.Actions.Get(ctx, 1)
	client.Actions.List(ctx, nil)
	client.Droplets.Get(ctx, blue)
	client.Droplets.Get(ctx, 1)
	client.Droplets.List(ctx, page)
	client.Droplets.Actions(ctx, elsewhere, page)
	client.Droplets.Actions(ctx, 1, nil)
	client.ReservedIPs.List(ctx, nil)
	client.ReservedIPs.List(ctx, page)
	client.ReservedIPActions.List(ctx, ip, nil)
	client.ReservedIPActions.List(ctx, ip, page)
	client.FloatingIPs.Get(ctx, ip)
	client.FloatingIPs.List(ctx, nil)
	a, _, _ := client.FloatingIPActions.Assign(ctx, ip, blue)
	if a != nil {
		client.FloatingIPActions.Get(ctx, ip, a.ID)
	}
	client.FloatingIPActions.List(ctx, ip, page)
	client.ReservedIPs.Create(ctx, &godo.ReservedIPCreateRequest{Region: "nyc3"})
	client.ReservedIPs.Create(ctx, &godo.ReservedIPCreateRequest{DropletID: elsewhere})
	client.FloatingIPs.Create(ctx, &godo.FloatingIPCreateRequest{DropletID: third})
}

// The contract can be broken, by either side.
func TestContractIsHeld(t *testing.T) {
	t.Parallel()
	document := loadContract(t)
	headers := map[string]string{
		"Content-Type": "application/json", "ratelimit-limit": "1", "ratelimit-remaining": "1", "ratelimit-reset": "1",
	}
	const (
		get     = "/v2/reserved_ips/203.0.113.10"
		region  = `"region":{"available":true,"features":[],"name":"x","sizes":[],"slug":"x"}`
		good    = `{"reserved_ip":{"ip":"203.0.113.10","locked":false,"droplet":null,` + region + `}}`
		actions = get + "/actions"
		assign  = `{"type":"assign","droplet_id":1}`
	)
	for _, test := range []struct {
		name, path, request string
		status              int
		answer              string
		header              map[string]string
		want                string // "" where the contract is kept
	}{
		{"good", get, "", 200, good, nil, ""},
		{"empty action", actions, assign, 201, `{"action":{}}`, nil, `"status" is missing`},
		{"no action", actions, assign, 201, `{}`, nil, `"action" is missing`},
		{"action that is null", actions, assign, 201, `{"action":null}`, nil, "not nullable"},
		{"status unheard of", actions, assign, 201,
			`{"action":{"id":1,"status":"on-strike","type":"assign_ip","started_at":"2020-11-14T16:29:21Z","completed_at":null,"resource_id":1,"resource_type":"reserved_ip","region_slug":"x"}}`,
			nil, "not one of the allowed values"},
		{"droplet without anything", get, "", 200, strings.Replace(good, "null", "{}", 1), nil, "droplet"},
		{"no droplet", get, "", 200, strings.Replace(good, `"droplet":null,`, "", 1), nil, `"droplet" is missing`},
		{"not an IP", get, "", 200, strings.Replace(good, "203.0.113.10", "203.0.113", 1), nil, "ip"},
		{"text", get, "", 200, good, map[string]string{"Content-Type": "text/plain"}, "Content-Type"},
		{"no limits", get, "", 200, good, map[string]string{"ratelimit-limit": ""}, "ratelimit-limit"},
		{"error without id", get, "", 404, `{"message":"no","request_id":"1"}`, nil, `"id" is missing`},
		{"undeclared error", actions, assign, 422, `{"id":"unprocessable_entity"}`, nil, `"message" is missing`},
		{"unknown type", actions, `{"type":"steal"}`, 422, `{"id":"a","message":"b","request_id":"c"}`, nil, "request of POST"},
		{"no type", actions, `{"droplet_id":1}`, 422, `{"id":"a","message":"b","request_id":"c"}`, nil, "request of POST"},
		{"bad id", "/v2/actions/x", "", 404, `{"id":"a","message":"b","request_id":"c"}`, nil, "request of GET"},
		{"bad page", "/v2/reserved_ips?per_page=201", "", 429, `{"id":"a","message":"b","request_id":"c"}`, nil, "request of GET"},
		{"no such path", "/v2/nothing", "", 404, `{"id":"a","message":"b","request_id":"c"}`, nil, "path of GET"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for name, value := range headers {
					w.Header().Set(name, value)
				}
				for name, value := range test.header {
					if w.Header().Set(name, value); value == "" {
						w.Header().Del(name)
					}
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.answer)
			})
			r := httptest.NewRequest("GET", test.path, nil)
			if test.request != "" {
				r = httptest.NewRequest("POST", test.path, strings.NewReader(test.request))
				r.Header.Set("Content-Type", "application/json")
			}
			r.Header.Set("Authorization", "Bearer x")
			var got error
			document.hold(server, func(err error) { got = errors.Join(got, err) }).ServeHTTP(httptest.NewRecorder(), r)
			switch {
			case test.want == "" && got != nil:
				t.Error(got)
			case test.want != "" && (got == nil || !strings.Contains(got.Error(), test.want)):
				t.Errorf("reports %v, want %q", got, test.want)
			}
		})
	}
}
