// Package health asks a release whether it is healthy: over HTTP, by a TCP
// connection or with a command of the operator's, until it is or time is over.
package health

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"
)

// Check is one question. Exactly one of URL, TCP and Command is set; what
// follows Command up to BodyFile goes with URL only.
type Check struct {
	Name string
	URL  string // http or https; answered by GET, without proxies
	TCP  string // host:port, healthy where it accepts a connection
	// Address is a host or host:port to connect to instead of URL's or TCP's,
	// "" for theirs. A port that it does not have is theirs. The Host header
	// and the name that TLS verifies stay what they are without it.
	Address    string
	Command    []string          // argv, healthy where it exits with 0
	Host       string            // Host header, and the name that TLS verifies; "" for the url's
	Headers    map[string]string // further request headers
	Status     []int             // statuses that are healthy; empty for any 2xx
	Body       string            // the body must contain it; {commit}, {short}, {environment} and {tag} are filled in
	BodyRegexp *regexp.Regexp    // the body must match it; nil for none
	BodyFile   string            // the body must equal this file as committed; "" for none
	Timeout    time.Duration     // of one attempt; more than 0, Within where that is shorter
	Interval   time.Duration     // from the end of one attempt to the start of the next
	Within     time.Duration     // for all attempts together; more than 0
	Successes  int               // healthy answers in a row; 0 is 1
}

// Subject is the release that is asked about.
type Subject struct {
	Commit, Short, Environment, Tag string

	Env []string // the complete environment of command checks
	Dir string   // their working directory
	// File returns the first limit bytes of a file as committed, and the size
	// of all of it. It is asked once for each check that has a BodyFile, and
	// may be asked by several goroutines at once.
	File func(ctx context.Context, path string, limit int) (start []byte, size int64, err error)
}

// Result is what came of one check.
type Result struct {
	Name     string
	Healthy  bool
	Attempts int           // that were begun
	Took     time.Duration // from the start of Run
	// Last is what the last attempt saw: one line without control characters,
	// such as `status 500, body "boom"`. An attempt that was cut short by the
	// end of Within or of the context hides nothing that was seen before it.
	Last string
	// Unreachable tells that the attempt that Last is about, of a URL or TCP
	// check, could not connect: it timed out, or there was no route. It is
	// false for a server that refuses, or is silent once connected, and for a
	// name that does not resolve.
	Unreachable bool
	// Answered tells that the attempt that Last is about, of a URL check, got
	// the head of an answer.
	Answered bool
	Lines    []string // the last lines that the command of that attempt printed, as they are
}

// An answer is what one attempt saw.
type answer struct {
	healthy     bool
	other       bool     // not healthy, but whole and with an expected status: another release's
	unreachable bool     // as in Result
	answered    bool     // as in Result
	text        string   // printable
	lines       []string // of a command, raw
}

// A probe makes one attempt, until its context ends.
type probe func(context.Context) answer

// Run asks all checks at once, until each is healthy or out of time, and
// returns their results in the order of checks. It returns early when ctx ends:
// at once, but for a command, which has 3 s to end, as at the end of its time.
//
// Of an answer at most 64 KiB are read, and only what the check asks for: one
// that asks for no body is healthy as soon as the status is.
//
// observe, which may be nil, is told of every attempt and what it saw, as in
// Result.Last, by several goroutines, but by one at a time; while it blocks, so
// do the checks.
func Run(ctx context.Context, checks []Check, s Subject, observe func(name string, attempt int, last string)) []Result {
	var observing sync.Mutex
	tell := func(name string, attempt int, last string) {
		if observe != nil {
			observing.Lock()
			defer observing.Unlock()
			observe(name, attempt, last)
		}
	}
	results := make([]Result, len(checks))
	var asking sync.WaitGroup
	for i, c := range checks {
		asking.Go(func() {
			start := time.Now()
			results[i] = c.run(ctx, s, tell)
			results[i].Took = time.Since(start)
		})
	}
	asking.Wait()
	return results
}

// Healthy tells whether all checks are: with none, nothing is known to be wrong.
func Healthy(results []Result) bool {
	for _, r := range results {
		if !r.Healthy {
			return false
		}
	}
	return true
}

// run asks one check until it is healthy or out of time.
func (c Check) run(ctx context.Context, s Subject, tell func(string, int, string)) Result {
	r := Result{Name: c.Name}
	deadline := time.Now().Add(c.Within)
	ask, err := c.probe(ctx, s)
	if err != nil {
		r.Last = printable(err.Error())
		return r
	}
	c.repeat(ctx, ask, deadline, &r, tell)
	return r
}

// repeat makes attempts until enough of them in a row were healthy, or until
// no other can begin before the deadline.
func (c Check) repeat(ctx context.Context, ask probe, deadline time.Time, r *Result, tell func(string, int, string)) {
	for row := 0; ; {
		limit := min(c.Timeout, time.Until(deadline))
		attempt, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("timed out after %s", limit.Round(time.Millisecond)))
		a := ask(attempt)
		late := attempt.Err() != nil && limit < c.Timeout
		cancel()
		r.Attempts++
		row++
		switch {
		case !a.healthy:
			row = 0
			if (late || ctx.Err() != nil) && r.Last != "" {
				return // what this attempt would have seen, nobody knows
			}
		case row < c.Successes:
			a.text = fmt.Sprintf("%s, healthy %d of %d times in a row", a.text, row, c.Successes)
		}
		r.Last, r.Lines, r.Unreachable, r.Answered = a.text, a.lines, a.unreachable, a.answered
		tell(c.Name, r.Attempts, r.Last)
		if r.Healthy = row >= max(c.Successes, 1); r.Healthy || time.Until(deadline) <= c.Interval {
			return
		}
		select {
		case <-time.After(c.Interval):
		case <-ctx.Done():
			return
		}
	}
}
