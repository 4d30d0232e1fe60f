package worktree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// A site is a web root of ours beside one that git itself keeps, each with a
// repository of its own, clones of one origin.
type site struct {
	*Worktree
	theirs    string // the web root that git checks out into
	theirRepo string
}

func newSite(t *testing.T, origin string) *site {
	t.Helper()
	dir := gittest.Dir(t)
	s := &site{theirs: filepath.Join(dir, "theirs"), theirRepo: gittest.Clone(t, origin)}
	s.Worktree = newWorktree(t, gittest.Clone(t, origin), filepath.Join(dir, "ours"))
	mkdir(t, s.theirs, 0o755)
	return s
}

// newWorktree makes an empty web root at dir, and the state directory.
func newWorktree(t *testing.T, repoDir, dir string) *Worktree {
	t.Helper()
	repo, err := git.Open(repoDir, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	w := &Worktree{Repo: repo, StateDir: filepath.Join(repo.Dir, "bluegreen"), Dir: dir,
		Symlinks: "any", MaxFiles: 1e6, MaxBytes: 1e10}
	mkdir(t, w.StateDir, 0o700)
	mkdir(t, dir, 0o755)
	return w
}

func mkdir(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(path, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func oid(t testing.TB, s string) git.OID {
	t.Helper()
	o, err := git.ParseOID(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// stage plans and stages a tree.
func (w *Worktree) stage(t *testing.T, tree string, known *git.OID) (*Plan, *Staged) {
	t.Helper()
	return w.stageFrom(t, tree, asKnown(known))
}

func (w *Worktree) stageFrom(t *testing.T, tree string, known Known) (*Plan, *Staged) {
	t.Helper()
	plan, err := w.Plan(t.Context(), oid(t, tree), known)
	if err != nil {
		t.Fatalf("planning: %v", err)
	}
	staged, err := w.Stage(t.Context(), plan, "test", nil)
	if err != nil {
		t.Fatalf("staging: %v", err)
	}
	return plan, staged
}

// deploy brings the web root to a tree, for good.
func (w *Worktree) deploy(t *testing.T, tree string, known *git.OID) *Plan {
	t.Helper()
	plan, staged := w.stage(t, tree, known)
	w.finish(t, staged)
	return plan
}

// finish activates what is staged, for good. It returns what the records say
// from then on.
func (w *Worktree) finish(t *testing.T, staged *Staged) Known {
	t.Helper()
	if err := staged.Activate(); err != nil {
		t.Fatalf("activating: %v", err)
	}
	mark, err := staged.PrepareIndex()
	if err != nil {
		t.Fatalf("committing: %v", err)
	}
	if warning, err := staged.SwitchIndex(); err != nil || warning != "" {
		t.Fatalf("committing: %q, %v", warning, err)
	}
	if err := staged.Discard(); err != nil {
		t.Fatalf("discarding: %v", err)
	}
	return Known{Deployed: true, Tree: staged.Record.Tree, Index: mark}
}

// checkout is what the web root is held against.
func checkout(t *testing.T, repo, dir, commit string) {
	t.Helper()
	gittest.Git(t, "/", "--git-dir="+repo, "--work-tree="+dir, "checkout", "-q", "-f", "--detach", commit)
}

// agrees fails unless git, asked about the web root, finds that it holds the
// commit: the index says so, and what it remembers of the files is true. Where
// there are no untracked files, git must find nothing else there either.
func (s *site) agrees(t *testing.T, commit string, untracked bool) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Repo.Dir, "HEAD"), []byte(commit+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	question := []string{"status", "--porcelain"}
	if untracked {
		question = []string{"diff-index", commit} // of the files' inodes and the index
	}
	if answer := s.git(t, question...); answer != "" {
		t.Fatalf("git %s: %s", question[0], answer)
	}
}

// git asks git about the web root.
func (s *site) git(t *testing.T, args ...string) string {
	t.Helper()
	return gittest.Run(t, "/", []string{"GIT_OPTIONAL_LOCKS=0"}, "",
		append([]string{"--git-dir=" + s.Repo.Dir, "--work-tree=" + s.Dir}, args...)...)
}

// lists fails unless the index lists what the commit does.
func (s *site) lists(t *testing.T, commit string) {
	t.Helper()
	var committed strings.Builder
	for _, line := range strings.Split(s.git(t, "ls-tree", "-r", "-z", commit), "\x00") {
		if line != "" {
			fields := strings.SplitN(line, " ", 3) // mode, type, "oid TAB path"
			name, path, _ := strings.Cut(fields[2], "\t")
			committed.WriteString(fields[0] + " " + name + " 0\t" + path + "\x00")
		}
	}
	if indexed := s.git(t, "ls-files", "-s", "-z"); indexed != committed.String() {
		t.Fatalf("git ls-files -s: %q\ngit ls-tree -r: %q", indexed, committed.String())
	}
}

// same fails unless both web roots hold the same.
func (s *site) same(t *testing.T) {
	t.Helper()
	if diff := gittest.Snap(t, s.theirs, false).Diff(gittest.Snap(t, s.Dir, false)); diff != "" {
		t.Fatalf("our web root is not what git checkout -f made:\n%s", diff)
	}
}

func listing(t *testing.T, dirs ...string) gittest.Snapshot {
	t.Helper()
	all := gittest.Snapshot{}
	for _, dir := range dirs {
		for path, what := range gittest.Snap(t, dir, true) {
			all[filepath.Join(dir, path)] = what
		}
	}
	return all
}

func unchanged(t *testing.T, was gittest.Snapshot, dirs ...string) {
	t.Helper()
	if diff := was.Diff(listing(t, dirs...)); diff != "" {
		t.Fatalf("it changed:\n%s", diff)
	}
}

// asKnown is what records would say: nothing, that the web root was never
// deployed to, or the tree that it holds.
func asKnown(tree *git.OID) Known {
	switch {
	case tree == nil:
		return Known{}
	case tree.IsZero():
		return Known{Deployed: true, Elsewhere: true}
	}
	return Known{Deployed: true, Tree: *tree}
}

func commit(s *Staged) (warning string, err error) {
	if _, err := s.PrepareIndex(); err != nil {
		return "", err
	}
	return s.SwitchIndex()
}
