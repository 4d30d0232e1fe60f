package worktree

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/index"
)

// raw writes a tree by hand: mode, name, object, mode, name, object.
func raw(t *testing.T, repo string, entries ...string) string {
	t.Helper()
	var data strings.Builder
	for i := 0; i < len(entries); i += 3 {
		oid, err := hex.DecodeString(entries[i+2])
		must(t, err)
		data.WriteString(entries[i] + " " + entries[i+1] + "\x00" + string(oid))
	}
	return gittest.Object(t, repo, "tree", data.String())
}

// TestRefused holds trees that must not be deployed. Nothing at all is
// written.
func TestRefused(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	base := gittest.TreesOf(t, repo, gittest.Commits(t, repo, gittest.Files("old", "old\n", "d/old", "old\n")))[0]
	blob := gittest.Object(t, repo, "blob", "0123456789")
	link := func(target string) string { return gittest.Object(t, repo, "blob", target) }
	missing := strings.Repeat("1", 40)
	bomb := raw(t, repo, "100644", "f", blob)
	for range 9 {
		var entries []string
		for _, name := range strings.Split("0123456789", "") {
			entries = append(entries, "40000", name, bomb)
		}
		bomb = raw(t, repo, entries...)
	}
	big := gittest.Object(t, repo, "blob", strings.Repeat("x", 2000))

	tests := []struct {
		name, tree string
		set        func(*Worktree)
		want       string // of the error
	}{
		{"files", raw(t, repo, "100644", "a", blob, "100644", "b", blob, "100644", "c", blob, "100644", "d", blob), nil, "max_files = 3"},
		{"bytes", raw(t, repo, "100644", "a", big), nil, "max_bytes = 1000"},
		{"bytes with those that stay", raw(t, repo, "100644", "a", link(strings.Repeat("x", 995)), "100644", "old", oldBlob(t, repo)),
			func(w *Worktree) { w.MaxBytes = 998 }, "max_bytes = 998"},
		{"bomb", bomb, func(w *Worktree) { w.MaxFiles = 1e6 }, "max_files = 1000000"},
		{"name", raw(t, repo, "100644", "..", blob), nil, "refusing the tree"},
		{"nested name", raw(t, repo, "40000", "s", raw(t, repo, "100644", ".git", blob)), nil, `directory "s/"`},
		{"mode", raw(t, repo, "100600", "a", blob), nil, "refusing the tree"},
		{"truncated tree", gittest.Object(t, repo, "tree", "100644 a\x00123"), nil, "refusing the tree"},
		{"blob that is not there", raw(t, repo, "100644", "a", missing), nil, missing},
		{"tree that is not there", raw(t, repo, "40000", "a", missing), nil, missing},
		{"blob for a tree", raw(t, repo, "40000", "a", blob), nil, "blob"},
		{"tree for a blob", raw(t, repo, "100644", "a", base), nil, "tree"},
		{"root is not there", missing, nil, missing},
		{"root is a blob", blob, nil, "blob"},
		{"absolute symlink", raw(t, repo, "120000", "a", link("/etc/passwd")), nil, `"/etc/passwd"`},
		{"symlink out", raw(t, repo, "120000", "a", link("../x")), nil, `"../x"`},
		{"symlink out by another", raw(t, repo, "120000", "a", link("b/../../x"), "40000", "d", raw(t, repo, "120000", "l", link("../a"))), nil, "a"},
		{"symlink to itself", raw(t, repo, "120000", "a", link("a")), nil, "circle"},
		{"empty symlink", raw(t, repo, "120000", "a", link("")), nil, "no target"},
		{"long symlink", raw(t, repo, "120000", "a", link(strings.Repeat("x/", 2100))), nil, "4095"},
		{"long symlink, with any", raw(t, repo, "120000", "a", link(strings.Repeat("x/", 2048))), func(w *Worktree) { w.Symlinks, w.MaxBytes = "any", 1e6 },
			`symlink "a" is longer than the 4095 bytes that the kernel takes`},
		{"any symlink", raw(t, repo, "120000", "a", link("old"), "100644", "old", blob), func(w *Worktree) { w.Symlinks = "none" }, "symlinks = \"none\""},
	}
	for _, verify := range []bool{false, true} {
		w := newWorktree(t, gittest.Clone(t, repo), filepath.Join(gittest.Dir(t), "web"))
		alternates := filepath.Join(w.Repo.Dir, "objects/info/alternates") // what no ref leads to is not cloned
		write(t, alternates, filepath.Join(repo, "objects")+"\n")
		w.Verify, w.Symlinks = verify, "inside"
		w.deploy(t, base, nil)
		was := listing(t, w.Dir, w.StateDir)
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				w := *w
				w.MaxFiles, w.MaxBytes = 3, 1000
				if test.set != nil {
					test.set(&w)
				}
				plan, err := w.Plan(t.Context(), oid(t, test.tree), Known{})
				if err == nil { // what Plan does not read, Stage does
					_, err = w.Stage(t.Context(), plan, "test", nil)
				}
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q in it", err, test.want)
				}
				unchanged(t, was, w.Dir, w.StateDir)
			})
		}
	}
}

func oldBlob(t *testing.T, repo string) string {
	t.Helper()
	return strings.TrimSpace(gittest.Git(t, repo, "rev-parse", "master:old"))
}

// TestAllowed holds what is just within the limits.
func TestAllowed(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	tree := gittest.Tree{"a": {Mode: gittest.File, Data: strings.Repeat("x", 100)}, "d/b": {Mode: gittest.File, Data: strings.Repeat("y", 50)},
		"d/up": {Mode: gittest.Symlink, Data: "../a"}, "d/e/here": {Mode: gittest.Symlink, Data: "."},
		"later": {Mode: gittest.Symlink, Data: "not/yet/there"}}
	root := gittest.TreesOf(t, repo, gittest.Commits(t, repo, tree))[0]
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.Symlinks, w.MaxFiles, w.MaxBytes = "inside", 5, 100+50+4+1+13
	if plan := w.deploy(t, root, nil); plan.Bytes != w.MaxBytes || len(plan.Writes) != 5 || plan.Repairs != 0 {
		t.Errorf("%d bytes, %d writes, %d repairs", plan.Bytes, len(plan.Writes), plan.Repairs)
	}
	w.deploy(t, root, nil)
	for name, tighten := range map[string]func(*Worktree){
		"files": func(w *Worktree) { w.MaxFiles-- }, "bytes": func(w *Worktree) { w.MaxBytes-- },
	} {
		w := *w
		tighten(&w)
		if _, err := w.Plan(t.Context(), oid(t, root), Known{Deployed: true, Elsewhere: true}); err == nil {
			t.Errorf("one less in %s is enough", name)
		}
	}
}

// TestBytesOfRacyFiles: a file that may have changed unseen counts like any
// other against max_bytes.
func TestBytesOfRacyFiles(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	text := strings.Repeat("x", 600)
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, gittest.Files("a", text), gittest.Files("a", text, "b", text+"y")))
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	must(t, os.Chtimes(w.Index(), epoch, epoch))
	w.MaxBytes = 1000
	if _, err := w.Plan(t.Context(), oid(t, trees[1]), Known{}); err == nil {
		t.Errorf("1,201 bytes are within max_bytes = 1000")
	}
}

// TestStageFails: what a staging that fails has written is removed, whenever
// it fails, whether it reads one object after the other or all in bulk.
func TestStageFails(t *testing.T) {
	t.Parallel()
	few, many := gittest.Tree{}, gittest.Tree{}
	for i := range 150 {
		path := fmt.Sprintf("%d/%d", i%3, i)
		node := gittest.Node{Mode: gittest.File, Data: strings.Repeat(path, 20_000)} // more than pipes hold
		if many[path] = node; i < 20 {
			few[path] = node
		}
	}
	repo := gittest.Bare(t)
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, few, many))
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	for i, tree := range []gittest.Tree{few, many} {
		was := listing(t, w.Dir, w.StateDir)
		plan, err := w.Plan(t.Context(), oid(t, trees[i]), Known{})
		must(t, err)

		ctx, cancel := context.WithCancel(t.Context())
		_, err = w.Stage(ctx, plan, "cut", func(done int) {
			if done > 10 {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%d files, cut short: %v", len(tree), err)
		}
		unchanged(t, was, w.Dir, w.StateDir)

		var calls atomic.Int64
		staged, err := w.Stage(t.Context(), plan, "whole", func(int) { calls.Add(1) })
		must(t, err)
		if calls.Load() != int64(len(tree)) {
			t.Errorf("progress was told %d times of %d files", calls.Load(), len(tree))
		}
		must(t, staged.Discard())
		unchanged(t, was, w.Dir, w.StateDir)
	}

	plan, err := w.Plan(t.Context(), oid(t, trees[0]), Known{})
	must(t, err)
	write(t, filepath.Join(w.StateDir, "stage-taken/other"), "of another deployment\n")
	was := listing(t, w.Dir, w.StateDir)
	if _, err = w.Stage(t.Context(), plan, "taken", nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("a stage of the same name: %v", err)
	}
	unchanged(t, was, w.Dir, w.StateDir)
}

// TestIndexLock holds what becomes of locks on the index that are left over.
func TestIndexLock(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		lock    func(t *testing.T, path string)
		warning bool
	}{
		"none":    {func(*testing.T, string) {}, false},
		"of git":  {func(t *testing.T, path string) { write(t, path, "DIRC") }, true},
		"of ours": {func(t *testing.T, path string) { must(t, os.Symlink(ourLock, path)) }, false},
		"a link":  {func(t *testing.T, path string) { must(t, os.Symlink("index", path)) }, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := gittest.Bare(t)
			commits := gittest.Commits(t, repo, gittest.Files("a", "x\n"))
			root := gittest.TreesOf(t, repo, commits)[0]
			s := &site{Worktree: newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))}
			lock := s.Index() + ".lock"
			test.lock(t, lock)
			_, staged := s.stage(t, root, nil)
			must(t, staged.Activate())
			warning, err := commit(staged)
			must(t, err)
			must(t, staged.Discard())
			if strings.Contains(warning, lock) != test.warning || (warning != "") != test.warning {
				t.Errorf("warning %q", warning)
			}
			if _, err := os.Lstat(lock); (err == nil) != test.warning {
				t.Errorf("%s: %v", lock, err)
			}
			s.agrees(t, commits[0], false)
			if entries, err := os.ReadDir(s.StateDir); err != nil || len(entries) != 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

// TestCleanUp: what dead deployments of its own have staged goes, nothing else
// in the web root or outside does.
func TestCleanUp(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]os.FileMode{"state directory": 0o755, "web root": 0o755 | os.ModeSetgid} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo, dir := gittest.Bare(t), gittest.Dir(t)
			tree := gittest.TreesOf(t, repo, gittest.Commits(t, repo, gittest.Files("a", "x\n", ".bluegreen-tracked/a", "x\n")))[0]
			w := newWorktree(t, repo, filepath.Join(dir, "web"))
			other := newWorktree(t, gittest.Clone(t, repo), filepath.Join(dir, "web"))
			mkdir(t, w.Dir, mode)
			w.deploy(t, tree, nil)
			write(t, filepath.Join(dir, "outside/kept"), "x\n")
			write(t, filepath.Join(w.Dir, "untracked"), "x\n")
			write(t, filepath.Join(w.Dir, ".bluegreen-file"), "x\n")
			write(t, filepath.Join(w.Dir, ".bluegreen-untracked/a"), "x\n")
			write(t, filepath.Join(w.StateDir, "deployed.json"), "{}\n")
			plan, err := other.Plan(t.Context(), oid(t, tree), Known{})
			must(t, err)
			theirs, err := other.Stage(t.Context(), plan, "theirs", nil)
			must(t, err)
			must(t, w.CleanUp())
			was := listing(t, dir, w.StateDir)

			plan, err = w.Plan(t.Context(), oid(t, tree), Known{Deployed: true, Elsewhere: true})
			must(t, err)
			for _, id := range []string{"first", "second"} { // and died
				staged, err := w.Stage(t.Context(), plan, id, nil)
				must(t, err)
				stage := staged.worktree.stagePath(staged.Record.Stages[0])
				if inWebRoot := filepath.Dir(stage) == w.Dir; inWebRoot != (mode&os.ModeSetgid != 0) {
					t.Errorf("staged in %q", stage)
				}
				must(t, os.Symlink(filepath.Join(dir, "outside"), filepath.Join(stage, "link")))
				write(t, filepath.Join(stage, "sealed/below/f"), "x\n")
				must(t, os.Chmod(filepath.Join(stage, "sealed/below"), 0o500))
				must(t, os.Chmod(filepath.Join(stage, "sealed"), 0))
				must(t, w.CleanUp())
				unchanged(t, was, dir, w.StateDir)
			}
			must(t, w.CleanUp())
			unchanged(t, was, dir, w.StateDir)

			must(t, theirs.Activate())
			must(t, theirs.Discard())
		})
	}
}

// TestCleanUpNotOurs: a stage that could not be made because its name was
// taken is nothing to clean up.
func TestCleanUpNotOurs(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	tree := gittest.TreesOf(t, repo, gittest.Commits(t, repo, gittest.Files("a", "x\n")))[0]
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	mkdir(t, w.Dir, 0o755|os.ModeSetgid)
	write(t, filepath.Join(w.Dir, ".bluegreen-taken/kept"), "x\n")
	plan, err := w.Plan(t.Context(), oid(t, tree), Known{})
	must(t, err)
	was := listing(t, w.Dir, w.StateDir)
	if _, err := w.Stage(t.Context(), plan, "taken", nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("error %v", err)
	}
	unchanged(t, was, w.Dir, w.StateDir)
	must(t, w.CleanUp())
	unchanged(t, was, w.Dir, w.StateDir)
}

// TestKnown holds what is believed of the web root, by the index and by what
// the records say.
func TestKnown(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo,
		gittest.Files("a", "x\n", "gone", "x\n"), gittest.Files("a", "x\n", "b", "y\n")))
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	good := read(t, w.Index())
	first, none := oid(t, trees[0]), git.OID{}
	tests := []struct {
		name    string
		index   string
		known   *git.OID
		held    git.OID
		writes  string
		deletes string
		err     string
	}{
		{name: "index alone", index: good, held: first, writes: "b", deletes: "gone"},
		{name: "both", index: good, known: &first, held: first, writes: "b", deletes: "gone"},
		{name: "another directory", index: good, known: &none, writes: "a b"},
		{name: "damaged", index: good[:len(good)-1], known: &first, held: first, writes: "b", deletes: "gone"},
		{name: "damaged, nothing known", index: good[:len(good)-1], err: "remove it to have every file written anew"},
		{name: "empty file", index: "", err: "remove it to have every file written anew"},
		{name: "split", index: splitIndex(t, repo, trees[0]), known: &first, held: first, writes: "b", deletes: "gone"},
		{name: "split, nothing known", index: splitIndex(t, repo, trees[0]), held: first, writes: "b", deletes: "gone"},
		{name: "unknown, nothing known", index: good[:7] + "\x05" + good[8:], err: "remove it to have every file written anew"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			write(t, w.Index(), test.index)
			for _, verify := range []bool{false, true} {
				w.Verify = verify
				p, err := w.Plan(t.Context(), oid(t, trees[1]), asKnown(test.known))
				if test.err != "" {
					if err == nil || !strings.Contains(err.Error(), test.err) {
						t.Errorf("error %v", err)
					}
					continue
				}
				must(t, err)
				if p.Held != test.held || strings.Join(p.Paths(), " ") != test.writes || strings.Join(p.Deletes, " ") != test.deletes {
					t.Errorf("verify %v: held %s, writes %q, deletes %q", verify, p.Held, p.Paths(), p.Deletes)
				}
			}
		})
	}
	must(t, os.Remove(w.Index()))
	if held, err := w.HeldTree(Known{}); err != nil || !held.IsZero() {
		t.Errorf("without an index: %s, %v", held, err)
	}
}

// splitIndex has git write a split index of a tree.
func splitIndex(t *testing.T, repo, tree string) string {
	t.Helper()
	path := filepath.Join(gittest.Dir(t), "index")
	env := []string{"GIT_INDEX_FILE=" + path, "GIT_DIR=" + repo}
	gittest.Run(t, repo, env, "", "read-tree", tree)
	gittest.Run(t, repo, env, "", "update-index", "--split-index")
	return read(t, path)
}

// TestCommitTree rewrites an index that is lost; nothing has to be written
// again after that.
func TestCommitTree(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	history, _ := gittest.History(51, 8)
	commits := gittest.Commits(t, repo, history...)
	root := gittest.TreesOf(t, repo, commits)[7]
	s := &site{Worktree: newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))}
	s.deploy(t, root, nil)
	must(t, os.Remove(s.Index()))
	objects := s.Repo.Objects(t.Context())
	defer objects.Close()
	must(t, s.ClaimTree(objects, oid(t, root)))
	for _, verify := range []bool{true, false} {
		s.Verify = verify
		if plan := s.deploy(t, root, nil); len(plan.Writes) != 0 || len(plan.Deletes) != 0 {
			t.Errorf("verify %v: writes %q, deletes %q", verify, plan.Paths(), plan.Deletes)
		}
	}
	s.agrees(t, commits[7], false)
}

// TestDrift lists what is not as committed, and what a deployment repairs.
func TestDrift(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	tree := gittest.Tree{"link": {Mode: gittest.Symlink, Data: "a"}, "run": {Mode: gittest.Executable, Data: "x"},
		"sub": {Mode: gittest.Gitlink, Data: strings.Repeat("1", 40)}}
	for _, name := range []string{"a", "changed", "d/deleted", "mode", "private", "touched", "dir", "file", "same"} {
		tree[name] = gittest.Node{Mode: gittest.File, Data: name + "\n"}
	}
	next := maps.Clone(tree)
	next["b"] = gittest.Node{Mode: gittest.File, Data: "new\n"}
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, tree, next))
	root := trees[0]
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.Verify = true
	w.deploy(t, root, nil)
	at := func(name string) string { return filepath.Join(w.Dir, name) }
	if drift, err := w.Drift(t.Context(), Known{}); err != nil || drift == nil || len(drift) != 0 {
		t.Errorf("drift of what was just deployed: %q, %v", drift, err)
	}
	must(t, appendTo(at("changed"), "x"))
	must(t, os.WriteFile(at("same"), []byte("emas\n"), 0o644))
	must(t, os.Remove(at("d/deleted")))
	must(t, os.Chmod(at("mode"), 0o755))
	must(t, os.Chmod(at("private"), 0o604))
	must(t, os.Chmod(at("run"), 0o644))
	must(t, os.Chtimes(at("touched"), epoch, epoch))
	must(t, os.Remove(at("link")))
	must(t, os.Symlink("b", at("link")))
	must(t, replaceByDir(at("dir")))
	must(t, os.Remove(at("file")))
	must(t, os.Symlink("a", at("file")))
	must(t, os.Remove(at("sub")))
	write(t, at("untracked"), "x\n")
	want := []string{"changed", "d/deleted", "dir", "file", "link", "mode", "run", "same", "sub"}
	drift, err := w.Drift(t.Context(), Known{})
	if err != nil || !slices.Equal(drift, want) {
		t.Errorf("drift %q, %v\nwant  %q", drift, err, want)
	}
	want = append(want, "private") // its permissions are git's business on checkout alone
	slices.Sort(want)
	plan := w.deploy(t, root, nil)
	if paths := plan.Paths(); !slices.Equal(paths, want) || plan.Repairs != len(want) {
		t.Errorf("repairs %d: %q\nwant %q", plan.Repairs, paths, want)
	}
	if drift, err := w.Drift(t.Context(), Known{}); err != nil || len(drift) != 0 {
		t.Errorf("drift after the repair: %q, %v", drift, err)
	}
	must(t, appendTo(at("a"), "x"))
	must(t, appendTo(at("same"), "x"))
	plan = w.deploy(t, trees[1], nil)
	if paths := plan.Paths(); !slices.Equal(paths, []string{"a", "b", "same"}) || plan.Repairs != 2 {
		t.Errorf("with a change: repairs %d: %q", plan.Repairs, paths)
	}
}

// TestRacilyClean: a file that was changed at the moment the index was written
// looks as it did to the index. Its content tells, now or, without verify, when
// git looks.
func TestRacilyClean(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	commits := gittest.Commits(t, repo, gittest.Files("a", "x\n", "b", "x\n"), gittest.Files("a", "x\n", "b", "y\n"))
	trees := gittest.TreesOf(t, repo, commits)
	s := &site{Worktree: newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))}
	s.deploy(t, trees[0], nil)
	a := filepath.Join(s.Dir, "a")
	write(t, a, "z\n")
	var st unix.Stat_t
	must(t, unix.Lstat(a, &st))
	x, _, err := index.ReadKnown(s.Index(), repo, 20, index.Mark{})
	must(t, err)
	e := x.Entry(0)
	e.Stat = index.StatOf(&st)
	var out bytes.Buffer
	_, err = x.Write(&out, []index.Entry{e})
	must(t, err)
	must(t, os.WriteFile(s.Index(), out.Bytes(), 0o666))
	changed := time.Unix(st.Mtim.Unix())
	for _, test := range []struct {
		name    string
		written time.Time
		want    []string
	}{
		{"before", changed.Add(-time.Second), []string{"a"}},
		{"at that time", changed, []string{"a"}},
		{"later", changed.Add(time.Second), []string{}},
	} {
		must(t, os.Chtimes(s.Index(), test.written, test.written))
		if drift, err := s.Drift(t.Context(), Known{}); err != nil || !slices.Equal(drift, test.want) {
			t.Errorf("index written %s: drift %q, %v", test.name, drift, err)
		}
	}
	must(t, os.Chtimes(s.Index(), changed, changed))
	s.deploy(t, trees[1], nil)
	if changed := s.git(t, "diff-files", "--name-only"); changed != "a\n" {
		t.Errorf("git finds changed: %q", changed)
	}
	s.Verify = true
	if plan := s.deploy(t, trees[1], nil); !slices.Equal(plan.Paths(), []string{"a"}) {
		t.Errorf("repaired: %q", plan.Paths())
	}
	s.agrees(t, commits[1], false)
}

// TestVerifyOff leaves alone what the commit does not change.
func TestVerifyOff(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, gittest.Files("a", "x\n", "b", "x\n"), gittest.Files("a", "x\n", "b", "y\n")))
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	write(t, filepath.Join(w.Dir, "a"), "by hand\n")
	write(t, filepath.Join(w.Dir, "b"), "by hand\n")
	w.deploy(t, trees[1], nil)
	if a, b := read(t, filepath.Join(w.Dir, "a")), read(t, filepath.Join(w.Dir, "b")); a != "by hand\n" || b != "y\n" {
		t.Errorf("a holds %q, b holds %q", a, b)
	}
	if drift, err := w.Drift(t.Context(), Known{}); err != nil || !slices.Equal(drift, []string{"a"}) {
		t.Errorf("drift %q, %v", drift, err)
	}
}

// TestSetgidDirectory: what comes into a directory of the web root inherits
// from that directory, as with git.
func TestSetgidDirectory(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	commits := gittest.Commits(t, repo, gittest.Files("g/a", "x\n"), gittest.Files("g/a", "y\n", "g/new/b", "y\n"), gittest.Files("a", "x\n"))
	s := newSite(t, repo)
	trees := gittest.TreesOf(t, repo, commits)
	checkout(t, s.theirRepo, s.theirs, commits[0])
	s.deploy(t, trees[0], nil)
	mkdir(t, filepath.Join(s.Dir, "g"), 0o775|os.ModeSetgid)
	mkdir(t, filepath.Join(s.theirs, "g"), 0o775|os.ModeSetgid)
	checkout(t, s.theirRepo, s.theirs, commits[1])
	s.deploy(t, trees[1], nil)
	s.same(t)
	checkout(t, s.theirRepo, s.theirs, commits[2]) // and it goes
	s.deploy(t, trees[2], nil)
	s.same(t)
}

// TestManySetgidDirectories: directories that hand down the same share a
// stage. Each stage is noted durably.
func TestManySetgidDirectories(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	before, after := gittest.Tree{}, gittest.Tree{}
	for i := range 50 {
		path := fmt.Sprintf("%d/f", i)
		before[path] = gittest.Node{Mode: gittest.File, Data: "x\n"}
		after[path] = gittest.Node{Mode: gittest.File, Data: "y\n"}
	}
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, before, after))
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, trees[0], nil)
	for i := range 50 {
		mkdir(t, filepath.Join(w.Dir, fmt.Sprint(i)), 0o775|os.ModeSetgid)
	}
	_, staged := w.stage(t, trees[1], nil)
	if n := len(staged.Record.Stages); n > 2 {
		t.Errorf("%d stages", n)
	}
	w.finish(t, staged)
	if got := read(t, filepath.Join(w.Dir, "49/f")); got != "y\n" {
		t.Errorf("%q", got)
	}
}

func TestSHA256(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(61, 16)
	for _, tree := range history {
		for path, node := range tree {
			if node.Mode == gittest.Gitlink {
				tree[path] = gittest.Node{Mode: node.Mode, Data: node.Data + strings.Repeat("0", 24)}
			}
		}
	}
	repo := gittest.Bare(t, "--object-format=sha256")
	commits := gittest.Commits(t, repo, history...)
	newSite(t, repo).follow(t, commits, func(string) {})
}

func TestCheckDirectory(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	repo := filepath.Join(dir, "repo.git")
	mkdir(t, filepath.Join(repo, "inside"), 0o755)
	mkdir(t, filepath.Join(dir, "web"), 0o755)
	mkdir(t, filepath.Join(dir, "repo.git2"), 0o755)
	write(t, filepath.Join(dir, "file"), "x\n")
	must(t, os.Symlink("web", filepath.Join(dir, "link")))
	must(t, os.Symlink("repo.git/inside", filepath.Join(dir, "crooked")))
	must(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	for name, want := range map[string]string{
		"web": "", "link": "", "repo.git2": "", "missing": "does not exist", "dangling": "does not exist", "file": "is not a directory",
		"file/below": "cannot be used", "repo.git": "must not lie in each other", "repo.git/inside": "must not lie in each other",
		"crooked": "must not lie in each other", ".": "must not lie in each other",
	} {
		err := CheckDirectory(filepath.Join(dir, name), repo)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestIndexOfGit goes on from an index that git left in another state than a
// commit's.
func TestIndexOfGit(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"version 4":       {"update-index", "--index-version=4"},
		"intent to add":   {"add", "-N", "untracked"},
		"added":           {"add", "untracked"},
		"removed":         {"rm", "-q", "--cached", "a"},
		"assumed":         {"update-index", "--assume-unchanged", "a"},
		"untracked cache": {"update-index", "--force-untracked-cache"},
		"empty":           {"read-tree", "--empty"},
	}
	for name, command := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := gittest.Bare(t)
			commits := gittest.Commits(t, repo, gittest.Files("a", "x\n", "b", "x\n"), gittest.Files("a", "y\n", "d/b", "x\n"))
			s := newSite(t, repo)
			s.Verify = true
			for repo, dir := range map[string]string{s.Repo.Dir: s.Dir, s.theirRepo: s.theirs} {
				checkout(t, repo, dir, commits[0])
				write(t, filepath.Join(dir, "untracked"), "mine\n")
				gittest.Git(t, dir, append([]string{"--git-dir=" + repo, "--work-tree=" + dir}, command...)...)
			}
			checkout(t, s.theirRepo, s.theirs, commits[1])
			s.deploy(t, gittest.TreesOf(t, repo, commits)[1], nil)
			s.same(t)
			s.agrees(t, commits[1], true)
		})
	}
}

// TestOwnIndex: the index tells of every file what its inode was.
func TestOwnIndex(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(71, 10)
	repo := gittest.Bare(t)
	root := gittest.TreesOf(t, repo, gittest.Commits(t, repo, history...))[9]
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	w.deploy(t, root, nil)
	x, _, err := index.ReadKnown(w.Index(), repo, 20, index.Mark{})
	must(t, err)
	if x.Len() != len(history[9]) {
		t.Errorf("%d entries of %d", x.Len(), len(history[9]))
	}
	for i := range x.Len() {
		e := x.Entry(i)
		if e.Stat.Ino == 0 && e.Mode != 0o160000 {
			t.Errorf("%q: nothing is known of its inode", e.Path)
		}
		if node := history[9][e.Path]; node.Mode == gittest.File && int(e.Stat.Size) != len(node.Data) {
			t.Errorf("%q: %d bytes, %d were committed", e.Path, e.Stat.Size, len(node.Data))
		}
	}
}
