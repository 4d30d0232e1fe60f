package worktree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/index"
	"bluegreen/internal/tree"
)

// A Staged deployment is written beside the web root, and can be activated and
// undone. Its Record is all that another process needs to do either.
type Staged struct {
	Record Record

	worktree *Worktree
	plan     *Plan
	// singles maps the place in the next index of a file that is put by itself
	// to its operation: the rename changes the file's ctime.
	singles map[int]int
}

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

// bulk is from how many files on the server's git reads the objects.
const bulk = 100

// fsyncEach is up to how many files are made durable one by one.
const fsyncEach = 8

// Stage writes what p changes beside the web root and makes it durable, with
// everything else on its filesystem. progress, which may be nil, is told how
// many files are done, from several goroutines. When Stage fails nothing is
// left behind; when the process dies, CleanUp removes what it wrote.
func (w *Worktree) Stage(ctx context.Context, p *Plan, id string, progress func(done int)) (*Staged, error) {
	s := &Staged{worktree: w, plan: p, singles: map[int]int{}, Record: Record{Directory: Path(w.Dir), Tree: p.Tree}}
	if len(p.Writes) == 0 && len(p.Deletes) == 0 {
		return s, nil
	}
	if err := w.enoughRoom(p); err != nil {
		return nil, err
	}
	web, err := openRoot(w.Dir)
	if err != nil {
		return nil, err
	}
	defer web.close()
	stage, err := w.makeStage(web, id)
	if err != nil {
		return nil, err
	}
	s.Record.Stage = Path(stage)
	if err := s.fill(ctx, web, progress); err != nil {
		s.Discard()
		return nil, err
	}
	return s, nil
}

func (s *Staged) fill(ctx context.Context, web *root, progress func(int)) error {
	places, err := s.place(web)
	if err != nil {
		return err
	}
	fault.Step("placed")
	if err := s.write(ctx, places, progress); err != nil {
		return err
	}
	fault.Step("written")
	if err := s.addRemovals(web); err != nil {
		return err
	}
	for i := range s.Record.Operations {
		op := &s.Record.Operations[i]
		if op.Kind != Put {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(string(s.Record.Stage), op.Slot), &st); err != nil {
			return fmt.Errorf("staging %q: %w", op.Path, err)
		}
		op.Inode = st.Ino
	}
	if err := s.sync(len(places)); err != nil {
		return fmt.Errorf("making the staged files durable: %w", err)
	}
	fault.Step("staged")
	return nil
}

// enoughRoom refuses what would fill the disk, with room left for the web
// server and for our own records.
func (w *Worktree) enoughRoom(p *Plan) error {
	const reserveBytes, reserveInodes = 16 << 20, 256
	var fs unix.Statfs_t
	if err := unix.Statfs(w.Dir, &fs); err != nil {
		return fmt.Errorf("looking for free space in %q: %w", w.Dir, err)
	}
	blocks := int64(len(p.Writes)) // each file ends in a block of its own
	need := p.Bytes + blocks*fs.Bsize/2
	if free := int64(fs.Bavail) * fs.Bsize; len(p.Writes) > 0 && need+reserveBytes > free {
		return fmt.Errorf("not enough room in %q: %d bytes are needed, %d are free", w.Dir, need+reserveBytes, free)
	}
	if fs.Files > 0 && len(p.Writes) > 0 && uint64(len(p.Writes))+reserveInodes > fs.Ffree {
		return fmt.Errorf("not enough inodes in %q: %d are needed, %d are free", w.Dir, len(p.Writes)+reserveInodes, fs.Ffree)
	}
	return nil
}

// stagePrefix begins the names of stage directories. In a web root it is
// followed by the repository's mark, since several may deploy into one.
func (w *Worktree) stagePrefix(dir string) string {
	if dir == w.StateDir {
		return filepath.Join(dir, "stage-")
	}
	mark := fnv.New32a()
	mark.Write([]byte(w.Repo.Dir))
	return filepath.Join(dir, fmt.Sprintf(".bluegreen-%08x-", mark.Sum32()))
}

// makeStage makes the stage directory, mode 0700: in the repository where a
// rename into the web root is possible from there, else in the web root.
func (w *Worktree) makeStage(web *root, id string) (string, error) {
	dir := w.Dir
	if w.stageInState(web) {
		dir = w.StateDir
	}
	stage := w.stagePrefix(dir) + id
	if err := os.Mkdir(stage, 0o700); err != nil {
		return "", fmt.Errorf("making a directory for staged files: %w", err)
	}
	// A default ACL or the umask may have taken bits away. The set-group-ID bit
	// stays: what is staged inherits it.
	st, err := os.Stat(stage)
	if err == nil {
		err = os.Chmod(stage, 0o700|st.Mode()&os.ModeSetgid)
	}
	if err != nil {
		os.Remove(stage)
		return "", fmt.Errorf("making a directory for staged files: %w", err)
	}
	return stage, nil
}

// stageInState tells whether files can be staged in the repository. They can
// not when it is on another mount; and they should not when new files in the
// web root inherit something from it (a group, an ACL, an SELinux type).
func (w *Worktree) stageInState(web *root) bool {
	const want = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID
	var there, here unix.Statx_t
	if unix.Statx(web.fd, "", unix.AT_EMPTY_PATH, want, &there) != nil ||
		unix.Statx(unix.AT_FDCWD, w.StateDir, 0, want, &here) != nil {
		return false
	}
	sameMount := there.Mask&here.Mask&unix.STATX_MNT_ID != 0 && there.Mnt_id == here.Mnt_id &&
		there.Dev_major == here.Dev_major && there.Dev_minor == here.Dev_minor
	if !sameMount || there.Mode&unix.S_ISGID != 0 {
		return false
	}
	for _, attribute := range []string{"system.posix_acl_default", "security.selinux"} {
		if n, err := unix.Fgetxattr(web.fd, attribute, nil); err == nil && n > 0 {
			return false
		}
	}
	return true
}

// place decides the operations that put the plan's writes into the web root.
// A file whose directory exists is put by itself. Where the directory does not
// exist, or something else is in its place, the topmost missing directory is
// staged with all that belongs in it, and put in one rename. place returns for
// each write its path below the stage.
func (s *Staged) place(web *root) ([]string, error) {
	p := &placer{staged: s, web: web, anchors: map[string]string{}, slots: map[string]int{}}
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

type placer struct {
	staged  *Staged
	web     *root
	anchors map[string]string // directory → what is put to have it, "" for one that exists
	slots   map[string]int    // what is put → its operation
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
	}
	return slot
}

// write writes the files. Each worker has a contiguous run of the paths, and
// so, but for the seams, directories of its own.
func (s *Staged) write(ctx context.Context, places []string, progress func(int)) error {
	if err := s.makeDirs(places); err != nil {
		return err
	}
	var done atomic.Int64
	written := func() {
		if n := done.Add(1); progress != nil {
			progress(int(n))
		}
	}
	if len(places) < bulk {
		return s.writeFew(ctx, places, written)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := min(runtime.GOMAXPROCS(0), 4)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for n := range workers {
		from, to := n*len(places)/workers, (n+1)*len(places)/workers
		wg.Go(func() {
			if errs[n] = s.writeRun(ctx, places, from, to, written); errs[n] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	var canceled error
	for _, err := range errs {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		if err != nil {
			canceled = err
		}
	}
	return canceled
}

func (s *Staged) makeDirs(places []string) error {
	made := map[string]bool{}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if dir == "" || made[dir] {
			return nil
		}
		parent, _ := split(dir)
		if err := mkdir(parent); err != nil {
			return err
		}
		made[dir] = true
		if err := os.Mkdir(filepath.Join(string(s.Record.Stage), dir), 0o777); err != nil {
			return fmt.Errorf("staging: %w", err)
		}
		return nil
	}
	for i, place := range places {
		dir, _ := split(place)
		if s.plan.Writes[i].Mode == tree.Submodule {
			dir = place
		}
		if err := mkdir(dir); err != nil {
			return err
		}
	}
	return nil
}

// writeFew is for a handful of files, which need no further process.
func (s *Staged) writeFew(ctx context.Context, places []string, written func()) error {
	objects := s.worktree.Repo.Objects(ctx)
	defer objects.Close()
	for i, place := range places {
		write := &s.plan.Writes[i]
		if place == "" || write.Mode == tree.Submodule {
			continue
		}
		err := s.writeOne(place, write, func(w io.Writer) error { return objects.Copy(write.OID, w) })
		if err != nil {
			return err
		}
		written()
	}
	return nil
}

func (s *Staged) writeRun(ctx context.Context, places []string, from, to int, written func()) error {
	var oids []git.OID
	var which []int
	for i := from; i < to; i++ {
		if places[i] != "" && s.plan.Writes[i].Mode != tree.Submodule {
			oids = append(oids, s.plan.Writes[i].OID)
			which = append(which, i)
		}
	}
	return s.worktree.Repo.Stream(ctx, oids, func(n int, kind string, size int64, r io.Reader) error {
		write := &s.plan.Writes[which[n]]
		if kind != "blob" {
			return fmt.Errorf("%q: object %s is a %s, not a blob", write.Path, write.OID, kind)
		}
		err := s.writeOne(places[which[n]], write, func(w io.Writer) error {
			_, err := io.CopyN(w, r, size)
			return err
		})
		written()
		return err
	})
}

// writeOne writes one file with the mode that git gives it: all bits that the
// umask leaves. Its Stat goes into the next index.
func (s *Staged) writeOne(place string, write *Write, content func(io.Writer) error) error {
	path := filepath.Join(string(s.Record.Stage), place)
	var st unix.Stat_t
	var err error
	if write.Mode == tree.Symlink {
		err = makeSymlink(path, &st, content)
	} else {
		perm := os.FileMode(0o666)
		if write.Mode == tree.Executable {
			perm = 0o777
		}
		err = makeFile(path, perm, len(s.plan.Writes) <= fsyncEach, &st, content)
	}
	if err != nil {
		return fmt.Errorf("staging %q: %w", write.Path, err)
	}
	s.plan.next.Entries[write.entry].Stat = index.StatOf(&st)
	return nil
}

func makeSymlink(path string, st *unix.Stat_t, content func(io.Writer) error) error {
	var target strings.Builder
	if err := content(&target); err != nil {
		return err
	}
	if err := os.Symlink(target.String(), path); err != nil {
		return err
	}
	return unix.Lstat(path, st)
}

func makeFile(path string, perm os.FileMode, sync bool, st *unix.Stat_t, content func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := content(f); err != nil {
		return err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := unix.Fstat(int(f.Fd()), st); err != nil {
		return err
	}
	return f.Close()
}

// sync makes the staged files durable: few of them were synced one by one, and
// only their directories are left; else all of the filesystem is.
func (s *Staged) sync(files int) error {
	stage, err := openRoot(string(s.Record.Stage))
	if err != nil {
		return err
	}
	defer stage.close()
	if files > fsyncEach {
		return unix.Syncfs(stage.fd)
	}
	return filepath.WalkDir(string(s.Record.Stage), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dir, err := os.Open(path)
		if err != nil {
			return err
		}
		defer dir.Close()
		return dir.Sync()
	})
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

// Discard removes what was staged, or what the web root held before.
func (s *Staged) Discard() error { return Discard(s.Record) }

// Discard removes the stage directory of a record that has been activated for
// good, or undone.
func Discard(r Record) error {
	if r.Stage == "" {
		return nil
	}
	if err := os.RemoveAll(string(r.Stage)); err != nil {
		return fmt.Errorf("removing staged files: %w", err)
	}
	return nil
}

// CleanUp removes the stage directories of deployments that died before they
// touched the web root. The caller holds the lock and has recovered.
func (w *Worktree) CleanUp() error {
	for _, dir := range []string{w.StateDir, w.Dir} {
		prefix := w.stagePrefix(dir)
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("looking for leftovers: %w", err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if !strings.HasPrefix(path, prefix) || !e.IsDir() {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("removing staged files: %w", err)
			}
		}
	}
	return nil
}
