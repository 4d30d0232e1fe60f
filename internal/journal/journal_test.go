package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/worktree"
)

// newJournal makes the state directory of a repository that there is not.
func newJournal(t testing.TB) *Journal {
	t.Helper()
	j, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Make(); err != nil {
		t.Fatal(err)
	}
	return j
}

func oid(digit byte, size int) git.OID { return git.OIDFromBytes(bytes.Repeat([]byte{digit}, size)) }

var when = time.Date(2026, 11, 23, 4, 5, 6, 789, time.UTC)

func event() Event {
	return Event{ID: "id", Time: when, Event: Deploy, Environment: "blue", Ref: "refs/heads/master", Commit: oid(1, 20), Previous: oid(2, 20),
		Result: Succeeded, Reason: "a \"reason\"\nof two lines \x1b[2J", Pusher: "somebody", Options: []string{"live", "wait=1s"}, DurationMS: 1234,
		Phases: map[string]int64{"staging": 12, "checking": 0}, Files: Files{Written: 3, Deleted: 1}}
}

func transaction() *Transaction {
	return &Transaction{ID: "id", Phase: Activating, Started: when, Event: event(), RefMoved: true, Held: oid(8, 32),
		Refs: []git.RefUpdate{{Name: "refs/heads/master", Old: oid(2, 20), New: oid(1, 20)}, {Name: "refs/tags/new", New: oid(3, 32)},
			{Name: "refs/heads/<&>\u2028é", Old: oid(2, 20)},
			{Name: "refs/tags/release-\xfc", New: oid(1, 20)}},
		Deployed: deployed(),
		Work: worktree.Record{Directory: "/var/www/caf\xe9", Tree: oid(4, 20), Operations: []worktree.Operation{
			{Kind: worktree.Put, Path: "bad\xff/\"quoted\"", Slot: "0", Inode: 1<<63 + 1},
			{Kind: worktree.Take, Path: "\"", Slot: "1"},
			{Kind: worktree.Rmdir, Path: "grüße", Slot: "2"},
		}}}
}

func deployed() Deployed {
	return Deployed{Commit: oid(1, 20), Tree: oid(4, 20), Previous: oid(2, 20), Directory: "/var/www/html", At: when,
		Ref: "refs/heads/master", From: oid(2, 20)}
}

func promotion() *Promotion {
	e := event()
	e.Event, e.Traffic = Promote, &Traffic{IP: "203.0.113.10", From: "green", To: "blue", Tag: "release-2"}
	return &Promotion{ID: "id", Course: Moving, Started: when, Asked: when, What: "promotion of 203.0.113.10", Event: e,
		Refs: []git.RefUpdate{{Name: "refs/tags/release-2", New: oid(1, 20)}}}
}

func migration() *Migration {
	e := event()
	e.Event, e.Schema = Migrate, &Schema{SchemaFrom: 1, SchemaTo: 2}
	return &Migration{ID: "id", Started: when, Event: e, Refs: []git.RefUpdate{{Name: "refs/tags/schema-2", New: oid(1, 20)}}}
}

func TestOpen(t *testing.T) {
	repo := t.TempDir()
	j, err := Open(repo)
	if err != nil || j.Dir != filepath.Join(repo, DirName) {
		t.Fatalf("%+v, %v", j, err)
	}
	if _, err := os.Lstat(j.Dir); err == nil {
		t.Error("to open is to make")
	}
	if tr, err := j.Unfinished(); tr != nil || err != nil {
		t.Errorf("before anything was written: %+v, %v", tr, err)
	}
	for range 2 {
		if err := j.Make(); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(j.Dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	for name, make := range map[string]func(path string) error{
		"a file":    func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a symlink": func(path string) error { return os.Symlink(j.Dir, path) },
		"dangling":  func(path string) error { return os.Symlink("nowhere", path) },
	} {
		repo := t.TempDir()
		if err := make(filepath.Join(repo, DirName)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(repo); err == nil || !strings.Contains(err.Error(), "is not a directory") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (&Journal{Dir: filepath.Join(repo, "none", "none")}).Make(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in no repository: %v", err)
	}
}

// TestTransaction goes through what is written of a transaction, and reads it
// as another process does after a crash.
func TestTransaction(t *testing.T) {
	j := newJournal(t)
	want := transaction()
	is := func(step string, want *Transaction) {
		t.Helper()
		got, err := (&Journal{Dir: j.Dir}).Unfinished()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\n%+v\nwant\n%+v", step, err, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is("nothing", nil)
	must(j.Begin(want))
	is("begun", want)
	must(j.Commit(want))
	if want.Phase != Committing {
		t.Errorf("phase %q", want.Phase)
	}
	is("committing", want)
	must(j.End())
	is("ended", nil)
	must(j.End())

	want = transaction()
	must(j.Begin(want))
	for range 2 {
		must(j.Undo())
		want.Phase = Undoing
		is("undoing", want)
	}
	must(j.End())
	is("undone", nil)

	// The power fails between the two removals of End.
	must(j.Begin(transaction()))
	must(j.Undo())
	must(j.Begin(transaction()))
	is("undoing, and another", want)
	must(j.End())
	is("both gone", nil)
	if entries, err := os.ReadDir(j.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestDeployed(t *testing.T) {
	j := newJournal(t)
	if d, err := j.Deployed(); d != nil || err != nil {
		t.Errorf("before the first one: %+v, %v", d, err)
	}
	first, second := deployed(), deployed()
	second.Commit, second.Tree, second.Previous = oid(5, 32), oid(6, 32), git.OID{}
	second.Ref, second.From = "", git.OID{}
	second.Elsewhere = map[string]git.OID{"/srv/old": oid(7, 20)}
	var last *Deployed
	for _, d := range []Deployed{first, second, first} {
		if err := j.PrepareDeployed(&d); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Deployed(); err != nil || !reflect.DeepEqual(got, last) {
			t.Errorf("prepared: %+v, %v; want %+v", got, err, last)
		}
		if err := j.SwitchDeployed(); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Deployed(); err != nil || !reflect.DeepEqual(*got, d) {
			t.Errorf("switched: %+v, %v; want %+v", got, err, d)
		}
		last = &d
	}
	if err := j.SwitchDeployed(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing is prepared: %v", err)
	}
	if got, err := j.Deployed(); err != nil || !reflect.DeepEqual(got, last) {
		t.Errorf("after that: %+v, %v", got, err)
	}
}

// TestDamaged: what cannot be understood is an error, and stays for a person
// to look at.
func TestDamaged(t *testing.T) {
	whole := newJournal(t)
	if err := whole.Begin(transaction()); err != nil {
		t.Fatal(err)
	}
	d := deployed()
	if err := whole.PrepareDeployed(&d); err != nil {
		t.Fatal(err)
	}
	if err := whole.SwitchDeployed(); err != nil {
		t.Fatal(err)
	}
	if err := whole.RecordPromotion(promotion()); err != nil {
		t.Fatal(err)
	}
	if err := whole.RecordMigration(migration()); err != nil {
		t.Fatal(err)
	}
	for name, read := range map[string]func(*Journal) (any, error){
		transactionFile: func(j *Journal) (any, error) { return j.Unfinished() },
		undoingFile:     func(j *Journal) (any, error) { return j.Unfinished() },
		deployedFile:    func(j *Journal) (any, error) { return j.Deployed() },
		promotionFile:   func(j *Journal) (any, error) { return j.Promotion() },
		migrationFile:   func(j *Journal) (any, error) { return j.Migration() },
	} {
		source := name
		if name == undoingFile {
			source = transactionFile
		}
		good, err := os.ReadFile(filepath.Join(whole.Dir, source))
		if err != nil {
			t.Fatal(err)
		}
		damaged := map[string]string{"text": "not JSON\n", "zeros": strings.Repeat("\x00", len(good)), "another type": "[]\n", "a number": "17",
			"more after it": string(good) + "{}", "a bad name": strings.Replace(string(good), strings.Repeat("01", 20), "0101", 1),
			"null": "null\n", "nothing in it": "{}\n"}
		for n := len(good) - 2; n >= 0; n -= 1 + n/50 { // the last byte is a newline
			damaged[fmt.Sprintf("%d bytes of it", n)] = string(good[:n])
		}
		if name == transactionFile {
			damaged["an unknown phase"] = strings.Replace(string(good), `"phase":"activating"`, `"phase":"dreaming"`, 1)
		}
		if name == promotionFile {
			damaged["an unknown course"] = strings.Replace(string(good), `"course":"moving"`, `"course":"dreaming"`, 1)
			damaged["to nobody"] = strings.Replace(string(good), `"to":"blue"`, `"to":""`, 1)
		}
		for how, text := range damaged {
			j := newJournal(t)
			path := filepath.Join(j.Dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := read(j)
			if !errors.Is(err, ErrDamaged) || !reflect.ValueOf(got).IsNil() || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %s: %+v, %v", name, how, got, err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != text {
				t.Errorf("%s: %s: it is %q now, %v", name, how, after, err)
			}
		}
	}
	j := newJournal(t)
	if err := os.Mkdir(filepath.Join(j.Dir, transactionFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if tr, err := j.Unfinished(); err == nil {
		t.Errorf("a directory: %+v", tr)
	}
}

func TestHistory(t *testing.T) {
	j := newJournal(t)
	if events, err := j.Events(5); err != nil || len(events) != 0 {
		t.Errorf("before the first one: %v, %v", events, err)
	}
	if done, err := j.Recorded("id"); done || err != nil {
		t.Errorf("before the first one: %v, %v", done, err)
	}
	var want []Event
	for i := range 10 {
		e := event()
		e.ID, e.Commit = fmt.Sprint(i), oid(byte(i), 20)
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
		want = append(want, e)
	}
	for _, n := range []int{0, 1, 3, 10, 11, 1 << 20, -1} {
		events, err := j.Events(n)
		last := want[10-max(0, min(n, 10)):]
		if err != nil || len(events) != len(last) || len(last) > 0 && !reflect.DeepEqual(events, last) {
			t.Errorf("the last %d: %v, %v", n, events, err)
		}
	}
	for id, want := range map[string]bool{"0": true, "9": true, "10": false, "": false} {
		if done, err := j.Recorded(id); done != want || err != nil {
			t.Errorf("%q is recorded: %v, %v", id, done, err)
		}
	}

	// What users read: one object a line, with every key.
	data, err := os.ReadFile(filepath.Join(j.Dir, HistoryFile))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	var object map[string]any
	if len(lines) != 10 || json.Unmarshal([]byte(lines[0]), &object) != nil {
		t.Fatalf("%q", data)
	}
	for _, key := range []string{"time", "event", "environment", "ref", "commit", "previous", "result", "reason", "pusher", "options", "duration_ms", "phases", "files"} {
		if _, found := object[key]; !found {
			t.Errorf("no %q in %s", key, lines[0])
		}
	}
	if object["commit"] != "" || object["previous"] != strings.Repeat("02", 20) || object["time"] != "2026-11-23T04:05:06.000000789Z" {
		t.Errorf("%s", lines[0])
	}
	if st, err := os.Stat(filepath.Join(j.Dir, HistoryFile)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
}

// TestEmptyEvent: lists are lists also where there is nothing in them.
func TestEmptyEvent(t *testing.T) {
	j, err := Open(t.TempDir()) // and the state directory is made
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Append(Event{Event: Deploy}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(j.Dir, HistoryFile))
	if err != nil || !strings.Contains(string(data), `"options":[]`) || !strings.Contains(string(data), `"phases":{}`) || !strings.Contains(string(data), `"commit":""`) {
		t.Errorf("%s, %v", data, err)
	}
}

// TestTornHistory: lines that a crash cut short, or that others wrote, are
// passed over, and spoil no other.
func TestTornHistory(t *testing.T) {
	j := newJournal(t)
	path := filepath.Join(j.Dir, HistoryFile)
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, torn := range []string{"", `{"id":"torn","event":"dep`, "\x00\x00\x00", "\n\n", "{}\n", "[1]\n", "17", "null\n", `{"event":7}`, strings.Repeat("x", 100_000)} {
		add(torn)
		e := event()
		e.ID = fmt.Sprint(i)
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
		events, err := j.Events(1 << 20)
		if err != nil || len(events) != i+1 || !reflect.DeepEqual(events[i], e) {
			t.Errorf("after %.20q: %d events, %v", torn, len(events), err)
		}
	}
	add(`{"id":"cut","event":"deploy"`)
	if events, err := j.Events(1); err != nil || len(events) != 1 || events[0].ID != "9" {
		t.Errorf("a torn line at the end: %v, %v", events, err)
	}
}

// TestLongHistory: who asks for many events gets them, and who looks for one finds
// it, however long the history is, and its lines.
func TestLongHistory(t *testing.T) {
	j := newJournal(t)
	const n, late = 20, 7
	for i := range n {
		if i == n-late { // what is before it is beyond the window, and so is the line
			line := strings.Repeat("x", 3*window) + "\n" + strings.Repeat("{}\n", window)
			f, err := os.OpenFile(filepath.Join(j.Dir, HistoryFile), os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				_, err = f.WriteString(line)
				f.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		e := event()
		e.ID = fmt.Sprint(i)
		if err := j.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	check := func(want int, events []Event, err error) {
		t.Helper()
		if err != nil || len(events) != want {
			t.Errorf("%d events, want %d, %v", len(events), want, err)
		}
		for i, e := range events {
			if want := fmt.Sprint(n - len(events) + i); e.ID != want {
				t.Fatalf("event %d is %s, want %s", i, e.ID, want)
			}
		}
	}
	for _, many := range []int{-1, 0, 1, late, late + 1, n, n + 1, 1 << 40} {
		events, err := j.Events(many)
		check(max(0, min(many, n)), events, err)
	}
	for id, want := range map[int]bool{n - 1: true, n - late: true, n - late - 1: true, 0: true, n: false} {
		if done, err := j.Recorded(fmt.Sprint(id)); done != want || err != nil {
			t.Errorf("%d is recorded: %v, %v", id, done, err)
		}
	}
}

// TestAppendTogether: several processes may append at the same time.
func TestAppendTogether(t *testing.T) {
	repo := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			j, err := Open(repo)
			for k := 0; k < 10 && err == nil; k++ {
				e := event()
				e.ID = fmt.Sprintf("%d-%d", i, k)
				err = j.Append(e)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	j, err := Open(repo)
	if err != nil {
		t.Fatal(err)
	}
	events, err := j.Events(100)
	seen := map[string]bool{}
	for _, e := range events {
		seen[e.ID] = true
	}
	if err != nil || len(seen) != 40 {
		t.Errorf("%d events, %v", len(seen), err)
	}
}

// TestCleanUp removes what was left of a record by a crash in the middle of
// writing it, and no record.
func TestCleanUp(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	if err := j.Begin(transaction()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"transaction.json", "undoing.json", "next-deployed.json", "promotion.json"} {
		if err := os.WriteFile(filepath.Join(j.Dir, name+".new"), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.CleanUp(); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(j.Dir, "*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q are left, %v", left, err)
	}
	if unfinished, err := j.Unfinished(); err != nil || unfinished == nil {
		t.Errorf("the transaction is gone: %v", err)
	}
}

// TestNotEnded: as long as what was prepared for an operation cannot be removed,
// its record stays: what is left of it is not forgotten.
func TestNotEnded(t *testing.T) {
	t.Parallel()
	j := newJournal(t)
	if err := errors.Join(j.Begin(transaction()), j.RecordPromotion(promotion())); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(j.Dir, nextDeployedFile)
	if err := os.MkdirAll(filepath.Join(inTheWay, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err, also := j.End(), j.EndPromotion(); err == nil || also == nil {
		t.Errorf("they ended: %v, %v", err, also)
	}
	tr, err := j.Unfinished()
	p, also := j.Promotion()
	if tr == nil || p == nil || err != nil || also != nil {
		t.Errorf("they are forgotten: %v, %v, %v, %v", tr, err, p, also)
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.End(), j.EndPromotion()); err != nil {
		t.Fatal(err)
	}
	if tr, err := j.Unfinished(); tr != nil || err != nil {
		t.Errorf("it goes on: %v, %v", tr, err)
	}
	if p, err := j.Promotion(); p != nil || err != nil {
		t.Errorf("it goes on: %v, %v", p, err)
	}
}
