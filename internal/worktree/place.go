package worktree

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/tree"
)

// place decides the operations that put the plan's writes into the web root.
// A file whose directory exists is put by itself. Where the directory does not
// exist, or something else is in its place, the topmost missing directory is
// staged with all that belongs in it, and put in one rename. place returns for
// each write its path below the stage.
func (s *Staged) place(web *root) ([]string, error) {
	p := &placer{staged: s, web: web, anchors: map[string]string{}, heirs: map[string]inheritance{}, slots: map[string]int{}}
	var st unix.Stat_t
	if err := unix.Lstat(string(s.Record.Stage), &st); err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	p.stage = inherited(&st)
	if err := unix.Fstat(web.fd, &st); err != nil {
		return nil, fmt.Errorf("staging: %w", err)
	}
	p.heirs[""] = inherited(&st)
	places := make([]string, len(s.plan.Writes))
	for i := range s.plan.Writes {
		write := &s.plan.Writes[i]
		if write.Mode == tree.Submodule {
			if st, absent, err := web.lstat(write.Path); err != nil {
				return nil, err
			} else if !absent && isDir(&st) {
				continue // git leaves what is in it alone
			}
		}
		anchor, err := p.anchor(write.Path)
		if err != nil {
			return nil, err
		}
		slot := p.slot(anchor)
		if anchor == write.Path && write.Mode != tree.Submodule {
			s.singles[write.entry] = slot
		}
		places[i] = s.Record.Operations[slot].Slot + write.Path[len(anchor):]
	}
	return places, nil
}

// An inheritance is what the kernel gives to a new entry of a directory with
// the set-group-ID bit: its group, and for directories the bit itself. What is
// staged elsewhere must be given it.
type inheritance struct {
	group  int
	setgid bool
}

func inherited(st *unix.Stat_t) inheritance {
	if st.Mode&unix.S_ISGID != 0 {
		return inheritance{group: int(st.Gid), setgid: true}
	}
	return inheritance{group: os.Getegid()}
}

type placer struct {
	staged  *Staged
	stage   inheritance // of what is made in the stage directory
	web     *root
	anchors map[string]string      // directory → what is put to have it, "" for one that exists
	heirs   map[string]inheritance // directory that exists → what is made in it
	slots   map[string]int         // what is put → its operation
}

func (p *placer) anchor(path string) (string, error) {
	dir, _ := split(path)
	if dir == "" {
		return path, nil
	}
	anchor, known := p.anchors[dir]
	if !known {
		var err error
		if anchor, err = p.anchor(dir); err != nil {
			return "", err
		}
		if anchor == dir { // its parent exists; does it?
			st, absent, err := p.web.lstat(dir)
			if err != nil {
				return "", err
			}
			if !absent && isDir(&st) {
				anchor = ""
				p.heirs[dir] = inherited(&st)
				if uint64(st.Dev) != p.web.dev {
					return "", fmt.Errorf("%q in the web root is on another filesystem: %q cannot be put there atomically", dir, path)
				}
			}
		}
		p.anchors[dir] = anchor
	}
	if anchor == "" {
		return path, nil
	}
	return anchor, nil
}

func (p *placer) slot(anchor string) int {
	slot, known := p.slots[anchor]
	if !known {
		ops := &p.staged.Record.Operations
		slot = len(*ops)
		*ops = append(*ops, Operation{Kind: Put, Path: Path(anchor), Slot: strconv.Itoa(slot)})
		p.slots[anchor] = slot
		dir, _ := split(anchor)
		if heir := p.heirs[dir]; heir != p.stage {
			p.staged.heirs[strconv.Itoa(slot)] = heir
		}
	}
	return slot
}

// addRemovals adds the operations that take deleted files and the directories
// that they leave empty.
func (s *Staged) addRemovals(web *root) error {
	covered := map[string]bool{}
	for _, op := range s.Record.Operations {
		covered[string(op.Path)] = true
	}
	dirs := map[string]bool{}
	var emptied []string
	for _, path := range s.plan.Deletes {
		if under(path, covered) {
			continue // it goes with the directory whose place something takes
		}
		dir, _ := split(path)
		if s.plan.dropped[path] {
			dir = path
		}
		for ; dir != "" && !dirs[dir] && !s.plan.next.Uses(dir); dir, _ = split(dir) {
			dirs[dir] = true
			emptied = append(emptied, dir)
		}
		st, absent, err := web.lstat(path)
		if err != nil {
			return err
		}
		if absent || isDir(&st) || s.plan.dropped[path] {
			continue // gone already; or not ours, as git sees it
		}
		ops := &s.Record.Operations
		*ops = append(*ops, Operation{Kind: Take, Path: Path(path), Slot: strconv.Itoa(len(*ops))})
	}
	return s.addEmptied(web, emptied)
}

func (s *Staged) addEmptied(web *root, dirs []string) error {
	// Deepest first, so that a parent is empty when its turn comes.
	slices.SortFunc(dirs, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, dir := range dirs {
		st, absent, err := web.lstat(dir)
		if err != nil {
			return err
		}
		if !absent && isDir(&st) {
			ops := &s.Record.Operations
			*ops = append(*ops, Operation{Kind: Rmdir, Path: Path(dir), Slot: strconv.Itoa(len(*ops))})
		}
	}
	return nil
}

// under tells whether path or a directory above it is in paths.
func under(path string, paths map[string]bool) bool {
	for path != "" {
		if paths[path] {
			return true
		}
		path, _ = split(path)
	}
	return false
}
