package receive

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bluegreen/internal/command"
)

// A note is what the hooks of one push tell each other. Git gives proc-receive
// neither the refs that it handles itself nor the push certificate, and tells
// post-receive nothing of what failed. A push is known by its receive-pack
// process, which is the parent of all three hooks.
type note struct {
	Parent  int    `json:"parent"`
	Started string `json:"started"` // of the parent, since process ids are used again
	Refs    int    `json:"refs"`    // in the push
	// Refused says which refs git will refuse, and why; or that it may.
	Refused []string `json:"refused,omitempty"`
	Pusher  string   `json:"pusher,omitempty"`
	// Failed is the outcome of proc-receive, where it is a failure.
	Failed string `json:"failed,omitempty"`
}

const (
	notePrefix    = "push-"
	newNotePrefix = "new-push-" // of one that is being written
	// noteWriting is longer than writing a note takes.
	noteWriting = time.Hour
)

func (p *push) notePath() string {
	return filepath.Join(p.env.Journal.Dir, notePrefix+strconv.Itoa(receiver(p.process.Parent))+".json")
}

// receiver finds the git receive-pack process: it is pid, or, where a script
// runs the hook, an ancestor.
func receiver(pid int) int {
	for at, depth := pid, 0; at > 1 && depth < 8; depth++ {
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", at))
		if err != nil {
			break
		}
		argv := strings.Split(string(cmdline), "\x00")
		if filepath.Base(argv[0]) == "git-receive-pack" || len(argv) > 1 && argv[1] == "receive-pack" {
			return at
		}
		at, err = strconv.Atoi(command.Stat(at, 4))
		if err != nil {
			break
		}
	}
	return pid
}

// processStart identifies a process beyond its id: the time at which it started.
func processStart(pid int) string { return command.Stat(pid, 22) }

// leaveNote is pre-receive's: it foresees what git will refuse, for an atomic
// push, and remembers who signed the push.
func (g *gate) leaveNote(ctx context.Context) error {
	if len(g.updates) == 1 && g.process.getenv("GIT_PUSH_CERT_SIGNER") == "" {
		return nil
	}
	n := &note{Refs: len(g.updates)}
	if len(g.updates) > 1 {
		var err error
		if n.Refused, err = foresee(ctx, g.env.Repo, g.updates); err != nil {
			return err
		}
		hook, err := findHook(ctx, g.env.Repo, "update")
		if err != nil {
			return err
		}
		if hook != "" {
			n.Refused = append(n.Refused, "nobody can tell whether the update hook refuses one of the refs: push them one by one")
		}
	}
	if g.process.getenv("GIT_PUSH_CERT_SIGNER") != "" {
		n.Pusher = g.pusher()
	}
	g.dropOldNotes()
	return g.writeNote(n)
}

// writeNote puts the note into its place whole: the hooks of other pushes look at
// it at any moment. Nothing makes it durable: a power cut ends the push, too, and
// what is left of its note is removed later.
func (p *push) writeNote(n *note) error {
	n.Parent = receiver(p.process.Parent)
	n.Started = processStart(n.Parent)
	data, err := json.Marshal(n)
	if err == nil {
		err = p.env.Journal.Make()
	}
	path := p.notePath()
	written := filepath.Join(filepath.Dir(path), newNotePrefix+strings.TrimPrefix(filepath.Base(path), notePrefix))
	if err == nil {
		err = os.WriteFile(written, data, 0o600)
	}
	if err == nil {
		err = os.Rename(written, path)
	}
	if err != nil {
		os.Remove(written)
		return fmt.Errorf("leaving a note for the other hooks: %w", err)
	}
	return nil
}

// readNote returns the note of this push, nil where there is none.
func (p *push) readNote() *note {
	data, err := os.ReadFile(p.notePath())
	var n note
	if err != nil || json.Unmarshal(data, &n) != nil {
		return nil
	}
	if n.Parent != receiver(p.process.Parent) || n.Started != processStart(n.Parent) {
		return nil
	}
	return &n
}

// takeNote is readNote, for the last one to need it.
func (p *push) takeNote() *note {
	n := p.readNote()
	os.Remove(p.notePath())
	return n
}

// leaveOutcome is proc-receive's: post-receive, which runs when a ref of the
// push was stored, has the last word and must not hide a failure.
func (r *processor) leaveOutcome(ctx context.Context) {
	if r.report.worst() != failure {
		return
	}
	stored := false
	for _, answer := range r.answers {
		stored = stored || answer.verdict != rejected
	}
	n := r.note
	switch {
	case r.atomic:
		stored = false // nothing is, after a failure
	case n != nil && n.Refs > len(r.updates):
		stored = true // git handles the others
	case n == nil:
		// Either there is but one ref, or no pre-receive to count them.
		gate, err := findHook(ctx, r.env.Repo, "pre-receive")
		stored = stored || err != nil || gate == ""
	}
	if !stored {
		os.Remove(r.notePath())
		return
	}
	if n == nil {
		n = &note{}
	}
	for _, o := range r.report.outcomes {
		if o.level == failure {
			n.Failed = o.text
		}
	}
	r.dropOldNotes()
	if err := r.writeNote(n); err != nil {
		r.console.Warning("%v", err)
	}
}

// dropOldNotes removes the notes of pushes that ended without a post-receive, and
// what a crash has left of writing one.
func (p *push) dropOldNotes() {
	entries, err := os.ReadDir(p.env.Journal.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if path := filepath.Join(p.env.Journal.Dir, e.Name()); isOldNote(path) {
			os.Remove(path)
		}
	}
}

// isOldNote tells whether the file at path is a note that nobody needs any more.
// One that cannot be understood may be in the making.
func isOldNote(path string) bool {
	name := filepath.Base(path)
	if strings.HasPrefix(name, notePrefix) {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		var n note
		if json.Unmarshal(data, &n) == nil {
			return n.Started != processStart(n.Parent)
		}
	} else if !strings.HasPrefix(name, newNotePrefix) {
		return false
	}
	st, err := os.Lstat(path)
	return err == nil && time.Since(st.ModTime()) > noteWriting
}
