package release

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// A differentialRun is a way to have releases.
type differentialRun struct {
	keep         int
	verify       bool
	subdirectory string
	shared       []string
}

var differentialRuns = []differentialRun{
	{keep: 2, verify: true},
	{keep: 2, shared: []string{"uploads"}},
	{keep: 3, verify: true},
	{keep: 3},
	{keep: 3, verify: true, subdirectory: gittest.Subdirectory},
}

// TestDifferential deploys made-up histories with attributes as whole releases,
// there and back, while settings change and somebody is at the releases. What is
// served is held against what the server's own git writes into an empty
// directory, and against what browsers remember.
func TestDifferential(t *testing.T) {
	t.Parallel()
	for i, run := range differentialRuns {
		t.Run(fmt.Sprintf("%d, verify %t, %s", run.keep, run.verify, run.subdirectory), func(t *testing.T) {
			t.Parallel()
			run.differ(t, differentialSeed+uint64(i), 10)
		})
	}
}

const differentialSeed = 40

// FuzzDifferential is TestDifferential with histories of any seed.
func FuzzDifferential(f *testing.F) {
	f.Fuzz(func(t *testing.T, seed uint64, run uint8) {
		differentialRuns[int(run)%len(differentialRuns)].differ(t, seed, 8)
	})
}

func (run differentialRun) differ(t *testing.T, seed uint64, n int) {
	t.Helper()
	history, _ := gittest.AttributeHistory(seed, n)
	if run.subdirectory != "" {
		history = gittest.Below(history)
	}
	origin := gittest.Bare(t)
	commits := gittest.Commits(t, origin, history...)
	trees := gittest.TreesOf(t, origin, commits)
	s := newSite(t, origin)
	environ := append(gittest.Environ(), "XDG_CONFIG_HOME="+filepath.Join(gittest.Dir(t), "xdg"))
	for pair := range slices.Chunk(gittest.Filters(), 2) {
		gittest.Git(t, s.Site.Repo.Dir, "config", pair[0], pair[1])
	}
	var err error
	s.Site.Repo, err = git.Open(s.Site.Repo.Dir, environ)
	s.must(err)
	s.Keep, s.Shared, s.Site.Verify, s.Site.Subdirectory = run.keep, run.shared, run.verify, run.subdirectory
	exclude := filepath.Join(s.Site.Repo.Dir, "info/exclude")
	s.must(os.WriteFile(exclude, []byte(strings.Join(run.shared, "\n")), 0o644))

	b := browser{since: map[string]since{}, cached: map[validator]string{}, deployed: map[string]int{}}
	chance := rand.New(rand.NewPCG(seed, 1))
	at, before := 0, 0
	for i := range 3 * len(commits) / 2 {
		done, last := "", at
		switch chance.IntN(6) {
		case 0: // the same again
		case 1, 2: // back to where it was
			at = before
		case 3:
			at = max(0, at-chance.IntN(3))
		default:
			at = min(i*2/3, len(commits)-1)
		}
		if at != last {
			before = last
		}
		if i > 0 && chance.IntN(4) == 0 {
			done = gittest.ChangeSettings(t, s.Site.Repo.Dir, environ, chance)
		}
		if i > 0 && chance.IntN(3) > 0 {
			what, live := s.drift(chance, parse(t, trees[at]))
			if done += " " + what; live != "" {
				delete(b.since, live) // whatever is served there next is something else
			}
		}
		rel := s.deploy(parse(t, trees[at]), "", nil)
		theirs := filepath.Join(gittest.Dir(t), "fresh")
		gittest.FreshCheckout(t, s.Site.Repo.Dir, environ, theirs, commits[at])
		served := gittest.Snap(t, rel.Worktree.Dir, false)
		want := gittest.Snap(t, filepath.Join(theirs, run.subdirectory), false)
		for _, path := range run.shared {
			want[path] = "L--------- 0777 -> ../shared/" + path
		}
		if diff := want.Diff(served); diff != "" {
			t.Errorf("release %s is not what git checkout -f makes:\n%s", rel.Name, diff)
		}
		if to, err := filepath.EvalSymlinks(s.Link); err != nil || to != rel.Worktree.Dir {
			t.Errorf("the web root leads to %q, %v, not to release %s", to, err, rel.Name)
		}
		if run.subdirectory == "" {
			if said := gittest.Status(t, s.Site.Repo.Dir, environ, s.Link); said != "" {
				t.Errorf("git status --porcelain: %s", said)
			}
		}
		b.look(t, rel, served)
		if t.Failed() {
			t.Fatalf("at deployment %d, of commit %d, seed %d, after %q", i, at, seed, done)
		}
		s.must(os.RemoveAll(theirs))
	}
}

// drift changes a file, adds or removes one, as people do: in the release that
// will be brought to the tree of a commit, or in the live one. It says what it has
// done, and to which file of the live release.
func (s *site) drift(chance *rand.Rand, root git.OID) (done, served string) {
	s.Helper()
	live, err := s.Live()
	s.must(err)
	rel, err := s.Choose(s.source(root).Tree, "")
	s.must(err)
	if chance.IntN(4) == 0 {
		rel = live
	}
	dir := rel.Worktree.Dir
	if !exists(dir) {
		return "", ""
	}
	var files []string
	s.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	}))
	if len(files) == 0 {
		return "", ""
	}
	file := files[chance.IntN(len(files))]
	kind := max(0, chance.IntN(8)-2)
	switch {
	case kind == 0 && rel.Name != live.Name: // in the live one, what git does not track stays
		file = filepath.Join(filepath.Dir(file), "stray")
		s.must(os.WriteFile(file, nil, 0o644))
	case kind <= 1 || !s.Site.Verify: // which looks at names alone
		kind = 1
		s.must(os.Remove(file))
	case kind == 2: // of the size and the time that it had
		st, err := os.Stat(file)
		s.must(err)
		s.must(os.WriteFile(file, []byte(strings.Repeat("~", int(st.Size()))), 0))
		s.must(os.Chtimes(file, time.Time{}, st.ModTime()))
	case kind == 3:
		s.must(os.Remove(file))
		s.must(os.Symlink("elsewhere", file))
	case kind == 4:
		s.must(os.WriteFile(file, []byte("another size"), 0))
	default:
		s.must(os.Chmod(file, 0o711))
	}
	if rel.Name == live.Name {
		served = strings.TrimPrefix(file, dir+"/")
	}
	return fmt.Sprintf("drift %d of %s", kind, file), served
}

// A browser remembers the files that it was served.
type browser struct {
	since map[string]since
	// cached is what a file held that had an ETag.
	cached map[validator]string
	// deployed is when a release was the live one last.
	deployed map[string]int
	now      int
}

// since is from when on a file was served as it is, and when it was written.
type since struct {
	what string
	at   int
	time time.Time
}

// A validator is what an ETag is made of.
type validator struct {
	path string
	size int64
	time time.Time
}

// look fails where a file that has not changed looks as if it had, or one that
// has changed as if it had not. Where it was something else in between, an old
// release may have it from before that.
func (b *browser) look(t *testing.T, rel *Release, served gittest.Snapshot) {
	t.Helper()
	b.now++
	last := b.deployed[rel.Name]
	b.deployed[rel.Name] = b.now
	next := map[string]since{}
	for path, what := range served {
		st, err := os.Lstat(filepath.Join(rel.Worktree.Dir, path))
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		is := since{what, b.now, st.ModTime()}
		if was, there := b.since[path]; there && was.what == what {
			is.at = was.at
			switch {
			case was.time.Equal(is.time):
			case last >= was.at || last == 0:
				t.Errorf("%q has not changed, and is of %s in release %s, of %s before", path, is.time, rel.Name, was.time)
			default:
				is.at = b.now
			}
		}
		next[path] = is
		tag := validator{path, st.Size(), is.time.UTC()}
		if was, there := b.cached[tag]; there && was != what {
			t.Errorf("%q has changed, and is of %s as before: %s, then %s", path, is.time, was, what)
		}
		b.cached[tag] = what
	}
	b.since = next
}
