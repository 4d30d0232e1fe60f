package worktree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// newConverting makes a repository with one commit for each tree, and a web
// root that remembers what was deployed.
func newConverting(t *testing.T, trees ...gittest.Tree) (w *Worktree, roots []string, deploy func(*testing.T, git.OID) Known) {
	t.Helper()
	repo := gittest.Bare(t)
	roots = gittest.TreesOf(t, repo, gittest.Commits(t, repo, trees...))
	w = newWorktree(t, repo, filepath.Join(gittest.Dir(t), "www"))
	w.Verify = true
	return w, roots, remembering(w)
}

// holds fails unless the files of the web root hold what is said.
func (w *Worktree) holdsFiles(t *testing.T, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := read(t, filepath.Join(w.Dir, pairs[i])); got != pairs[i+1] {
			t.Errorf("%s holds %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
}

// TestNoProcess holds that a site without conversions needs no further process,
// whatever git is set up for elsewhere.
func TestNoProcess(t *testing.T) {
	t.Parallel()
	system := filepath.Join(gittest.Dir(t), "gitconfig")
	write(t, system, "[filter \"lfs\"]\n\tprocess = git-lfs filter-process\n\trequired = true\n[user]\n\tname = T\n")
	for name, attributes := range map[string]string{
		"no attributes": "", "text alone": "* text=auto\n*.sh text eol=lf\n*.png binary\n", "nothing that git knows": "* other=attribute\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := []string{"a", "a\n", "d/b", "b\n"}
			if attributes != "" {
				files = append(files, ".gitattributes", attributes, "d/.gitattributes", "*.b -text\n")
			}
			w, roots, deploy := newConverting(t, gittest.Files(files...), gittest.Files(append(files, "a", "A\n")...))
			environ, calls := gittest.Counting(t)
			var err error
			if w.Repo, err = git.Open(w.Repo.Dir, append(environ, "GIT_CONFIG_NOSYSTEM=", "GIT_CONFIG_SYSTEM="+system)); err != nil {
				t.Fatal(err)
			}
			for _, root := range roots {
				known := deploy(t, oid(t, root))
				touch(t, filepath.Join(w.Dir, "d/b"))
				if drift, err := w.Drift(t.Context(), known); err != nil || len(drift) > 0 {
					t.Errorf("drift %q, %v", drift, err)
				}
			}
			if made := calls(); len(made) > 0 {
				t.Errorf("git was called: %q", made)
			}
		})
	}
}

// touch makes a file look changed.
func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.Chtimes(path, epoch, epoch); err != nil {
		t.Fatal(err)
	}
}

// TestConvertedDrift changes converted files on the disk.
func TestConvertedDrift(t *testing.T) {
	t.Parallel()
	files := []string{"touched.txt", "1\n", "changed.txt", "2\n", "as-committed.txt", "3\n", "plain", "4\n", "mixed.txt", "5\r\n6\n"}
	w, roots, deploy := newConverting(t, gittest.Files(append(files, ".gitattributes", "*.txt text eol=crlf\n")...), gittest.Files(files...))
	known := deploy(t, oid(t, roots[0]))
	want := gittest.Snap(t, w.Dir, false)
	w.holdsFiles(t, "touched.txt", "1\r\n", "plain", "4\n", "mixed.txt", "5\r\n6\r\n")
	touch(t, filepath.Join(w.Dir, "touched.txt"))
	touch(t, filepath.Join(w.Dir, "mixed.txt"))
	touch(t, filepath.Join(w.Dir, "plain"))
	write(t, filepath.Join(w.Dir, "changed.txt"), "changed\r\n")
	write(t, filepath.Join(w.Dir, "as-committed.txt"), "3\n")
	drift, err := w.Drift(t.Context(), known)
	if want := []string{"as-committed.txt", "changed.txt"}; err != nil || !slices.Equal(drift, want) {
		t.Errorf("drift %q, %v, want %q", drift, err, want)
	}
	plan, err := w.Plan(t.Context(), oid(t, roots[0]), known)
	if err != nil {
		t.Fatal(err)
	}
	if paths := plan.Paths(); !slices.Equal(paths, drift) || plan.Repairs != 2 {
		t.Errorf("plan %q, %d repairs", paths, plan.Repairs)
	}
	deploy(t, oid(t, roots[0]))
	if diff := want.Diff(gittest.Snap(t, w.Dir, false)); diff != "" {
		t.Error(diff)
	}
	w.git(t, roots[0])
	deploy(t, oid(t, roots[1]))
	w.holdsFiles(t, files...)
	entries, err := os.ReadDir(w.StateDir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the state directory: %v, %v", entries, err)
	}
}

// TestRecordOfBefore is about a web root that a version deployed to that
// converted nothing: what a checkout converts is written once.
func TestRecordOfBefore(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{true, false} {
		w, roots, deploy := newConverting(t, gittest.Files("a.txt", "1\n", "b.txt", "2\n", "plain", "3\n"))
		w.Verify = verify
		known := deploy(t, oid(t, roots[0]))
		gittest.SettleIndex(t, w.Index())
		write(t, filepath.Join(w.Repo.Dir, "info/attributes"), "*.txt eol=crlf\n")
		known.Conversions = ""
		touch(t, filepath.Join(w.Dir, "a.txt"))
		if drift, err := w.Drift(t.Context(), known); err != nil || len(drift) > 0 {
			t.Errorf("verify %t: drift %q, %v", verify, drift, err)
		}
		plan, err := w.Plan(t.Context(), oid(t, roots[0]), known)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := plan.Paths(), []string{"a.txt", "b.txt"}; !slices.Equal(got, want) || plan.Repairs != 0 {
			t.Errorf("verify %t: plan %q, %d repairs, want %q", verify, got, plan.Repairs, want)
		}
	}
}

// TestTakenOver is about a web root that git has deployed to, nobody knows with
// which settings. Without Verify only that is looked at which converts.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	w, roots, _ := newConverting(t, gittest.Files("a.txt", "1\n", "b.txt", "2\n", "plain", "3\n", ".gitattributes", "*.txt eol=crlf\n"))
	w.Verify = false
	w.deploy(t, roots[0], nil)
	gittest.SettleIndex(t, w.Index())
	write(t, filepath.Join(w.Dir, "a.txt"), "1\n")
	write(t, filepath.Join(w.Dir, "plain"), "mine\n")
	plan := w.deploy(t, roots[0], nil)
	if got := plan.Paths(); !slices.Equal(got, []string{"a.txt"}) {
		t.Errorf("wrote %q", got)
	}
	w.holdsFiles(t, "a.txt", "1\r\n", "b.txt", "2\r\n", "plain", "mine\n")

	// Nor does an index of another directory say anything of this one's files.
	write(t, filepath.Join(w.Dir, "b.txt"), "2\n")
	tree := oid(t, roots[0])
	again, err := w.Plan(t.Context(), tree, Known{Deployed: true, Elsewhere: true, Tree: tree})
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Paths(); !slices.Equal(got, []string{"b.txt"}) {
		t.Errorf("would write %q", got)
	}

	touch(t, w.Index()) // no inode proves anything now
	w.deploy(t, roots[0], nil)
	if listed := gittest.Git(t, w.Repo.Dir, "ls-files"); listed != ".gitattributes\na.txt\nb.txt\nplain\n" {
		t.Errorf("the index has %q", listed)
	}
}

// TestFilterFails has filters fail that may, and one that must not.
func TestFilterFails(t *testing.T) {
	t.Parallel()
	w, roots, deploy := newConverting(t, gittest.Files("a", "0\n"),
		gittest.Files("a", "1\n", "new/a.x", "2\n", ".gitattributes", "*.x filter=x\n"))
	deploy(t, oid(t, roots[0]))
	was := listing(t, w.Dir)
	gittest.Git(t, w.Repo.Dir, "config", "filter.x.smudge", "echo not today >&2; false")
	gittest.Git(t, w.Repo.Dir, "config", "filter.x.required", "true")
	plan, err := w.Plan(t.Context(), oid(t, roots[1]), Known{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Stage(t.Context(), plan, "test", nil)
	var failed *git.Error
	if !errors.As(err, &failed) || !strings.Contains(failed.Stderr, "not today") || !strings.Contains(failed.Stderr, "smudge filter x failed") {
		t.Errorf("got %v", err)
	}
	unchanged(t, was, w.Dir)
	if left, _ := os.ReadDir(w.StateDir); len(left) > 0 {
		t.Errorf("left in the state directory: %v", left)
	}

	gittest.Git(t, w.Repo.Dir, "config", "filter.x.required", "false")
	_, staged := w.stage(t, roots[1], nil)
	if said := strings.Join(staged.Warnings, "\n"); !strings.Contains(said, "not today") {
		t.Errorf("warnings %q", staged.Warnings)
	}
	w.finish(t, staged)
	w.holdsFiles(t, "a", "1\n", "new/a.x", "2\n") // as git does then

	// Where nobody can tell what a file should hold, its inode must do.
	gittest.SettleIndex(t, w.Index())
	gittest.Git(t, w.Repo.Dir, "config", "filter.x.required", "true")
	if drift, err := w.Drift(t.Context(), Known{}); err != nil || len(drift) > 0 {
		t.Errorf("drift %q, %v", drift, err)
	}
	touch(t, filepath.Join(w.Dir, "new/a.x"))
	if drift, err := w.Drift(t.Context(), Known{}); err != nil || !slices.Equal(drift, []string{"new/a.x"}) {
		t.Errorf("drift %q, %v", drift, err)
	}
}

// TestFilterHangs ends a filter that does not end, with all that it started.
func TestFilterHangs(t *testing.T) {
	t.Parallel()
	w, roots, _ := newConverting(t, gittest.Files("a.x", "1\n", ".gitattributes", "*.x filter=x\n"))
	alive := filepath.Join(gittest.Dir(t), "alive")
	if err := syscall.Mkfifo(alive, 0o600); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, w.Repo.Dir, "config", "filter.x.smudge", "exec 9>"+alive+"; echo running >&9; sleep 1000; true")
	plan, err := w.Plan(t.Context(), oid(t, roots[0]), Known{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		defer close(ended)
		pipe, err := os.Open(alive)
		if err != nil {
			ended <- err
			return
		}
		defer pipe.Close()
		if _, err := io.ReadFull(pipe, make([]byte, len("running\n"))); err != nil {
			ended <- err
			return
		}
		cancel()
		_, err = pipe.Read(make([]byte, 1)) // nobody has it open any more
		ended <- err
	}()
	if _, err := w.Stage(ctx, plan, "test", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("got %v", err)
	}
}

// TestConvertedSize refuses what is small as it is committed, and large on the
// disk.
func TestConvertedSize(t *testing.T) {
	t.Parallel()
	w, roots, deploy := newConverting(t, gittest.Files("a", "0\n"), gittest.Files("a.x", "1\n", ".gitattributes", "*.x filter=x\n"))
	deploy(t, oid(t, roots[0]))
	was := listing(t, w.Dir)
	gittest.Git(t, w.Repo.Dir, "config", "filter.x.smudge", "head -c 5000 /dev/zero")
	w.MaxBytes = 4000
	plan, err := w.Plan(t.Context(), oid(t, roots[1]), Known{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Stage(t.Context(), plan, "test", nil)
	if want := "refusing the tree: it unpacks to 5013 bytes, more than max_bytes = 4000"; fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	unchanged(t, was, w.Dir)
}

// TestStagedElsewhere converts files for directories whose entries inherit a
// group, and so are staged in the web root.
func TestStagedElsewhere(t *testing.T) {
	t.Parallel()
	w, roots, deploy := newConverting(t, gittest.Files("a.txt", "1\n"),
		gittest.Files("a.txt", "2\n", "d/b.txt", "3\n", "new/c.txt", "4\n", "d/many/e.txt", "5\n", ".gitattributes", "* text eol=crlf\n"))
	deploy(t, oid(t, roots[0]))
	mkdir(t, filepath.Join(w.Dir, "d"), 0o755|os.ModeSetgid)
	_, staged := w.stage(t, roots[1], nil)
	if len(staged.Record.Stages) != 2 {
		t.Errorf("stages: %v", staged.Record.Stages)
	}
	w.finish(t, staged)
	w.holdsFiles(t, "a.txt", "2\r\n", "d/b.txt", "3\r\n", "new/c.txt", "4\r\n", "d/many/e.txt", "5\r\n", ".gitattributes", "* text eol=crlf\r\n")
	if st, err := os.Stat(filepath.Join(w.Dir, "d/many")); err != nil || st.Mode()&os.ModeSetgid == 0 {
		t.Errorf("d/many: %v, %v", st.Mode(), err)
	}
	w.git(t, roots[1])
}

// git fails unless the index agrees with the disk.
func (w *Worktree) git(t *testing.T, root string) {
	t.Helper()
	gittest.SettleIndex(t, w.Index())
	out := gittest.Git(t, "/", "--git-dir="+w.Repo.Dir, "--work-tree="+w.Dir, "diff-files")
	out += gittest.Git(t, "/", "--git-dir="+w.Repo.Dir, "--work-tree="+w.Dir, "diff-index", "--cached", root)
	if out != "" {
		t.Errorf("git finds differences: %s", out)
	}
}

// lfs makes the pointer of Git LFS for a content, and stores that in repo.
func lfs(t *testing.T, repo, content string) (pointer string) {
	t.Helper()
	name := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
	write(t, filepath.Join(repo, "lfs/objects", name[:2], name[2:4], name), content)
	return fmt.Sprintf("version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", name, len(content))
}

// TestLFS deploys files of Git LFS, as it is set up by "git lfs install".
func TestLFS(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git-lfs"); err != nil {
		t.Skip("git-lfs is not installed")
	}
	w, _, deploy := newConverting(t, gittest.Tree{})
	tree := gittest.Files(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n", "plain", "plain\n", "not.bin", "no pointer\n")
	for i := range 20 {
		tree[fmt.Sprintf("d%d/%d.bin", i%3, i)] = gittest.Node{Mode: gittest.File, Data: lfs(t, w.Repo.Dir, strings.Repeat(fmt.Sprint(i), 1000))}
	}
	tree["run.bin"] = gittest.Node{Mode: gittest.Executable, Data: lfs(t, w.Repo.Dir, "#!/bin/sh\n")}
	commits := gittest.Commits(t, w.Repo.Dir, tree)
	for key, value := range map[string]string{"process": "git-lfs filter-process", "smudge": "git-lfs smudge -- %f", "required": "true"} {
		gittest.Git(t, w.Repo.Dir, "config", "filter.lfs."+key, value)
	}
	known := deploy(t, oid(t, gittest.TreesOf(t, w.Repo.Dir, commits)[0]))
	w.holdsFiles(t, "run.bin", "#!/bin/sh\n", "d1/7.bin", strings.Repeat("7", 1000), "plain", "plain\n", "not.bin", "no pointer\n")
	theirs := filepath.Join(gittest.Dir(t), "theirs")
	gittest.FreshCheckout(t, w.Repo.Dir, gittest.Environ(), theirs, commits[0])
	if diff := gittest.Snap(t, theirs, false).Diff(gittest.Snap(t, w.Dir, false)); diff != "" {
		t.Error(diff)
	}
	touch(t, filepath.Join(w.Dir, "d1/7.bin"))
	write(t, filepath.Join(w.Dir, "d1/10.bin"), tree["d1/10.bin"].Data) // the pointer
	if drift, err := w.Drift(t.Context(), known); err != nil || !slices.Equal(drift, []string{"d1/10.bin"}) {
		t.Errorf("drift %q, %v", drift, err)
	}
}

// TestPointers tells of files of Git LFS where that is not set up, and writes
// them once it is.
func TestPointers(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	pointer := lfs(t, repo, "content\n")
	tree := gittest.Files(".gitattributes", "*.bin filter=lfs\n*.other filter=other\n", "a.bin", pointer, "b.bin", pointer,
		"small.bin", "no pointer\n", "large.bin", strings.Repeat(pointer, 10), "c.other", pointer, "plain", pointer)
	root := gittest.TreesOf(t, repo, gittest.Commits(t, repo, tree))[0]
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "www"))
	plan, err := w.Plan(t.Context(), oid(t, root), Known{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a.bin", "b.bin"}; !slices.Equal(plan.Pointers, want) {
		t.Errorf("pointers %q, want %q", plan.Pointers, want)
	}
	deploy := remembering(w)
	deploy(t, oid(t, root))
	known := deploy(t, oid(t, root)) // what is remembered must not get lost
	w.holdsFiles(t, "a.bin", pointer)

	gittest.Git(t, repo, "config", "filter.lfs.smudge", "echo content")
	plan, err = w.Plan(t.Context(), oid(t, root), known)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Repairs != 0 || plan.reserve != plan.Bytes || len(plan.Pointers) != 0 {
		t.Errorf("%d repairs, %d bytes of %d more, pointers %q", plan.Repairs, plan.reserve, plan.Bytes, plan.Pointers)
	}
	deploy(t, oid(t, root))
	w.holdsFiles(t, "a.bin", "content\n", "small.bin", "content\n", "c.other", pointer, "plain", pointer)
}

// TestSymlinksAsFiles is about a server with core.symlinks = false.
func TestSymlinksAsFiles(t *testing.T) {
	t.Parallel()
	tree := gittest.Files("file", "file\n", ".gitattributes", "* eol=crlf\n", "many/b", "x\n")
	tree["link"] = gittest.Node{Mode: gittest.Symlink, Data: "file"}
	tree["d/link"] = gittest.Node{Mode: gittest.Symlink, Data: "../file\n"}
	for _, verify := range []bool{true, false} {
		w, roots, deploy := newConverting(t, tree)
		w.Verify = verify
		links := gittest.Snapshot{"link": "L--------- 0777 -> file", "d/link": "L--------- 0777 -> ../file\n"}
		files := gittest.Snapshot{"link": `---------- 0644 "file"`, "d/link": `---------- 0644 "../file\n"`}
		for _, want := range []gittest.Snapshot{files, links, files} {
			gittest.Git(t, w.Repo.Dir, "config", "core.symlinks", fmt.Sprint(len(want["link"]) > len(files["link"])))
			known := deploy(t, oid(t, roots[0]))
			got := gittest.Snap(t, w.Dir, false)
			for path, what := range want {
				if got[path] != what {
					t.Errorf("verify %t: %q is %s, want %s", verify, path, got[path], what)
				}
			}
			if drift, err := w.Drift(t.Context(), known); err != nil || len(drift) > 0 {
				t.Errorf("verify %t: drift %q, %v", verify, drift, err)
			}
			w.git(t, roots[0])
		}
		write(t, filepath.Join(w.Dir, "link"), "fil")
		known := Known{Deployed: true, Tree: oid(t, roots[0]), Conversions: "x"}
		if drift, err := w.Drift(t.Context(), known); err != nil || !slices.Equal(drift, []string{"link"}) {
			t.Errorf("verify %t: drift %q, %v", verify, drift, err)
		}
	}
}

// TestReplaced puts another blob in the place of one that is deployed, and takes
// it away again.
func TestReplaced(t *testing.T) {
	t.Parallel()
	w, roots, deploy := newConverting(t, gittest.Files("a", "a\n", "b", "b\n"))
	a := gittest.Object(t, w.Repo.Dir, "blob", "a\n")
	for _, want := range []string{"a\n", "x\n", "longer\n", "a\n"} {
		if want == "a\n" {
			gittest.Try(w.Repo.Dir, nil, "", "replace", "-d", a)
		} else {
			gittest.Git(t, w.Repo.Dir, "replace", "-f", a, gittest.Object(t, w.Repo.Dir, "blob", want))
		}
		var err error
		if w.Repo, err = git.Open(w.Repo.Dir, gittest.Environ()); err != nil {
			t.Fatal(err)
		}
		known := deploy(t, oid(t, roots[0]))
		w.holdsFiles(t, "a", want, "b", "b\n")
		touch(t, filepath.Join(w.Dir, "a"))
		if drift, err := w.Drift(t.Context(), known); err != nil || len(drift) > 0 {
			t.Errorf("drift %q, %v", drift, err)
		}
	}
}

// TestNoMonitor leaves what git is told to ask about a work tree unasked: there
// is none.
func TestNoMonitor(t *testing.T) {
	t.Parallel()
	w, roots, deploy := newConverting(t, gittest.Files("a", "a\n", "d/b", "b\n", "d/.gitattributes", "b eol=crlf\n"))
	asked := filepath.Join(gittest.Dir(t), "asked")
	gittest.Git(t, w.Repo.Dir, "config", "core.fsmonitor", "touch "+asked+"; false")
	gittest.Git(t, w.Repo.Dir, "config", "core.sparseCheckout", "true")
	gittest.Git(t, w.Repo.Dir, "config", "core.sparseCheckoutCone", "true")
	write(t, filepath.Join(w.Repo.Dir, "info/sparse-checkout"), "/*\n!/*/\n")
	deploy(t, oid(t, roots[0]))
	w.holdsFiles(t, "a", "a\n", "d/b", "b\r\n")
	if _, err := os.Stat(asked); !os.IsNotExist(err) {
		t.Errorf("the monitor was asked: %v", err)
	}
}

// TestSubdirectory refuses commits without a directory of that name.
func TestSubdirectory(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	tree := gittest.Files("file", "file\n", "pub/www/index.html", "page\n", "pub/file", "file\n")
	tree["link"] = gittest.Node{Mode: gittest.Symlink, Data: "pub"}
	tree["pub/module"] = gittest.Node{Mode: gittest.Gitlink, Data: strings.Repeat("1", 40)}
	root := gittest.TreesOf(t, repo, gittest.Commits(t, repo, tree))[0]
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "www"))
	for subdirectory, want := range map[string]string{
		"none":         `it has no directory "none", and subdirectory = "none"`,
		"pub/none/www": `it has no directory "pub/none", and subdirectory = "pub/none/www"`,
		"file":         `"file" is a file, and subdirectory = "file"`,
		"pub/file/www": `"pub/file" is a file, and subdirectory = "pub/file/www"`,
		"link/www":     `"link" is a symlink, and subdirectory = "link/www"`,
		"pub/module":   `"pub/module" is a submodule, and subdirectory = "pub/module"`,
		"pub/www":      "<nil>",
	} {
		w.Subdirectory = subdirectory
		if want != "<nil>" {
			want = "refusing the tree: " + want
		}
		if _, err := w.Plan(t.Context(), oid(t, root), Known{}); fmt.Sprint(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	w.Subdirectory = "pub/www"
	w.deploy(t, root, nil)
	if diff := gittest.Snap(t, w.Dir, false).Diff(gittest.Snapshot{".": "d--------- 0755", "index.html": `---------- 0644 "page\n"`}); diff != "" {
		t.Error(diff)
	}
}

// TestScratch removes what others have left behind, and not what may be in use.
func TestScratch(t *testing.T) {
	t.Parallel()
	w := newWorktree(t, gittest.Bare(t), filepath.Join(gittest.Dir(t), "www"))
	var dirs [2]string
	for i := range dirs {
		var err error
		if dirs[i], err = w.scratch(); err != nil || filepath.Dir(dirs[i]) != w.StateDir {
			t.Fatalf("%q, %v", dirs[i], err)
		}
	}
	write(t, filepath.Join(dirs[0], "out/file"), "x")
	touch(t, dirs[0])
	if err := w.CleanUp(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dirs[0]); !os.IsNotExist(err) {
		t.Errorf("%q is still there: %v", dirs[0], err)
	}
	if _, err := os.Stat(dirs[1]); err != nil {
		t.Error(err)
	}
}
