package worktree

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"bluegreen/internal/git"
)

// A Record describes a staged deployment. It goes into the journal before the
// web root is touched.
type Record struct {
	Directory Path    `json:"directory"`
	Tree      git.OID `json:"tree"`
	// Stage is a directory that only the account of the deployments enters. A
	// slot in it holds what goes into the web root and afterwards what was
	// there before.
	// It is empty when there is nothing to do.
	Stage      Path        `json:"stage"`
	Operations []Operation `json:"operations"`
}

// The kinds of operations, in the order in which they are carried out.
const (
	Put   = "put"   // a staged file or directory goes to Path; what was there goes to its slot
	Take  = "take"  // the file at Path goes to the slot
	Rmdir = "rmdir" // the directory at Path goes to the slot, if it is empty
)

// An Operation is one atomic change of the web root.
type Operation struct {
	Kind  string `json:"kind"`
	Path  Path   `json:"path"`
	Slot  string `json:"slot"`
	Inode uint64 `json:"inode,omitempty"` // of what is put: tells whether it was
}

// A Path is a name of the filesystem: any bytes. In JSON, which has no bytes,
// one that is not UTF-8 is written as a Go string literal.
type Path string

// MarshalText implements encoding.TextMarshaler.
func (p Path) MarshalText() ([]byte, error) {
	if utf8.ValidString(string(p)) && !strings.HasPrefix(string(p), `"`) {
		return []byte(p), nil
	}
	return strconv.AppendQuoteToASCII(nil, string(p)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Path) UnmarshalText(text []byte) error {
	if !bytes.HasPrefix(text, []byte(`"`)) {
		*p = Path(text)
		return nil
	}
	plain, err := strconv.Unquote(string(text))
	*p = Path(plain)
	return err
}
