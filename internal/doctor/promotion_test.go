package doctor

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"bluegreen/internal/simulator"
)

// TestTokenWithoutScopes tells a token that may not see droplets, or IPs, from
// an IP that nobody has.
func TestTokenWithoutScopes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scopes []string
		text   string
	}{
		"no droplets": {[]string{"reserved_ip:read", "actions:read"}, "it needs the scope droplet:read"},
		"no IPs":      {[]string{"droplet:read", "actions:read"}, "the API does not accept the token: asking DigitalOcean for 203.0.113.10: 403"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t, test.scopes...)
			p.wants(p.examine(), "promotion", Broken, test.text, "reserved_ip:update")
		})
	}
}

// TestAPIDoesNotAnswer has an API that fails, and one that hangs: the
// examination ends.
func TestAPIDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]simulator.Fault{
		"fails": {Path: "/v2/", Status: 500, Times: -1},
		"hangs": {Path: "/v2/", Hang: true, Times: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			p.Patience = 5 * time.Second
			p.Script(fault)
			p.wants(p.examine(), "promotion", Broken, "the API gives no good answer", "curl -sSI http://127.0.0.1:")
		})
	}
}

// TestClockByMetadata asks the metadata for the time where the API is silent.
func TestClockByMetadata(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		p.Metadata(blue).ServeHTTP(w, r)
	}))
	t.Cleanup(late.Close)
	p.Script(simulator.Fault{Method: http.MethodHead, Reset: true, Times: -1})
	p.configure(map[string]string{"METADATA": late.URL})
	p.wants(p.examine(), "clock", Broken, "the clock is off by ", "timesyncd")
}
