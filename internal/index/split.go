package index

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"math/bits"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A split index is git's way to write a large index at the cost of what has
// changed: one file, which is never changed, is shared by several versions, and
// each of these has the entries that differ. It is what "git update-index
// --split-index" makes (gitformat-index, "Split index").

// A shared is the file that a split index is based on.
type shared struct {
	mark SharedMark
	data []byte // a header and entries
	at   []uint32
	// deleted and replaced are the places in it of entries that are not there
	// any more, or that are other ones now.
	deleted, replaced bitmap
}

// A SharedMark tells which file a split index is based on.
type SharedMark struct {
	Sum    string `json:"sum"` // its checksum, in hexadecimal, which is a part of its name
	CRC    uint32 `json:"crc"`
	Totals Totals `json:"totals"`
	// Unmentioned is a name that Mentions need not look for in it, "" for none.
	Unmentioned string `json:"unmentioned,omitempty"`
}

// SharedName returns the name of the file, which is in the repository.
func (m SharedMark) SharedName() string { return "sharedindex." + m.Sum }

const linkExtension = "link"

// loadShared reads the shared file with the mark. It is mapped, not read: git,
// too, names it by its contents and never changes it.
func loadShared(dir string, mark SharedMark, hashSize int) (*shared, error) {
	f, err := os.Open(filepath.Join(dir, mark.SharedName()))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxIndex || st.Size() < int64(headerSize+hashSize) {
		return nil, fmt.Errorf("%q is not an index file", f.Name())
	}
	// It stays mapped: a process reads few of them, and ends.
	data, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("mapping %q: %w", f.Name(), err)
	}
	body := data[:len(data)-hashSize]
	sum := make(chan uint32, 1)
	go func() { sum <- crc32.ChecksumIEEE(body) }()
	x := scan(body, hashSize, false)
	if <-sum != mark.CRC {
		return nil, fmt.Errorf("%q: checksum is wrong", f.Name())
	}
	if x == nil {
		return nil, fmt.Errorf("%q is not as it was written", f.Name())
	}
	return &shared{mark: mark, data: body, at: x.at}, nil
}

// link reads the extension of a split index, which comes after its entries: the
// checksum of the shared file, and two bitmaps.
func link(rest []byte, hashSize int) (sum []byte, deleted, replaced bitmap, err error) {
	for len(rest) >= 8 {
		name, size := string(rest[:4]), binary.BigEndian.Uint32(rest[4:])
		if uint64(size) > uint64(len(rest)-8) {
			break
		}
		content := rest[8 : 8+size]
		rest = rest[8+size:]
		if name != linkExtension {
			continue
		}
		if len(content) < hashSize {
			break
		}
		sum, content = content[:hashSize], content[hashSize:]
		if len(content) == 0 { // nothing differs
			return sum, nil, nil, nil
		}
		if deleted, content, err = parseBitmap(content); err == nil {
			replaced, _, err = parseBitmap(content)
		}
		return sum, deleted, replaced, err
	}
	return nil, nil, nil, errShort
}

// joined returns the index that x, which has the entries of its own of a split
// index, makes of the shared one.
func (x *Index) joined(s *shared) (*Index, error) {
	var err error
	if _, s.deleted, s.replaced, err = link(x.data[x.size():], x.hashSize); err != nil {
		return nil, err
	}
	return x.join(s)
}

// join merges the entries of x into the shared ones. First come those that
// replace others, without their paths.
func (x *Index) join(s *shared) (*Index, error) {
	n := s.replaced.len()
	if n > x.Len() || s.replaced.end() > len(s.at) || s.deleted.end() > len(s.at) {
		return nil, fmt.Errorf("%d entries replace %d of %d", x.Len(), n, len(s.at))
	}
	base := &Index{hashSize: x.hashSize, data: s.data, at: s.at}
	j := &joining{base: base, Index: &Index{hashSize: x.hashSize, shared: s, at: make([]uint32, 0, len(s.at)+x.Len())}}
	if s.mark.Sum != "" {
		totals := s.mark.Totals
		j.totals = &totals
	}
	replacing, added := 0, n // entries of x, the first ones that are not joined yet
	insert := func() {
		e := x.Entry(added)
		at, _ := base.FindFrom(j.done, e.Path)
		j.keep(at)
		j.add(e)
		added++
	}
	for i := range s.differing() {
		path := string(base.Path(i))
		for added < x.Len() && string(x.Path(added)) < path {
			insert()
		}
		j.keep(i)
		j.drop(i)
		if !s.replaced.has(i) {
			continue
		}
		e := x.Entry(replacing)
		replacing++
		if e.Path != "" {
			return nil, fmt.Errorf("%q replaces another path", e.Path)
		}
		if e.Path = path; !s.deleted.has(i) {
			j.add(e)
		}
	}
	for added < x.Len() {
		insert()
	}
	j.keep(len(s.at))
	return j.Index, nil
}

// A joining is an index that is being made of a shared one.
type joining struct {
	*Index
	base *Index
	done int // entries of base that are kept or dropped
}

// keep takes over the shared entries up to the place i.
func (j *joining) keep(i int) {
	j.at = append(j.at, j.base.at[j.done:i]...)
	j.done = i
}

// drop leaves the shared entry at the place i out.
func (j *joining) drop(i int) {
	j.done = i + 1
	if j.totals != nil {
		j.totals.remove(j.base, i)
	}
}

// add adds an entry that is not shared.
func (j *joining) add(e Entry) {
	j.at = append(j.at, uint32(len(j.base.data)+len(j.data)))
	j.data = e.append(j.data, j.hashSize)
	if j.totals != nil {
		j.totals.add(j.Index, len(j.at)-1)
	}
}

// differing yields the places of shared entries that are not there any more, or
// are other ones now.
func (s *shared) differing() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range max(len(s.deleted), len(s.replaced)) {
			var word uint64
			if i < len(s.deleted) {
				word = s.deleted[i]
			}
			if i < len(s.replaced) {
				word |= s.replaced[i]
			}
			for ; word != 0; word &= word - 1 {
				if !yield(64*i + bits.TrailingZeros64(word)) {
					return
				}
			}
		}
	}
}

// joinShared returns the entries of a split index that git may have written, of
// which own and rest are in its own file. The shared one must have the checksum
// that its name says.
func joinShared(dir string, own []Entry, rest []byte, hashSize int) ([]Entry, error) {
	sum, deleted, replaced, err := link(rest, hashSize)
	if err != nil || bytes.Equal(sum, make([]byte, hashSize)) { // zeros: it is not split any more
		return own, err
	}
	name := SharedMark{Sum: hex.EncodeToString(sum)}.SharedName()
	data, _, err := load(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	body, err := verified(data, hashSize)
	if err == nil && !bytes.Equal(data[len(body):], sum) {
		err = errors.New("it is another one")
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	entries, rest, err := convert(body, hashSize)
	if err == nil {
		err = extensions(rest)
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	base := New(entries, hashSize)
	x, err := New(own, hashSize).join(&shared{data: base.data, at: base.at, deleted: deleted, replaced: replaced})
	if err != nil {
		return nil, err
	}
	entries = make([]Entry, x.Len())
	for i := range entries {
		entries[i] = x.Entry(i)
	}
	return entries, nil
}

// Shared returns the mark of the shared file of a split index, which is zero for
// one that is not split.
func (x *Index) Shared() SharedMark {
	if x.shared == nil {
		return SharedMark{}
	}
	return x.shared.mark
}

// CanShare tells whether the index with edits is worth being based on the shared
// file that it has. Git, too, writes another one when a fifth is different.
func (x *Index) CanShare(edits []Entry) bool {
	if x.shared == nil {
		return false
	}
	differ := x.shared.deleted.len() + len(edits)
	for _, at := range x.at {
		if int(at) >= len(x.shared.data) {
			differ++
		}
	}
	return differ <= len(x.shared.at)/5
}

// WriteSplit is Write for the entries that are not those of the shared file,
// which goes on being used.
func (x *Index) WriteSplit(w io.Writer, edits []Entry) (Mark, error) {
	d := &difference{x: x, base: &Index{hashSize: x.hashSize, data: x.shared.data, at: x.shared.at},
		shared: shared{deleted: newBitmap(len(x.shared.at)), replaced: newBitmap(len(x.shared.at))}}
	i := 0 // entries of x that are done
	for _, e := range edits {
		at, found := x.FindFrom(i, e.Path)
		d.keep(i, at)
		d.put(e)
		if i = at; found {
			i++
		}
	}
	d.keep(i, x.Len())
	d.drop(len(x.shared.at))
	return x.shared.mark.write(w, x.hashSize, &d.shared, d.count, slices.Concat(d.replacing, d.added))
}

// A difference is what an index has that is not shared.
type difference struct {
	shared    // of which the bitmaps are used
	x, base   *Index
	done      int    // shared entries that are kept, deleted or replaced
	replacing []byte // entries, without their paths
	added     []byte // entries
	count     int    // of both
}

// drop deletes the shared entries up to the place i.
func (d *difference) drop(i int) {
	for ; d.done < i; d.done++ {
		d.deleted.set(d.done)
	}
}

// keep takes over the entries of x from i up to j: runs of shared ones, which
// need nothing, and others.
func (d *difference) keep(i, j int) {
	for n := uint32(len(d.base.data)); i < j; i++ {
		if d.x.at[i] >= n {
			d.put(d.x.Entry(i))
			continue
		}
		place, _ := slices.BinarySearch(d.base.at[d.done:], d.x.at[i])
		d.drop(d.done + place)
		run := 1
		for i+run < j && d.done+run < len(d.base.at) && d.x.at[i+run] == d.base.at[d.done+run] {
			run++
		}
		d.done += run
		i += run - 1
	}
}

// put adds an entry that is not shared; one without a mode is not there.
func (d *difference) put(e Entry) {
	at, found := d.base.FindFrom(d.done, e.Path)
	d.drop(at)
	switch {
	case e.Mode == 0 && found:
		d.drop(at + 1)
	case e.Mode == 0:
	case found:
		d.replaced.set(at)
		d.done = at + 1
		e.Path = ""
		d.replacing = e.append(d.replacing, d.x.hashSize)
		d.count++
	default:
		d.added = e.append(d.added, d.x.hashSize)
		d.count++
	}
}

// WriteShared writes the index that has all of its entries from the shared file
// with the mark, which has been written with Write.
func WriteShared(w io.Writer, mark SharedMark, hashSize int) (Mark, error) {
	return mark.write(w, hashSize, &shared{}, 0, nil)
}

func (m SharedMark) write(w io.Writer, hashSize int, s *shared, count int, entries []byte) (Mark, error) {
	sum, err := hex.DecodeString(m.Sum)
	if err != nil || len(sum) != hashSize {
		return Mark{}, fmt.Errorf("%q is no checksum", m.Sum)
	}
	content := s.replaced.append(s.deleted.append(slices.Clone(sum)))
	data := append(header(count), entries...)
	data = append(data, linkExtension...)
	data = binary.BigEndian.AppendUint32(data, uint32(len(content)))
	mark, err := writeParts(w, [][]byte{append(data, content...)}, hashSize)
	mark.Shared = m
	return mark, err
}
