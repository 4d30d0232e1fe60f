// Package tree reads git's trees strictly, compares them, and refuses what
// must never reach a disk: names that leave the web root or fool a filesystem,
// modes that git does not know, symlinks that lead outside, and trees that
// unpack to more than anybody meant to push.
package tree

import (
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
	"strings"

	"bluegreen/internal/git"
)

// Mode is the type of an entry and, for files, its executable bit, with git's
// values. Zero means that there is no entry.
type Mode uint32

// The modes that git writes today.
const (
	File       Mode = 0o100644
	Executable Mode = 0o100755
	Symlink    Mode = 0o120000
	Submodule  Mode = 0o160000 // a "gitlink"; an empty directory in the web root
	Directory  Mode = 0o040000
)

// An Item is what one path holds.
type Item struct {
	Mode Mode
	OID  git.OID
}

// An Entry is one line of a tree.
type Entry struct {
	Name string
	Item
}

// Objects is where trees and symlinks are read from.
type Objects interface {
	Read(oid git.OID) (kind string, data []byte, err error)
	HashSize() int
}

// Parse reads a tree object. It checks syntax only: Check tells whether the
// entries may be written.
func Parse(data []byte, hashSize int) ([]Entry, error) {
	entries := make([]Entry, 0, len(data)/(hashSize+20))
	for text := string(data); len(text) > 0; { // names are parts of it
		head, rest, found := strings.Cut(text, "\x00")
		mode, name, spaced := strings.Cut(head, " ")
		if !found || !spaced || len(rest) < hashSize {
			return nil, fmt.Errorf("tree is cut short")
		}
		m, err := parseMode(mode)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		at := len(data) - len(rest)
		entries = append(entries, Entry{Name: name, Item: Item{Mode: m, OID: git.OIDFromBytes(data[at : at+hashSize])}})
		text = rest[hashSize:]
	}
	return entries, nil
}

func parseMode(digits string) (Mode, error) {
	switch digits {
	case "100644", "100664": // the second one was written by early versions of git
		return File, nil
	case "100755":
		return Executable, nil
	case "120000":
		return Symlink, nil
	case "160000":
		return Submodule, nil
	case "40000":
		return Directory, nil
	}
	return 0, fmt.Errorf("mode %q is not one of git's", digits)
}

// compareEntries orders entries as git does in one tree: a directory sorts as
// if its name ended in "/".
func compareEntries(a, b Entry) int {
	n := min(len(a.Name), len(b.Name))
	if c := strings.Compare(a.Name[:n], b.Name[:n]); c != 0 {
		return c
	}
	return int(charAt(a, n)) - int(charAt(b, n))
}

func charAt(e Entry, i int) byte {
	switch {
	case i < len(e.Name):
		return e.Name[i]
	case e.Mode == Directory:
		return '/'
	}
	return 0
}

// A Built set of trees makes a list of paths comparable with a commit: it
// holds, in memory, the trees that git would write for them. Objects that it
// does not hold it reads from Beneath.
type Built struct {
	Root    git.OID
	Beneath Objects
	trees   map[git.OID][]byte
}

// Build computes the trees of n paths, which at returns in sorted order and
// without duplicates.
func Build(beneath Objects, n int, at func(i int) (path string, item Item)) *Built {
	b := &Built{Beneath: beneath, trees: map[git.OID][]byte{}}
	next := 0
	var build func(prefix string) git.OID
	build = func(prefix string) git.OID {
		var data []byte
		for next < n {
			path, entry := at(next)
			if !strings.HasPrefix(path, prefix) {
				break
			}
			name, _, nested := strings.Cut(path[len(prefix):], "/")
			if nested {
				entry = Item{Mode: Directory, OID: build(prefix + name + "/")}
			} else {
				next++
			}
			data = fmt.Appendf(data, "%o %s\x00", uint32(entry.Mode), name)
			data = append(data, padded(entry.OID, beneath.HashSize())...)
		}
		oid := HashObject("tree", data, beneath.HashSize())
		b.trees[oid] = data
		return oid
	}
	b.Root = build("")
	return b
}

func padded(oid git.OID, size int) []byte {
	return append(oid.Bytes(), make([]byte, size-len(oid.Bytes()))...)
}

// Read implements Objects.
func (b *Built) Read(oid git.OID) (string, []byte, error) {
	if data, found := b.trees[oid]; found {
		return "tree", data, nil
	}
	return b.Beneath.Read(oid)
}

// HashSize implements Objects.
func (b *Built) HashSize() int { return b.Beneath.HashSize() }

// HashObject returns the name that git gives to an object: 20 bytes of SHA-1,
// or 32 of SHA-256.
func HashObject(kind string, data []byte, hashSize int) git.OID {
	h := NewHash(hashSize)
	fmt.Fprintf(h, "%s %d\x00", kind, len(data))
	h.Write(data)
	return git.OIDFromBytes(h.Sum(nil))
}

// NewHash returns the hash function of object names of that size.
func NewHash(hashSize int) hash.Hash {
	if hashSize == 32 {
		return sha256.New()
	}
	return sha1.New()
}
