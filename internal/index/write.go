package index

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"bluegreen/internal/tree"
)

// A Mark tells the index that was written from every other one: git, or
// somebody who puts a backup back, writes another checksum.
type Mark struct {
	Sum     string    `json:"sum"` // the checksum at the end of the file, in hexadecimal
	CRC     uint32    `json:"crc"` // of what it is the checksum of
	Written time.Time `json:"written"`
	// Shared is the file that a split index is based on.
	Shared SharedMark `json:"shared,omitzero"`
}

// Write writes the index, version 2, with edits, which are sorted: each
// replaces the entry of its path, or is added; one without a mode takes the
// path out. The mark lacks when it was written.
func (x *Index) Write(w io.Writer, edits []Entry) (Mark, error) {
	return writeParts(w, x.edited(edits), x.hashSize)
}

func writeParts(w io.Writer, parts [][]byte, hashSize int) (Mark, error) {
	// Git's checksum takes longer than all the rest.
	summed := make(chan []byte, 1)
	go func() {
		h := tree.NewHash(hashSize)
		for _, part := range parts {
			h.Write(part)
		}
		summed <- h.Sum(nil)
	}()
	var mark Mark
	var failed error
	for _, part := range parts {
		mark.CRC = crc32.Update(mark.CRC, crc32.IEEETable, part)
		if _, failed = w.Write(part); failed != nil {
			break
		}
	}
	sum := <-summed
	if failed == nil {
		_, failed = w.Write(sum)
	}
	if failed != nil {
		return Mark{}, fmt.Errorf("writing the index: %w", failed)
	}
	mark.Sum = hex.EncodeToString(sum)
	return mark, nil
}

// TotalsWith returns the totals of the index with edits.
func (x *Index) TotalsWith(edits []Entry) Totals {
	var replaced []int
	at, found := 0, false
	for i := range edits {
		if at, found = x.FindFrom(at, edits[i].Path); found {
			replaced = append(replaced, at)
		}
	}
	t := x.Without(replaced)
	fresh := New(edits, x.hashSize)
	for i := range edits {
		if edits[i].Mode != 0 {
			t.add(fresh, i)
		}
	}
	return t
}

// edited returns the bytes of the index with the edits, in parts: what is
// unchanged lies where it did.
func (x *Index) edited(edits []Entry) [][]byte {
	size, count := 0, x.Len()
	for i := range edits {
		size += statSize + x.hashSize + 2 + len(edits[i].Path) + 8
	}
	fresh := make([]byte, 0, size) // large enough to stay where it is
	parts := make([][]byte, 1, 2*len(edits)+2)
	kept, used := 0, 0 // entries of x, and bytes of fresh, that are in parts
	for i := range edits {
		at, found := x.FindFrom(kept, edits[i].Path)
		if at > kept {
			parts = x.appendRuns(append(parts, fresh[used:]), kept, at)
			kept, used = at, len(fresh)
		}
		if found {
			kept++
			count--
		}
		if edits[i].Mode != 0 {
			fresh = edits[i].append(fresh, x.hashSize)
			count++
		}
	}
	parts[0] = header(count)
	return x.appendRuns(append(parts, fresh[used:]), kept, x.Len())
}

// appendRuns adds the bytes of entries, in as few parts as they lie in.
func (x *Index) appendRuns(parts [][]byte, from, to int) [][]byte {
	for from < to {
		last := to - 1
		if x.shared != nil {
			for last = from; last+1 < to && x.at[last+1] == x.end(last); last++ {
			}
		}
		run := x.bytes(from)
		parts = append(parts, run[:x.end(last)-x.at[from]])
		from = last + 1
	}
	return parts
}

func header(count int) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("DIRC"), 2), uint32(count))
}

// append adds the entry, in the form of the index file, to data that ends
// where an entry does.
func (e *Entry) append(data []byte, hashSize int) []byte {
	begin := len(data)
	s := &e.Stat
	for _, n := range [...]uint32{s.CTimeSec, s.CTimeNsec, s.MTimeSec, s.MTimeNsec,
		s.Dev, s.Ino, uint32(e.Mode), s.UID, s.GID, s.Size} {
		data = binary.BigEndian.AppendUint32(data, n)
	}
	var name [32]byte
	copy(name[:], e.OID.Bytes())
	data = append(data, name[:hashSize]...)
	data = binary.BigEndian.AppendUint16(data, uint16(min(len(e.Path), flagLength)))
	data = append(data, e.Path...)
	var padding [8]byte
	return append(data, padding[:8-(len(data)-begin)%8]...)
}
