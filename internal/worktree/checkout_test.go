package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/tree"
)

// TestCheckout deploys one commit of a history after the other, and holds the
// web root against the one that git checkout -f makes.
func TestCheckout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		seed    uint64
		commits int
		verify  bool
		mode    os.FileMode // of the web root
	}{
		{"state directory", 1, 93, false, 0o755},
		{"verify", 2, 31, true, 0o755},
		{"web root", 3, 31, false, 0o775 | os.ModeSetgid},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			commits, s := newHistory(t, test.seed, test.commits)
			s.Verify = test.verify
			mkdir(t, s.Dir, test.mode)
			mkdir(t, s.theirs, test.mode)
			s.follow(t, commits, func(stage string) {
				inWebRoot := filepath.Dir(stage) == s.Dir
				if stage != "" && inWebRoot != (test.mode&os.ModeSetgid != 0) {
					t.Errorf("staged in %q", stage)
				}
			})
		})
	}
}

// TestUmask is TestCheckout where files get other permissions than usual. The
// umask is the process's: nothing else runs meanwhile.
func TestUmask(t *testing.T) {
	for _, umask := range []int{0, 0o027} {
		t.Run(fmt.Sprintf("%03o", umask), func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(umask))
			commits, s := newHistory(t, 4, 20)
			s.Verify = true
			s.follow(t, commits, func(string) {})
		})
	}
}

// newHistory makes a history, and a site for it. A long one has every kind of
// change.
func newHistory(t *testing.T, seed uint64, n int) (commits []string, s *site) {
	t.Helper()
	history, done := gittest.History(seed, n)
	for _, kind := range gittest.Kinds() {
		if done[kind] == 0 && n >= 200 {
			t.Errorf("no commit of the history is of the kind %q", kind)
		}
	}
	origin := gittest.Bare(t)
	return gittest.Commits(t, origin, history...), newSite(t, origin)
}

// follow deploys the commits in turn. Now and then git itself does it, as on a
// server that had a bash script before.
func (s *site) follow(t *testing.T, commits []string, staged func(stage string)) {
	t.Helper()
	trees := gittest.TreesOf(t, s.Repo.Dir, commits)
	empty := tree.HashObject("tree", nil, s.Repo.HashSize()).String()
	known := Known{}
	for i, commit := range commits {
		checkout(t, s.theirRepo, s.theirs, commit)
		if i%13 == 12 {
			checkout(t, s.Repo.Dir, s.Dir, commit)
		} else {
			_, st := s.stageFrom(t, trees[i], known)
			stage := ""
			if len(st.Record.Stages) > 0 {
				stage = st.worktree.stagePath(st.Record.Stages[0])
			}
			staged(stage)
			known = s.finish(t, st)
		}
		s.same(t)
		s.agrees(t, commit, false)
		if i%10 == 0 || i == len(commits)-1 {
			s.lists(t, commit)
		}
		want := oid(t, trees[i])
		if trees[i] == empty && known.Tree != want { // by git, or never: the index does not tell
			want = git.OID{}
		}
		if held, err := s.HeldTree(known); err != nil || held != want {
			t.Fatalf("held tree %v, %v, want %s", held, err, want)
		}
		if t.Failed() {
			t.Fatalf("at commit %d", i)
		}
	}
}

// TestOwnHistory deploys this repository's own commits, there and back.
func TestOwnHistory(t *testing.T) {
	t.Parallel()
	origin, commits := ownHistory(t)
	s := newSite(t, origin)
	s.follow(t, append(commits, commits[0]), func(string) {})
}

// ownHistory is the last commits of the checkout that holds this test; another
// made-up history where there is none.
func ownHistory(t *testing.T) (origin string, commits []string) {
	t.Helper()
	const last = 40
	if top, err := gittest.Try(".", nil, "", "rev-parse", "--show-toplevel"); err == nil {
		out, err := gittest.Try(strings.TrimSpace(top), nil, "", "log", "--first-parent", "--reverse",
			fmt.Sprintf("--max-count=%d", last), "--format=%H")
		clone := filepath.Join(gittest.Dir(t), "own.git")
		if err == nil {
			_, err = gittest.Try("/", nil, "", "clone", "-q", "--bare", strings.TrimSpace(top), clone)
		}
		if commits := strings.Fields(out); err == nil && len(commits) > 0 {
			return clone, commits
		}
	}
	history, _ := gittest.History(99, last)
	origin = gittest.Bare(t)
	return origin, gittest.Commits(t, origin, history...)
}
