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
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/tree"
)

// maxIndex is far above the index of a million long paths.
const maxIndex = 1 << 30

// ReadKnown reads the index file at path, and the shared one in dir where it is
// split. A file that is not there is an empty index: nothing was deployed yet. The
// file may be the one that has the mark: then known is true, and what else is
// remembered of that index holds.
func ReadKnown(path, dir string, hashSize int, mark Mark) (x *Index, known bool, err error) {
	data, written, err := load(path)
	if errors.Is(err, os.ErrNotExist) {
		return New(nil, hashSize), false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the index: %w", err)
	}
	n := len(data) - hashSize
	if known = n >= headerSize && mark.Sum != "" && hex.EncodeToString(data[n:]) == mark.Sum; known {
		x, err = parseKnown(dir, data[:n], hashSize, mark)
	} else {
		x, err = parse(dir, data, hashSize)
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading the index %q: %w", path, err)
	}
	x.Written = written
	if known && mark.Written.Before(written) {
		x.Written = mark.Written // a copy of the file was put back
	}
	return x, known, nil
}

// HasMark tells whether the index file at path is the one that has the mark. It
// looks neither at its entries nor at a shared file.
func HasMark(path string, hashSize int, mark Mark) (bool, error) {
	if mark.Sum == "" {
		return false, nil
	}
	data, _, err := load(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the index: %w", err)
	}
	n := len(data) - hashSize
	return n >= headerSize && hex.EncodeToString(data[n:]) == mark.Sum && crc32.ChecksumIEEE(data[:n]) == mark.CRC, nil
}

func load(path string) (data []byte, written time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, written, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, written, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxIndex {
		return nil, written, fmt.Errorf("%q is not an index file", path)
	}
	data = make([]byte, st.Size())
	_, err = io.ReadFull(f, data)
	return data, st.ModTime(), err
}

const (
	headerSize = 12
	statSize   = 40 // ten numbers before the object name, the mode among them
	flagStage  = 0x3000
	flagMore   = 0x4000
	flagLength = 0x0fff
)

// parseKnown reads the marked index. Git's checksum, which takes a multiple of
// all else, is not computed: the CRC tells whether the disk has damaged the
// file.
func parseKnown(dir string, body []byte, hashSize int, mark Mark) (*Index, error) {
	if crc32.ChecksumIEEE(body) != mark.CRC {
		return nil, errors.New("checksum is wrong")
	}
	x := scan(body, hashSize, false)
	if x == nil {
		return nil, errors.New("it is not as it was written")
	}
	if mark.Shared.Sum == "" {
		return x, nil
	}
	s, err := loadShared(dir, mark.Shared, hashSize)
	if err != nil {
		return nil, err
	}
	return x.joined(s)
}

// parse reads an index of version 2, 3 or 4, also a split one if dir, where shared
// files are, is not "". It keeps data.
func parse(dir string, data []byte, hashSize int) (*Index, error) {
	body, err := verified(data, hashSize)
	if err != nil {
		return nil, err
	}
	if x := scan(body, hashSize, true); x != nil {
		switch err := extensions(body[x.size():]); {
		case err == nil:
			return x, nil
		case dir == "" || !errors.Is(err, errSplit):
			return nil, err
		}
	}
	entries, rest, err := convert(body, hashSize)
	if err == nil {
		err = extensions(rest)
	}
	if dir != "" && errors.Is(err, errSplit) {
		entries, err = joinShared(dir, entries, rest, hashSize)
	}
	if err != nil {
		return nil, err
	}
	return checked(entries, hashSize)
}

// verified returns the bytes of an index file without its checksum.
func verified(data []byte, hashSize int) ([]byte, error) {
	if len(data) < headerSize+hashSize || string(data[:4]) != "DIRC" {
		return nil, errors.New("not an index file")
	}
	if version := binary.BigEndian.Uint32(data[4:]); version < 2 || version > 4 {
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
	return body, nil
}

// scan finds the entries of an index that is as we write it: of version 2, and
// with nothing in an entry's flags but the length of its path. It returns nil
// for another one and, if strict, for one that has an entry that git would not
// write.
func scan(body []byte, hashSize int, strict bool) *Index {
	count := int(binary.BigEndian.Uint32(body[8:]))
	fixed := statSize + hashSize + 2
	if binary.BigEndian.Uint32(body[4:]) != 2 || count > len(body)/fixed {
		return nil
	}
	x := &Index{hashSize: hashSize, data: body, at: make([]uint32, 0, count)}
	var previous []byte
	for at := headerSize; count > 0; count-- {
		if len(body)-at < fixed {
			return nil
		}
		flags := int(binary.BigEndian.Uint16(body[at+fixed-2:]))
		n := flags
		if flags == flagLength { // or longer
			n = bytes.IndexByte(body[at+fixed:], 0)
		}
		next := at + (fixed+n+8)&^7
		if flags > flagLength || n < 0 || next > len(body) {
			return nil
		}
		if strict {
			path := body[at+fixed : at+fixed+n]
			if bytes.IndexByte(body[at+fixed:next], 0) != n || !fileMode(mode(body[at:])) || !safePath(path) || bytes.Compare(path, previous) <= 0 {
				return nil
			}
			previous = path
		}
		x.at = append(x.at, uint32(at))
		at = next
	}
	return x
}

// convert reads the entries of an index of any form that is supported, as they
// are in the file, and returns what comes after them.
func convert(body []byte, hashSize int) (entries []Entry, rest []byte, err error) {
	count := binary.BigEndian.Uint32(body[8:])
	p := &parser{rest: body[headerSize:], version: binary.BigEndian.Uint32(body[4:]), hashSize: hashSize}
	entries = make([]Entry, 0, min(int(count), len(body)/(statSize+hashSize)))
	for range count {
		e, err := p.entry()
		if err != nil {
			return nil, nil, err
		}
		entries = append(entries, e)
	}
	return entries, p.rest, nil
}

// checked makes an index of entries, if they are such as git writes.
func checked(entries []Entry, hashSize int) (*Index, error) {
	kept := entries[:0]
	for _, e := range entries {
		if !safePath([]byte(e.Path)) {
			return nil, fmt.Errorf("%q is not a path", e.Path)
		}
		if n := len(kept); n > 0 && e.Path <= kept[n-1].Path {
			if e.Path == kept[n-1].Path {
				continue // the further stages of an unmerged path
			}
			return nil, fmt.Errorf("%q is out of order", e.Path)
		}
		kept = append(kept, e)
	}
	return New(kept, hashSize), nil
}

func fileMode(m tree.Mode) bool {
	switch m {
	case tree.File, tree.Executable, tree.Symlink, tree.Submodule:
		return true
	}
	return false
}

type parser struct {
	rest     []byte
	version  uint32
	hashSize int
	previous string
}

var errShort = errors.New("file is cut short")

// errSplit is for an index that another file is a part of.
var errSplit = fmt.Errorf("it is split: %w", ErrUnsupported)

func (p *parser) entry() (Entry, error) {
	fixed := statSize + p.hashSize + 2
	if len(p.rest) < fixed {
		return Entry{}, errShort
	}
	e := Entry{Item: tree.Item{Mode: mode(p.rest), OID: git.OIDFromBytes(p.rest[statSize : statSize+p.hashSize])}, Stat: statIn(p.rest)}
	if !fileMode(e.Mode) {
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
func safePath(path []byte) bool {
	for {
		part, rest, more := bytes.Cut(path, []byte{'/'})
		switch string(part) {
		case "", ".", "..":
			return false
		}
		if !more {
			return true
		}
		path = rest
	}
}

// extensions looks for one that changes what the entries mean: its name begins
// with a lower-case letter.
func extensions(rest []byte) error {
	for len(rest) >= 8 {
		name, size := rest[:4], binary.BigEndian.Uint32(rest[4:])
		if string(name) == linkExtension {
			return errSplit
		}
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
