//go:build e2e

package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A view is one look at the site: a page and its style sheet, over one
// connection, as a browser loads them.
type view struct {
	began, ended time.Time
	version      string // that the page begins with
	mixed        string // what does not fit together, "" for nothing
	err          error
}

// visitors look at one address again and again, from the developer's network.
type visitors struct {
	testing.TB
	name, address string
	mu            sync.Mutex
	views         []view
	arrived       chan struct{} // closed and replaced with each view
	leave         func()        // ends their looking
}

// visit begins to look at an address, until the test ends.
func visit(t testing.TB, from *host, name, address string) *visitors {
	t.Helper()
	v := &visitors{TB: t, name: name, address: net.JoinHostPort(address, "80"), arrived: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	looking.Go(func() {
		if err := from.enterNetwork(); err != nil {
			t.Error(err)
			return
		}
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			if seen := look(ctx, v.address); ctx.Err() == nil {
				v.mu.Lock()
				v.views = append(v.views, seen)
				close(v.arrived)
				v.arrived = make(chan struct{})
				v.mu.Unlock()
			}
		}
	})
	v.leave = func() {
		cancel()
		looking.Wait()
	}
	t.Cleanup(v.leave)
	return v
}

// look loads the page and its style sheet.
func look(ctx context.Context, address string) (v view) {
	v.began = time.Now()
	defer func() { v.ended = time.Now() }()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		v.err = err
		return v
	}
	defer conn.Close()
	conn.SetDeadline(v.began.Add(2 * time.Second))
	r := bufio.NewReader(conn)
	page, err := load(conn, r, "/")
	if err != nil {
		v.err = err
		return v
	}
	style, err := load(conn, r, "/style.css")
	if err != nil {
		v.err = err
		return v
	}
	versions := append(versionMark.FindAllString(page, -1), versionMark.FindAllString(style, -1)...)
	if len(versions) > 0 {
		v.version = versions[0]
	}
	if len(versions) != 3 || len(slices.Compact(slices.Clone(versions))) != 1 {
		v.mixed = fmt.Sprint(versions)
	}
	return v
}

// versionMark is what each part of the site says of its version.
var versionMark = regexp.MustCompile(`version-\d+`)

// load asks for one file.
func load(w io.Writer, r *bufio.Reader, path string) (string, error) {
	request, err := http.NewRequest(http.MethodGet, "http://www.example.com"+path, nil)
	if err != nil {
		return "", err
	}
	if err := request.Write(w); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(r, request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		return "", errors.New(answer.Status)
	}
	return string(body), nil
}

// since returns the views that began at or after a moment.
func (v *visitors) since(t time.Time) []view {
	v.mu.Lock()
	defer v.mu.Unlock()
	i, _ := slices.BinarySearchFunc(v.views, t, func(a view, t time.Time) int { return a.began.Compare(t) })
	return slices.Clone(v.views[i:])
}

// first waits for the first view of a version that began after a moment, and
// returns when it had been loaded.
func (v *visitors) first(version string, after time.Time) time.Time {
	v.Helper()
	deadline := time.After(20 * time.Second)
	for {
		v.mu.Lock()
		arrived := v.arrived
		v.mu.Unlock()
		for _, seen := range v.since(after) {
			if seen.err == nil && seen.version == version {
				return seen.ended
			}
		}
		select {
		case <-arrived:
		case <-deadline:
			v.Fatalf("nobody sees %s on %s; last: %+v", version, v.name, v.last())
		}
	}
}

func (v *visitors) last() view {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.views) == 0 {
		return view{err: errors.New("nothing yet")}
	}
	return v.views[len(v.views)-1]
}

// A count is what visitors saw in a while.
type count struct {
	requests, lost, mixed int
	examples              []string
}

func (c *count) add(views []view) {
	for _, seen := range views {
		c.requests += 2
		switch {
		case seen.err != nil:
			c.lost++
			c.examples = append(c.examples, seen.err.Error())
		case seen.mixed != "":
			c.mixed++
			c.examples = append(c.examples, seen.mixed)
		}
	}
}

func (c count) String() string {
	text := fmt.Sprintf("%d requests, %d lost, %d mixed pages", c.requests, c.lost, c.mixed)
	if len(c.examples) > 0 {
		text += ": " + strings.Join(c.examples[:min(3, len(c.examples))], "; ")
	}
	return text
}

// TestVisitors: what the visitors are to notice, they notice.
func TestVisitors(t *testing.T) {
	for name, site := range map[string]struct {
		page, style string
		lost, mixed int
	}{
		"in order":         {"version-1 version-1", "version-1", 0, 0},
		"page in halves":   {"version-1 version-2", "version-2", 0, 1},
		"old style sheet":  {"version-2 version-2", "version-1", 0, 1},
		"page cut off":     {"version-1", "version-1", 0, 1},
		"no style sheet":   {"version-1 version-1", "", 1, 0},
		"nothing is there": {"", "", 1, 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text := map[string]string{"/": site.page, "/style.css": site.style}[r.URL.Path]
			if text == "" {
				http.NotFound(w, r)
			}
			io.WriteString(w, text)
		}))
		var seen count
		seen.add([]view{look(t.Context(), server.Listener.Addr().String())})
		server.Close()
		seen.add([]view{look(t.Context(), server.Listener.Addr().String())})
		if seen.lost != site.lost+1 || seen.mixed != site.mixed {
			t.Errorf("%s: %s", name, seen)
		}
	}
}
