package index

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
	Sum string `json:"sum"` // its checksum, in hexadecimal, which is a part of its name
	CRC uint32 `json:"crc"`
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
	if crc32.ChecksumIEEE(body) != mark.CRC {
		return nil, fmt.Errorf("%q: checksum is wrong", f.Name())
	}
	x := scan(body, hashSize, false)
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
	base := &Index{hashSize: x.hashSize, data: s.data, at: s.at}
	n := s.replaced.len()
	if n > x.Len() || s.replaced.end() > len(s.at) || s.deleted.end() > len(s.at) {
		return nil, fmt.Errorf("%d entries replace %d of %d", x.Len(), n, len(s.at))
	}
	y := &Index{hashSize: x.hashSize, shared: s, at: make([]uint32, 0, len(s.at)+x.Len())}
	add := func(e Entry) {
		y.at = append(y.at, uint32(len(s.data)+len(y.data)))
		y.data = e.append(y.data, x.hashSize)
	}
	replacing, added := 0, n
	for i, at := range s.at {
		for added < x.Len() && string(x.Path(added)) < string(base.Path(i)) {
			add(x.Entry(added))
			added++
		}
		deleted := s.deleted.has(i)
		if s.replaced.has(i) {
			e := x.Entry(replacing)
			replacing++
			if e.Path != "" {
				return nil, fmt.Errorf("%q replaces another path", e.Path)
			}
			if e.Path = string(base.Path(i)); !deleted {
				add(e)
			}
		} else if !deleted {
			y.at = append(y.at, at)
		}
	}
	for ; added < x.Len(); added++ {
		add(x.Entry(added))
	}
	return y, nil
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
	s := &shared{mark: x.shared.mark, data: x.shared.data, at: x.shared.at}
	base := &Index{hashSize: x.hashSize, data: s.data, at: s.at}
	s.deleted, s.replaced = newBitmap(len(s.at)), newBitmap(len(s.at))
	var replacing, added []byte
	count := 0
	place := func(e Entry, at int, found bool) {
		count++
		if found {
			s.replaced.set(at)
			e.Path = ""
			replacing = e.append(replacing, x.hashSize)
			return
		}
		added = e.append(added, x.hashSize)
	}
	// Both are sorted, and so is the shared file.
	at := 0
	for i := 0; i < x.Len() || len(edits) > 0; {
		var e Entry
		kept := false
		switch edited := len(edits) > 0 && (i == x.Len() || edits[0].Path <= string(x.Path(i))); {
		case edited:
			if e = edits[0]; i < x.Len() && e.Path == string(x.Path(i)) {
				i++
			}
			edits = edits[1:]
		case int(x.at[i]) < len(s.data):
			kept = true
			for s.at[at] != x.at[i] {
				s.deleted.set(at)
				at++
			}
			at, i = at+1, i+1
		default:
			e = x.Entry(i)
			i++
		}
		if kept {
			continue
		}
		for at < len(s.at) && string(base.Path(at)) < e.Path {
			s.deleted.set(at)
			at++
		}
		found := at < len(s.at) && string(base.Path(at)) == e.Path
		if e.Mode != 0 {
			place(e, at, found)
		} else if found {
			s.deleted.set(at)
		}
		if found {
			at++
		}
	}
	for ; at < len(s.at); at++ {
		s.deleted.set(at)
	}
	return s.mark.write(w, x.hashSize, s, count, slices.Concat(replacing, added))
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
