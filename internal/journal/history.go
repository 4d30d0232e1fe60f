package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/git"
)

// HistoryFile is the name of the history in the state directory.
const HistoryFile = "history.jsonl"

// What an event was, and what became of it.
const (
	Deploy   = "deploy"
	Promote  = "promote"
	Rollback = "rollback"
	Migrate  = "migrate"
	Recover  = "recover"

	Succeeded = "succeeded"
	Failed    = "failed"
	Refused   = "refused"
)

// An Event is one line of the history.
type Event struct {
	// ID is the transaction's. A recovery that finds it in the history knows
	// that the event was recorded before the crash.
	ID          string           `json:"id"`
	Time        time.Time        `json:"time"`
	Event       string           `json:"event"`
	Environment string           `json:"environment"`
	Ref         string           `json:"ref"`
	Commit      git.OID          `json:"commit"`
	Previous    git.OID          `json:"previous"`
	Result      string           `json:"result"`
	Reason      string           `json:"reason"`
	Pusher      string           `json:"pusher"`
	Options     []string         `json:"options"`
	DurationMS  int64            `json:"duration_ms"`
	Phases      map[string]int64 `json:"phases"`
	Files       Files            `json:"files"`
	// Traffic is set for a promotion and a rollback.
	*Traffic
	// Schema is set for a migration.
	*Schema
}

// Schema is what the history says of a database that was migrated, or should have
// been.
type Schema struct {
	SchemaFrom int `json:"schema_from"` // the version that it was at
	SchemaTo   int `json:"schema_to"`   // the version that was asked for
	// Found is the version that was read afterwards, null where it could not be.
	Found *int `json:"schema"`
}

// Traffic is what the history says of traffic that moved, or should have.
type Traffic struct {
	IP     string `json:"ip"` // "" where the provider knows of none
	From   string `json:"from"`
	To     string `json:"to"`
	Tag    string `json:"tag"` // short; "" for a promotion without one
	Action int    `json:"action_id"`
}

// Files counts what a deployment did to the web root.
type Files struct {
	Written int `json:"written"`
	Deleted int `json:"deleted"`
}

// Append adds an event to the history, durably.
func (j *Journal) Append(e Event) error {
	if e.Options == nil {
		e.Options = []string{}
	}
	if e.Phases == nil {
		e.Phases = map[string]int64{}
	}
	line, err := json.Marshal(e)
	if err == nil {
		err = j.Make()
	}
	if err != nil {
		return fmt.Errorf("appending to the history: %w", err)
	}
	return durable.AppendLine(filepath.Join(j.Dir, HistoryFile), line)
}

// tail is how much is read of the end of a history at first, in bytes.
const tail = 4 << 20

// Events returns the last n events, the newest last; fewer where there are
// fewer. Lines that a crash cut short are passed over.
func (j *Journal) Events(n int) ([]Event, error) {
	for size := int64(tail); ; size *= 4 {
		events, whole, err := j.end(size, n)
		if err != nil || whole || len(events) >= n {
			return events, err
		}
	}
}

// Recent returns the events in the last 4 MiB of the history, the newest last.
// Who looks for one among them reads no more, however long the history is.
func (j *Journal) Recent() ([]Event, error) {
	events, _, err := j.end(tail, math.MaxInt)
	return events, err
}

// end returns the last n events in so many bytes at the end of the history, and
// whether those are all of it.
func (j *Journal) end(size int64, n int) (events []Event, whole bool, err error) {
	f, err := os.Open(filepath.Join(j.Dir, HistoryFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the history: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("reading the history: %w", err)
	}
	from := max(0, st.Size()-size)
	data, err := io.ReadAll(io.NewSectionReader(f, from, st.Size()-from))
	if err != nil {
		return nil, false, fmt.Errorf("reading the history: %w", err)
	}
	for len(data) > 0 && len(events) < n {
		start := bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
		var e Event
		if json.Unmarshal(data[start:], &e) == nil && e.Event != "" {
			events = append(events, e)
		}
		data = data[:start]
	}
	slices.Reverse(events)
	return events, from == 0, nil
}

// Recorded tells whether the event of a transaction is in the history already.
func (j *Journal) Recorded(id string) (bool, error) {
	events, err := j.Recent() // it is the last, but for refusals since
	for _, e := range events {
		if e.ID == id {
			return true, err
		}
	}
	return false, err
}
