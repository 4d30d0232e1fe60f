package peer

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const commit = "8f1d2c3b4a5968778695a4b3c2d1e0f012345678"

func TestRead(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"commit":"` + commit + `","environment":"green","deployed_at":"2026-11-28T09:00:00Z","tag":"release-2","works_with":"3..4"}`: "3..4",
		`{"commit":"` + commit + `","environment":"green","works_with":"4","of_a_newer":[1]}`:                                          "4",
		`{"commit":"` + commit + `","environment":"green","works_with":null}`:                                                          "",
		`{"commit":"` + commit + `","environment":"green"}`:                                                                            "",
	} {
		r, err := read(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(body)) })
		if err != nil || r.Commit.String() != commit {
			t.Errorf("%s: %+v, %v", body, r, err)
			continue
		}
		got := ""
		if r.WorksWith != nil {
			got = r.WorksWith.String()
		}
		if got != want || strings.Contains(body, "release-2") && (r.Tag != "release-2" || r.DeployedAt.IsZero()) {
			t.Errorf("%s: %+v, works with %q", body, r, got)
		}
	}
}

func read(t *testing.T, answer http.HandlerFunc) (*Release, error) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	p := &Peer{Name: "green", URL: server.URL + "/release.json"}
	return p.Read(t.Context())
}

func TestReadNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"another environment":  {text(`{"commit":"` + commit + `","environment":"blue"}`), `it says that it is "blue"`},
		"no commit":            {text(`{"environment":"green"}`), "green"},
		"a range that is none": {text(`{"commit":"` + commit + `","environment":"green","works_with":"\u001b[31m"}`), `"\x1b[31m"`},
		"a page":               {text("<p>App</p>"), "is not a marker"},
		"nothing":              {text(""), "is not a marker"},
		"missing":              {http.NotFound, "status 404"},
		"elsewhere":            {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, "status 302"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				w.Write(make([]byte, 4096))
			}
		}, "longer than 64 KiB"},
		"hung up": {func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := read(t, c.answer)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "asking green what it serves, at ") {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(s)) }
}

// TestReadSlowly: who sends a byte now and then does not keep a push waiting.
func TestReadSlowly(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	began := time.Now()
	_, err := read(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-done:
		}
	})
	close(done)
	if err == nil || !strings.Contains(err.Error(), "no answer within 5s") || time.Since(began) > time.Minute {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// FuzzMarker reads what another server says.
func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"commit":"` + commit + `","environment":"green","deployed_at":"2026-11-28T09:00:00Z","tag":"release-2","works_with":"3..4"}`))
	f.Add([]byte(`{"commit":"` + commit + `","environment":"green","works_with":"4","of_a_newer":[1]}`))
	f.Add([]byte(`{"commit":"","environment":"green","works_with":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := (&Peer{Name: "green"}).parse(body)
		switch {
		case err != nil && (r != nil || len(err.Error()) > 1000):
			t.Errorf("%q: %+v, and an error of %d bytes", body, r, len(err.Error()))
		case err == nil && !bytes.Contains(bytes.ToLower(body), []byte(r.Commit.String())):
			t.Errorf("%q is read as %+v", body, r)
		}
	})
}
