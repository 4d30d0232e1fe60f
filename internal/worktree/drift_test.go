package worktree

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// A vandal changes web roots behind our back, all of them in the same way.
type vandal struct {
	*rand.Rand
	roots   []string
	outside string // where its symlinks lead
	serial  int
	done    map[string]int
}

func newVandal(t *testing.T, seed uint64, outside string, roots ...string) *vandal {
	t.Helper()
	write(t, filepath.Join(outside, "file"), "outside\n")
	write(t, filepath.Join(outside, "dir/file"), "outside\n")
	return &vandal{Rand: rand.New(rand.NewPCG(seed, seed)), outside: outside, roots: roots, done: map[string]int{}}
}

// damage is one kind of what it does at a path of one web root. It is given
// the mode of what git tracks there, "" where that is nothing.
type damage struct {
	name string
	mode string
	do   func(v *vandal, path string) error
}

// Tracked paths first. The directory of each path is there.
var damages = []damage{
	{"modified", gittest.File, func(v *vandal, path string) error { return appendTo(path, "changed\n") }},
	{"modified in place, same size", gittest.File, func(v *vandal, path string) error {
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 {
			return err
		}
		data[0] ^= 1
		return os.WriteFile(path, data, 0)
	}},
	{"truncated", gittest.File, func(v *vandal, path string) error { return os.Truncate(path, 0) }},
	{"deleted", gittest.File, func(v *vandal, path string) error { return os.Remove(path) }},
	{"executable", gittest.File, func(v *vandal, path string) error { return chmod(path, 0o755) }},
	{"not executable", gittest.Executable, func(v *vandal, path string) error { return chmod(path, 0o644) }},
	{"private", gittest.File, func(v *vandal, path string) error { return chmod(path, 0o600) }},
	{"writable by all", gittest.File, func(v *vandal, path string) error { return chmod(path, 0o666) }},
	{"read only", gittest.Executable, func(v *vandal, path string) error { return chmod(path, 0o555) }},
	{"set uid", gittest.Executable, func(v *vandal, path string) error { return chmod(path, 0o755|os.ModeSetuid) }},
	{"a directory", gittest.File, func(v *vandal, path string) error { return replaceByDir(path) }},
	{"an empty directory", gittest.File, func(v *vandal, path string) error {
		os.Remove(path)
		return os.Mkdir(path, 0o755)
	}},
	{"a symlink to a file", gittest.File, func(v *vandal, path string) error { return v.relink(path, "file") }},
	{"a symlink to a directory", gittest.File, func(v *vandal, path string) error { return v.relink(path, "dir") }},
	{"a dangling symlink", gittest.File, func(v *vandal, path string) error { return v.relink(path, "none") }},
	{"a fifo", gittest.File, func(v *vandal, path string) error {
		os.Remove(path)
		return unix.Mkfifo(path, 0o644)
	}},
	{"linked elsewhere", gittest.File, func(v *vandal, path string) error {
		v.serial++
		if err := os.Link(path, fmt.Sprintf("%s/link-%d", v.outside, v.serial)); err != nil {
			return err
		}
		return nil
	}},
	{"retargeted", gittest.Symlink, func(v *vandal, path string) error { return v.relink(path, "file") }},
	{"a file for a symlink", gittest.Symlink, func(v *vandal, path string) error {
		os.Remove(path)
		return os.WriteFile(path, []byte("changed\n"), 0o644)
	}},
	{"a directory for a symlink", gittest.Symlink, func(v *vandal, path string) error { return replaceByDir(path) }},
	{"a submodule filled", gittest.Gitlink, func(v *vandal, path string) error { return appendTo(filepath.Join(path, "untracked"), "x") }},
	{"a submodule removed", gittest.Gitlink, func(v *vandal, path string) error { return os.RemoveAll(path) }},
	{"a file for a submodule", gittest.Gitlink, func(v *vandal, path string) error {
		os.RemoveAll(path)
		return os.WriteFile(path, []byte("changed\n"), 0o644)
	}},
	{"a directory gone", "dir", func(v *vandal, path string) error { return os.RemoveAll(path) }},
	{"a directory is a symlink", "dir", func(v *vandal, path string) error {
		os.RemoveAll(path)
		return v.relink(path, "dir")
	}},
	{"a directory is a file", "dir", func(v *vandal, path string) error {
		os.RemoveAll(path)
		return os.WriteFile(path, []byte("changed\n"), 0o644)
	}},
	{"an untracked file beside", "dir", func(v *vandal, path string) error { return appendTo(filepath.Join(path, "untracked"), "x") }},
	{"an untracked directory beside", "dir", func(v *vandal, path string) error { return appendTo(filepath.Join(path, "untracked.d/x/y"), "x") }},
	{"an empty directory beside", "dir", func(v *vandal, path string) error { return os.MkdirAll(filepath.Join(path, "empty/empty"), 0o755) }},
	{"an untracked fifo beside", "dir", func(v *vandal, path string) error {
		os.Remove(filepath.Join(path, "fifo"))
		return unix.Mkfifo(filepath.Join(path, "fifo"), 0o600)
	}},
	{"a directory is private", "dir", func(v *vandal, path string) error { return os.Chmod(path, 0o700) }},

	// What the next commit puts where nothing is tracked.
	{"a file in the way", "", func(v *vandal, path string) error { return os.WriteFile(path, []byte("in the way\n"), 0o600) }},
	{"a directory in the way", "", func(v *vandal, path string) error { return replaceByDir(path) }},
	{"a symlink in the way", "", func(v *vandal, path string) error { return v.relink(path, "file") }},
	{"a symlink to a directory in the way", "", func(v *vandal, path string) error { return v.relink(path, "dir") }},
	{"a fifo in the way", "", func(v *vandal, path string) error { return unix.Mkfifo(path, 0o600) }},
	{"an empty directory in the way", "", func(v *vandal, path string) error { return os.Mkdir(path, 0o750) }},
}

func (v *vandal) relink(path, to string) error {
	os.Remove(path)
	return os.Symlink(filepath.Join(v.outside, to), path)
}

func appendTo(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

var epoch = time.Unix(1e9, 0)

// chmod sets an old time too: git compares whole seconds.
func chmod(path string, mode os.FileMode) error {
	if err := os.Chmod(path, mode); err != nil {
		return err
	}
	return os.Chtimes(path, epoch, epoch)
}

func replaceByDir(path string) error {
	os.Remove(path)
	if err := appendTo(filepath.Join(path, "untracked"), "x"); err != nil {
		return err
	}
	return appendTo(filepath.Join(path, "below/untracked"), "y")
}

// strike does n kinds of damage, from one of the commit's paths to the next
// one's.
func (v *vandal) strike(t *testing.T, n int, now, next gittest.Tree) {
	t.Helper()
	for range n {
		d := damages[v.IntN(len(damages))]
		if path := v.victim(d.mode, now, next); path != "" {
			v.hit(t, d, path)
			v.done[d.name]++
			t.Logf("%s: %q", d.name, path) // seen when the test fails
		}
	}
}

// victim finds a path that the damage can be done to.
func (v *vandal) victim(mode string, now, next gittest.Tree) string {
	var found []string
	dirs := directories(now)
	switch mode {
	case "": // files, and directories for them
		for _, paths := range []map[string]bool{names(next), directories(next)} {
			for path := range paths {
				if _, tracked := now[path]; !tracked && !dirs[path] {
					found = append(found, path)
				}
			}
		}
	case "dir":
		found = slices.Collect(maps.Keys(dirs))
	default:
		for path, node := range now {
			if node.Mode == mode {
				found = append(found, path)
			}
		}
	}
	slices.Sort(found)
	for range 10 { // what was damaged before may not be reached
		if len(found) == 0 {
			break
		}
		if path := found[v.IntN(len(found))]; v.reaches(path, mode) {
			return path
		}
	}
	return ""
}

func names(tree gittest.Tree) map[string]bool {
	paths := map[string]bool{}
	for path := range tree {
		paths[path] = true
	}
	return paths
}

// directories lists those that a tree needs.
func directories(tree gittest.Tree) map[string]bool {
	dirs := map[string]bool{}
	for path := range tree {
		for i := len(path) - 1; i > 0; i-- {
			if path[i] == '/' {
				if dirs[path[:i]] {
					break
				}
				dirs[path[:i]] = true
			}
		}
	}
	return dirs
}

// reaches tells whether path can be damaged: real directories lead to it, and
// what the damage expects is there.
func (v *vandal) reaches(path, mode string) bool {
	root := v.roots[0]
	for i := range len(path) {
		if path[i] != '/' {
			continue
		}
		if st, err := os.Lstat(filepath.Join(root, path[:i])); err != nil || !st.IsDir() {
			return false
		}
	}
	st, err := os.Lstat(filepath.Join(root, path))
	switch {
	case mode == "":
		return err != nil
	case err != nil:
		return false
	case mode == "dir" || mode == gittest.Gitlink:
		return st.IsDir()
	case mode == gittest.Symlink:
		return st.Mode()&os.ModeSymlink != 0
	}
	return st.Mode().IsRegular()
}

func (v *vandal) hit(t *testing.T, d damage, path string) {
	t.Helper()
	for _, root := range v.roots {
		if err := d.do(v, filepath.Join(root, path)); err != nil {
			t.Fatalf("%s at %q: %v", d.name, path, err)
		}
	}
}

// complete fails when some kind of damage was never done.
func (v *vandal) complete(t *testing.T) {
	t.Helper()
	for _, d := range damages {
		if v.done[d.name] == 0 {
			t.Errorf("%q was never tried", d.name)
		}
	}
}

// TestDriftCheckout is TestCheckout on web roots that somebody changes all the
// time: what git tracks comes out as git checkout -f makes it, and so does
// what it does not track.
func TestDriftCheckout(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(11, 93)
	origin := gittest.Bare(t)
	commits := gittest.Commits(t, origin, history...)
	s := newSite(t, origin)
	s.Verify = true
	trees := gittest.TreesOf(t, s.Repo.Dir, commits)
	v := newVandal(t, 12, filepath.Join(gittest.Dir(t), "outside"), s.Dir, s.theirs)
	now := gittest.Tree{}
	for i, commit := range commits {
		v.strike(t, 8, now, history[i])
		before := now
		now = history[i]
		outside, modes := gittest.Snap(t, v.outside, true), s.modes(before)
		checkout(t, s.theirRepo, s.theirs, commit)
		s.deploy(t, trees[i], nil)
		if diff := outside.Diff(gittest.Snap(t, v.outside, true)); diff != "" {
			t.Fatalf("commit %d: outside of the web root: %s", i, diff)
		}
		s.prune(before, history[i])
		s.keep(t, modes)
		s.same(t)
		s.agrees(t, commit, true)
		if i%10 == 0 {
			s.lists(t, commit)
			if changed := s.git(t, "diff-files"); changed != "" {
				t.Errorf("git diff-files: %s", changed)
			}
		}
		if t.Failed() {
			t.Fatalf("at commit %d", i)
		}
	}
	v.complete(t)
}

// prune removes from the web root of git's the directories that a commit
// emptied, and we have removed. Git leaves them where a tracked directory in
// them was gone from the disk already.
func (s *site) prune(before, after gittest.Tree) {
	dirs, needed := slices.Sorted(maps.Keys(directories(before))), directories(after)
	for _, dir := range slices.Backward(dirs) {
		if _, err := os.Lstat(filepath.Join(s.Dir, dir)); err != nil && !needed[dir] {
			unix.Rmdir(filepath.Join(s.theirs, dir)) // only when it is empty
		}
	}
}

// modes returns those of the directories that a commit has.
func (s *site) modes(tree gittest.Tree) map[string]os.FileMode {
	modes := map[string]os.FileMode{}
	for dir := range directories(tree) {
		if st, err := os.Lstat(filepath.Join(s.Dir, dir)); err == nil && st.IsDir() {
			modes[dir] = st.Mode()
		}
	}
	return modes
}

// keep gives directories in the web root of git's the modes that they had. We
// leave a directory that is needed before and after alone; git removes it, and
// makes it again, where a commit removes all that was in it and adds others.
func (s *site) keep(t *testing.T, modes map[string]os.FileMode) {
	t.Helper()
	for dir, mode := range modes {
		theirs := filepath.Join(s.theirs, dir)
		if st, err := os.Lstat(filepath.Join(s.Dir, dir)); err != nil || st.Mode() != mode {
			continue
		}
		if st, err := os.Lstat(theirs); err == nil && st.IsDir() {
			must(t, os.Chmod(theirs, mode))
		}
	}
}
