// Package index reads and writes git's index file. The repository's index says
// what the web root holds, in a form that git itself reads: plain
// "git --work-tree=DIR status" agrees with it, and the web root of a server
// that was deployed to by "git checkout -f" is known from the first push on.
package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/tree"
)

// ErrUnsupported is returned for an index that only git can read, a sparse one
// for one.
var ErrUnsupported = errors.New("index is in a form that only git reads")

// A Stat is what git remembers of a file's inode to see, without reading it,
// that it has not changed. Times and numbers are cut to 32 bits, as in git.
type Stat struct {
	CTimeSec, CTimeNsec, MTimeSec, MTimeNsec uint32
	Dev, Ino, UID, GID, Size                 uint32
}

// StatOf cuts the kernel's answer to what the index holds.
func StatOf(st *unix.Stat_t) Stat {
	return Stat{
		CTimeSec: uint32(st.Ctim.Sec), CTimeNsec: uint32(st.Ctim.Nsec),
		MTimeSec: uint32(st.Mtim.Sec), MTimeNsec: uint32(st.Mtim.Nsec),
		Dev: uint32(st.Dev), Ino: uint32(st.Ino), UID: st.Uid, GID: st.Gid, Size: uint32(st.Size),
	}
}

// An Entry is one tracked path of the web root.
type Entry struct {
	Path string
	tree.Item
	Stat Stat
}

// An Index is the list of tracked paths, sorted. It is kept as the bytes of
// index files of version 2, and the next one is written by copying what has not
// changed: the site may be large, what changes rarely is.
type Index struct {
	// Written is when the file was written. A file changed at or after that
	// moment may look unchanged ("racily clean" in git's documentation).
	Written time.Time

	hashSize int
	data     []byte   // a header and entries
	at       []uint32 // where each entry begins: in shared, or behind it in data
	shared   *shared  // of a split index, else nil
	totals   *Totals  // nil until they are asked for
}

// Totals are what all entries of an index come to.
type Totals struct {
	Bytes   int64 `json:"bytes"`   // the sizes that are remembered
	Unsized int   `json:"unsized"` // how many files have none, though they are not empty
	Newest  int64 `json:"newest"`  // no file was changed later, in ns since 1970
}

func (t *Totals) add(x *Index, i int) {
	e := x.bytes(i)
	size := binary.BigEndian.Uint32(e[36:])
	t.Bytes += int64(size)
	if size == 0 && !x.IsEmpty(i) {
		t.Unsized++
	}
	t.Newest = max(t.Newest, modified(e).UnixNano())
}

// remove takes back what add did, but for Newest: it remains an upper bound.
func (t *Totals) remove(x *Index, i int) {
	size := x.Size(i)
	t.Bytes -= int64(size)
	if size == 0 && !x.IsEmpty(i) {
		t.Unsized--
	}
}

// IsEmpty tells whether there is nothing in an entry's file: it is known by its
// name, or is a submodule.
func (x *Index) IsEmpty(i int) bool {
	item := x.Item(i)
	return item.Mode == tree.Submodule || item.OID == tree.HashObject("blob", nil, x.hashSize)
}

// Totals returns what the entries come to.
func (x *Index) Totals() Totals {
	if x.totals == nil {
		x.totals = &Totals{}
		for i := range x.at {
			x.totals.add(x, i)
		}
	}
	return *x.totals
}

// Without returns the totals of the entries but for those at the places.
func (x *Index) Without(places []int) Totals {
	t := x.Totals()
	for _, i := range places {
		t.remove(x, i)
	}
	return t
}

// MayBeRacy tells that there may be an entry that is racy.
func (x *Index) MayBeRacy() bool {
	return !time.Unix(0, x.Totals().Newest).Before(x.Written)
}

// Mentions tells whether a name may be that of an entry's file. It looks at all
// paths at once, and never says no wrongly.
func (x *Index) Mentions(name string) bool {
	return bytes.Contains(x.data, []byte(name)) ||
		x.shared != nil && x.shared.mark.Unmentioned != name && bytes.Contains(x.shared.data, []byte(name))
}

// New returns the index of entries, which are sorted.
func New(entries []Entry, hashSize int) *Index {
	x := &Index{hashSize: hashSize, data: header(len(entries)), at: make([]uint32, 0, len(entries))}
	for i := range entries {
		x.at = append(x.at, uint32(len(x.data)))
		x.data = entries[i].append(x.data, hashSize)
	}
	return x
}

// HashSize returns the bytes of an object name here.
func (x *Index) HashSize() int { return x.hashSize }

// Len returns the number of entries.
func (x *Index) Len() int { return len(x.at) }

// bytes returns the bytes of an entry, and what comes after it.
func (x *Index) bytes(i int) []byte {
	at := x.at[i]
	if x.shared != nil {
		if n := uint32(len(x.shared.data)); at < n {
			return x.shared.data[at:]
		} else {
			at -= n
		}
	}
	return x.data[at:]
}

// end returns where the bytes of an entry end.
func (x *Index) end(i int) uint32 {
	fixed := statSize + x.hashSize + 2
	return x.at[i] + uint32(fixed+len(x.Path(i))+8)&^7
}

// size returns where all entries end.
func (x *Index) size() uint32 {
	if n := x.Len(); n > 0 {
		return x.end(n - 1)
	}
	return headerSize
}

// Entry returns an entry.
func (x *Index) Entry(i int) Entry {
	return Entry{Path: string(x.Path(i)), Item: x.Item(i), Stat: x.Stat(i)}
}

// Path returns the path of an entry. It must not be changed.
func (x *Index) Path(i int) []byte {
	e := x.bytes(i)
	begin := statSize + x.hashSize + 2
	if n := int(binary.BigEndian.Uint16(e[begin-2:]) & flagLength); n < flagLength {
		return e[begin : begin+n]
	}
	return e[begin : begin+bytes.IndexByte(e[begin:], 0)]
}

// Item returns what an entry is.
func (x *Index) Item(i int) tree.Item {
	e := x.bytes(i)
	return tree.Item{Mode: mode(e), OID: git.OIDFromBytes(e[statSize : statSize+x.hashSize])}
}

// Mode returns the mode of an entry.
func (x *Index) Mode(i int) tree.Mode { return mode(x.bytes(i)) }

// Size returns what is remembered of the size of an entry's file, 0 for
// nothing.
func (x *Index) Size(i int) uint32 { return binary.BigEndian.Uint32(x.bytes(i)[36:]) }

// Stat returns what is remembered of an entry's file.
func (x *Index) Stat(i int) Stat { return statIn(x.bytes(i)) }

// Remembers tells whether what is remembered of an entry's file is what the
// kernel says of it; but for its device, which is not stable over reboots, and
// which git does not compare either.
func (x *Index) Remembers(i int, st *unix.Stat_t) bool {
	e := x.bytes(i)
	u32 := func(i int) uint32 { return binary.BigEndian.Uint32(e[4*i:]) }
	return u32(0) == uint32(st.Ctim.Sec) && u32(1) == uint32(st.Ctim.Nsec) &&
		u32(2) == uint32(st.Mtim.Sec) && u32(3) == uint32(st.Mtim.Nsec) &&
		u32(5) == uint32(st.Ino) && u32(7) == st.Uid && u32(8) == st.Gid && u32(9) == uint32(st.Size)
}

// Racy tells whether an entry's Stat cannot prove that its file is unchanged.
func (x *Index) Racy(i int) bool { return !modified(x.bytes(i)).Before(x.Written) }

// modified is when an entry's file was changed.
func modified(e []byte) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint32(e[8:])), int64(binary.BigEndian.Uint32(e[12:])))
}

func mode(e []byte) tree.Mode { return tree.Mode(binary.BigEndian.Uint32(e[24:])) }

func statIn(e []byte) Stat {
	u32 := func(i int) uint32 { return binary.BigEndian.Uint32(e[4*i:]) }
	return Stat{CTimeSec: u32(0), CTimeNsec: u32(1), MTimeSec: u32(2), MTimeNsec: u32(3),
		Dev: u32(4), Ino: u32(5), UID: u32(7), GID: u32(8), Size: u32(9)}
}

// Find returns the place of a path, or the one that it would have.
func (x *Index) Find(path string) (i int, found bool) { return x.FindFrom(0, path) }

// FindFrom is Find for a path that is not before the place from. It is fast
// where it is not far from there.
func (x *Index) FindFrom(from int, path string) (i int, found bool) {
	step := 1
	for from+step <= x.Len() && string(x.Path(from+step-1)) < path {
		from += step
		step *= 2
	}
	n := min(step, x.Len()-from)
	i = sort.Search(n, func(i int) bool { return string(x.Path(from+i)) >= path })
	i += from
	return i, i < x.Len() && string(x.Path(i)) == path
}

// Tree computes the trees that git would write for the index, so that the web
// root can be compared with a commit. Objects that it lacks are read from
// beneath.
func (x *Index) Tree(beneath tree.Objects) *tree.Built {
	return tree.Build(beneath, x.Len(), func(i int) (string, tree.Item) {
		return string(x.Path(i)), x.Item(i)
	})
}

// Below returns the places of the entries in the directory dir and below it:
// from i, up to but not j.
func (x *Index) Below(dir string) (i, j int) {
	i, _ = x.Find(dir + "/")
	j, _ = x.FindFrom(i, dir+"0") // "0" comes after "/"
	return i, j
}
