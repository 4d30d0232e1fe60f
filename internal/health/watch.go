package health

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxWatched is the most that one attempt of a watch takes.
const maxWatched = 2 * time.Second

// Kind is what a watch saw.
type Kind string

// The kinds of sightings.
const (
	New    Kind = "new"    // the check is healthy about the subject
	Old    Kind = "old"    // an answer with an expected status, whose body is not the subject's
	Failed Kind = "failed" // anything else
)

// A Sighting is what one attempt of a watch saw.
type Sighting struct {
	Began time.Time
	Time  time.Time // when the answer was complete
	Kind  Kind
	Text  string // what was seen, as in Result.Last
}

// Watch asks c, a URL check as for Run, about s until ctx ends, and tells
// observe of each attempt in turn. Attempts begin every (more than 0) apart;
// one that takes longer delays the next. Each has a connection of its own and
// at most 2 s, less where c's Timeout is. A check that does not look at the
// body takes every good answer for New.
//
// Watch returns nil soon after ctx has ended: the attempt under way is told of
// if it had its answer by then, and never as failed. An error means that c
// cannot be asked.
func Watch(ctx context.Context, c Check, s Subject, every time.Duration, observe func(Sighting)) error {
	if c.URL == "" {
		return errors.New("only a check with a url can be watched")
	}
	if every <= 0 {
		return fmt.Errorf("watching every %s is not possible", every)
	}
	ask, err := c.newPage(ctx, s)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	limit := maxWatched
	if c.Timeout > 0 {
		limit = min(limit, c.Timeout)
	}
	for {
		sighting := sight(ctx, ask, limit)
		if ctx.Err() != nil && sighting.Kind == Failed {
			return nil // what this attempt would have seen, nobody knows
		}
		observe(sighting)
		select {
		case <-time.After(time.Until(sighting.Began.Add(every))):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// sight makes one attempt of a watch.
func sight(ctx context.Context, ask probe, limit time.Duration) Sighting {
	sighting := Sighting{Began: time.Now(), Kind: Failed}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("timed out after %s", limit))
	defer cancel()
	a := ask(ctx)
	sighting.Time, sighting.Text = time.Now(), a.text
	switch {
	case a.healthy:
		sighting.Kind = New
	case a.other:
		sighting.Kind = Old
	}
	return sighting
}

// A Timeline sums up the sightings of one watch: how many there were, and when
// what was served changed. It keeps no list of them. The zero Timeline is
// empty and ready; it is safe for use by several goroutines.
type Timeline struct {
	mu      sync.Mutex
	summary Summary
}

// A Summary is what a watch has seen so far. Times are of complete answers,
// zero where there is none.
type Summary struct {
	Asked, Failed int

	LastOld time.Time
	// FirstNew is when what is served now was seen first: the first New that
	// no Old followed. Failures in between do not count.
	FirstNew time.Time

	FirstFailed, LastFailed time.Time
	Failure                 string // what the first failure was, as in Result.Last
}

// Add counts a sighting. Sightings come in the order of their times.
func (t *Timeline) Add(s Sighting) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := &t.summary
	sum.Asked++
	switch s.Kind {
	case Old:
		sum.LastOld, sum.FirstNew = s.Time, time.Time{}
	case New:
		if sum.FirstNew.IsZero() {
			sum.FirstNew = s.Time
		}
	default:
		if sum.Failed == 0 {
			sum.FirstFailed, sum.Failure = s.Time, s.Text
		}
		sum.Failed++
		sum.LastFailed = s.Time
	}
}

// Summary returns what has been seen so far.
func (t *Timeline) Summary() Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.summary
}
