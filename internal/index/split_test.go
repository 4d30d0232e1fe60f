package index

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/tree"
)

// replace writes an index with edits into w's repository, split if it is told
// to.
func (w *worktree) replace(t *testing.T, x *Index, edits []Entry, split bool) Mark {
	t.Helper()
	var out bytes.Buffer
	var mark Mark
	var err error
	switch {
	case !split:
		mark, err = x.Write(&out, edits)
	case x.shared != nil:
		mark, err = x.WriteSplit(&out, edits)
	default:
		if mark, err = x.Write(&out, edits); err != nil {
			t.Fatal(err)
		}
		shared := SharedMark{Sum: mark.Sum, CRC: mark.CRC, Totals: x.TotalsWith(edits)}
		if err := os.WriteFile(filepath.Join(w.repo, shared.SharedName()), out.Bytes(), 0o444); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		mark, err = WriteShared(&out, shared, w.size)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.index, out.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return mark
}

// TestWriteSplit writes split indexes of random differences, each based on the
// one before, and has git read them.
func TestWriteSplit(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20, 32} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			w := newWorktree(t, size)
			random := rand.New(rand.NewPCG(3, uint64(size)))
			want := map[string]Entry{}
			entry := func() Entry {
				path := fmt.Sprintf("%d/%d", random.IntN(9), random.IntN(90))
				return Entry{Path: path, Item: tree.Item{Mode: tree.File, OID: tree.HashObject("blob", []byte(path), size)}, Stat: Stat{Ino: random.Uint32(), MTimeSec: random.Uint32N(1000), Size: random.Uint32N(4)}}
			}
			for range 300 {
				e := entry()
				want[e.Path] = e
			}
			mark := w.replace(t, New(sorted(want), size), nil, true)
			for round := range 40 {
				x, known, err := ReadKnown(w.index, w.repo, size, mark)
				if err != nil || !known || x.shared == nil {
					t.Fatalf("round %d: known %v, %v", round, known, err)
				}
				compare(t, all(x), sorted(want))
				if got, sum := x.Totals(), New(sorted(want), size).Totals(); got.Bytes != sum.Bytes || got.Unsized != sum.Unsized || got.Newest < sum.Newest {
					t.Errorf("totals %+v, want %+v", got, sum)
				}
				edits := map[string]Entry{}
				for range random.IntN(9) {
					e := entry()
					if _, there := want[e.Path]; there && random.IntN(2) == 0 || random.IntN(9) == 0 {
						e.Mode = 0
						delete(want, e.Path)
					} else {
						want[e.Path] = e
					}
					edits[e.Path] = e
				}
				mark = w.replace(t, x, sorted(edits), true)
				few := slices.Repeat([]Entry{{Path: "x"}}, len(want)/4)
				if x.CanShare(few) || round == 0 && !x.CanShare(few[len(few)/2:]) {
					t.Errorf("round %d: a fourth is not too much, or an eighth is", round)
				}
				y, err := readIndex(w.index, size)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, all(y), sorted(want))
				compare(t, w.listed(t), sorted(want))
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
				var whole, anew bytes.Buffer
				x, _, err = ReadKnown(w.index, w.repo, size, mark)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := x.Write(&whole, nil); err != nil {
					t.Fatal(err)
				}
				if _, err := New(sorted(want), size).Write(&anew, nil); err != nil || !bytes.Equal(whole.Bytes(), anew.Bytes()) {
					t.Fatalf("round %d: it is another one as one file: %v", round, err)
				}
			}
		})
	}
}

func sorted(entries map[string]Entry) []Entry {
	return slices.SortedFunc(maps.Values(entries), func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
}

// TestSplitAndGit: git takes a split index of ours for its own, and goes on
// from it.
func TestSplitAndGit(t *testing.T) {
	t.Parallel()
	w := newWorktree(t, 20)
	x, err := readIndex(w.index, 20)
	if err != nil {
		t.Fatal(err)
	}
	mark := w.replace(t, x, nil, true)
	if status := w.git(t, "status", "--porcelain", "-uno"); status != "" {
		t.Errorf("git status: %q", status)
	}
	if x, _, err = ReadKnown(w.index, w.repo, 20, mark); err != nil {
		t.Fatal(err)
	}
	w.replace(t, x, []Entry{{Path: "pq"}}, true)
	w.git(t, "fsck")
	if status := w.git(t, "status", "--porcelain", "-uno"); status != "D  pq\n" {
		t.Errorf("git status: %q", status)
	}
	w.git(t, "checkout", "-q", "-f")
	if status := w.git(t, "status", "--porcelain"); status != "" {
		t.Errorf("after a checkout: git status: %q", status)
	}
	y, err := readIndex(w.index, 20)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, all(y), w.listed(t))
	w.git(t, "update-index", "--no-split-index")
	if y, err = readIndex(w.index, 20); err != nil || y.Len() != x.Len() {
		t.Errorf("%d entries, %v", y.Len(), err)
	}
}

// TestSharedDamaged: nothing is believed of a shared file that is another one.
func TestSharedDamaged(t *testing.T) {
	t.Parallel()
	w := newWorktree(t, 20)
	x, err := readIndex(w.index, 20)
	if err != nil {
		t.Fatal(err)
	}
	mark := w.replace(t, x, nil, true)
	if x, _, err = ReadKnown(w.index, w.repo, 20, mark); err != nil {
		t.Fatal(err)
	}
	mark = w.replace(t, x, []Entry{{Path: "pq"}}, true)
	shared := filepath.Join(w.repo, mark.Shared.SharedName())
	data := read(t, shared)
	for name, damage := range map[string]func() error{
		"gone":  func() error { return nil },
		"empty": func() error { return os.WriteFile(shared, nil, 0o666) },
		"short": func() error { return os.WriteFile(shared, data[:len(data)/2], 0o666) },
		"changed": func() error {
			broken := slices.Clone(data)
			broken[len(data)/2] ^= 1
			return os.WriteFile(shared, broken, 0o666)
		},
		"no file": func() error { return os.Mkdir(shared, 0o777) },
	} {
		if err := os.RemoveAll(shared); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadKnown(w.index, w.repo, 20, mark); err == nil {
			t.Errorf("%s: it is read", name)
		}
		if _, err := readIndex(w.index, 20); err == nil || errors.Is(err, ErrUnsupported) {
			t.Errorf("%s, nothing known: %v", name, err)
		}
	}
	// Another one, that is sound.
	var out bytes.Buffer
	if _, err := x.Write(&out, []Entry{{Path: "run"}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(shared), os.WriteFile(shared, out.Bytes(), 0o666)); err != nil {
		t.Fatal(err)
	}
	if _, err := readIndex(w.index, 20); err == nil || !strings.Contains(err.Error(), "another one") {
		t.Errorf("another one: %v", err)
	}
}

// TestBitmap holds git's encoding against what it means.
func TestBitmap(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		b := newBitmap(1 + random.IntN(2000))
		for range random.IntN(40) {
			b.set(random.IntN(len(b) * 64))
		}
		if random.IntN(3) == 0 { // whole words
			for i := range random.IntN(len(b)) {
				b[i] = ^uint64(0)
			}
		}
		data := b.append([]byte{})
		got, rest, err := parseBitmap(append(data, "rest"...))
		if err != nil || string(rest) != "rest" || got.len() != b.len() || got.end() != b.end() {
			t.Fatalf("%x: %d numbers up to %d, rest %q, %v", data, got.len(), got.end(), rest, err)
		}
		for i := range len(b)*64 + 100 {
			if got.has(i) != b.has(i) {
				t.Fatalf("%d: %v", i, got.has(i))
			}
		}
		for n := range data {
			if _, _, err := parseBitmap(data[:n]); err == nil {
				t.Fatalf("%d of %d bytes are read", n, len(data))
			}
		}
	}
	for text, want := range map[string]int{ // bits, words, the words, the last marker
		"00000000" + "00000001" + "0000000000000000" + "00000000":                    0,
		"00000080" + "00000001" + "0000000000000005" + "00000000":                    128, // two words of ones
		"00000041" + "00000002" + "0000000200000002" + "0000000000000001" + "000000": -1,
		"00000041" + "00000001" + "0000000200000002" + "00000000":                    -1, // a word that is not there
		"ffffffff" + "00000001" + "00000001ffffffff" + "00000000":                    -1,
		"ffffffff" + "ffffffff" + "00000001ffffffff" + "00000000":                    -1,
	} {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if b, _, err := parseBitmap(data); (err != nil) != (want < 0) || err == nil && b.len() != want {
			t.Errorf("%s: %d numbers, %v", text, b.len(), err)
		}
	}
}
