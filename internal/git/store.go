package git

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"bluegreen/internal/inflate"
)

// A store reads objects from the repository's files, without a process: what it
// does not find, what is large and what is not as git writes it are git's own to
// read. It is for one goroutine.
type store struct {
	dirs     []string // where objects are, those of a push first
	hashSize int
	packs    []*pack // nil until something is not loose
	listed   bool
	window   window
	decoder  *inflate.Decoder
	names    []byte        // a part of a pack's index
	in       *bufio.Reader // a file of one object
	inflater io.ReadCloser // for that, nil until it is needed
	// bases are objects that deltas may build on.
	bases map[place]plainObject
	held  int // bytes in bases
}

// A plainObject is an object that a store has read.
type plainObject struct {
	kind string
	data []byte
}

// A place is where an object is in a pack.
type place struct {
	pack   *pack
	offset int64
}

// maxPlain bounds the objects that are read, in bytes: each is in memory whole.
const maxPlain = 1 << 20

// maxBases bounds the bytes that are kept for deltas to build on.
const maxBases = 4 << 20

// errNotPlain is what a store returns for an object that is git's to read,
// errLarge for one that only is too large.
var (
	errNotPlain = errors.New("object is for git to read")
	errLarge    = fmt.Errorf("large: %w", errNotPlain)
)

func newStore(dirs []string, hashSize int) *store {
	return &store{dirs: dirs, hashSize: hashSize, decoder: inflate.NewDecoder(), in: bufio.NewReader(nil), bases: map[place]plainObject{}}
}

func (s *store) close() {
	for _, p := range s.packs {
		p.close()
	}
}

// read returns an object. With a buffer it is good until the next call with that,
// and takes no memory of its own if it can.
func (s *store) read(oid OID, buffer *[]byte) (plainObject, error) {
	if len(s.packs) > 0 { // one was there already
		if at, err := s.find(oid); err == nil {
			return s.packed(at, buffer)
		}
	}
	for _, dir := range s.dirs {
		object, err := s.loose(dir, oid)
		if !errors.Is(err, os.ErrNotExist) {
			return object, err
		}
	}
	at, err := s.find(oid)
	if err != nil {
		return plainObject{}, err
	}
	return s.packed(at, buffer)
}

// size returns the type and the size of an object.
func (s *store) size(oid OID) (kind string, size int64, err error) {
	for _, dir := range s.dirs {
		f, err := os.Open(loosePath(dir, oid))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", 0, err
		}
		defer f.Close()
		kind, size, _, err = s.looseHeader(f)
		return kind, size, err
	}
	at, err := s.find(oid)
	if err != nil {
		return "", 0, err
	}
	return s.packedSize(at)
}

func loosePath(dir string, oid OID) string {
	name := oid.String()
	return dir + "/" + name[:2] + "/" + name[2:]
}

// loose reads an object that is a file of its own.
func (s *store) loose(dir string, oid OID) (plainObject, error) {
	f, err := os.Open(loosePath(dir, oid))
	if err != nil {
		return plainObject{}, err
	}
	defer f.Close()
	kind, size, begin, err := s.looseHeader(f)
	if err == nil && size > maxPlain {
		err = errLarge
	}
	if err != nil || int64(len(begin)) > size {
		return plainObject{}, cmp.Or(err, errNotPlain)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(s.inflater, data[copy(data, begin):]); err != nil {
		return plainObject{}, err
	}
	return plainObject{kind, data}, atEnd(s.inflater)
}

// looseHeader reads "TYPE SIZE" and a NUL, and what of the content it has read
// with them. The rest comes from the inflater.
func (s *store) looseHeader(f io.Reader) (kind string, size int64, begin []byte, err error) {
	s.in.Reset(f)
	if err := s.inflate(); err != nil {
		return "", 0, nil, err
	}
	var head [32]byte
	n, err := io.ReadFull(s.inflater, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", 0, nil, err
	}
	header, begin, found := bytes.Cut(head[:n], []byte{0})
	word, digits, _ := strings.Cut(string(header), " ")
	if size, err = strconv.ParseInt(digits, 10, 64); err != nil || size < 0 || !found {
		return "", 0, nil, errNotPlain
	}
	switch word {
	case "commit", "tree", "blob", "tag":
		return word, size, begin, nil
	}
	return "", 0, nil, errNotPlain
}

// atEnd makes sure that all has been read, and so, by zlib, that it is what was
// written.
func atEnd(r io.Reader) error {
	var more [1]byte
	if n, err := io.ReadFull(r, more[:]); n != 0 || !errors.Is(err, io.EOF) {
		return errNotPlain
	}
	return nil
}

// inflate makes the inflater unpack what comes from s.in.
func (s *store) inflate() error {
	if s.inflater == nil {
		inflater, err := zlib.NewReader(s.in)
		if err == nil {
			s.inflater = inflater
		}
		return err
	}
	return s.inflater.(zlib.Resetter).Reset(s.in, nil)
}

// objectDirs returns the directories that a repository's objects are in, with
// those of its alternates. An error tells that only git knows them all.
func (r *Repository) objectDirs() ([]string, error) {
	dirs := []string{filepath.Join(r.Dir, "objects")}
	var others []string
	for _, kv := range r.env {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "GIT_OBJECT_DIRECTORY":
			dirs[0] = r.relative(value)
		case "GIT_ALTERNATE_OBJECT_DIRECTORIES":
			others = strings.Split(value, ":")
		}
	}
	for _, dir := range others {
		if strings.HasPrefix(dir, `"`) {
			return nil, fmt.Errorf("%q is quoted: %w", dir, errNotPlain)
		}
		if dir != "" {
			dirs = append(dirs, r.relative(dir))
		}
	}
	for i := 0; i < len(dirs); i++ { // it grows
		more, err := alternates(dirs[i])
		if err != nil {
			return nil, err
		}
		if dirs = append(dirs, more...); len(dirs) > maxObjectDirs {
			return nil, fmt.Errorf("more than %d directories: %w", maxObjectDirs, errNotPlain)
		}
	}
	return dirs, nil
}

// maxObjectDirs is far above what repositories have. Alternates may go round in
// circles.
const maxObjectDirs = 16

// relative is path as a git command sees it, which runs in the repository.
func (r *Repository) relative(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.Dir, path)
}

// alternates reads which other directories an object directory names.
func alternates(dir string) (dirs []string, err error) {
	data, err := os.ReadFile(filepath.Join(dir, "info/alternates"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(data) {
		path := strings.TrimSuffix(string(line), "\n")
		switch {
		case path == "" || path[0] == '#':
		case path[0] == '"' || strings.ContainsRune(path, '\r'):
			return nil, fmt.Errorf("%q is quoted: %w", path, errNotPlain)
		case filepath.IsAbs(path):
			dirs = append(dirs, path)
		default:
			dirs = append(dirs, filepath.Join(dir, path))
		}
	}
	return dirs, nil
}
