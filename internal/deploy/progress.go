package deploy

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
)

// progress knows how far an operation is, and how long its phases took.
type progress struct {
	lock    *lock.Lock
	observe func(Notice)
	event   journal.Event // what the history will say
	started time.Time
	phase   string // the current one, and when it began
	entered time.Time
}

// begin begins an operation that the history will tell of, whatever becomes of it.
func (s *Session) begin(event journal.Event) progress {
	now := time.Now()
	if held, err := s.env.Journal.Deployed(); err == nil && held != nil && !s.env.elsewhere(held) {
		event.Previous = held.Commit // on record; a deployment finds out whether that holds
	}
	event.ID, event.Time, event.Environment, event.Phases = newID(), now.UTC(), s.env.Name, map[string]int64{}
	return progress{lock: s.lock, observe: s.env.Observe, event: event, started: now}
}

// enter notes how long the current phase took, and begins the next one.
func (p *progress) enter(phase string) {
	now := time.Now()
	if p.phase != "" {
		p.event.Phases[p.phase] += now.Sub(p.entered).Milliseconds()
	}
	p.phase, p.entered = phase, now
	p.lock.Phase(phase)
	p.observe(Notice{Kind: Phase, Text: phase})
}

// took is how long the operation has taken up to now.
func (p *progress) took() time.Duration {
	p.event.DurationMS = time.Since(p.started).Milliseconds()
	return time.Duration(p.event.DurationMS) * time.Millisecond
}

func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
