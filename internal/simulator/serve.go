package simulator

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Start serves the API on a free port of 127.0.0.1. stop closes the connections
// and lets go of requests that hang.
func (c *Cloud) Start() (url string, stop func(), err error) { return Serve(c.Handler()) }

// Serve serves any handler in the same way, such as one of Metadata.
func Serve(h http.Handler) (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("starting the simulator: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(l) })
	return "http://" + l.Addr().String(), func() {
		cancel()
		server.Close()
		serving.Wait()
	}, nil
}

// A query is a request on its way to an answer.
type query struct {
	*http.Request
	segments   []string // of the path; the first is empty
	body       []byte
	id         string // of the request
	call       int    // its index in calls
	authorized bool
	limited    bool // too many requests
	remaining  int
	reset      time.Time     // when the oldest one counts no more
	wait       time.Duration // until then
	fault      Fault
}

type answer struct {
	status int
	body   []byte
}

// Handler serves the API, below /v2.
func (c *Cloud) Handler() http.Handler { return http.HandlerFunc(c.serve) }

func (c *Cloud) serve(w http.ResponseWriter, r *http.Request) {
	// The server notices that a client has gone only when its body was read.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	q := c.receive(r, body)
	f := q.fault
	if f.Do != nil {
		f.Do(c)
	}
	var a answer
	applied := f.Apply || f.ActionStatus != ""
	if applied {
		a = c.answer(q)
	}
	pause(r.Context(), f.Delay)
	switch {
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Reset:
		reset(w)
		return
	case f.Status != 0 || f.Body != "" || f.Empty || f.Endless:
		a = q.scripted()
	case !applied:
		a = c.answer(q)
	}
	c.send(w, q, a)
}

// receive takes note of a request, and finds out how it is to be treated.
func (c *Cloud) receive(r *http.Request, body []byte) *query {
	q := &query{Request: r, segments: strings.Split(r.URL.Path, "/"), body: body, id: newUUID()}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	q.authorized = strings.EqualFold(scheme, "Bearer") && token != "" &&
		(c.options.Token == "" || token == c.options.Token)
	c.change(func() {
		now := c.now()
		c.recent = slices.DeleteFunc(c.recent, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
		if q.limited = len(c.recent) >= c.options.Limit; !q.limited {
			c.recent = append(c.recent, now)
		}
		q.remaining, q.reset = c.options.Limit-len(c.recent), c.recent[0].Add(time.Minute)
		q.wait = q.reset.Sub(now)
		q.call = len(c.calls)
		c.calls = append(c.calls, Call{
			Method: r.Method, Path: r.URL.Path, Body: string(body), Authorized: q.authorized, Time: now,
		})
		q.fault = c.take(r)
	})
	return q
}

// send gives the answer, as far as the fault lets it.
func (c *Cloud) send(w http.ResponseWriter, q *query, a answer) {
	// Noted first: who has the answer may ask for the calls.
	c.change(func() { c.calls[q.call].Status = a.status })
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("ratelimit-limit", strconv.Itoa(c.options.Limit))
	h.Set("ratelimit-remaining", strconv.Itoa(q.remaining))
	h.Set("ratelimit-reset", strconv.FormatInt(q.reset.Unix(), 10))
	h.Set("x-request-id", q.id)
	if q.limited && a.status == http.StatusTooManyRequests {
		h.Set("retry-after", strconv.Itoa(1+int(q.wait/time.Second)))
	}
	for name, value := range q.fault.Header {
		h.Set(name, value)
	}
	switch {
	case q.fault.Endless:
		w.WriteHeader(a.status)
		endless(q.Context(), w, a.body)
	case q.fault.Cut:
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		w.WriteHeader(a.status)
		w.Write(a.body[:len(a.body)/2])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // closes the connection
	default:
		w.WriteHeader(a.status)
		w.Write(a.body)
	}
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
