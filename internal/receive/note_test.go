package receive

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/journal"
)

// noted is a push that has left its note in the state directory.
func noted(t *testing.T) (p *push, dir string) {
	t.Helper()
	dir = t.TempDir()
	p = &push{process: &Process{Parent: os.Getpid()},
		env: &environment.Environment{Environment: &deploy.Environment{Journal: &journal.Journal{Dir: dir}}}}
	if err := p.writeNote(&note{Refs: 1}); err != nil {
		t.Fatal(err)
	}
	return p, dir
}

// TestNoteWhole: a note is there whole or not at all, for those that look at the
// notes of all pushes.
func TestNoteWhole(t *testing.T) {
	t.Parallel()
	p, dir := noted(t)
	link := filepath.Join(dir, "open") // stands for a descriptor of one that reads
	if err := os.Link(p.notePath(), link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(link)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.writeNote(&note{Refs: 2}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(link); err != nil || string(after) != string(before) {
		t.Errorf("the note was written over: %q, %v", after, err)
	}
	if n := p.readNote(); n == nil || n.Refs != 2 {
		t.Errorf("the note is %+v", n)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// TestOldNotes: what is being written for another push stays, and what a crash has
// left of notes goes.
func TestOldNotes(t *testing.T) {
	t.Parallel()
	p, dir := noted(t)
	long := time.Now().Add(-2 * time.Hour)
	files := []struct {
		name, content string
		old, stays    bool
	}{
		{"push-1.json", "", false, true},
		{"push-2.json", "{", true, false},
		{"push-3.json", `{"parent":4194305,"started":"1"}`, false, false}, // no such process
		{"new-push-4.json", "{", false, true},
		{"new-push-5.json", `{"refs":1}`, true, false},
		{"history.jsonl", "", true, true},
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.WriteFile(path, []byte(f.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if f.old {
			if err := os.Chtimes(path, long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.dropOldNotes()
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); (err == nil) != f.stays {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	if p.readNote() == nil {
		t.Error("the note of a push that goes on is gone")
	}
}
