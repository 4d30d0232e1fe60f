package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/tree"
)

// A Stamp changes when a name in a directory comes, goes, or is replaced.
type Stamp struct {
	Inode             uint64
	Modified, Changed int64 // ns since 1970
}

// Stamps are those of the directories of a web root, by path; "" is the web
// root itself. They tell where somebody has made or removed files since, at the
// cost of the directories instead of that of the files.
type Stamps struct {
	Dirs map[string]Stamp
	// Written is when noting them began, in ns since 1970. A directory that had
	// changed within a tick of the kernel's clock before may have changed again
	// unseen.
	Written int64
}

// tick is more than the kernel's coarse clock takes from one time stamp to the
// next, in ns: 10 ms where it ticks 100 times a second.
const tick = 20_000_000

// Clone returns a copy that is noted now.
func (s *Stamps) Clone() *Stamps {
	return &Stamps{Dirs: maps.Clone(s.Dirs), Written: time.Now().UnixNano()}
}

func (s *Stamps) proves(dir string, now Stamp) bool {
	then, known := s.Dirs[dir]
	return known && then == now && max(then.Modified, then.Changed)+tick < s.Written
}

// ReadStamps reads what Write wrote. Where it is not there, nothing is known.
func ReadStamps(file string) (*Stamps, error) {
	s := &Stamps{Dirs: map[string]Stamp{}}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the directories' stamps: %w", err)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	if s.Written, err = strconv.ParseInt(first, 10, 64); err != nil {
		return &Stamps{}, nil // nothing is known
	}
	for {
		line, more, whole := strings.Cut(rest, "\n")
		at, dir, ok := parseStamp(line)
		if !whole || !ok {
			return s, nil // what is not understood proves nothing
		}
		s.Dirs[dir], rest = at, more
	}
}

func parseStamp(line string) (at Stamp, dir string, ok bool) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) < 4 {
		return at, "", false
	}
	var errs [3]error
	at.Inode, errs[0] = strconv.ParseUint(fields[0], 10, 64)
	at.Modified, errs[1] = strconv.ParseInt(fields[1], 10, 64)
	at.Changed, errs[2] = strconv.ParseInt(fields[2], 10, 64)
	return at, fields[3], errors.Join(errs[:]...) == nil
}

// Write writes the stamps to a file, atomically.
func (s *Stamps) Write(file string) error {
	data := strconv.AppendInt(nil, s.Written, 10)
	data = append(data, '\n')
	for dir, at := range s.Dirs {
		if strings.Contains(dir, "\n") {
			continue // git's trees have no such names here
		}
		data = append(strconv.AppendUint(data, at.Inode, 10), ' ')
		data = append(strconv.AppendInt(data, at.Modified, 10), ' ')
		data = append(strconv.AppendInt(data, at.Changed, 10), ' ')
		data = append(append(data, dir...), '\n')
	}
	return durable.WriteFile(file, 0o600, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Untouched tells that in no directory, other than those in except, a name has
// come, gone or been replaced since the stamps were noted, as far as they tell.
func (w *Worktree) Untouched(stamps *Stamps, except ...string) (bool, error) {
	r, err := openRoot(w.Dir)
	if err != nil {
		return false, err
	}
	defer r.close()
	if len(stamps.Dirs) == 0 {
		return false, nil
	}
	for dir, then := range stamps.Dirs {
		now, err := r.stamp(dir)
		if isAbsent(err) || err == nil && now != then && !slices.Contains(except, dir) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// Renew notes the stamps of directories that the caller has changed itself.
func (w *Worktree) Renew(stamps *Stamps, dirs ...string) error {
	r, err := openRoot(w.Dir)
	if err != nil {
		return err
	}
	defer r.close()
	for _, dir := range dirs {
		at, err := r.stamp(dir)
		if isAbsent(err) {
			delete(stamps.Dirs, dir)
			continue
		}
		if err != nil {
			return fmt.Errorf("looking at the directory %q: %w", path.Join(w.Dir, dir), err)
		}
		stamps.Dirs[dir] = at
	}
	return nil
}

func (r *root) stamp(dir string) (Stamp, error) {
	var st unix.Stat_t
	var err error
	if dir == "" {
		err = unix.Fstat(r.fd, &st)
	} else {
		fd, base, parentErr := r.parent(dir)
		if parentErr != nil {
			return Stamp{}, parentErr
		}
		err = unix.Fstatat(fd, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && !isDir(&st) {
		err = unix.ENOTDIR
	}
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{st.Ino, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}

// RemoveUntracked removes from a web root to which p has been applied what is
// not of p's tree, but for keep: paths, with the directories that lead to them
// and all below. Only directories that stamps do not vouch for are listed. It
// returns the stamps of now.
func (w *Worktree) RemoveUntracked(ctx context.Context, p *Plan, stamps *Stamps, keep []string) (*Stamps, error) {
	c := &cleaning{plan: p, keep: keep, dirs: map[string]bool{"": true}, now: &Stamps{Dirs: map[string]Stamp{}, Written: time.Now().UnixNano()}}
	var err error
	if c.web, err = openRoot(w.Dir); err != nil {
		return nil, err
	}
	defer c.web.close()
	if c.beneath, err = os.OpenRoot(w.Dir); err != nil {
		return nil, fmt.Errorf("opening %q: %w", w.Dir, err)
	}
	defer c.beneath.Close()
	p.untouched(func(i int) { c.addPath(p.base.Path(i), p.base.Mode(i)) })
	for i := range p.Writes {
		c.addPath([]byte(p.Writes[i].Path), p.Writes[i].Mode)
	}
	for _, p := range keep {
		c.addDirs(path.Dir(p))
	}
	sorted := make([]string, 0, len(c.dirs))
	for dir := range c.dirs {
		sorted = append(sorted, dir)
	}
	slices.Sort(sorted)
	for _, dir := range sorted {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("looking for untracked files: %w", err)
		}
		if err := c.clean(dir, stamps); err != nil {
			return nil, fmt.Errorf("removing what is not of the commit from %q: %w", path.Join(w.Dir, dir), err)
		}
	}
	return c.now, nil
}

// A cleaning is RemoveUntracked at work.
type cleaning struct {
	web     *root
	beneath *os.Root
	plan    *Plan
	keep    []string
	dirs    map[string]bool // that are to stay
	last    string          // of addDirs: paths come sorted
	now     *Stamps
}

func (c *cleaning) addPath(p []byte, mode tree.Mode) {
	if cut := bytes.LastIndexByte(p, '/'); cut >= 0 && string(p[:cut]) != c.last {
		c.addDirs(string(p[:cut]))
	}
	if mode == tree.Submodule {
		c.addDirs(string(p)) // an empty directory
	}
}

func (c *cleaning) addDirs(dir string) {
	if dir == c.last {
		return
	}
	c.last = dir
	for ; dir != "." && !c.dirs[dir]; dir = path.Dir(dir) {
		c.dirs[dir] = true
	}
}

func (c *cleaning) clean(dir string, stamps *Stamps) error {
	at, err := c.web.stamp(dir)
	if isAbsent(err) {
		return nil // kept for what is not there, or removed by hand: the sweep finds that
	}
	if err == nil && !stamps.proves(dir, at) {
		if err = c.list(dir); err == nil {
			at, err = c.web.stamp(dir)
		}
	}
	c.now.Dirs[dir] = at
	return err
}

// list removes what must not stay of the names in a directory.
func (c *cleaning) list(dir string) error {
	fd, err := c.web.openDir(dir)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), dir)
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names) // then each is near the one before in the index, too
	at := 0
	for _, name := range names {
		p := path.Join(dir, name)
		stays := false
		if at, stays = c.plan.base.FindFrom(at, p); stays {
			_, touched := slices.BinarySearch(c.plan.touched, at)
			stays = !touched
		}
		if stays || c.dirs[p] || slices.Contains(c.keep, p) || c.plan.uses(p) {
			continue
		}
		if err := RemoveBeneath(c.beneath, p); err != nil {
			return err
		}
	}
	return nil
}

// RemoveBeneath removes a file, or a directory with all in it, which may forbid
// it.
func RemoveBeneath(r *os.Root, p string) error {
	err := r.RemoveAll(p)
	if err == nil || !errors.Is(err, os.ErrPermission) {
		return err
	}
	allow(r, p)
	return r.RemoveAll(p)
}

// allow lets directories be changed, as far as they are ours.
func allow(r *os.Root, dir string) {
	if st, err := r.Lstat(dir); err != nil || !st.IsDir() || r.Chmod(dir, 0o700) != nil {
		return
	}
	f, err := r.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	entries, _ := f.ReadDir(-1) // what cannot be listed cannot be removed, which is told
	for _, e := range entries {
		if e.IsDir() {
			allow(r, path.Join(dir, e.Name()))
		}
	}
}
