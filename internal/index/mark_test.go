package index

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/gittest"
	"bluegreen/internal/tree"
)

// TestEdits holds an index that is written with edits against one that is made
// of all entries.
func TestEdits(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		taken, had, want := map[string]bool{}, map[string]Entry{}, map[string]Entry{}
		var edits []Entry
		for range random.IntN(40) {
			path := strings.Repeat("long/", random.IntN(2)*random.IntN(900)) + fmt.Sprint(random.IntN(60))
			e := Entry{Path: path, Item: tree.Item{Mode: tree.File, OID: tree.HashObject("blob", []byte(path), 20)}, Stat: Stat{Ino: random.Uint32()}}
			if taken[path] {
				continue
			}
			taken[path], want[path] = true, e
			switch random.IntN(4) {
			case 0:
				edits = append(edits, e)
			case 1: // another one was there
				edits = append(edits, e)
				e.Mode, e.Stat = tree.Symlink, Stat{}
				had[path] = e
			case 2:
				had[path] = e
			case 3:
				edits = append(edits, Entry{Path: path}) // whether it was there or not
				delete(want, path)
				if random.IntN(2) == 0 {
					had[path] = e
				}
			}
		}
		byPath := func(a, b Entry) int { return strings.Compare(a.Path, b.Path) }
		sorted := func(of map[string]Entry) (entries []Entry) {
			for _, e := range of {
				entries = append(entries, e)
			}
			slices.SortFunc(entries, byPath)
			return entries
		}
		slices.SortFunc(edits, byPath)
		var got, whole bytes.Buffer
		mark, err := New(sorted(had), 20).Write(&got, edits)
		if err != nil {
			t.Fatal(err)
		}
		again, err := New(sorted(want), 20).Write(&whole, nil)
		if err != nil || mark != again || !bytes.Equal(got.Bytes(), whole.Bytes()) {
			t.Fatalf("%d entries with %d edits are not the index of %d: marks %v, %v", len(had), len(edits), len(want), mark, again)
		}
		if x, err := parse("", got.Bytes(), 20); err != nil {
			t.Fatal(err)
		} else {
			compare(t, all(x), sorted(want))
		}
	}
}

// TestMark: an index is known as long as it is the one that was written.
func TestMark(t *testing.T) {
	t.Parallel()
	w := newWorktree(t, 20)
	x, err := readIndex(w.index, 20)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	mark, err := x.Write(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	mark.Written = time.Unix(1000, 0)
	path := filepath.Join(gittest.Dir(t), "index")
	put := func(data []byte, written time.Time) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	put(out.Bytes(), mark.Written)
	y, known, err := ReadKnown(path, filepath.Dir(path), 20, mark)
	if err != nil || !known || !y.Written.Equal(mark.Written) {
		t.Fatalf("known %v, written %s, %v", known, y.Written, err)
	}
	compare(t, all(y), all(x))
	if _, known, err := ReadKnown(path, filepath.Dir(path), 20, Mark{}); err != nil || known {
		t.Errorf("without a mark: known %v, %v", known, err)
	}
	// One that was put back, or put back with a time of long ago: a file that
	// was changed since then must not be taken for unchanged.
	for _, written := range []time.Time{mark.Written.Add(time.Hour), mark.Written.Add(-time.Hour)} {
		put(out.Bytes(), written)
		y, known, err := ReadKnown(path, filepath.Dir(path), 20, mark)
		if earlier := min(written.Unix(), mark.Written.Unix()); err != nil || !known || y.Written.Unix() != earlier {
			t.Errorf("put back with the time %s: known %v, written %s, %v", written, known, y.Written, err)
		}
	}
	// The disk may damage it, and leave the checksum alone.
	for n := range out.Len() {
		broken := slices.Clone(out.Bytes())
		broken[n] ^= 1
		put(broken, mark.Written)
		if _, known, err := ReadKnown(path, filepath.Dir(path), 20, mark); err == nil || known {
			t.Fatalf("byte %d changed: known %v, %v", n, known, err)
		}
	}
	// Another one.
	var other bytes.Buffer
	if _, err := y.Write(&other, []Entry{{Path: "p"}}); err != nil {
		t.Fatal(err)
	}
	put(other.Bytes(), mark.Written)
	if z, known, err := ReadKnown(path, filepath.Dir(path), 20, mark); err != nil || known || z.Len() != y.Len()-1 {
		t.Errorf("another index: known %v, %v", known, err)
	}
}
