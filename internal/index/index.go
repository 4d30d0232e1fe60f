// Package index reads and writes git's index file. The repository's index says
// what the web root holds, in a form that git itself reads: plain
// "git --work-tree=DIR status" agrees with it, and the web root of a server
// that was deployed to by "git checkout -f" is known from the first push on.
package index

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/tree"
)

// ErrUnsupported is returned for an index that only git can read, a split or a
// sparse one.
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

// An Index is the list of tracked paths, sorted.
type Index struct {
	Entries []Entry
	// Written is when the file was written. A file changed at or after that
	// moment may look unchanged ("racily clean" in git's documentation).
	Written time.Time
}

// Racy tells whether e's Stat cannot prove that the file is unchanged.
func (x *Index) Racy(e *Entry) bool {
	m := time.Unix(int64(e.Stat.MTimeSec), int64(e.Stat.MTimeNsec))
	return !m.Before(x.Written)
}

// maxIndex is far above the index of a million long paths.
const maxIndex = 1 << 30

// Read reads the index file at path. A file that is not there is an empty
// index: nothing was deployed yet.
func Read(path string, hashSize int) (*Index, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return &Index{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxIndex {
		return nil, fmt.Errorf("reading the index: %q is not an index file", path)
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("reading the index: %w", err)
	}
	x, err := Parse(data, hashSize)
	if err != nil {
		return nil, fmt.Errorf("reading the index %q: %w", path, err)
	}
	x.Written = st.ModTime()
	return x, nil
}

const (
	headerSize = 12
	statSize   = 40 // ten numbers before the object name, the mode among them
	flagStage  = 0x3000
	flagMore   = 0x4000
	flagLength = 0x0fff
)

// Parse reads an index of version 2, 3 or 4.
func Parse(data []byte, hashSize int) (*Index, error) {
	if len(data) < headerSize+hashSize || string(data[:4]) != "DIRC" {
		return nil, errors.New("not an index file")
	}
	version, count := binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])
	if version < 2 || version > 4 {
		return nil, fmt.Errorf("version %d: %w", version, ErrUnsupported)
	}
	body, sum := data[:len(data)-hashSize], data[len(data)-hashSize:]
	if !bytes.Equal(sum, make([]byte, hashSize)) { // zeros: index.skipHash
		h := tree.NewHash(hashSize)
		h.Write(body)
		if !bytes.Equal(h.Sum(nil), sum) {
			return nil, errors.New("checksum is wrong")
		}
	}
	p := &parser{rest: body[headerSize:], version: version, hashSize: hashSize}
	x := &Index{Entries: make([]Entry, 0, min(int(count), len(data)/(statSize+hashSize)))}
	for range count {
		e, err := p.entry()
		if err != nil {
			return nil, err
		}
		if n := len(x.Entries); n > 0 && e.Path <= x.Entries[n-1].Path {
			if e.Path == x.Entries[n-1].Path {
				continue // the further stages of an unmerged path
			}
			return nil, fmt.Errorf("%q is out of order", e.Path)
		}
		x.Entries = append(x.Entries, e)
	}
	return x, extensions(p.rest)
}

type parser struct {
	rest     []byte
	version  uint32
	hashSize int
	previous string
}

var errShort = errors.New("file is cut short")

func (p *parser) entry() (Entry, error) {
	fixed := statSize + p.hashSize + 2
	if len(p.rest) < fixed {
		return Entry{}, errShort
	}
	u32 := func(i int) uint32 { return binary.BigEndian.Uint32(p.rest[4*i:]) }
	e := Entry{Item: tree.Item{Mode: tree.Mode(u32(6)), OID: git.OIDFromBytes(p.rest[statSize : statSize+p.hashSize])}}
	e.Stat = Stat{CTimeSec: u32(0), CTimeNsec: u32(1), MTimeSec: u32(2), MTimeNsec: u32(3),
		Dev: u32(4), Ino: u32(5), UID: u32(7), GID: u32(8), Size: u32(9)}
	switch e.Mode {
	case tree.File, tree.Executable, tree.Symlink, tree.Submodule:
	default:
		return Entry{}, fmt.Errorf("mode %o: %w", uint32(e.Mode), ErrUnsupported)
	}
	flags := binary.BigEndian.Uint16(p.rest[statSize+p.hashSize:])
	if flags&flagStage != 0 {
		e.Stat = Stat{} // unmerged: the file may hold anything
	}
	size := fixed
	if flags&flagMore != 0 {
		size += 2
	}
	if len(p.rest) < size {
		return Entry{}, errShort
	}
	var err error
	if p.version == 4 {
		e.Path, err = p.compressedPath(size)
	} else {
		e.Path, err = p.paddedPath(size)
	}
	if err == nil && e.Path == "" {
		// A split index names what replaces an entry by its number.
		return Entry{}, fmt.Errorf("%q is not a path: %w", "", ErrUnsupported)
	}
	if err == nil && !safePath(e.Path) {
		err = fmt.Errorf("%q is not a path", e.Path)
	}
	p.previous = e.Path
	return e, err
}

// paddedPath reads the path of version 2 and 3, whose entries are padded with
// one to eight NULs to a multiple of eight bytes.
func (p *parser) paddedPath(at int) (string, error) {
	n := bytes.IndexByte(p.rest[at:], 0)
	if n < 0 {
		return "", errShort
	}
	path := string(p.rest[at : at+n])
	size := (at + n + 8) &^ 7
	if size > len(p.rest) {
		return "", errShort
	}
	p.rest = p.rest[size:]
	return path, nil
}

// compressedPath reads the path of version 4: how many bytes to take off the
// end of the path before, and what to put there.
func (p *parser) compressedPath(at int) (string, error) {
	var cut uint64
	for i := 0; ; i++ {
		if at >= len(p.rest) || i > 4 {
			return "", errShort
		}
		b := p.rest[at]
		at++
		cut = cut<<7 | uint64(b&0x7f)
		if b&0x80 == 0 {
			break
		}
		cut++ // git's offset encoding, which has no two forms of one number
	}
	n := bytes.IndexByte(p.rest[at:], 0)
	if n < 0 || cut > uint64(len(p.previous)) {
		return "", errShort
	}
	path := p.previous[:len(p.previous)-int(cut)] + string(p.rest[at:at+n])
	p.rest = p.rest[at+n+1:]
	return path, nil
}

// safePath tells whether path may be used below the web root. Git never writes
// others; a damaged or forged index must not make us touch them.
func safePath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// extensions looks for one that changes what the entries mean: its name begins
// with a lower-case letter.
func extensions(rest []byte) error {
	for len(rest) >= 8 {
		name, size := rest[:4], binary.BigEndian.Uint32(rest[4:])
		if name[0] < 'A' || name[0] > 'Z' {
			return fmt.Errorf("extension %q: %w", name, ErrUnsupported)
		}
		if uint64(size) > uint64(len(rest)-8) {
			return errShort
		}
		rest = rest[8+size:]
	}
	return nil
}

// Write writes the index, version 2, to w.
func (x *Index) Write(w io.Writer, hashSize int) error {
	h := tree.NewHash(hashSize)
	out := bufio.NewWriterSize(io.MultiWriter(w, h), 1<<18)
	buf := binary.BigEndian.AppendUint32([]byte("DIRC"), 2)
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(x.Entries)))
	out.Write(buf)
	for i := range x.Entries {
		buf = x.Entries[i].append(buf[:0], hashSize)
		out.Write(buf)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	if _, err := w.Write(h.Sum(nil)); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	return nil
}

func (e *Entry) append(buf []byte, hashSize int) []byte {
	s := &e.Stat
	for _, n := range [...]uint32{s.CTimeSec, s.CTimeNsec, s.MTimeSec, s.MTimeNsec,
		s.Dev, s.Ino, uint32(e.Mode), s.UID, s.GID, s.Size} {
		buf = binary.BigEndian.AppendUint32(buf, n)
	}
	name := e.OID.Bytes()
	buf = append(append(buf, name...), make([]byte, hashSize-len(name))...)
	buf = binary.BigEndian.AppendUint16(buf, uint16(min(len(e.Path), flagLength)))
	buf = append(buf, e.Path...)
	padding := 8 - len(buf)%8
	return append(buf, make([]byte, padding)...)
}

// Tree computes the trees that git would write for the index, so that the web
// root can be compared with a commit. Objects that it lacks are read from
// beneath.
func (x *Index) Tree(beneath tree.Objects) *tree.Built {
	return tree.Build(beneath, len(x.Entries), func(i int) (string, tree.Item) {
		return x.Entries[i].Path, x.Entries[i].Item
	})
}

// Find returns the entry of a path, nil where it is not tracked.
func (x *Index) Find(path string) *Entry {
	i := sort.Search(len(x.Entries), func(i int) bool { return x.Entries[i].Path >= path })
	if i == len(x.Entries) || x.Entries[i].Path != path {
		return nil
	}
	return &x.Entries[i]
}

// Uses tells whether dir is a tracked path or holds one.
func (x *Index) Uses(dir string) bool {
	find := func(path string) int {
		return sort.Search(len(x.Entries), func(i int) bool { return x.Entries[i].Path >= path })
	}
	if i := find(dir); i < len(x.Entries) && x.Entries[i].Path == dir {
		return true
	}
	i := find(dir + "/")
	return i < len(x.Entries) && strings.HasPrefix(x.Entries[i].Path, dir+"/")
}
