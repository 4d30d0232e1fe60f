package worktree

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/tree"
)

// place decides the operations, and makes the stage directories that they need.
// A file whose directory exists is put by itself. Where the directory does not
// exist, or something else is in its place, the topmost missing directory is
// staged with all that belongs in it, and put in one rename. place returns for
// each write where it is staged.
func (s *Staged) place(web *root) ([]place, error) {
	p, err := s.newPlacer(web)
	if err != nil {
		return nil, err
	}
	places := make([]place, len(s.plan.Writes))
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
		slot, err := p.slot(anchor)
		if err != nil {
			return nil, err
		}
		if anchor == write.Path && write.Mode != tree.Submodule {
			s.singles[i] = slot
		}
		op := &s.Record.Operations[slot]
		places[i] = place{stage: s.stages[op.Stage], path: op.Slot + write.Path[len(anchor):]}
	}
	return places, p.addRemovals()
}

// A place is where a file is staged; without a path it is not.
type place struct {
	stage *root
	path  string
}

// traits are what decides whether a rename into a directory is possible, and
// whether what is renamed into it is like what is made in it.
type traits struct {
	mount uint64
	group int    // that new entries get, -1 for our own
	acl   string // that new entries get
	label string // SELinux's
}

func (r *root) traits() (traits, error) {
	var st unix.Statx_t
	if err := unix.Statx(r.fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st); err != nil {
		return traits{}, fmt.Errorf("looking at %q: %w", r.path, err)
	}
	t := traits{mount: st.Mnt_id, group: -1}
	if st.Mask&unix.STATX_MNT_ID == 0 { // before Linux 5.8
		t.mount = unix.Mkdev(st.Dev_major, st.Dev_minor)
	}
	if st.Mode&unix.S_ISGID != 0 {
		t.group = int(st.Gid)
	}
	value := make([]byte, 1024)
	for name, to := range map[string]*string{"system.posix_acl_default": &t.acl, "security.selinux": &t.label} {
		if n, err := unix.Fgetxattr(r.fd, name, value); err == nil {
			*to = string(value[:n])
		}
	}
	return t, nil
}

type placer struct {
	staged  *Staged
	web     *root
	common  traits            // of what is put from the first stage
	anchors map[string]string // directory → what is put to have it, "" for one that exists
	slots   map[string]int    // what is put → its operation
	stages  map[traits]int
	known   map[string]traits // of directories that exist
}

// newPlacer makes the first stage: in the repository where that is as good as
// in the web root.
func (s *Staged) newPlacer(web *root) (*placer, error) {
	p := &placer{staged: s, web: web, anchors: map[string]string{}, slots: map[string]int{}, stages: map[traits]int{}, known: map[string]traits{}}
	state, err := openRoot(s.worktree.StateDir)
	if err != nil {
		return nil, err
	}
	defer state.close()
	there, err := web.traits()
	if err != nil {
		return nil, err
	}
	here, err := state.traits()
	if err != nil {
		return nil, err
	}
	p.common = there
	p.stages[there] = 0
	if here == there && here.group == -1 && here.acl == "" {
		_, err = s.addStage(nil, web)
	} else {
		_, err = s.addStage(new(string), web)
	}
	return p, err
}

// stageFor returns the stage for what is put into dir, a directory that exists.
// Directories of the same traits share one.
func (p *placer) stageFor(dir string) (int, error) {
	t, err := p.traits(dir)
	if err != nil {
		return 0, err
	}
	stage, found := p.stages[t]
	if !found {
		if stage, err = p.staged.addStage(&dir, p.web); err != nil {
			return 0, err
		}
		p.stages[t] = stage
	}
	return stage, nil
}

// stageOnMount returns a stage for what leaves dir. It only has to be on the
// same mount, and must not lie in a directory that is being emptied: so it is
// at the top of the mount.
func (p *placer) stageOnMount(dir string) (int, error) {
	here, err := p.traits(dir)
	if err != nil || here.mount == p.common.mount {
		return 0, err
	}
	for dir != "" {
		parent, _ := split(dir)
		above, err := p.traits(parent)
		if err != nil {
			return 0, err
		}
		if above.mount != here.mount {
			break
		}
		dir = parent
	}
	return p.stageFor(dir)
}

// traits returns those of a directory that exists.
func (p *placer) traits(dir string) (traits, error) {
	if t, known := p.known[dir]; known {
		return t, nil
	}
	r, err := p.web.sub(dir)
	if err != nil {
		return traits{}, err
	}
	defer r.close()
	t, err := r.traits()
	p.known[dir] = t
	return t, err
}

// anchor returns what is put in order to have path: path itself, or the
// topmost of its directories that does not exist.
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
			}
		}
		p.anchors[dir] = anchor
	}
	if anchor == "" {
		return path, nil
	}
	return anchor, nil
}

func (p *placer) slot(anchor string) (int, error) {
	slot, known := p.slots[anchor]
	if !known {
		var err error
		if slot, err = p.operation(Put, anchor); err != nil {
			return 0, err
		}
		p.slots[anchor] = slot
	}
	return slot, nil
}

// operation adds an operation on path, whose directory exists.
func (p *placer) operation(kind, path string) (int, error) {
	dir, _ := split(path)
	find := p.stageOnMount
	if kind == Put {
		find = p.stageFor
	}
	stage, err := find(dir)
	if err != nil {
		return 0, err
	}
	ops := &p.staged.Record.Operations
	*ops = append(*ops, Operation{Kind: kind, Path: Path(path), Stage: stage, Slot: strconv.Itoa(len(*ops))})
	return len(*ops) - 1, nil
}

// addRemovals adds the operations that take deleted files and the directories
// that they leave empty.
func (p *placer) addRemovals() error {
	plan := p.staged.plan
	covered := map[string]bool{}
	for _, op := range p.staged.Record.Operations {
		covered[string(op.Path)] = true
	}
	dirs := map[string]bool{}
	var emptied []string
	for _, path := range plan.Deletes {
		if under(path, covered) {
			continue // it goes with the directory whose place something takes
		}
		dir, _ := split(path)
		if plan.dropped[path] {
			dir = path
		}
		for ; dir != "" && !dirs[dir] && !plan.uses(dir); dir, _ = split(dir) {
			dirs[dir] = true
			emptied = append(emptied, dir)
		}
		st, absent, err := p.web.lstat(path)
		if err != nil {
			return err
		}
		if absent || isDir(&st) || plan.dropped[path] {
			continue // gone already; or not ours, as git sees it
		}
		if _, err := p.operation(Take, path); err != nil {
			return err
		}
	}
	return p.addEmptied(emptied)
}

func (p *placer) addEmptied(dirs []string) error {
	// Deepest first, so that a parent is empty when its turn comes.
	slices.SortFunc(dirs, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, dir := range dirs {
		st, absent, err := p.web.lstat(dir)
		if err != nil {
			return err
		}
		if absent || !isDir(&st) {
			continue
		}
		if _, err := p.operation(Rmdir, dir); err != nil {
			return err
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
