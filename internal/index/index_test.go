package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/tree"
)

// A worktree is a directory that git has checked a commit out into, with a
// repository and an index beside it.
type worktree struct {
	repo, dir, index string
	size             int // of object names
}

// files has paths of every length that padding knows, and every mode.
func files(size int) gittest.Tree {
	tree := gittest.Tree{
		"link": {Mode: gittest.Symlink, Data: "a"}, "run": {Mode: gittest.Executable, Data: "#!/bin/sh\n"},
		"sub": {Mode: gittest.Gitlink, Data: strings.Repeat("1", 2*size)}, "bad\xff": {Mode: gittest.File, Data: ""},
		"shared/prefix/a": {Mode: gittest.File, Data: "x\n"}, "shared/prefix/ab": {Mode: gittest.File, Data: "x\n"},
		"shared/other": {Mode: gittest.File, Data: "y\n"},
	}
	for n := range 20 {
		tree["p"+strings.Repeat("q", n)] = gittest.Node{Mode: gittest.File, Data: strconv.Itoa(n)}
	}
	tree["deep/"+strings.Repeat("d/", 200)+"f"] = gittest.Node{Mode: gittest.File, Data: "deep\n"}
	return tree
}

func newWorktree(t *testing.T, size int) *worktree {
	t.Helper()
	return newWorktreeOf(t, size, files(size))
}

func newWorktreeOf(t *testing.T, size int, files gittest.Tree) *worktree {
	t.Helper()
	format := map[int]string{20: "sha1", 32: "sha256"}[size]
	w := &worktree{repo: gittest.Bare(t, "--object-format="+format), dir: gittest.Dir(t), size: size}
	w.index = filepath.Join(w.repo, "index")
	gittest.Commits(t, w.repo, files)
	w.git(t, "checkout", "-q", "-f")
	return w
}

func (w *worktree) git(t *testing.T, args ...string) string {
	t.Helper()
	return gittest.Run(t, w.dir, []string{"GIT_OPTIONAL_LOCKS=0"}, "", append([]string{"--git-dir=" + w.repo, "--work-tree=" + w.dir}, args...)...)
}

// listed is the index as git reads it, unmerged paths once.
func (w *worktree) listed(t *testing.T) []Entry {
	t.Helper()
	var entries []Entry
	rest := w.git(t, "ls-files", "-s", "-z", "--debug")
	for rest != "" { // "100644 OID 0 TAB path NUL ctime: 1:2 …"
		head, more, _ := strings.Cut(rest, "\t")
		path, more, _ := strings.Cut(more, "\x00")
		var e Entry
		var mode uint32
		var oid string
		var stage, flags int
		if _, err := fmt.Sscanf(head, "%o %s %d", &mode, &oid, &stage); err != nil {
			t.Fatalf("%q: %v", head, err)
		}
		lines := strings.SplitAfterN(more, "\n", 6)
		s := &e.Stat
		if _, err := fmt.Sscanf(strings.Join(lines[:5], ""), "  ctime: %d:%d\n  mtime: %d:%d\n  dev: %d\tino: %d\n  uid: %d\tgid: %d\n  size: %d\tflags: %x\n",
			&s.CTimeSec, &s.CTimeNsec, &s.MTimeSec, &s.MTimeNsec, &s.Dev, &s.Ino, &s.UID, &s.GID, &s.Size, &flags); err != nil {
			t.Fatalf("%q: %v", more, err)
		}
		rest = strings.Join(lines[5:], "")
		name, err := git.ParseOID(oid)
		if err != nil {
			t.Fatal(err)
		}
		e.Path, e.Item = path, tree.Item{Mode: tree.Mode(mode), OID: name}
		if n := len(entries); stage != 0 && n > 0 && entries[n-1].Path == path {
			continue
		}
		entries = append(entries, e)
	}
	return entries
}

// readIndex reads an index of which nothing is known, shared files beside it.
func readIndex(path string, hashSize int) (*Index, error) {
	x, _, err := ReadKnown(path, filepath.Dir(path), hashSize, Mark{})
	return x, err
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// all are the entries of an index.
func all(x *Index) []Entry {
	entries := make([]Entry, x.Len())
	for i := range entries {
		entries[i] = x.Entry(i)
	}
	return entries
}

// compare reports the first entry that differs.
func compare(t *testing.T, got, want []Entry) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Errorf("entry %d is %+v\nwant %+v", i, got[i], want[i])
			return
		}
	}
}

// states are indexes that git writes.
var states = []struct {
	name    string
	size    int
	version uint32
	make    func(t *testing.T, w *worktree)
}{
	{"version 2", 20, 2, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--index-version=2") }},
	{"version 4", 20, 4, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--index-version=4") }},
	{"SHA-256", 32, 2, func(t *testing.T, w *worktree) {}},
	{"SHA-256, version 4", 32, 4, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--index-version=4") }},
	{"intent to add", 20, 3, intend},
	{"intent to add, version 4", 20, 4, func(t *testing.T, w *worktree) {
		intend(t, w)
		w.git(t, "update-index", "--index-version=4")
	}},
	{"intent to add, SHA-256", 32, 3, intend},
	{"skip worktree", 20, 3, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--skip-worktree", "run", "link") }},
	{"assume unchanged", 20, 2, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--assume-unchanged", "run") }},
	{"untracked cache", 20, 2, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--force-untracked-cache") }},
	{"resolve undo", 20, 2, func(t *testing.T, w *worktree) {
		conflict(t, w)
		w.git(t, "add", "p")
	}},
	{"conflicts", 20, 2, conflict},
	{"conflicts, version 4", 20, 4, func(t *testing.T, w *worktree) {
		conflict(t, w)
		w.git(t, "update-index", "--index-version=4")
	}},
	{"many, with offsets", 20, 4, func(t *testing.T, w *worktree) {
		w.git(t, "-c", "index.threads=4", "-c", "index.version=4", "read-tree", "HEAD")
		w.git(t, "-c", "index.threads=4", "update-index", "--index-version=4", "--force-write-index")
	}},
	{"nothing is known of the files", 20, 2, func(t *testing.T, w *worktree) {
		w.git(t, "read-tree", "--empty")
		w.git(t, "read-tree", "HEAD")
	}},
	{"empty", 20, 2, func(t *testing.T, w *worktree) { w.git(t, "read-tree", "--empty") }},
	{"split", 20, 2, func(t *testing.T, w *worktree) { w.git(t, "update-index", "--split-index") }},
	{"split, with differences", 20, 2, splitAgain},
	{"split, SHA-256", 32, 2, splitAgain},
	{"split, version 4", 20, 4, func(t *testing.T, w *worktree) {
		w.git(t, "update-index", "--index-version=4")
		splitAgain(t, w)
	}},
	{"split, with conflicts", 20, 2, func(t *testing.T, w *worktree) {
		w.git(t, "update-index", "--split-index")
		conflict(t, w)
	}},
	{"conflicts, split", 20, 2, func(t *testing.T, w *worktree) {
		conflict(t, w)
		w.git(t, "update-index", "--split-index")
		w.git(t, "rm", "-q", "--cached", "shared/other")
	}},
	{"split no more", 20, 2, func(t *testing.T, w *worktree) {
		splitAgain(t, w)
		w.git(t, "update-index", "--no-split-index")
	}},
	{"long paths", 20, 2, func(t *testing.T, w *worktree) {
		var in strings.Builder
		for _, n := range []int{4094, 4095, 4096, 5000} {
			path := strings.Repeat("x/", n)[:n-1] + "y"
			fmt.Fprintf(&in, "100644 %s\t%s\n", strings.Repeat("1", 40), path)
		}
		gittest.Run(t, w.repo, nil, in.String(), "update-index", "--index-info")
	}},
}

func intend(t *testing.T, w *worktree) {
	if err := os.WriteFile(filepath.Join(w.dir, "intended"), []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.git(t, "add", "-N", "intended")
}

// conflict leaves an index as a merge that failed does: of one path each side
// has changed it, of others one side has not got it.
func conflict(t *testing.T, w *worktree) {
	base := files(20)
	ours, theirs := maps.Clone(base), maps.Clone(base)
	ours["p"], theirs["p"] = gittest.Node{Mode: gittest.File, Data: "ours\n"}, gittest.Node{Mode: gittest.File, Data: "theirs\n"}
	delete(ours, "pq")
	theirs["pq"] = gittest.Node{Mode: gittest.File, Data: "theirs\n"}
	ours["run"] = gittest.Node{Mode: gittest.File, Data: "ours\n"}
	delete(theirs, "run")
	ours["new"], theirs["new"] = gittest.Node{Mode: gittest.File, Data: "o"}, gittest.Node{Mode: gittest.File, Data: "t"}
	delete(ours, "link")
	delete(theirs, "link")
	ours["link/f"], theirs["link/f"] = gittest.Node{Mode: gittest.File, Data: "o"}, gittest.Node{Mode: gittest.File, Data: "t"}
	conflictIn(t, w, base, ours, theirs)
	if unmerged := w.git(t, "ls-files", "-u"); strings.Count(unmerged, "\n") < 8 {
		t.Fatalf("no conflict: %s", unmerged)
	}
}

func conflictIn(t *testing.T, w *worktree, trees ...gittest.Tree) {
	t.Helper()
	commits := gittest.Commits(t, w.repo, trees...)
	w.git(t, "read-tree", commits[1])
	w.git(t, append([]string{"read-tree", "-i", "-m", "--aggressive"}, commits...)...)
}

// TestReadAndWrite reads indexes as git does, and writes them so that git reads
// them as we do and takes them for its own.
func TestReadAndWrite(t *testing.T) {
	t.Parallel()
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			w := newWorktree(t, state.size)
			state.make(t, w)
			if version := binary.BigEndian.Uint32(read(t, w.index)[4:]); version != state.version {
				t.Errorf("version %d", version)
			}
			x, err := readIndex(w.index, w.size)
			if err != nil {
				t.Fatal(err)
			}
			want := w.listed(t)
			unmerged := map[string]bool{}
			for _, path := range strings.Split(w.git(t, "ls-files", "-u", "-z", "--format=%(path)"), "\x00") {
				unmerged[path] = true
			}
			for i := range want {
				if unmerged[want[i].Path] {
					want[i].Stat = Stat{} // the file may hold anything
				}
			}
			compare(t, all(x), want)
			before := ""
			if state.name != "long paths" {
				before = w.git(t, "status", "--porcelain", "-uno")
			}
			if st, err := os.Stat(w.index); err != nil || !x.Written.Equal(st.ModTime()) {
				t.Errorf("written %s", x.Written)
			}

			var out bytes.Buffer
			if _, err := x.Write(&out, nil); err != nil {
				t.Fatal(err)
			}
			sound(t, x, w.size)
			if err := os.WriteFile(w.index, out.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			compare(t, w.listed(t), all(x))
			if state.name == "long paths" || strings.Contains(state.name, "conflicts") {
				return // of objects that are not there
			}
			w.git(t, "fsck")
			if root := strings.TrimSpace(w.git(t, "write-tree", "--missing-ok")); root != x.Tree(hashOnly(w.size)).Root.String() {
				t.Errorf("tree %s, git writes %s", x.Tree(hashOnly(w.size)).Root, root)
			}
			if status := w.git(t, "status", "--porcelain", "-uno"); (status != "") != (before != "") {
				t.Errorf("git status: %s", status)
			}
		})
	}
}

type hashOnly int

func (hashOnly) Read(oid git.OID) (string, []byte, error) { return "", nil, git.ErrNoObject }
func (h hashOnly) HashSize() int                          { return int(h) }

// TestWriteFails: an error of the disk is not lost.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	x := New([]Entry{{Path: "a", Item: tree.Item{Mode: tree.File}}}, 20)
	var whole bytes.Buffer
	if _, err := x.Write(&whole, nil); err != nil {
		t.Fatal(err)
	}
	for n := range whole.Len() {
		if _, err := x.Write(&full{n}, nil); !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: %v", n, err)
		}
	}
	if _, err := x.Write(&full{whole.Len()}, nil); err != nil {
		t.Error(err)
	}
}

var errFull = errors.New("full")

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		return f.room, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

// TestDamaged cuts an index at every byte and changes every byte: an error, or
// the same entries. With the checksum made right again, anything but a panic,
// or a path that leads out.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for _, state := range states {
		switch state.name {
		case "version 2", "version 4", "intent to add", "SHA-256, version 4", "conflicts":
		default:
			continue
		}
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			w := newWorktreeOf(t, state.size, gittest.Files("a", "x", "d/a", "x", "d/ab", "x"))
			if state.name != "conflicts" {
				state.make(t, w)
			} else {
				conflictIn(t, w, gittest.Files("a", "x", "p", "x"), gittest.Files("a", "x", "p", "y"), gittest.Files("a", "z", "p", "z"))
			}
			data := read(t, w.index)
			whole, err := parse("", data, w.size)
			if err != nil {
				t.Fatal(err)
			}
			sum := func(body []byte) []byte {
				h := tree.NewHash(w.size)
				h.Write(body)
				return h.Sum(slices.Clone(body))
			}
			for n := range data {
				if _, err := parse("", data[:n], w.size); err == nil {
					t.Errorf("%d of %d bytes are an index", n, len(data))
				}
				if n < len(data)-w.size {
					if x, err := parse("", sum(data[:n]), w.size); err == nil && !slices.Equal(all(x), all(whole)) {
						t.Errorf("%d of %d bytes, with a checksum, are another index", n, len(data))
					}
				}
				for _, bits := range []byte{0x01, 0x80, 0xff} {
					broken := slices.Clone(data)
					broken[n] ^= bits
					if x, err := parse("", broken, w.size); err == nil && !slices.Equal(all(x), all(whole)) {
						t.Errorf("byte %d changed: other entries", n)
					}
					if x, err := parse("", sum(broken[:len(data)-w.size]), w.size); err == nil {
						sound(t, x, w.size)
					}
				}
			}
		})
	}
}

// sound holds what is true of every index that is accepted.
func sound(t *testing.T, x *Index, size int) {
	t.Helper()
	entries := all(x)
	for i := range entries {
		e := &entries[i]
		if !filepath.IsLocal(e.Path) || filepath.Clean(e.Path) != e.Path || strings.Contains(e.Path, "\x00") {
			t.Errorf("path %q", e.Path)
		}
		if i > 0 && entries[i-1].Path >= e.Path {
			t.Errorf("%q before %q", entries[i-1].Path, e.Path)
		}
		switch e.Mode {
		case tree.File, tree.Executable, tree.Symlink, tree.Submodule:
		default:
			t.Errorf("mode %o", e.Mode)
		}
		if place, found := x.Find(e.Path); place != i || !found {
			t.Errorf("%q is not found", e.Path)
		}
	}
	x.Tree(hashOnly(size))
	var out bytes.Buffer
	if _, err := x.Write(&out, nil); err != nil {
		t.Fatal(err)
	}
	again, err := parse("", out.Bytes(), size)
	if err != nil {
		t.Fatalf("what was written is not read: %v", err)
	}
	compare(t, all(again), all(x))
}

// TestUnsupported holds what only git reads against ErrUnsupported.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	version := func(v uint32) func(*testing.T, *worktree) {
		return func(t *testing.T, w *worktree) {
			data := read(t, w.index)
			binary.BigEndian.PutUint32(data[4:], v)
			if err := os.WriteFile(w.index, data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, test := range map[string]struct {
		size int
		make func(*testing.T, *worktree)
	}{
		"sparse": {20, func(t *testing.T, w *worktree) {
			w.git(t, "config", "core.bare", "false")
			w.git(t, "sparse-checkout", "set", "--cone", "--sparse-index", "shared")
		}},
		"version 1":         {20, version(1)},
		"version 5":         {20, version(5)},
		"version from hell": {20, version(0xffffffff)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorktree(t, test.size)
			test.make(t, w)
			if x, err := readIndex(w.index, w.size); !errors.Is(err, ErrUnsupported) {
				t.Errorf("%v, error %v", x, err)
			}
		})
	}
}

// splitAgain leaves a split index with entries that are deleted, replaced and
// added.
func splitAgain(t *testing.T, w *worktree) {
	w.git(t, "update-index", "--split-index")
	if err := os.WriteFile(filepath.Join(w.dir, "run"), []byte("changed\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "shared/new"), []byte("new\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.git(t, "update-index", "--add", "run", "shared/new")
	w.git(t, "rm", "-q", "--cached", "pq", "shared/prefix/ab")
	if len(w.shared(t)) == 0 {
		t.Fatal("it is not split")
	}
}

// shared are the files that split indexes are based on.
func (w *worktree) shared(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.repo, "sharedindex.*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	if x, err := readIndex(filepath.Join(dir, "none"), 20); err != nil || x.Len() != 0 || x.Tree(hashOnly(20)).Root.String() != "4b825dc642cb6eb9a060e54bf8d69288fbee4904" {
		t.Errorf("a file that is not there: %v, %v", x, err)
	}
	if x, err := readIndex(dir, 20); err == nil {
		t.Errorf("a directory: %v", x)
	}
	for name, data := range map[string]string{"empty": "", "short": "DIRC", "text": strings.Repeat("not an index", 10), "zeros": strings.Repeat("\x00", 100)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
		if x, err := readIndex(path, 20); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", name, x, err)
		}
	}
}

// TestSkipHash: with index.skipHash (git 2.40) the checksum is zero.
func TestSkipHash(t *testing.T) {
	t.Parallel()
	w := newWorktree(t, 20)
	data := read(t, w.index)
	clear(data[len(data)-20:])
	x, err := parse("", data, 20)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, all(x), w.listed(t))
}

// TestForged holds entries that git never writes.
func TestForged(t *testing.T) {
	t.Parallel()
	item := tree.Item{Mode: tree.File, OID: tree.HashObject("blob", nil, 20)}
	for name, test := range map[string]struct {
		paths []string
		want  string
	}{
		"absolute":       {[]string{"/etc/passwd"}, "not a path"},
		"out":            {[]string{"../x"}, "not a path"},
		"out, below":     {[]string{"a/../../x"}, "not a path"},
		"dot":            {[]string{"a/./b"}, "not a path"},
		"nothing":        {[]string{""}, "not a path"},
		"slash":          {[]string{"a//b"}, "not a path"},
		"slash at end":   {[]string{"a/"}, "not a path"},
		"unsorted":       {[]string{"b", "a"}, "out of order"},
		"unsorted, long": {[]string{"a", "c", "b"}, "out of order"},
		"fine":           {[]string{"a", "a-b", "a/b", "a0"}, ""},
	} {
		var entries []Entry
		for _, path := range test.paths {
			entries = append(entries, Entry{Path: path, Item: item})
		}
		x := New(entries, 20)
		var out bytes.Buffer
		if _, err := x.Write(&out, nil); err != nil {
			t.Fatal(err)
		}
		_, err := parse("", out.Bytes(), 20)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestExtensions: one that changes what the entries mean is not passed over.
func TestExtensions(t *testing.T) {
	t.Parallel()
	x := New([]Entry{{Path: "a", Item: tree.Item{Mode: tree.File}}}, 20)
	var out bytes.Buffer
	if _, err := x.Write(&out, nil); err != nil {
		t.Fatal(err)
	}
	body := out.Bytes()[:out.Len()-20]
	const optional = "TREE\x00\x00\x00\x02xx"
	for extension, want := range map[string]error{
		"": nil, optional: nil, optional + "ZZZZ\x00\x00\x00\x00": nil,
		"link\x00\x00\x00\x00": ErrUnsupported, "sdir\x00\x00\x00\x00": ErrUnsupported, optional + "zzzz\x00\x00\x00\x01x": ErrUnsupported,
		"TREE\x00\x00\x00\x03xx": errShort, "TREE\xff\xff\xff\xffxx": errShort,
	} {
		if _, err := parse("", append(append(slices.Clone(body), extension...), make([]byte, 20)...), 20); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", extension, err, want)
		}
	}
}

// TestUnmerged: nothing is believed of a file that a merge may have left.
func TestUnmerged(t *testing.T) {
	t.Parallel()
	known := Stat{MTimeSec: 7, Size: 1}
	x := New([]Entry{{Path: "a", Item: tree.Item{Mode: tree.File}, Stat: known}, {Path: "b", Item: tree.Item{Mode: tree.File}, Stat: known}}, 20)
	var out bytes.Buffer
	if _, err := x.Write(&out, nil); err != nil {
		t.Fatal(err)
	}
	data := append(out.Bytes()[:out.Len()-20], make([]byte, 20)...)
	data[headerSize+statSize+20] |= flagStage >> 8 & 0x20 // stage 2 of the first
	got, err := parse("", data, 20)
	if err != nil || got.Len() != 2 || got.Stat(0) != (Stat{}) || got.Stat(1) != known {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStatOf: what is remembered of a file is what git remembers of it.
func TestStatOf(t *testing.T) {
	t.Parallel()
	w := newWorktree(t, 20)
	for _, e := range w.listed(t) {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(w.dir, e.Path), &st); err != nil {
			t.Fatal(err)
		}
		if e.Mode == tree.Submodule {
			continue // git remembers nothing
		}
		got := StatOf(&st)
		if e.Stat.Size == 0 {
			got.Size = 0 // git distrusts a file as old as the index
		}
		if got != e.Stat {
			t.Errorf("%q: %+v, git says %+v", e.Path, got, e.Stat)
		}
	}
}

func TestRacy(t *testing.T) {
	t.Parallel()
	written := time.Unix(1000, 500)
	for name, test := range map[string]struct {
		sec, nsec uint32
		want      bool
	}{
		"long before":   {900, 0, false},
		"just before":   {1000, 499, false},
		"at that time":  {1000, 500, true},
		"just after":    {1000, 501, true},
		"after":         {1001, 0, true},
		"nothing known": {0, 0, false},
	} {
		x := New([]Entry{{Path: "a", Stat: Stat{MTimeSec: test.sec, MTimeNsec: test.nsec}}}, 20)
		x.Written = written
		if got := x.Racy(0); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	var entries []Entry
	for _, path := range []string{"a", "a-b", "d/e-", "d/e/f", "d0"} {
		entries = append(entries, Entry{Path: path})
	}
	x := New(entries, 20)
	for path, want := range map[string]struct {
		found bool
		below int
	}{"a": {true, 0}, "a-b": {true, 0}, "d": {false, 2}, "d/e": {false, 1}, "d/e/f": {true, 0}, "d/e-": {true, 0}, "d0": {true, 0},
		"": {}, "A": {}, "a-": {}, "a/b": {}, "d/": {}, "d/e/": {}, "d/e/f/g": {}, "d/f": {}, "e": {}, "d-": {}} {
		at, found := x.Find(path)
		if found != want.found || found && entries[at].Path != path || !found && at < len(entries) && entries[at].Path <= path {
			t.Errorf("%q: at %d, found %v", path, at, found)
		}
		if i, j := x.Below(path); j-i != want.below || j > i && !strings.HasPrefix(entries[i].Path, path+"/") {
			t.Errorf("below %q: %d to %d", path, i, j)
		}
	}
}

func FuzzParse(f *testing.F) {
	item := tree.Item{Mode: tree.File, OID: tree.HashObject("blob", nil, 20)}
	x := New([]Entry{{Path: "a", Item: item}, {Path: "d/b", Item: item, Stat: Stat{Size: 7}}}, 20)
	var out bytes.Buffer
	if _, err := x.Write(&out, nil); err != nil {
		f.Fatal(err)
	}
	body := out.Bytes()[:out.Len()-20]
	f.Add(body, false)
	f.Add(append(slices.Clone(body), "TREE\x00\x00\x00\x00link\x00\x00\x00\x01x"...), false)
	four := slices.Clone(body) // the paths of version 4: cut nothing, then "a" to "d/b"
	four[7] = 4
	f.Add(four, false)
	f.Add([]byte("DIRC\x00\x00\x00\x03\x00\x00\x00\x01"+strings.Repeat("x", 200)), true)
	f.Fuzz(func(t *testing.T, body []byte, long bool) {
		size := 20
		if long {
			size = 32
		}
		// Without a checksum, or nothing would get any further.
		x, err := parse("", append(slices.Clone(body), make([]byte, size)...), size)
		if err == nil {
			sound(t, x, size)
		}
	})
}
