package worktree

import (
	"bluegreen/internal/git"
	"bluegreen/internal/literal"
)

// A Record describes a staged deployment. It goes into the journal before the
// web root is touched, and is all that another process needs to finish or undo
// the deployment.
type Record struct {
	Directory Path    `json:"directory"`
	Inode     uint64  `json:"inode"` // of the directory: another one may be mounted there
	Tree      git.OID `json:"tree"`
	// Root and Subdirectory are those of the Source that the tree is from.
	Root         git.OID `json:"root,omitzero"`
	Subdirectory Path    `json:"subdirectory,omitempty"`
	// Stages is empty when there is nothing to do.
	Stages     []Stage     `json:"stages"`
	Operations []Operation `json:"operations"`
	// Link is the one operation of a deployment that switches to another
	// release, nil in place.
	Link *Link `json:"link,omitempty"`
}

// A Stage is a directory, mode 0700, whose slots hold what goes into the web
// root, and afterwards what was there before. There is one in the repository
// or, where new entries of the web root inherit something from it, in the web
// root; and one more in each directory of the web root that is on another
// mount, or whose new entries inherit something else.
type Stage struct {
	Path  Path   `json:"path"` // absolute, or relative to the state directory
	Inode uint64 `json:"inode"`
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
	Stage int    `json:"stage,omitempty"`
	Slot  string `json:"slot"`
	Inode uint64 `json:"inode,omitempty"` // of what is put: tells whether it was
	Birth int64  `json:"birth,omitempty"` // of that inode, in ns: its number may be used again
}

// A Path is a name of the filesystem: any bytes.
type Path = literal.String
