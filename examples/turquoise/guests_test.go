//go:build e2e

package turquoise_test

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 60 * time.Second
	// pause is between two requests of one guest.
	pause = 40 * time.Millisecond
)

// guests read and sign the guestbook at the floating IP, with a new connection each
// time. They try nothing twice: each request must succeed.
type guests struct {
	*world
	cancel   context.CancelFunc
	done     sync.WaitGroup
	client   *http.Client
	mu       sync.Mutex
	requests int
	failures int
	entries  map[string]string // message and name, of those that were acknowledged
	last     string            // the newest one, as a page shows it
	met      map[string]int    // which release, with which version of the database, and how often
	reads    map[string]int    // of met
	writes   map[string]int
}

func (w *world) visit() *guests {
	ctx, cancel := context.WithCancel(context.Background())
	g := &guests{world: w, cancel: cancel, entries: map[string]string{}, met: map[string]int{}, reads: map[string]int{}, writes: map[string]int{},
		client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	w.Cleanup(func() {
		cancel()
		g.done.Wait()
	})
	for i := range 2 {
		g.done.Go(func() {
			g.each(ctx, func(n int) { g.sign(fmt.Sprintf("entry %d of guest %d", n, i), names[n%len(names)]) })
		})
	}
	g.done.Go(func() { g.each(ctx, func(int) { g.look() }) })
	return g
}

// names are of all kinds: what a migration takes apart must be together again.
var names = []string{"Ada King Lovelace", "Plato", "Mary Ann Evans", "Miles O'Brien", "Jo <Doe>", "Æthelstan Šimůnek"}

func (g *guests) each(ctx context.Context, visit func(n int)) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			visit(n)
		}
	}
}

// ask is one request. It returns what it met, "" for a request that failed.
func (g *guests) ask(method string, form url.Values, want int) (met, body string) {
	req, err := http.NewRequest(method, "http://"+g.outside.Addr()+"/", strings.NewReader(form.Encode()))
	if err == nil && form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	status := 0
	if err == nil {
		var resp *http.Response
		if resp, err = g.client.Do(req); err == nil {
			defer resp.Body.Close()
			var data []byte
			data, err = io.ReadAll(resp.Body)
			met, body, status = resp.Header.Get("X-Guestbook"), string(data), resp.StatusCode
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.requests++
	if met != "" {
		g.met[met]++
	}
	if err == nil && status == want {
		return met, body
	}
	if g.failures++; g.failures <= 5 {
		g.Errorf("a guest's %s failed: %v, status %d, %s\n%s", method, err, status, met, body)
	}
	return "", ""
}

// look reads the guestbook, which must have what was acknowledged before.
func (g *guests) look() {
	g.mu.Lock()
	last := g.last
	g.mu.Unlock()
	met, body := g.ask(http.MethodGet, nil, http.StatusOK)
	if met == "" {
		return
	}
	if !strings.Contains(body, last) {
		g.Errorf("a page of %s has no %q", met, last)
	}
	g.mu.Lock()
	g.reads[met]++
	g.mu.Unlock()
}

// sign fills in the form of a page. The traffic may have moved since that was read.
func (g *guests) sign(message, name string) {
	met, body := g.ask(http.MethodGet, nil, http.StatusOK)
	if met == "" {
		return
	}
	form := url.Values{"message": {message}, "name": {name}}
	if strings.Contains(body, `name="last"`) {
		// A person knows better than the migration where the last name begins.
		first, last, several := strings.Cut(name, " ")
		if !several {
			first, last = "", name
		}
		form = url.Values{"message": {message}, "first": {first}, "last": {last}}
	}
	met, _ = g.ask(http.MethodPost, form, http.StatusSeeOther)
	if met == "" {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writes[met]++
	g.entries[message] = name
	g.last = "<li><b>" + strings.ReplaceAll(html.EscapeString(name), "&#39;", "&#039;") + "</b> " + message + "</li>"
}

// sees waits until guests have read and signed what they must get from now on.
func (w *world) sees(release string, version int) {
	w.Helper()
	g, met := w.guests, fmt.Sprintf("%s, database %d", release, version)
	count := func() (int, int) {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.reads[met], g.writes[met]
	}
	reads, writes := count()
	w.until("guests meet "+met, func() bool {
		r, w := count()
		return r >= reads+2 && w >= writes+2
	})
}

// leave ends the visits, and returns what was acknowledged.
func (g *guests) leave() map[string]string {
	g.cancel()
	g.done.Wait()
	if g.failures > 0 {
		g.Errorf("%d of %d requests failed", g.failures, g.requests)
	}
	return g.entries
}
