package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// switching is a server that another release takes over as told.
type switching struct {
	*httptest.Server
	serve       atomic.Value // of type string: the status and the body
	connections atomic.Int32
	inside      atomic.Int32
}

func newSwitching(t *testing.T, first string) *switching {
	s := &switching{}
	s.serve.Store(first)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := s.inside.Add(1); n != 1 {
			t.Errorf("%d requests at once", n)
		}
		defer s.inside.Add(-1)
		var status int
		var body string
		fmt.Sscan(s.serve.Load().(string), &status, &body)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// watch watches c until next says that it has seen enough.
func watch(t *testing.T, c Check, s Subject, every time.Duration, next func(n int, s Sighting) (more bool)) []Sighting {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Within = 5 * time.Second
	var seen []Sighting
	err := Watch(ctx, c, s, every, func(s Sighting) {
		if ctx.Err() != nil {
			t.Errorf("after the end: %+v", s)
		}
		seen = append(seen, s)
		if !next(len(seen), s) {
			cancel()
		}
	})
	if err != nil {
		t.Errorf("watching: %v", err)
	}
	for i, s := range seen {
		if s.Began.IsZero() || s.Time.Before(s.Began) || i > 0 && s.Began.Sub(seen[i-1].Began) < every || i > 0 && s.Began.Before(seen[i-1].Time) {
			t.Errorf("attempt %d of %d: %+v", i+1, len(seen), s)
		}
	}
	return seen
}

// TestWatch: the traffic moves from green to blue, with a bad moment between.
func TestWatch(t *testing.T) {
	t.Parallel()
	server := newSwitching(t, "200 green")
	answers := []string{"200 green", "200 green", "500 boom", "200 blue", "503 busy", "200 green", "204 none", "200 blue", "200 blue"}
	var timeline Timeline
	c := Check{URL: server.URL, Body: "{environment}"}
	seen := watch(t, c, Subject{Environment: "blue"}, 2*time.Millisecond, func(n int, s Sighting) bool {
		timeline.Add(s)
		if n < len(answers) {
			server.serve.Store(answers[n])
		}
		return n < len(answers)
	})
	var got []string
	for _, s := range seen {
		got = append(got, fmt.Sprintf("%s: %s", s.Kind, s.Text))
	}
	want := []string{
		`old: status 200, body "green" does not contain "blue"`,
		`old: status 200, body "green" does not contain "blue"`,
		`failed: status 500, body "boom"`,
		`new: status 200`,
		`failed: status 503, body "busy"`,
		`old: status 200, body "green" does not contain "blue"`,
		`old: status 204, body "" does not contain "blue"`,
		`new: status 200`,
		`new: status 200`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := server.connections.Load(); int(n) != len(want) {
		t.Errorf("%d connections for %d attempts", n, len(want))
	}
	sum := Summary{Asked: 9, Failed: 2, LastOld: seen[6].Time, FirstNew: seen[7].Time,
		FirstFailed: seen[2].Time, LastFailed: seen[4].Time, Failure: `status 500, body "boom"`}
	if timeline.Summary() != sum {
		t.Errorf("summary %+v, want %+v", timeline.Summary(), sum)
	}
}

// TestSightings is what each answer is taken for.
func TestSightings(t *testing.T) {
	t.Parallel()
	file := func(context.Context, string, int) ([]byte, int64, error) { return []byte("blue"), 4, nil }
	server := newSwitching(t, "")
	cut := "http://" + listen(t, func(conn net.Conn) {
		request(conn)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nblu")
	})
	for _, test := range []struct {
		name, serve string
		check       Check
		kind        Kind
		text        string // a part of it
	}{
		{"no body is asked for", "200 green", Check{}, New, "status 200"},
		{"the wrong status", "404 blue", Check{Body: "blue"}, Failed, `status 404, body "blue"`},
		{"another status is expected", "404 blue", Check{Body: "blue", Status: []int{404}}, New, "status 404"},
		{"and not this", "200 blue", Check{Body: "blue", Status: []int{404}}, Failed, "status 200"},
		{"a regexp", "200 blue", Check{BodyRegexp: regexp.MustCompile("^b")}, New, "status 200"},
		{"not a regexp", "200 green", Check{BodyRegexp: regexp.MustCompile("^b")}, Old, "does not match ^b"},
		{"a file", "200 blue", Check{BodyFile: "f"}, New, "status 200"},
		{"not a file", "200 green", Check{BodyFile: "f"}, Old, `differs from "f" as committed`},
		{"in a row", "200 blue", Check{Successes: 5}, New, "status 200"},
		{"cut off", "", Check{URL: cut, Body: "blue"}, Failed, "cut off"},
		{"refused", "", Check{URL: "http://" + unused(t)}, Failed, "connection refused"},
		{"silent", "", Check{URL: "http://" + silent(t, nil, nil), Timeout: 100 * time.Millisecond}, Failed, "timed out after 100ms"},
		{"silent, with patience", "", Check{URL: "http://" + silent(t, nil, nil), Timeout: time.Hour}, Failed, "timed out after 2s"},
		{"an escape", "200 \x1b[31m", Check{Body: "blue"}, Old, `body "\x1b[31m" does not`},
	} {
		server.serve.Store(test.serve)
		if test.check.URL == "" {
			test.check.URL = server.URL
		}
		s := watch(t, test.check, Subject{File: file}, time.Hour, func(int, Sighting) bool { return false })
		if len(s) != 1 || s[0].Kind != test.kind || !strings.Contains(s[0].Text, test.text) {
			t.Errorf("%s: %+v", test.name, s)
		}
	}
}

// TestWatchSlowly: an attempt that takes longer than the pace delays the next,
// and is not made up for.
func TestWatchSlowly(t *testing.T) {
	t.Parallel()
	url := "http://" + silent(t, nil, nil)
	seen := watch(t, Check{URL: url, Timeout: 50 * time.Millisecond}, Subject{}, 20*time.Millisecond, func(n int, _ Sighting) bool { return n < 3 })
	for i, s := range seen {
		if s.Kind != Failed || s.Time.Sub(s.Began) < 50*time.Millisecond {
			t.Errorf("attempt %d: %+v", i+1, s)
		}
	}
}

// TestWatchEnds: nothing is told of an attempt that is cut short.
func TestWatchEnds(t *testing.T) {
	t.Parallel()
	server := newSwitching(t, "200 x")
	for name, check := range map[string]func(cancel func()) Check{
		"while the server is silent": func(cancel func()) Check {
			return Check{URL: "http://" + silent(t, cancel, nil)}
		},
		"in a body": func(cancel func()) Check {
			return Check{Body: "x", URL: "http://" + listen(t, func(conn net.Conn) {
				request(conn)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello")
				cancel()
				untilClosed(conn)
			})}
		},
		"before it begins": func(cancel func()) Check {
			cancel()
			return Check{URL: server.URL}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			start := time.Now()
			c := check(cancel)
			c.Within = time.Hour
			err := Watch(ctx, c, Subject{}, time.Millisecond, func(s Sighting) { t.Errorf("%+v", s) })
			if took := time.Since(start); err != nil || took > 30*time.Second {
				t.Errorf("%v after %s", err, took)
			}
		})
	}
	t.Run("between attempts", func(t *testing.T) {
		t.Parallel()
		start := time.Now()
		seen := watch(t, Check{URL: newSwitching(t, "200 x").URL}, Subject{}, time.Hour, func(int, Sighting) bool { return false })
		if took := time.Since(start); len(seen) != 1 || seen[0].Kind != New || took > time.Minute {
			t.Errorf("%+v after %s", seen, took)
		}
	})
}

func TestCannotWatch(t *testing.T) {
	t.Parallel()
	none := Subject{File: func(context.Context, string, int) ([]byte, int64, error) {
		return nil, 0, errors.New("no such file")
	}}
	for want, test := range map[string]struct {
		check Check
		every time.Duration
	}{
		"only a check with a url can be watched":    {Check{TCP: "127.0.0.1:1"}, time.Second},
		"watching every 0s is not possible":         {Check{URL: "http://127.0.0.1:1"}, 0},
		`reading "none" as committed: no such file`: {Check{URL: "http://127.0.0.1:1", BodyFile: "none", Within: time.Hour}, time.Second},
	} {
		err := Watch(t.Context(), test.check, none, test.every, func(s Sighting) { t.Errorf("%+v", s) })
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestTimeline(t *testing.T) {
	t.Parallel()
	start := time.Date(2014, 5, 6, 7, 8, 9, 0, time.UTC)
	for _, test := range []struct {
		seen                                       string // O, N and F, a second apart
		lastOld, firstNew, firstFailed, lastFailed int    // seconds, from 1; 0 for none
	}{
		{"", 0, 0, 0, 0},
		{"OOO", 3, 0, 0, 0},
		{"NNN", 0, 1, 0, 0},
		{"OONN", 2, 3, 0, 0},
		{"OFFNN", 1, 4, 2, 3},
		{"ONFN", 1, 2, 3, 3},
		{"NOFNFN", 2, 4, 3, 5},
		{"NNO", 3, 0, 0, 0},
		{"NNOF", 3, 0, 4, 4},
		{"FF", 0, 0, 1, 2},
		{"FNONO", 5, 0, 1, 1},
	} {
		at := func(second int) time.Time {
			if second == 0 {
				return time.Time{}
			}
			return start.Add(time.Duration(second) * time.Second)
		}
		var timeline Timeline
		for i, letter := range test.seen {
			kind := map[rune]Kind{'O': Old, 'N': New, 'F': Failed}[letter]
			timeline.Add(Sighting{Began: at(i), Time: at(i + 1), Kind: kind, Text: fmt.Sprint("saw ", i+1)})
		}
		want := Summary{Asked: len(test.seen), Failed: strings.Count(test.seen, "F"), LastOld: at(test.lastOld), FirstNew: at(test.firstNew),
			FirstFailed: at(test.firstFailed), LastFailed: at(test.lastFailed)}
		if test.firstFailed > 0 {
			want.Failure = fmt.Sprint("saw ", test.firstFailed)
		}
		if got := timeline.Summary(); got != want {
			t.Errorf("%s: %+v, want %+v", test.seen, got, want)
		}
	}
}

func TestTimelineOfMany(t *testing.T) {
	t.Parallel()
	var timeline Timeline
	var adding sync.WaitGroup
	for range 4 {
		adding.Go(func() {
			for range 100 {
				timeline.Add(Sighting{Time: time.Now(), Kind: Failed})
				timeline.Summary()
			}
		})
	}
	adding.Wait()
	if sum := timeline.Summary(); sum.Asked != 400 || sum.Failed != 400 {
		t.Errorf("%+v", sum)
	}
}
