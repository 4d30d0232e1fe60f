package git

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"bluegreen/internal/inflate"
)

// A pack is a pack file with its index, of version 2. Git changes neither once
// they are written.
type pack struct {
	index, data io.ReaderAt
	files       []*os.File // to close
	fanout      [256]int64 // how many names there are up to one that begins with the byte
	hashSize    int
}

// maxPacks is how many packs are opened. Git reads a repository that has more,
// with a multi-pack-index perhaps.
const maxPacks = 50

// maxDeltas is how many deltas may build on each other: git's own limit.
const maxDeltas = 4095

// The types of objects in a pack that are none by themselves.
const (
	offsetDelta = 6
	nameDelta   = 7
)

func (p *pack) close() {
	for _, f := range p.files {
		f.Close()
	}
}

// find looks for an object in the packs.
func (s *store) find(oid OID) (place, error) {
	if !s.listed {
		s.listed = true
		if err := s.openPacks(); err != nil {
			return place{}, err
		}
	}
	for i, p := range s.packs {
		offset, err := s.findIn(p, oid.Bytes())
		if err != nil {
			return place{}, err
		}
		if offset > 0 {
			copy(s.packs[1:i+1], s.packs[:i]) // the next one is likely there too
			s.packs[0] = p
			return place{p, offset}, nil
		}
	}
	return place{}, errNotPlain
}

func (s *store) openPacks() error {
	for _, dir := range s.dirs {
		entries, err := os.ReadDir(filepath.Join(dir, "pack"))
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for _, e := range entries {
			name, isIndex := strings.CutSuffix(e.Name(), ".idx")
			if !isIndex {
				continue
			}
			if len(s.packs) == maxPacks {
				return errNotPlain
			}
			p, err := openPack(filepath.Join(dir, "pack", name), s.hashSize)
			if err != nil {
				return err
			}
			s.packs = append(s.packs, p)
		}
	}
	return nil
}

func openPack(path string, hashSize int) (*pack, error) {
	index, err := os.Open(path + ".idx")
	if err != nil {
		return nil, err
	}
	data, err := os.Open(path + ".pack")
	if err != nil {
		index.Close()
		return nil, err
	}
	p, err := newPack(index, data, hashSize)
	if err != nil {
		index.Close()
		data.Close()
		return nil, err
	}
	p.files = []*os.File{index, data}
	return p, nil
}

func newPack(index, data io.ReaderAt, hashSize int) (*pack, error) {
	p := &pack{index: index, data: data, hashSize: hashSize}
	var head [8 + 4*256]byte
	if _, err := index.ReadAt(head[:], 0); err != nil || !bytes.HasPrefix(head[:], []byte("\xfftOc\x00\x00\x00\x02")) {
		return nil, cmp.Or(err, errNotPlain)
	}
	for i := range p.fanout {
		p.fanout[i] = int64(binary.BigEndian.Uint32(head[8+4*i:]))
	}
	return p, nil
}

// findIn returns where in a pack an object is, 0 for nowhere.
func (s *store) findIn(p *pack, name []byte) (offset int64, err error) {
	from, to := int64(0), p.fanout[name[0]]
	if name[0] > 0 {
		from = p.fanout[name[0]-1]
	}
	size := int64(p.hashSize)
	// One read of the names with that first byte; before that, as long as they
	// are many, of the one in the middle.
	for to-from > maxNames {
		middle := (from + to) / 2
		names, err := s.readNames(p, middle, middle+1)
		if err != nil {
			return 0, err
		}
		if bytes.Compare(names, name) > 0 {
			to = middle
		} else {
			from = middle
		}
	}
	if from >= to {
		return 0, nil
	}
	names, err := s.readNames(p, from, to)
	if err != nil {
		return 0, err
	}
	at := int64(sort.Search(int(to-from), func(i int) bool {
		return bytes.Compare(names[int64(i)*size:][:size], name) >= 0
	}))
	if at == to-from || !bytes.Equal(names[at*size:][:size], name) {
		return 0, nil
	}
	return p.offset(from + at)
}

// maxNames is how many names are read at once.
const maxNames = 512

// readNames reads a part of the names in a pack's index. It is good until the
// next call.
func (s *store) readNames(p *pack, from, to int64) ([]byte, error) {
	n := int((to - from) * int64(p.hashSize))
	s.names = slices.Grow(s.names[:0], n)[:n]
	_, err := p.index.ReadAt(s.names, p.names()+from*int64(p.hashSize))
	return s.names, err
}

// names is where the names begin in the index: behind the fan-out.
func (p *pack) names() int64 { return 8 + 4*256 }

// offset returns where the object of the name with that number is.
func (p *pack) offset(n int64) (int64, error) {
	count := p.fanout[255]
	offsets := p.names() + count*int64(p.hashSize+4) // behind names and CRCs
	var number [8]byte
	if _, err := p.index.ReadAt(number[:4], offsets+4*n); err != nil {
		return 0, err
	}
	small := binary.BigEndian.Uint32(number[:])
	if small&(1<<31) == 0 {
		return int64(small), nil
	}
	if _, err := p.index.ReadAt(number[:], offsets+4*count+8*int64(small&^(1<<31))); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(number[:]) &^ (1 << 63)), nil
}

// A packed object's head tells what comes after it, compressed.
type packedHead struct {
	kind    byte
	size    int64 // of what comes after it
	content int64 // where that is
	base    place // of a delta
}

func (h packedHead) isDelta() bool { return h.kind == offsetDelta || h.kind == nameDelta }

// name is the type's, "" for a delta and for what is none.
func (h packedHead) name() string {
	return [8]string{1: "commit", 2: "tree", 3: "blob", 4: "tag"}[h.kind]
}

// A window is the part of a pack that was read last. Objects that are written one
// after the other lie side by side in it.
type window struct {
	pack *pack
	from int64
	data []byte
}

// windowSize is how much of a pack is read at once, in bytes.
const windowSize = 32 << 10

// view returns what a pack has at a place: n bytes or more, or all up to its end.
// It is good until the next call.
func (s *store) view(at place, n int) ([]byte, error) {
	w := &s.window
	skip, size := at.offset-w.from, int64(len(w.data)) // a damaged index gives any offset
	if w.pack == at.pack && skip >= 0 && skip <= size && int64(n) <= size-skip {
		return w.data[skip:], nil
	}
	n = max(n, windowSize)
	*w = window{at.pack, at.offset, slices.Grow(w.data[:0], n)[:n]}
	got, err := at.pack.data.ReadAt(w.data, at.offset)
	w.data = w.data[:got]
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return w.data, nil
}

// maxHead is more than an object's head takes.
const maxHead = 64

// head reads the head of an object.
func (s *store) head(at place) (packedHead, error) {
	in, err := s.view(at, maxHead)
	if err != nil {
		return packedHead{}, err
	}
	all := len(in)
	if len(in) == 0 {
		return packedHead{}, errNotPlain
	}
	b := in[0]
	in = in[1:]
	h := packedHead{kind: b >> 4 & 7, size: int64(b & 15)}
	for shift := 4; b&0x80 != 0; shift += 7 {
		if len(in) == 0 || shift > 50 {
			return h, errNotPlain
		}
		b, in = in[0], in[1:]
		h.size |= int64(b&0x7f) << shift
	}
	h.base.pack = at.pack
	switch h.kind {
	case offsetDelta:
		var back int64
		back, in, err = distance(in)
		if h.base.offset = at.offset - back; err != nil || back <= 0 || h.base.offset <= 0 {
			return h, cmp.Or(err, errNotPlain)
		}
	case nameDelta:
		if len(in) < s.hashSize {
			return h, errNotPlain
		}
		if h.base.offset, err = s.findIn(at.pack, in[:s.hashSize]); err != nil || h.base.offset == 0 {
			return h, cmp.Or(err, errNotPlain)
		}
		in = in[s.hashSize:]
	}
	h.content = at.offset + int64(all-len(in))
	return h, nil
}

// distance reads how far before a delta its base is, in git's encoding without
// two forms of one number.
func distance(in []byte) (n int64, rest []byte, err error) {
	for i, b := range in {
		if i > 0 {
			n = (n + 1) << 7
		}
		n |= int64(b & 0x7f)
		if b&0x80 == 0 {
			return n, in[i+1:], nil
		}
		if n > 1<<50 {
			break
		}
	}
	return 0, nil, errNotPlain
}

// unpack fills out with the content of the object with that head.
func (s *store) unpack(h packedHead, out []byte) error {
	// How much it takes in the pack is not known. Text takes less than half.
	for n := len(out)/2 + maxHead; ; n = max(4*n, windowSize) {
		in, err := s.view(place{h.base.pack, h.content}, n)
		if err != nil {
			return err
		}
		err = s.decoder.Zlib(out, in)
		if !errors.Is(err, inflate.ErrShort) || len(in) < n || n > 2*len(out)+windowSize {
			return err
		}
	}
}

// packed reads an object from a pack. One that is whole in the pack is read into
// buffer, which then has room for it, and not remembered, if there is a buffer.
func (s *store) packed(wanted place, buffer *[]byte) (plainObject, error) {
	at := wanted
	var deltas [][]byte
	held := 0
	for {
		if object, found := s.bases[at]; found {
			return s.build(wanted, object, deltas)
		}
		h, err := s.head(at)
		if err != nil {
			return plainObject{}, err
		}
		if held += int(min(h.size, maxPlain+1)); h.size > maxPlain {
			return plainObject{}, errLarge
		}
		if held > 4*maxPlain || len(deltas) == maxDeltas {
			return plainObject{}, errNotPlain
		}
		var data []byte
		if len(deltas) == 0 && !h.isDelta() && buffer != nil {
			*buffer = slices.Grow((*buffer)[:0], int(h.size))[:h.size]
			data = *buffer
		} else {
			data = make([]byte, h.size)
		}
		if err := s.unpack(h, data); err != nil {
			return plainObject{}, err
		}
		if h.isDelta() {
			deltas = append(deltas, data)
			at = h.base
			continue
		}
		if h.name() == "" {
			return plainObject{}, fmt.Errorf("type %d: %w", h.kind, errNotPlain)
		}
		object := plainObject{h.name(), data}
		if len(deltas) == 0 && buffer != nil {
			return object, nil
		}
		s.keep(at, object)
		return s.build(wanted, object, deltas)
	}
}

// keep remembers an object that others may build on.
func (s *store) keep(at place, object plainObject) {
	size := len(object.data) + 128 // with its place in the map
	if s.held += size; s.held > maxBases {
		clear(s.bases)
		s.held = size
	}
	s.bases[at] = object
}

// build applies deltas, the last one first. The data of base may be shared with
// what others build on, and is not changed.
func (s *store) build(wanted place, object plainObject, deltas [][]byte) (plainObject, error) {
	if len(deltas) == 0 {
		return plainObject{object.kind, slices.Clip(object.data)}, nil
	}
	var err error
	for _, delta := range slices.Backward(deltas) {
		if object.data, err = applyDelta(object.data, delta); err != nil {
			return plainObject{}, err
		}
	}
	s.keep(wanted, object) // the next version is likely to build on it
	return plainObject{object.kind, slices.Clip(object.data)}, nil
}

// packedSize returns the type and the size of an object in a pack.
func (s *store) packedSize(at place) (kind string, size int64, err error) {
	h, err := s.head(at)
	if err != nil {
		return "", 0, err
	}
	if size = h.size; h.isDelta() {
		if size, err = s.resultSize(h); err != nil {
			return "", 0, err
		}
	}
	for deltas := 0; h.isDelta(); deltas++ { // the type is that of the first base
		if h, err = s.head(h.base); err != nil || deltas == maxDeltas {
			return "", 0, cmp.Or(err, errNotPlain)
		}
	}
	if kind = h.name(); kind == "" {
		return "", 0, fmt.Errorf("type %d: %w", h.kind, errNotPlain)
	}
	return kind, size, nil
}

// resultSize reads what size a delta leads to: it begins with the size of its base
// and its own result's.
func (s *store) resultSize(h packedHead) (int64, error) {
	in, err := s.view(place{h.base.pack, h.content}, windowSize)
	if err != nil {
		return 0, err
	}
	s.in.Reset(bytes.NewReader(in))
	if err := s.inflate(); err != nil {
		return 0, err
	}
	begin := make([]byte, min(h.size, 20))
	if _, err := io.ReadFull(s.inflater, begin); err != nil {
		return 0, err
	}
	_, begin, err = deltaSize(begin)
	if err != nil {
		return 0, err
	}
	size, _, err := deltaSize(begin)
	return size, err
}

// deltaSize reads one of the sizes that a delta begins with.
func deltaSize(delta []byte) (size int64, rest []byte, err error) {
	for shift := 0; len(delta) > 0 && shift < 56; shift += 7 {
		b := delta[0]
		delta = delta[1:]
		size |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			return size, delta, nil
		}
	}
	return 0, nil, errNotPlain
}

// applyDelta makes an object of its base and a delta.
func applyDelta(base, delta []byte) ([]byte, error) {
	from, delta, err := deltaSize(delta)
	if err != nil || from != int64(len(base)) {
		return nil, cmp.Or(err, errNotPlain)
	}
	size, delta, err := deltaSize(delta)
	if err == nil && size > maxPlain {
		err = errLarge
	}
	if err != nil {
		return nil, err
	}
	made := make([]byte, 0, size)
	for len(delta) > 0 {
		op := delta[0]
		delta = delta[1:]
		var piece []byte
		if op&0x80 == 0 { // what follows is new
			n := int(op)
			if n == 0 || n > len(delta) {
				return nil, errNotPlain
			}
			piece, delta = delta[:n], delta[n:]
		} else {
			var at, n int
			if at, n, delta, err = copied(op, delta); err != nil || at > len(base) || n > len(base)-at {
				return nil, errNotPlain
			}
			piece = base[at : at+n]
		}
		if len(made)+len(piece) > cap(made) {
			return nil, errNotPlain
		}
		made = append(made, piece...)
	}
	if int64(len(made)) != size {
		return nil, errNotPlain
	}
	return made, nil
}

// copied reads which part of the base an operation copies. The bits of op tell
// which bytes of the two numbers are given; the others are zero.
func copied(op byte, delta []byte) (at, n int, rest []byte, err error) {
	for i := range 7 {
		if op&(1<<i) == 0 {
			continue
		}
		if len(delta) == 0 {
			return 0, 0, nil, errNotPlain
		}
		if i < 4 {
			at |= int(delta[0]) << (8 * i)
		} else {
			n |= int(delta[0]) << (8 * (i - 4))
		}
		delta = delta[1:]
	}
	if n == 0 {
		n = 0x10000
	}
	return at, n, delta, nil
}
