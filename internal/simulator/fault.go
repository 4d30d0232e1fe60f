package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// A Fault is one way to misbehave, for requests that match Method and Path.
//
// Do runs first. Then the request is carried out, in the cloud's state, if Apply
// or ActionStatus asks for it. Then Delay passes. Then comes the answer; one
// that is not scripted is the normal one, and a request that gets it is carried
// out for it, if it was not yet. So a client that goes away during Delay has
// changed nothing unless Apply is set.
//
// How to tell the lies that matter, with POST and "/v2/reserved_ips/*/actions"
// where nothing else is said:
//
//	accepted, ends errored, the owner unchanged    ActionStatus: "errored"
//	accepted, ends errored, though the owner moved ActionStatus: "errored", Apply: true
//	accepted, completed, the owner unchanged       ActionStatus: "completed"
//	accepted, never ends, the owner unchanged      ActionStatus: "in-progress"
//	accepted, never ends, though the owner moved   ActionStatus: "in-progress", Apply: true
//	accepted, ends with an unheard-of status       ActionStatus: "on-strike"
//	accepted, but a third droplet gets it          ActionStatus: "completed", Do: func(c *Cloud) { c.SetOwner(ip, third) }
//	201 with {}, done or not                       Status: 201, Body: "{}", Apply: true or false
//	5xx though it was done                         Status: 503, Apply: true
//	no answer though it was done                   Reset: true (or Hang), Apply: true
//	done, half of the answer arrives               Cut: true
//	the action is 404 when read                    GET "/v2/reserved_ips/*/actions/*" (and "/v2/actions/*"), Status: 404, Times: -1
//	the action reads errored, whatever it is       GET "/v2/reserved_ips/*/actions/*", ActionStatus: "errored"
//	somebody else is faster                        Do: func(c *Cloud) { c.SetOwner(ip, other) }
//	slow, and not done when the client gives up    Delay: time.Minute
//	a redirect                                     Status: 307, Header: {"Location": "http://…"}
type Fault struct {
	Method string // "" for any
	// Path is a pattern of path.Match, or a prefix of the path; "" for any.
	// Note that * stops at slashes: "/v2/reserved_ips/*" is the IPs only.
	Path  string
	Skip  int  // matching requests to let through first
	Times int  // how often it happens: 0 is once, -1 for ever
	Apply bool // carry the request out before misbehaving

	// Status, Header and Body are the answer. With Status alone, 400 or more,
	// the body is the API's usual error; Empty leaves it empty. A Body or Empty
	// alone has status 200. Header alone is added to the normal answer.
	Status int
	Header map[string]string
	Body   string
	Empty  bool

	Delay   time.Duration // before the answer
	Hang    bool          // never answer; ends when the client goes or the server stops
	Reset   bool          // reset the connection (RST) instead of answering
	Cut     bool          // announce the whole answer, send half of it, and close
	Endless bool          // an answer that begins with Body and never ends

	Do func(*Cloud) // run when the request arrives; the cloud is not locked

	// ActionStatus is what the action that is asked for ends with: the answer to
	// the POST says in-progress, and later reads say this. The owner moves only
	// if Apply is set. In a read it is the status that is shown.
	ActionStatus string
}

// Script queues faults. A request gets the first one that it matches and that
// does not let it through; each is used Times times.
func (c *Cloud) Script(faults ...Fault) {
	c.change(func() {
		for _, f := range faults {
			if f.Times == 0 {
				f.Times = 1
			}
			c.faults = append(c.faults, &f)
		}
	})
}

// Scripted counts the faults that are still to happen.
func (c *Cloud) Scripted() (n int) {
	c.change(func() { n = len(c.faults) })
	return n
}

// ClearScript forgets the faults that are still to happen.
func (c *Cloud) ClearScript() {
	c.change(func() { c.faults = nil })
}

// take finds the fault for a request, none being the zero Fault.
func (c *Cloud) take(r *http.Request) Fault {
	for i, f := range c.faults {
		if f.Method != "" && f.Method != r.Method {
			continue
		}
		if ok, _ := path.Match(f.Path, r.URL.Path); !ok && !strings.HasPrefix(r.URL.Path, f.Path) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		taken := *f
		if f.Times > 0 {
			f.Times--
		}
		if f.Times == 0 {
			c.faults = slices.Delete(c.faults, i, i+1)
		}
		return taken
	}
	return Fault{}
}

// scripted is the answer that the fault gives.
func (q *query) scripted() answer {
	f := q.fault
	a := answer{status: max(f.Status, http.StatusOK), body: []byte(f.Body)}
	if f.Status >= http.StatusBadRequest && f.Body == "" && !f.Empty {
		_, body := q.refuse(f.Status, "")
		a.body, _ = json.Marshal(body)
	}
	return a
}

// pause waits, and abandons the request when its client does.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

// reset closes the connection so that the client sees ECONNRESET.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	abort(conn)
}

// abort closes a connection with a RST, where it is TCP's own.
func abort(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	conn.Close()
}

// endless writes until nobody listens: blanks, which are part of any JSON, at a
// pace that leaves a client without a limit the time to run into its deadline.
func endless(ctx context.Context, w http.ResponseWriter, beginning []byte) {
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	flush := http.NewResponseController(w)
	blanks := bytes.Repeat([]byte(" "), 16<<10)
	for chunk := beginning; ; chunk = blanks {
		if _, err := w.Write(chunk); err != nil || flush.Flush() != nil {
			return
		}
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
	}
}
