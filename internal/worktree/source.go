package worktree

import (
	"fmt"
	"path"
	"strings"

	"bluegreen/internal/git"
	"bluegreen/internal/tree"
)

// A Source is where what a web root holds comes from.
type Source struct {
	Tree git.OID // that the web root holds
	// Where that is only a part of a commit, Root is the commit's tree and Dir
	// the directory in it: attributes of the directories above count, too.
	Root git.OID
	Dir  string
}

// Source finds what a commit puts into the web root: its tree, root, or the
// Subdirectory of it.
func (w *Worktree) Source(objects tree.Objects, root git.OID) (Source, error) {
	if w.Subdirectory == "" {
		return Source{Tree: root}, nil
	}
	at := tree.Item{Mode: tree.Directory, OID: root}
	names := strings.Split(w.Subdirectory, "/")
	for i, name := range names {
		var err error
		if at, err = lookUp(objects, at.OID, name); err != nil {
			return Source{}, fmt.Errorf("looking for the subdirectory %q: %w", w.Subdirectory, err)
		}
		switch here := path.Join(names[:i+1]...); at.Mode {
		case tree.Directory:
		case 0:
			return Source{}, fmt.Errorf("it has no directory %q, and subdirectory = %q", here, w.Subdirectory)
		default:
			return Source{}, fmt.Errorf("%q is a %s, and subdirectory = %q", here, noun(at.Mode), w.Subdirectory)
		}
	}
	return Source{Tree: at.OID, Root: root, Dir: w.Subdirectory}, nil
}

// above lists the .gitattributes of the directories above the web root, by
// their paths in the commit.
func (s Source) above(objects tree.Objects) ([]attributesFile, error) {
	if s.Dir == "" {
		return nil, nil
	}
	var found []attributesFile
	at, dir := s.Root, ""
	for name := range strings.SplitSeq(s.Dir, "/") {
		item, err := lookUp(objects, at, attributesName)
		if err != nil {
			return nil, fmt.Errorf("looking for attributes: %w", err)
		}
		if isBlob(item.Mode) {
			found = append(found, attributesFile{dir + attributesName, item})
		}
		next, err := lookUp(objects, at, name)
		if err != nil {
			return nil, fmt.Errorf("looking for attributes: %w", err)
		}
		at, dir = next.OID, dir+name+"/"
	}
	return found, nil
}

func isBlob(mode tree.Mode) bool {
	return mode == tree.File || mode == tree.Executable || mode == tree.Symlink
}
