package worktree

import (
	"fmt"
	"path"
	"strings"

	"bluegreen/internal/git"
	"bluegreen/internal/tree"
)

// ReadCommitted returns the file at name in a tree, as it is committed, if that has
// no more than limit bytes.
func ReadCommitted(objects *git.Objects, root git.OID, name string, limit int64) ([]byte, error) {
	at := tree.Item{Mode: tree.Directory, OID: root}
	names := strings.Split(name, "/")
	for i, part := range names {
		var err error
		if at, err = lookUp(objects, at.OID, part); err != nil {
			return nil, fmt.Errorf("looking for %q: %w", name, err)
		}
		last := i == len(names)-1
		switch here := path.Join(names[:i+1]...); {
		case at.Mode == 0:
			return nil, fmt.Errorf("there is no %q in it", here)
		case last && at.Mode != tree.File && at.Mode != tree.Executable:
			return nil, fmt.Errorf("%q is a %s, not a file", here, noun(at.Mode))
		case !last && at.Mode != tree.Directory:
			return nil, fmt.Errorf("%q is a %s, not a directory", here, noun(at.Mode))
		}
	}
	sizes, err := objects.Sizes([]git.OID{at.OID})
	if err != nil {
		return nil, fmt.Errorf("looking at %q: %w", name, err)
	}
	if sizes[0] > limit {
		return nil, fmt.Errorf("%q has %d bytes, more than the %d that are read", name, sizes[0], limit)
	}
	_, data, err := objects.Read(at.OID)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	return data, nil
}
