package worktree

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// newMarked makes a worktree whose web root has a file, with a directory
// outside of it that has to stay as it is.
func newMarked(t *testing.T) (w *Worktree, outside string) {
	t.Helper()
	dir := gittest.Dir(t)
	w = newWorktree(t, gittest.Bare(t), filepath.Join(dir, "web"))
	write(t, filepath.Join(w.Dir, "index.html"), "site\n")
	outside = filepath.Join(dir, "outside")
	write(t, filepath.Join(outside, "release.json"), "theirs\n")
	mkdir(t, filepath.Join(outside, "empty"), 0o755)
	return w, outside
}

func TestWriteMarker(t *testing.T) {
	t.Parallel()
	for _, rel := range []string{"release.json", ".well-known/release.json", "a/b/c/d"} {
		t.Run(rel, func(t *testing.T) {
			t.Parallel()
			w, _ := newMarked(t)
			path := filepath.Join(w.Dir, rel)
			want := gittest.Snap(t, w.Dir, true)
			for _, data := range []string{"one\n", "two and more\n", "", "one\n"} {
				must(t, w.WriteMarker(rel, []byte(data)))
				if got := read(t, path); got != data {
					t.Fatalf("%q, want %q", got, data)
				}
			}
			// Nothing else has changed.
			got := gittest.Snap(t, w.Dir, true)
			for dir := rel; dir != "."; dir = filepath.Dir(dir) {
				if _, found := got[dir]; !found {
					t.Errorf("no %q in %v", dir, got)
				}
				delete(got, dir)
			}
			if diff := want.Diff(got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestMarkerAfterACrash: what a crash has left beside the marker goes, also where the
// marker is as it is to be.
func TestMarkerAfterACrash(t *testing.T) {
	t.Parallel()
	w, _ := newMarked(t)
	must(t, w.WriteMarker(".well-known/release.json", []byte("one\n")))
	want := gittest.Snap(t, w.Dir, true)
	must(t, os.WriteFile(filepath.Join(w.Dir, ".well-known", markerTemp), []byte("two"), 0o644))
	must(t, w.WriteMarker(".well-known/release.json", []byte("one\n")))
	if diff := want.Diff(gittest.Snap(t, w.Dir, true)); diff != "" {
		t.Error(diff)
	}
}

// TestMarkerModes: the web server must be able to read it, as anything that git
// writes.
func TestMarkerModes(t *testing.T) {
	t.Parallel()
	w, _ := newMarked(t)
	must(t, w.WriteMarker("ours/release.json", nil))
	must(t, os.Mkdir(filepath.Join(w.Dir, "theirs"), 0o777))
	must(t, os.WriteFile(filepath.Join(w.Dir, "theirs/release.json"), nil, 0o666))
	for _, path := range []string{"", "/release.json"} {
		ours, err := os.Stat(filepath.Join(w.Dir, "ours"+path))
		must(t, err)
		theirs, err := os.Stat(filepath.Join(w.Dir, "theirs"+path))
		must(t, err)
		if ours.Mode() != theirs.Mode() {
			t.Errorf("%q: mode %s, want %s", path, ours.Mode(), theirs.Mode())
		}
	}
}

// TestSameMarker: what is there already is left as it is.
func TestSameMarker(t *testing.T) {
	t.Parallel()
	w, _ := newMarked(t)
	must(t, w.WriteMarker("a/release.json", []byte("same")))
	path := filepath.Join(w.Dir, "a/release.json")
	then := time.Date(2014, 5, 6, 7, 8, 9, 0, time.UTC)
	must(t, os.Chtimes(path, then, then))
	must(t, os.Chtimes(filepath.Dir(path), then, then))
	was, err := os.Stat(path)
	must(t, err)
	must(t, w.WriteMarker("a/release.json", []byte("same")))
	is, err := os.Stat(path)
	must(t, err)
	dir, err := os.Stat(filepath.Dir(path))
	must(t, err)
	if !os.SameFile(was, is) || !is.ModTime().Equal(then) || !dir.ModTime().Equal(then) {
		t.Errorf("it was written: %v, %v", is.ModTime(), dir.ModTime())
	}
	must(t, w.WriteMarker("a/release.json", []byte("some")))
	if is, err = os.Stat(path); err != nil || os.SameFile(was, is) {
		t.Errorf("it was written in place: %v", err)
	}
}

// TestMarkerInPlaceOf: what a crash or somebody else has left there.
func TestMarkerInPlaceOf(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(path, outside string) error{
		"a symlink":          func(path, outside string) error { return os.Symlink(outside+"/release.json", path) },
		"a symlink to a dir": func(path, outside string) error { return os.Symlink(outside, path) },
		"a dangling symlink": func(path, outside string) error { return os.Symlink(outside+"/none", path) },
		"a hard link":        func(path, outside string) error { return os.Link(outside+"/release.json", path) },
		"a FIFO":             func(path, outside string) error { return unix.Mkfifo(path, 0o666) },
		"a file":             func(path, outside string) error { return os.WriteFile(path, []byte("a long line of theirs\n"), 0o600) },
		"a closed file":      func(path, outside string) error { return os.WriteFile(path, []byte("five\n"), 0) },
		"the same, linked": func(path, outside string) error {
			if err := os.WriteFile(path+"-real", []byte("ours\n"), 0o666); err != nil {
				return err
			}
			return os.Symlink(path+"-real", path)
		},
	} {
		for _, at := range []string{"release.json", markerTemp} {
			t.Run(name+" at "+at, func(t *testing.T) {
				t.Parallel()
				w, outside := newMarked(t)
				was := listing(t, outside)
				mkdir(t, filepath.Join(w.Dir, "a"), 0o755)
				must(t, leave(filepath.Join(w.Dir, "a", at), outside))
				must(t, w.WriteMarker("a/release.json", []byte("ours\n")))
				st, err := os.Lstat(filepath.Join(w.Dir, "a/release.json"))
				must(t, err)
				if !st.Mode().IsRegular() || st.Mode().Perm()&0o400 == 0 || read(t, filepath.Join(w.Dir, "a/release.json")) != "ours\n" {
					t.Errorf("mode %s, or it does not hold what was written", st.Mode())
				}
				if _, err := os.Lstat(filepath.Join(w.Dir, "a", markerTemp)); !os.IsNotExist(err) {
					t.Errorf("the temporary file: %v", err)
				}
				unchanged(t, was, outside)
				must(t, w.RemoveMarker("a/release.json"))
				unchanged(t, was, outside)
			})
		}
	}
}

// TestMarkerRefused: nothing is written, and nothing removed.
func TestMarkerRefused(t *testing.T) {
	t.Parallel()
	w, outside := newMarked(t)
	write(t, filepath.Join(w.Dir, "dir/release.json/file"), "kept\n")
	write(t, filepath.Join(w.Dir, "real/release.json"), "kept\n")
	mkdir(t, filepath.Join(w.Dir, "real/empty"), 0o755)
	write(t, filepath.Join(w.Dir, "temp", markerTemp, "file"), "kept\n")
	write(t, filepath.Join(w.Dir, "temp/release.json"), "kept\n")
	for name, target := range map[string]string{"out": outside, "in": "real", "dot": ".", "loop": "loop", "dangling": outside + "/none", "real/up": ".."} {
		must(t, os.Symlink(target, filepath.Join(w.Dir, name)))
	}
	was := listing(t, w.Dir, outside)
	for rel, want := range map[string]string{
		"":                         "it is not a clean path below the web root",
		".":                        "it is not a clean path",
		"..":                       "it is not a clean path",
		"../outside/release.json":  "it is not a clean path",
		outside + "/release.json":  "it is not a clean path",
		"real/../release.json":     "it is not a clean path",
		"real//release.json":       "it is not a clean path",
		"real/":                    "it is not a clean path",
		"real/release.json\x00":    "it is not a clean path",
		"dir/release.json":         "a directory is there",
		"dir":                      "a directory is there",
		"temp/release.json":        " directory",
		"out/release.json":         `"out": not a directory`,
		"out/empty/release.json":   `"out": not a directory`,
		"out/new/release.json":     `"out": not a directory`,
		"in/release.json":          `"in": not a directory`,
		"in/empty/release.json":    `"in": not a directory`,
		"dot/release.json":         `"dot": not a directory`,
		"loop/release.json":        `"loop": not a directory`,
		"dangling/release.json":    `"dangling": not a directory`,
		"real/up/release.json":     `"real/up": not a directory`,
		"index.html/release.json":  `"index.html": not a directory`,
		"index.html/a/release.txt": `"index.html": not a directory`,
	} {
		for what, err := range map[string]error{"writing": w.WriteMarker(rel, []byte("ours\n")), "removing": w.RemoveMarker(rel)} {
			if prefix := fmt.Sprintf("%s the marker %q: ", what, rel); err == nil || !strings.HasPrefix(err.Error(), prefix) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %q: %v, want %s", what, rel, err, want)
			}
		}
	}
	unchanged(t, was, w.Dir, outside)
	w.Dir += "-none"
	if err := w.WriteMarker("a", nil); err == nil {
		t.Error("there is no web root")
	}
	if err := w.RemoveMarker("a"); err == nil {
		t.Error("there is no web root")
	}
}

func TestRemoveMarker(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, rel string
		more      string // what else is there, "" for nothing
		gone      string // what is gone with it
	}{
		{"at the top", "release.json", "", "release.json"},
		{"alone", ".well-known/release.json", "", ".well-known"},
		{"deep", "a/b/c/release.json", "", "a"},
		{"beside a file", "a/b/c/release.json", "a/b/c/file", "a/b/c/release.json"},
		{"below a file", "a/b/c/release.json", "a/file", "a/b"},
		{"beside an empty directory", "a/b/c/release.json", "a/empty/", "a/b"},
		{"with a leftover", "a/b/release.json", "a/b/" + markerTemp, "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w, _ := newMarked(t)
			must(t, w.WriteMarker(test.rel, []byte("ours\n")))
			switch {
			case strings.HasSuffix(test.more, "/"):
				mkdir(t, filepath.Join(w.Dir, test.more), 0o755)
			case test.more != "":
				write(t, filepath.Join(w.Dir, test.more), "theirs\n")
			}
			want := gittest.Snap(t, w.Dir, true)
			for path := range want {
				if path == test.gone || strings.HasPrefix(path, test.gone+"/") {
					delete(want, path)
				}
			}
			for range 2 { // the second time it is gone
				must(t, w.RemoveMarker(test.rel))
				if diff := want.Diff(gittest.Snap(t, w.Dir, true)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	// A crash came between the file and its directories.
	w, _ := newMarked(t)
	want := gittest.Snap(t, w.Dir, true)
	mkdir(t, filepath.Join(w.Dir, "a/b"), 0o755)
	must(t, w.RemoveMarker("a/b/c/release.json"))
	if diff := want.Diff(gittest.Snap(t, w.Dir, true)); diff != "" {
		t.Error(diff)
	}
}

// TestMarkerSwapped: while somebody swaps a directory for a symlink that leads
// outside, nothing outside is written or removed.
func TestMarkerSwapped(t *testing.T) {
	t.Parallel()
	w, outside := newMarked(t)
	write(t, filepath.Join(outside, "sub/release.json"), "theirs\n")
	was := listing(t, outside)
	link, dir := filepath.Join(w.Dir, "link"), filepath.Join(w.Dir, ".well-known")
	must(t, os.Symlink(outside, link))
	write(t, filepath.Join(dir, "keep"), "")
	done := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 2000 && err == nil; i++ {
			err = unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
		}
		done <- err
	}()
	for i, rels := 0, []string{".well-known/release.json", ".well-known/sub/release.json", ".well-known/empty/new"}; ; i++ {
		rel := rels[i%len(rels)]
		// They fail whenever the symlink is there.
		w.WriteMarker(rel, fmt.Append(nil, "ours ", i))
		w.RemoveMarker(rel)
		select {
		case err := <-done:
			must(t, err)
			unchanged(t, was, outside)
			for _, rel := range rels { // an even number of exchanges
				must(t, w.WriteMarker(rel, []byte("ours\n")))
				must(t, w.RemoveMarker(rel))
			}
			unchanged(t, was, outside)
			return
		default:
		}
	}
}

func TestMarkerConflict(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	commits := gittest.Commits(t, repo, gittest.Tree{
		"index.html":          {Mode: gittest.File, Data: "site\n"},
		"run":                 {Mode: gittest.Executable, Data: "run\n"},
		"link":                {Mode: gittest.Symlink, Data: "dir"},
		"sub":                 {Mode: gittest.Gitlink, Data: strings.Repeat("1", 40)},
		"dir/a/file":          {Mode: gittest.File, Data: "file\n"},
		"temp/" + markerTemp:  {Mode: gittest.File, Data: "odd\n"},
		".well-known/acme/ok": {Mode: gittest.File, Data: "ok\n"},
	}, gittest.Files(markerTemp+"/file", "odd\n"))
	root := gittest.TreesOf(t, repo, commits)
	w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "web"))
	objects := w.Repo.Objects(t.Context())
	defer objects.Close()
	for rel, own := range map[string]string{
		"release.json":             "",
		".well-known/release.json": "",
		"new/dir/release.json":     "",
		"dir/a/release.json":       "",
		"dir/a/file.json":          "",
		"dir/b":                    "",
		"index.htm":                "",
		"index.html":               `file "index.html"`,
		"index.html/release.json":  `file "index.html"`,
		"index.html/a/b":           `file "index.html"`,
		"run":                      `file "run"`,
		"dir/a/file":               `file "dir/a/file"`,
		"dir/a/file/x":             `file "dir/a/file"`,
		"dir/a":                    `directory "dir/a"`,
		".well-known":              `directory ".well-known"`,
		"link":                     `symlink "link"`,
		"link/a/release.json":      `symlink "link"`,
		"sub":                      `submodule "sub"`,
		"sub/release.json":         `submodule "sub"`,
		"temp/release.json":        fmt.Sprintf("file %q", "temp/"+markerTemp),
	} {
		want := ""
		if own != "" {
			want = fmt.Sprintf("the marker %q is in the way of the commit's own %s", rel, own)
		}
		if err := w.MarkerConflict(objects, oid(t, root[0]), rel); (err != nil) != (want != "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %s", rel, err, want)
		}
		if err := w.MarkerConflict(objects, git.OID{}, rel); err != nil {
			t.Errorf("%q in the empty tree: %v", rel, err)
		}
	}
	if err := w.MarkerConflict(objects, oid(t, root[1]), "release.json"); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a directory where the temporary file goes: %v", err)
	}
	for what, bad := range map[string]string{
		"is a commit, not a tree": commits[0],
		"object not found":        strings.Repeat("1", 40),
		"tree is cut short":       raw(t, repo, "100644", "a", "11"),
	} {
		if err := w.MarkerConflict(objects, oid(t, bad), "a/b"); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %s", err, what)
		}
	}
}
