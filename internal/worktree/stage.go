package worktree

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
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
	// heirs maps a slot to what it inherits, where that is not what the stage
	// directory gives.
	heirs map[string]inheritance
}

// Stage writes what p changes beside the web root and makes it durable, with
// everything else on its filesystem. progress, which may be nil, is told how
// many files are done, from several goroutines. When Stage fails nothing is
// left behind; when the process dies, CleanUp removes what it wrote.
func (w *Worktree) Stage(ctx context.Context, p *Plan, id string, progress func(done int)) (*Staged, error) {
	s := &Staged{worktree: w, plan: p, singles: map[int]int{}, heirs: map[string]inheritance{}, Record: Record{Directory: Path(w.Dir), Tree: p.Tree}}
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

// stagePrefix begins the names of stage directories in the repository.
const stagePrefix = "stage-"

// stageNote names the stage directory in the web root, if there is one: CleanUp
// must know it from a directory of the site's.
const stageNote = "stage"

// makeStage makes the stage directory, mode 0700: in the repository where a
// rename into the web root is possible from there, else in the web root.
func (w *Worktree) makeStage(web *root, id string) (string, error) {
	stage := filepath.Join(w.StateDir, stagePrefix+id)
	if !w.stageInState(web) {
		stage = filepath.Join(w.Dir, ".bluegreen-"+id)
		err := durable.WriteFile(filepath.Join(w.StateDir, stageNote), 0o600, func(out io.Writer) error {
			_, err := io.WriteString(out, stage)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if err := os.Mkdir(stage, 0o700); err != nil {
		os.Remove(filepath.Join(w.StateDir, stageNote)) // it is not our directory
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

// Discard removes what was staged, or what the web root held before.
func (s *Staged) Discard() error { return Discard(s.Record) }

// Discard removes the stage directory of a record that has been activated for
// good, or undone.
func Discard(r Record) error {
	if r.Stage == "" {
		return nil
	}
	return removeStage(string(r.Stage))
}

// CleanUp removes the stage directories of deployments that died before they
// touched the web root. The caller holds the lock and has recovered.
func (w *Worktree) CleanUp() error {
	note := filepath.Join(w.StateDir, stageNote)
	if stage, err := os.ReadFile(note); err == nil {
		if err := removeStage(string(stage)); err != nil {
			return err
		}
		if err := durable.Remove(note); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(w.StateDir)
	if err != nil {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), stagePrefix) {
			continue
		}
		if err := removeStage(filepath.Join(w.StateDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeStage removes a stage directory with whatever it holds: directories
// that came from the web root may forbid it.
func removeStage(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	filepath.WalkDir(path, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(path, 0o700)
		}
		return nil
	})
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("removing staged files: %w", err)
	}
	return nil
}
