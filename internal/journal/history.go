package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// maxTail bounds what is read of a long history.
const maxTail = 4 << 20

// Events returns the last n events, the newest last; fewer where there are
// fewer, or where they take more than 4 MiB. Lines that a crash cut short are
// passed over.
func (j *Journal) Events(n int) ([]Event, error) {
	f, err := os.Open(filepath.Join(j.Dir, HistoryFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	from := max(0, st.Size()-maxTail)
	data, err := io.ReadAll(io.NewSectionReader(f, from, st.Size()-from))
	if err != nil {
		return nil, fmt.Errorf("reading the history: %w", err)
	}
	return parseEvents(data, n), nil
}

func parseEvents(data []byte, n int) []Event {
	var events []Event
	for line := range bytes.Lines(data) {
		var e Event
		if json.Unmarshal(line, &e) == nil && e.Event != "" {
			events = append(events, e)
		}
	}
	return events[max(0, len(events)-max(0, n)):]
}

// Recorded tells whether the event of a transaction is in the history already.
func (j *Journal) Recorded(id string) (bool, error) {
	events, err := j.Events(1 << 20) // it is the last, but for refusals since
	for _, e := range events {
		if e.ID == id {
			return true, err
		}
	}
	return false, err
}
