package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// breath is a visitor's pause between two requests.
	breath = 10 * time.Millisecond
	// glimpses is how often each visitor asks before a scene goes on.
	glimpses = 10
)

// A visitor asks one address for its home page all the time, each time on a new
// connection, as a visitor who has not been there before.
type visitor struct {
	name, url, host string // host is "" for the address's own
	client          http.Client
	asking          sync.WaitGroup
	stop            context.CancelFunc // nil before start
	asked           chan struct{}      // told after each request, if somebody listens

	// The visitor holds the lock during a request, so that what is expected
	// does not change meanwhile.
	mu       sync.Mutex
	expected []string
	wrong    []string // answers that were not expected
	spans    []span
}

func newVisitor(name, address, host string) *visitor {
	return &visitor{name: name, url: "http://" + address + "/", host: host, asked: make(chan struct{}),
		client: http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// noAnswer begins the text of an answer when a request fails.
const noAnswer = "no answer: "

// get asks for the home page.
func (v *visitor) get() answer {
	request, err := http.NewRequest(http.MethodGet, v.url, nil)
	if err != nil {
		return answer{text: noAnswer + err.Error()}
	}
	request.Host = v.host
	response, err := v.client.Do(request)
	if err != nil {
		return answer{text: noAnswer + err.Error()}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
	a := answer{text: strings.TrimSpace(string(body)), from: response.Header.Get(servedBy)}
	switch {
	case err != nil:
		a.text = noAnswer + err.Error()
	case response.StatusCode != http.StatusOK:
		a.text = fmt.Sprintf("status %d", response.StatusCode)
	}
	return a
}

// expect sets what the visitor may be answered from now on.
func (v *visitor) expect(answers ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.expected = answers
}

func (v *visitor) start() {
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	v.asking.Go(func() {
		for ctx.Err() == nil {
			v.ask()
			select {
			case v.asked <- struct{}{}:
			default:
			}
			select {
			case <-time.After(breath):
			case <-ctx.Done():
			}
		}
	})
}

func (v *visitor) ask() {
	v.mu.Lock()
	defer v.mu.Unlock()
	a := v.get()
	if !slices.Contains(v.expected, a.text) {
		v.wrong = append(v.wrong, a.text)
	}
	now := time.Now()
	if last := len(v.spans) - 1; last >= 0 && v.spans[last].answer == a {
		v.spans[last].until = now
		v.spans[last].times++
		return
	}
	v.spans = append(v.spans, span{answer: a, since: now, until: now, times: 1})
}

// look waits until the visitor has asked some more.
func (v *visitor) look(ctx context.Context) error {
	for range glimpses {
		select {
		case <-v.asked:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// end ends the visitor, if it has started. Only then may the spans be read.
func (v *visitor) end() {
	if v != nil && v.stop != nil {
		v.stop()
		v.asking.Wait()
	}
}

// A tally is how many requests were made, and what became of them.
type tally struct {
	asked, failed, wrong int
	texts                []string // "12 x App v1", in the order of first appearance
}

func (v *visitor) tally() tally {
	t := tally{wrong: len(v.wrong)}
	var order []string
	times := map[string]int{}
	for _, s := range v.spans {
		text := s.text
		t.asked += s.times
		if s.kind() == unanswered {
			text = "no answer" // each one has its own ports
			t.failed += s.times
		}
		if times[text] == 0 {
			order = append(order, text)
		}
		times[text] += s.times
	}
	for _, text := range order {
		t.texts = append(t.texts, fmt.Sprintf("%d x %s", times[text], text))
	}
	return t
}
