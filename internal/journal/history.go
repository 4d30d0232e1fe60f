package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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

// window is how much of a history is in memory at once, in bytes, unless one line is
// longer.
const window = 256 << 10

// Backwards yields the events of the history, the newest first, and reads no further
// than they are asked for. Lines that a crash cut short are passed over. An error is
// the last that it yields.
func (j *Journal) Backwards() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f, err := os.Open(filepath.Join(j.Dir, HistoryFile))
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err == nil {
			defer f.Close()
			err = backwards(f, func(e Event) bool { return yield(e, nil) })
		}
		if err != nil {
			yield(Event{}, fmt.Errorf("reading the history: %w", err))
		}
	}
}

// backwards visits the events of a history, the newest first, until visit says that
// it is enough.
func backwards(f *os.File, visit func(Event) bool) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for end := st.Size(); end > 0; {
		lines, err := linesBefore(f, end)
		if err != nil {
			return err
		}
		end -= int64(len(lines))
		for len(lines) > 0 {
			start := bytes.LastIndexByte(lines[:len(lines)-1], '\n') + 1
			var e Event
			if json.Unmarshal(lines[start:], &e) == nil && e.Event != "" && !visit(e) {
				return nil
			}
			lines = lines[:start]
		}
	}
	return nil
}

// linesBefore reads whole lines that end at end: as many as fit into the window, or
// one that is longer.
func linesBefore(f *os.File, end int64) ([]byte, error) {
	for size := int64(window); ; size *= 2 {
		from := max(0, end-size)
		data := make([]byte, end-from)
		if _, err := f.ReadAt(data, from); err != nil {
			return nil, err
		}
		if from == 0 {
			return data, nil
		}
		if cut := bytes.IndexByte(data[:len(data)-1], '\n'); cut >= 0 {
			return data[cut+1:], nil
		}
	}
}

// Events returns the last n events, the newest last; fewer where there are
// fewer.
func (j *Journal) Events(n int) (events []Event, err error) {
	if n <= 0 {
		return nil, nil
	}
	for e, err := range j.Backwards() {
		if err != nil {
			return nil, err
		}
		if events = append(events, e); len(events) == n {
			break
		}
	}
	slices.Reverse(events)
	return events, nil
}

// Recorded tells whether the event of a transaction is in the history already.
func (j *Journal) Recorded(id string) (bool, error) {
	for e, err := range j.Backwards() {
		if err != nil || e.ID == id {
			return err == nil, err
		}
	}
	return false, nil
}
