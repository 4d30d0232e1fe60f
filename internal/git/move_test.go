package git

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"bluegreen/internal/gittest"
)

// TestMoveAlone: a branch is moved without git where git would do no more than
// we do, and nothing is done where it would.
func TestMoveAlone(t *testing.T) {
	t.Parallel()
	const master = "refs/heads/master"
	configure := func(key, value string) func(*testing.T, string) {
		return func(t *testing.T, repo string) { gittest.Git(t, repo, "config", key, value) }
	}
	put := func(path string) func(*testing.T, string) {
		return func(t *testing.T, repo string) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(repo, path)), 0o777); err != nil {
				t.Fatal(err)
			}
			appendTo(t, filepath.Join(repo, path), "")
		}
	}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, repo string)
		ref     string // "" for master
		alone   bool
	}{
		"loose":            {nil, "", true},
		"packed":           {func(t *testing.T, repo string) { gittest.Git(t, repo, "pack-refs", "--all") }, "", true},
		"packed and loose": {func(t *testing.T, repo string) { gittest.Git(t, repo, "pack-refs", "--all", "--no-prune") }, "", true},
		"no logs":          {configure("core.logAllRefUpdates", "false"), "", true},
		"deep":             {func(t *testing.T, repo string) { gittest.Git(t, repo, "branch", "a/b", "master") }, "refs/heads/a/b", true},
		"logs":             {configure("core.logAllRefUpdates", "true"), "", false},
		"logs of all":      {configure("core.logAllRefUpdates", "always"), "", false},
		"a log":            {put("logs/refs/heads/master"), "", false},
		"a log of HEAD":    {put("logs/HEAD"), "", false},
		"shared":           {configure("core.sharedRepository", "group"), "", false},
		"hook":             {put("hooks/reference-transaction"), "", false},
		"hook elsewhere": {func(t *testing.T, repo string) {
			put("h/reference-transaction")(t, repo)
			configure("core.hooksPath", "h")(t, repo)
		}, "", false},
		"hooks elsewhere": {func(t *testing.T, repo string) {
			put("hooks/reference-transaction")(t, repo)
			configure("core.hooksPath", "h")(t, repo)
		}, "", true},
		"worktrees":            {put("worktrees/a/HEAD"), "", false},
		"locked":               {put("refs/heads/master.lock"), "", false},
		"HEAD locked":          {put("HEAD.lock"), "", false},
		"symbolic":             {func(t *testing.T, repo string) { gittest.Git(t, repo, "symbolic-ref", "refs/heads/s", master) }, "refs/heads/s", false},
		"tag":                  {func(t *testing.T, repo string) { gittest.Git(t, repo, "tag", "t", "master") }, "refs/tags/t", false},
		"HEAD":                 {nil, "HEAD", false},
		"not there":            {nil, "refs/heads/none", false},
		"not clean":            {nil, "refs/heads/../heads/master", false},
		"odd configuration":    {configure("a.b", "x;y"), "", true},
		"reference storage":    {func(t *testing.T, repo string) { configure("extensions.refStorage", "reftable")(t, repo) }, "", false},
		"a directory's place":  {func(t *testing.T, repo string) { packed(t, repo); put("refs/heads/master/x/y")(t, repo) }, "", false},
		"an empty directory's": {func(t *testing.T, repo string) { packed(t, repo); mkdir(t, repo, "refs/heads/master/x") }, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := gittest.Bare(t)
			commits := gittest.Commits(t, repo, gittest.Files("a", "x"), gittest.Files("a", "y"))
			old, tip := parse(t, commits[0]), parse(t, commits[1])
			if test.prepare != nil {
				test.prepare(t, repo)
			}
			ref := test.ref
			if ref == "" {
				ref = master
			}
			before := gittest.Snap(t, repo, false)
			err := open(t, repo).moveAlone(t.Context(), RefUpdate{ref, tip, old})
			if (err == nil) != test.alone {
				t.Fatalf("moved alone: %v", err)
			}
			if !test.alone {
				if diff := before.Diff(gittest.Snap(t, repo, false)); diff != "" {
					t.Errorf("it changed:\n%s", diff)
				}
				return
			}
			if at := strings.TrimSpace(gittest.Git(t, repo, "rev-parse", ref)); at != old.String() {
				t.Errorf("it is at %s", at)
			}
			gittest.Git(t, repo, "update-ref", ref, tip.String(), old.String()) // no lock is left
		})
	}
}

func packed(t *testing.T, repo string) { gittest.Git(t, repo, "pack-refs", "--all") }

func mkdir(t *testing.T, repo, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(repo, path), 0o777); err != nil {
		t.Fatal(err)
	}
}

// TestMoveTogether: of several who move a branch from where it is, one does,
// and what one has moved stays moved while refs are packed.
func TestMoveTogether(t *testing.T) {
	t.Parallel()
	const rounds = 40
	repo := gittest.Bare(t)
	var trees []gittest.Tree
	for i := range rounds + 1 {
		trees = append(trees, gittest.Files("a", strings.Repeat("x", i+1)))
	}
	commits := gittest.Commits(t, repo, trees...)
	gittest.Git(t, repo, "update-ref", "refs/heads/master", commits[0])
	r := open(t, repo)
	done := make(chan struct{})
	var packing sync.WaitGroup
	packing.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				gittest.Try(repo, nil, "", "pack-refs", "--all")
			}
		}
	})
	var alone atomic.Int32
	for i := range rounds {
		u := RefUpdate{"refs/heads/master", parse(t, commits[i]), parse(t, commits[i+1])}
		var moved, byGit atomic.Int32
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if r.moveAlone(t.Context(), u) == nil {
					moved.Add(1)
					alone.Add(1)
				}
			})
		}
		wg.Go(func() {
			if _, err := gittest.Try(repo, nil, "", "update-ref", u.Name, u.New.String(), u.Old.String()); err == nil {
				byGit.Add(1)
			}
		})
		wg.Wait()
		// Git's may succeed beside ours: it goes by packed refs that it has read
		// before, when they were written twice in a second. So do two of git's.
		if moved.Load() > 1 {
			t.Fatalf("round %d: %d have moved it", i, moved.Load())
		}
		if moved.Load()+byGit.Load() == 0 { // the locks of others were in the way
			if err := r.UpdateRefs(t.Context(), "test", u); err != nil {
				t.Fatal(err)
			}
		}
		if at, err := r.Ref(t.Context(), u.Name); err != nil || at != u.New {
			t.Fatalf("round %d: it is at %s, %v", i, at, err)
		}
		if at := strings.TrimSpace(gittest.Git(t, repo, "rev-parse", "master")); at != u.New.String() {
			t.Fatalf("round %d: to git it is at %s", i, at)
		}
	}
	close(done)
	packing.Wait()
	if alone.Load() == 0 {
		t.Error("git has moved it each time")
	}
}
