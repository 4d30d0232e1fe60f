package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/git"
)

// records are what the state directory may hold, each with how it is read and
// written again.
var records = []struct {
	file  string
	seed  any
	read  func(*Journal) (any, error)
	write func(*Journal, any) error
}{
	{transactionFile, transaction(), func(j *Journal) (any, error) { return j.Unfinished() },
		func(j *Journal, v any) error { return j.Begin(v.(*Transaction)) }},
	{deployedFile, deployed(), func(j *Journal) (any, error) { return j.Deployed() }, func(j *Journal, v any) error {
		if err := j.PrepareDeployed(v.(*Deployed)); err != nil {
			return err
		}
		return j.SwitchDeployed()
	}},
	{promotionFile, promotion(), func(j *Journal) (any, error) { return j.Promotion() },
		func(j *Journal, v any) error { return j.RecordPromotion(v.(*Promotion)) }},
	{migrationFile, migration(), func(j *Journal) (any, error) { return j.Migration() },
		func(j *Journal, v any) error { return j.RecordMigration(v.(*Migration)) }},
}

// FuzzRecords has each record be any bytes: what is read is the same when it has
// been written again, and what cannot be understood is called damaged and stays.
func FuzzRecords(f *testing.F) {
	for i, r := range records {
		seed, err := json.Marshal(r.seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), seed)
	}
	f.Add(uint8(0), []byte(`{"id":"x","phase":"activating","work":{"directory":"/w","operations":[{"kind":9,"path":"../x"}]}}`))
	f.Add(uint8(1), []byte("null"))
	j := newJournal(f)
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		r := records[int(kind)%len(records)]
		path := filepath.Join(j.Dir, r.file)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := r.read(j)
		if err != nil {
			if left, readErr := os.ReadFile(path); !errors.Is(err, ErrDamaged) || readErr != nil || !bytes.Equal(left, data) {
				t.Fatalf("%q: %v, and then it is %q, %v", data, err, left, readErr)
			}
			return
		}
		if err := r.write(j, v); err != nil {
			t.Fatalf("%q is read and cannot be written: %v", data, err)
		}
		if again, err := r.read(j); err != nil || !reflect.DeepEqual(again, v) {
			t.Fatalf("%q is read as\n%+v\nand when it is written again as\n%+v, %v", data, v, again, err)
		}
	})
}

// FuzzRefNames has the refs of each record have any bytes for a name: recovery
// must move the ref that was pushed, and no other.
func FuzzRefNames(f *testing.F) {
	for _, name := range []string{"refs/tags/release-\xfc", "refs/tags/release-\ufffd", "refs/heads/\"\\x", "\"refs", "\x00\u2028<"} {
		f.Add(name)
	}
	j := newJournal(f)
	f.Fuzz(func(t *testing.T, name string) {
		refs := []git.RefUpdate{{Name: name, New: oid(1, 20)}, {Name: "refs/tags/b", Old: oid(2, 32)}}
		tr, p, m := transaction(), promotion(), migration()
		tr.Refs, p.Refs, m.Refs = refs, refs, refs
		if err := errors.Join(j.Begin(tr), j.RecordPromotion(p), j.RecordMigration(m)); err != nil {
			t.Fatal(err)
		}
		readT, errT := j.Unfinished()
		readP, errP := j.Promotion()
		readM, errM := j.Migration()
		if err := errors.Join(errT, errP, errM); err != nil {
			t.Fatal(err)
		}
		for record, got := range map[string][]git.RefUpdate{"transaction": readT.Refs, "promotion": readP.Refs, "migration": readM.Refs} {
			if !slices.Equal(got, refs) {
				t.Errorf("the %s has %q, written were %q", record, got, refs)
			}
		}
	})
}

// TestOlderRefs reads what a version wrote that knew of no names but UTF-8.
func TestOlderRefs(t *testing.T) {
	t.Parallel()
	var got git.RefUpdate
	text := `{"Name":"refs/tags/é\u2028","Old":"","New":"` + strings.Repeat("01", 20) + `"}`
	if err := json.Unmarshal([]byte(text), &got); err != nil || got != (git.RefUpdate{Name: "refs/tags/é\u2028", New: oid(1, 20)}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// FuzzHistory has the history be any bytes: what is recorded after them is found,
// with all that was found before.
func FuzzHistory(f *testing.F) {
	line, err := json.Marshal(event())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line, 1)
	f.Add(append(append(line, '\n'), line[:len(line)/2]...), 2)
	f.Add([]byte("\n\n{}\nnull\n{\"event\":\"deploy\"}\n[]"), 3)
	j := newJournal(f)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if err := os.WriteFile(filepath.Join(j.Dir, HistoryFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		before, err := j.Events(math.MaxInt)
		if err != nil {
			t.Fatalf("%q cannot be read: %v", data, err)
		}
		n = max(0, min(n, len(before)))
		if last, err := j.Events(n); err != nil || len(last) != n || n > 0 && !reflect.DeepEqual(last, before[len(before)-n:]) {
			t.Fatalf("the last %d events of %q are %+v, %v", n, data, last, err)
		}
		if err := j.Append(event()); err != nil {
			t.Fatal(err)
		}
		after, err := j.Events(math.MaxInt)
		if err != nil || len(after) != len(before)+1 || !reflect.DeepEqual(after[len(before)], event()) {
			t.Fatalf("after %q was recorded: %+v, %v", data, after, err)
		}
		if len(before) > 0 && !reflect.DeepEqual(after[:len(before)], before) {
			t.Fatalf("%q was read as\n%+v\nand now as\n%+v", data, before, after)
		}
	})
}
