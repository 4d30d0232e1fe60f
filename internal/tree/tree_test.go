package tree

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// memory holds objects, also such as git would not write, and counts how often
// it is read.
type memory struct {
	size    int
	objects map[git.OID]object
	reads   int
	most    int // reads after which it fails, 0 for no limit
}

type object struct{ kind, data string }

func newMemory() *memory { return &memory{size: 20, objects: map[git.OID]object{}} }

var errEnough = errors.New("read too much")

func (m *memory) Read(oid git.OID) (string, []byte, error) {
	if m.reads++; m.most > 0 && m.reads > m.most {
		return "", nil, errEnough
	}
	o, found := m.objects[oid]
	if !found {
		return "", nil, fmt.Errorf("object %s: %w", oid, git.ErrNoObject)
	}
	return o.kind, []byte(o.data), nil
}

func (m *memory) HashSize() int { return m.size }

func (m *memory) add(kind, data string) git.OID {
	oid := HashObject(kind, []byte(data), m.size)
	m.objects[oid] = object{kind, data}
	return oid
}

// tree adds a tree of exactly these entries.
func (m *memory) tree(entries ...entry) git.OID {
	return m.add("tree", encode(entries))
}

// entry is an Entry whose mode may be anything.
type entry struct {
	mode, name string
	oid        git.OID
}

func encode(entries []entry) string {
	var b strings.Builder
	for _, e := range entries {
		oid := e.oid.Bytes()
		if len(oid) == 0 {
			oid = make([]byte, 20)
		}
		b.WriteString(e.mode + " " + e.name + "\x00" + string(oid))
	}
	return b.String()
}

// nest puts a tree below so many directories named name.
func (m *memory) nest(oid git.OID, name string, levels int) git.OID {
	for range levels {
		oid = m.tree(entry{"40000", name, oid})
	}
	return oid
}

// build adds the trees of t, and its blobs.
func (m *memory) build(t testing.TB, files gittest.Tree) git.OID {
	t.Helper()
	paths := files.Paths()
	b := Build(m, len(paths), func(i int) (string, Item) {
		node := files[paths[i]]
		mode, err := strconv.ParseUint(node.Mode, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		if node.Mode == gittest.Gitlink {
			oid, err := git.ParseOID(node.Data)
			if err != nil {
				t.Fatal(err)
			}
			return paths[i], Item{Mode: Mode(mode), OID: oid}
		}
		return paths[i], Item{Mode: Mode(mode), OID: m.add("blob", node.Data)}
	})
	for oid, data := range b.trees {
		m.objects[oid] = object{"tree", string(data)}
	}
	return b.Root
}

// changes describes changes, one a line.
func describe(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%06o %06o %s %s %q\n", uint32(c.Old.Mode), uint32(c.New.Mode), c.Old.OID, c.New.OID, c.Path)
	}
	return b.String()
}

// TestEntries holds trees of hostile names, modes and orders against what is
// said about them, "" where they may be deployed.
func TestEntries(t *testing.T) {
	m := newMemory()
	blob := m.add("blob", "x\n")
	sub := m.tree(entry{"100644", "f", blob})
	file := func(name string) []entry { return []entry{{"100644", name, blob}} }
	mode := func(mode string) []entry { return []entry{{mode, "f", blob}} }
	tests := []struct {
		name    string
		entries []entry
		want    string
	}{
		{"nothing", nil, ""},
		{"a file", file("f"), ""},
		{"dot", file("."), "leaves its directory"},
		{"dots", file(".."), "leaves its directory"},
		{"three dots", file("..."), ""},
		{"dots and more", file("..a"), ""},
		{".git", file(".git"), "git's own"},
		{".GIT", file(".GIT"), "git's own"},
		{".gIt", file(".gIt"), "git's own"},
		{"NTFS short name", file("git~1"), "git's own"},
		{"NTFS short name in capitals", file("GIT~1"), "git's own"},
		{"another short name", file("git~2"), ""},
		{"NTFS dot", file(".git."), "git's own"},
		{"NTFS space", file(".git "), "git's own"},
		{"NTFS dot and space", file(".git. "), "git's own"},
		{"NTFS short name and dots", file("git~1 .."), "git's own"},
		{"NTFS stream", file(".git::$INDEX_ALLOCATION"), "git's own"},
		{"NTFS short stream", file("git~1:x"), "git's own"},
		{"NTFS stream after a space", file(".git :x"), "git's own"},
		{"HFS ZWNJ", file(".g\u200cit"), "git's own"},
		{"HFS first", file("\u200c.git"), "git's own"},
		{"HFS last", file(".git\ufeff"), "git's own"},
		{"HFS marks", file("\u202e.\u206aG\u200fit"), "git's own"},
		{".gitx", file(".gitx"), ""},
		{".gi", file(".gi"), ""},
		{".gitignore", file(".gitignore"), ""},
		{".git at the end", file("x.git"), ""},
		{"colon", file("a:b"), ""},
		{"tilde", file("~"), ""},
		{".git directory", []entry{{"40000", ".git", sub}}, "git's own"},
		{".git symlink", []entry{{"120000", ".git", blob}}, "git's own"},
		{".git submodule", []entry{{"160000", ".git", blob}}, "git's own"},
		{".gitmodules", file(".gitmodules"), ""},
		{".gitmodules symlink", []entry{{"120000", ".gitmodules", blob}}, "symlink"},
		{".gitmodules symlink, NTFS", []entry{{"120000", "GITMOD~1", blob}}, "symlink"},
		{".gitmodules symlink, by its hash", []entry{{"120000", "GI7EBA~1", blob}}, "symlink"},
		{".gitmodules symlink, by its hash, many", []entry{{"120000", "gi7eb~12. :x", blob}}, "symlink"},
		{"no short name", []entry{{"120000", "gi7eba~01", blob}, {"120000", "gi7eba~x", blob}, {"120000", "gitmod~5", blob}}, ""},
		{".gitmodules directory", []entry{{"40000", ".gitmodules", sub}}, "not a file"},
		{".gitmodules submodule", []entry{{"160000", ".gitmodules", blob}}, "not a file"},
		{".gitattributes directory", []entry{{"40000", ".GitAttributes", sub}}, "not a file"},
		{".gitattributes symlink", []entry{{"120000", ".gitattributes", blob}}, ""},
		{"HFS, cut short by what is no character", file(".git\xffx"), "git's own"},
		{"HFS, cut short by a noncharacter", file(".git\uffffx"), "git's own"},
		{"HFS, a replacement character", file(".git\ufffdx"), ""},
		{".gitmodules symlink, HFS", []entry{{"120000", ".gitmod\u200cules", blob}}, "symlink"},
		{"slash", file("a/b"), "slash"},
		{"absolute", file("/etc"), "slash"},
		{"slash at the end", file("a/"), "slash"},
		{"out", file("../x"), "slash"},
		{"backslash", file(`a\b`), "slash"},
		{"backslash out", file(`..\x`), "slash"},
		{"no name", file(""), "no name"},
		{"newline", file("a\nb"), "control character"},
		{"ESC", file("\x1b[2J"), "control character"},
		{"BEL", file("\x07"), "control character"},
		{"tab", file("a\tb"), "control character"},
		{"DEL", file("a\x7f"), "control character"},
		{"one", file("\x01"), "control character"},
		{"invalid UTF-8", file("\xff\xfe"), ""},
		{"space", file(" "), ""},
		{"255 bytes", file(strings.Repeat("x", 255)), ""},
		{"256 bytes", file(strings.Repeat("x", 256)), "longer than 255"},
		{"256 bytes of UTF-8", file(strings.Repeat("é", 128)), "longer than 255"},

		{"twice", []entry{{"100644", "a", blob}, {"100644", "a", blob}}, "twice"},
		{"file and directory", []entry{{"100644", "a", blob}, {"40000", "a", sub}}, "twice"},
		{"directory and file", []entry{{"40000", "a", sub}, {"100644", "a", blob}}, "twice"},
		{"symlink and directory", []entry{{"120000", "a", blob}, {"40000", "a", sub}}, "twice"},
		{"symlink, another, directory", []entry{{"120000", "a", blob}, {"100644", "a-", blob}, {"40000", "a", sub}}, "twice"},
		{"submodule and directory", []entry{{"160000", "a", blob}, {"40000", "a", sub}}, "twice"},
		{"unsorted", []entry{{"100644", "b", blob}, {"100644", "a", blob}}, "order"},
		{"directory before its place", []entry{{"40000", "a", sub}, {"100644", "a-", blob}}, "order"},
		{"directory in its place", []entry{{"100644", "a-", blob}, {"40000", "a", sub}, {"100644", "a0", blob}}, ""},
		{"file before its longer name", []entry{{"100644", "a", blob}, {"100644", "a-", blob}}, ""},
		{"case", []entry{{"100644", "A", blob}, {"100644", "a", blob}}, ""},

		{"executable", mode("100755"), ""},
		{"old git", mode("100664"), ""},
		{"symlink", mode("120000"), ""},
		{"submodule", mode("160000"), ""},
		{"private", mode("100600"), "mode"},
		{"writable", mode("100666"), "mode"},
		{"set uid", mode("104755"), "mode"},
		{"no type", mode("644"), "mode"},
		{"device", mode("60644"), "mode"},
		{"character device", mode("20644"), "mode"},
		{"fifo", mode("10644"), "mode"},
		{"socket", mode("140644"), "mode"},
		{"padded", []entry{{"040000", "d", sub}}, "mode"},
		{"directory with permissions", []entry{{"40755", "d", sub}}, "mode"},
		{"symlink with permissions", mode("120777"), "mode"},
		{"zero", mode("0"), "mode"},
		{"no mode", mode(""), "mode"},
		{"not octal", mode("10064x"), "mode"},
		{"long", mode("100000000100644"), "mode"},
		{"no object", []entry{{"100644", "a", git.OID{}}}, "no object"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, root := range []struct {
				oid    git.OID
				prefix string
			}{{m.tree(test.entries...), ""}, {m.nest(m.tree(test.entries...), "s", 1), "s/"}} {
				changes, err := Diff(m, git.OID{}, root.oid, 100)
				if test.want != "" {
					if err == nil || !strings.Contains(err.Error(), test.want) {
						t.Errorf("%d changes, error %v, want %q in it", len(changes), err, test.want)
					} else if !isPrintable(err.Error()) {
						t.Errorf("the error is not for the terminal: %q", err)
					} else if named := strings.Contains(err.Error(), "directory "+strconv.Quote(root.prefix)); named != (root.prefix != "") {
						t.Errorf("the error names the directory %q: %t: %v", root.prefix, named, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("error %v", err)
				}
				for _, e := range test.entries {
					if e.mode != "40000" && !slices.ContainsFunc(changes, func(c Change) bool { return c.Path == root.prefix+e.name }) {
						t.Errorf("%q is not among the changes:\n%s", e.name, describe(changes))
					}
				}
			}
			// What is on the disk already must be comparable, to get rid of it.
			if _, err := Diff(m, m.tree(test.entries...), sub, 100); err != nil && !strings.Contains(err.Error(), "mode") {
				t.Errorf("as the old tree: %v", err)
			}
		})
	}
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

// TestOldMode: what early versions of git wrote is a file like any other.
func TestOldMode(t *testing.T) {
	m := newMemory()
	blob := m.add("blob", "x\n")
	changes, err := Diff(m, m.tree(entry{"100644", "a", blob}), m.tree(entry{"100664", "a", blob}), 10)
	if err != nil || len(changes) != 0 {
		t.Errorf("%s%v", describe(changes), err)
	}
}

func TestTruncated(t *testing.T) {
	m := newMemory()
	whole := encode([]entry{{"100644", "a", m.add("blob", "x\n")}, {"40000", "d", m.tree()}})
	first := len("100644 a\x00") + 20
	for n := range len(whole) {
		_, err := Diff(m, git.OID{}, m.add("tree", whole[:n]), 10)
		if (err == nil) != (n == 0 || n == first) {
			t.Errorf("%d bytes: error %v", n, err)
		}
	}
}

// TestKinds: objects that are not what the tree says they are.
func TestKinds(t *testing.T) {
	m := newMemory()
	blob := m.add("blob", "x\n")
	missing := HashObject("blob", []byte("nowhere"), 20)
	tests := map[string]struct {
		root git.OID
		want string
	}{
		"root is a blob":     {blob, "is a blob"},
		"root is missing":    {missing, "object not found"},
		"blob for a tree":    {m.tree(entry{"40000", "d", blob}), `"d/" is a blob`},
		"tree is missing":    {m.tree(entry{"40000", "d", missing}), "object not found"},
		"in a subdirectory":  {m.nest(blob, "d", 3), `"d/d/d/" is a blob`},
		"commit for a tree":  {m.tree(entry{"40000", "d", m.add("commit", "tree x")}), "is a commit"},
		"missing, but below": {m.nest(missing, "d", 2), `"d/d/"`},
	}
	for name, test := range tests {
		if _, err := Diff(m, git.OID{}, test.root, 10); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q in it", name, err, test.want)
		}
	}
}

// TestObjectsThatGo: an object that is gone when it is looked at is an error, and
// never an empty directory or a harmless symlink, whichever it is.
func TestObjectsThatGo(t *testing.T) {
	link := func(target string) gittest.Node { return gittest.Node{Mode: gittest.Symlink, Data: target} }
	old := gittest.Tree{"d/e/f": {Mode: gittest.File, Data: "old"}, "d/link": link("e/f")}
	next := gittest.Tree{"d/e/f": {Mode: gittest.File, Data: "new"}, "d/link": link("there/f"), "d/there": link("../x/y"), "x/y/f": {Mode: gittest.File, Data: "x"}}
	for name, ask := range map[string]func(m *memory, before, after git.OID) error{
		"the difference": func(m *memory, before, after git.OID) error {
			_, err := Diff(m, before, after, 10)
			return err
		},
		"the symlinks": func(m *memory, _, after git.OID) error {
			_, err := Links(m, after)
			return err
		},
		"where they lead": func(m *memory, _, after git.OID) error {
			return CheckLinks(m, after, []Link{{Path: "d/link", OID: m.add("blob", "there/f")}})
		},
	} {
		m := newMemory()
		before, after := m.build(t, old), m.build(t, next)
		m.reads = 0
		if err := ask(m, before, after); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		reads := m.reads
		if reads < 3 {
			t.Fatalf("%s: only %d objects are read", name, reads)
		}
		for n := 1; n < reads; n++ {
			m.reads, m.most = 0, n
			if err := ask(m, before, after); !errors.Is(err, errEnough) {
				t.Errorf("%s, the object that is read after %d others is gone: %v", name, n, err)
			}
		}
	}
}

// TestLimits holds trees that are just within the limits, and just beyond.
func TestLimits(t *testing.T) {
	m := newMemory()
	blob := m.add("blob", "x\n")
	file := m.tree(entry{"100644", "f", blob})
	long := strings.Repeat("x", 199)
	path4095 := m.nest(m.tree(entry{"100644", strings.Repeat("y", 95), blob}), long, 20) // 20*200 + 95
	path4096 := m.nest(m.tree(entry{"100644", strings.Repeat("y", 96), blob}), long, 20)
	five := m.tree(entry{"100644", "1", blob}, entry{"100644", "2", blob}, entry{"40000", "d", m.tree(
		entry{"100644", "3", blob}, entry{"120000", "4", blob}, entry{"160000", "5", blob})})
	tests := []struct {
		name     string
		old, new git.OID
		files    int64
		want     string
	}{
		{"100 levels", git.OID{}, m.nest(file, "d", 99), 9, ""},
		{"101 levels", git.OID{}, m.nest(file, "d", 100), 9, "nested more than 100 deep"},
		{"2,000 levels", git.OID{}, m.nest(file, "d", 1999), 9, "deep"},
		{"100,000 levels", git.OID{}, m.nest(file, "d", 99_999), 9, "longer than 4095"},
		{"101 levels, half of them there", m.nest(m.nest(file, "d", 50), "a", 1), m.nest(m.nest(file, "d", 50), "d", 50), 9, "deep"},
		{"101 levels, most of them unchanged", m.nest(file, "d", 100), m.nest(m.tree(entry{"100644", "g", blob}), "d", 100), 9, "deep"},
		{"4,095 bytes", git.OID{}, path4095, 9, ""},
		{"4,096 bytes", git.OID{}, path4096, 9, "longer than 4095 bytes"},
		{"4,096 bytes, moved there", path4095, m.nest(path4095, "a", 1), 9, "longer than 4095 bytes"},
		{"4,096 bytes, twice", git.OID{}, m.tree(entry{"40000", "a", path4095}, entry{"40000", "b", m.nest(file, "c", 2)}), 9, "longer than 4095 bytes"},
		{"files", git.OID{}, five, 5, ""},
		{"a file too many", git.OID{}, five, 4, "max_files = 4"},
		{"the same again", git.OID{}, m.tree(entry{"40000", "a", five}, entry{"40000", "b", five}), 9, "max_files = 9"},
		{"the same again, enough", git.OID{}, m.tree(entry{"40000", "a", five}, entry{"40000", "b", five}), 10, ""},
	}
	for _, test := range tests {
		_, err := Diff(m, test.old, test.new, test.files)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
	}
}

// TestBombs: a few bytes that unpack to more paths than anybody can list are
// refused before they are listed.
func TestBombs(t *testing.T) {
	m := newMemory()
	digits := strings.Split("0123456789", "")
	times10 := func(oid git.OID, levels int) git.OID {
		for range levels {
			var entries []entry
			for _, name := range digits {
				entries = append(entries, entry{"40000", name, oid})
			}
			oid = m.tree(entries...)
		}
		return oid
	}
	file := m.tree(entry{"100644", "f", m.add("blob", "x\n")})
	empty := m.tree()
	small := m.tree(entry{"40000", "0", file})
	tests := []struct {
		name     string
		old, new git.OID
	}{
		{"10^9 files", git.OID{}, times10(file, 9)},
		{"10^32 files", git.OID{}, times10(file, 32)},
		{"10^9 files where there are some", small, times10(file, 9)},
		{"10^9 files where there are many", times10(file, 3), times10(file, 9)},
		{"10^9 empty directories", git.OID{}, times10(empty, 9)},
		{"10^32 empty directories", git.OID{}, times10(empty, 32)},
		{"10^9 empty directories where there are some", small, times10(empty, 9)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m.reads, m.most = 0, 20_000
			changes, err := Diff(m, test.old, test.new, 1_000_000)
			if err == nil || errors.Is(err, errEnough) {
				t.Errorf("%d changes, error %v, after %d reads", len(changes), err, m.reads)
			}
		})
	}
}

// TestManyDirectories: directories count while they are read, not only when all
// in one of them have been.
func TestManyDirectories(t *testing.T) {
	t.Parallel()
	m := newMemory()
	blob, leaves := m.add("blob", "x\n"), 0
	var build func(levels int) git.OID
	build = func(levels int) git.OID {
		if levels == 0 {
			leaves++
			return m.tree(entry{"100644", strconv.Itoa(leaves), blob})
		}
		return m.tree(entry{"40000", "a", build(levels - 1)}, entry{"40000", "b", build(levels - 1)})
	}
	root := build(13)
	if _, err := Diff(m, git.OID{}, root, 10_000); err == nil || !strings.Contains(err.Error(), "max_files = 10000 directories") {
		t.Errorf("error %v", err)
	}
	if m.reads > 10_000 {
		t.Errorf("%d reads", m.reads)
	}
	if _, err := Diff(m, git.OID{}, root, 20_000); err != nil {
		t.Errorf("enough: %v", err)
	}
}

// TestDiff holds differences against git's, for every two commits of a history
// that follow one another, in both directions.
func TestDiff(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(101, 62)
	repo := gittest.Bare(t)
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, history...))
	objects := open(t, repo)
	for i := range trees {
		for _, pair := range [][2]string{{trees[max(0, i-1)], trees[i]}, {trees[i], trees[i/2]}} {
			changes, err := Diff(objects, oid(t, pair[0]), oid(t, pair[1]), 1_000_000)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) }) {
				t.Errorf("not sorted:\n%s", describe(changes))
			}
			want := gitDiff(t, repo, pair[0], pair[1])
			if describe(changes) != want {
				t.Fatalf("%s..%s:\n%sgit says:\n%s", pair[0], pair[1], describe(changes), want)
			}
		}
	}
}

// gitDiff is git's own answer, as describe writes it.
func gitDiff(t *testing.T, repo, from, to string) string {
	t.Helper()
	fields := strings.Split(gittest.Git(t, repo, "diff-tree", "-r", "--no-renames", "-z", from, to), "\x00")
	var changes []Change
	for i := 0; i+1 < len(fields); i += 2 { // ":100644 000000 OID OID D", path
		var c Change
		var from, to, letter string
		if _, err := fmt.Sscanf(fields[i], ":%o %o %s %s %s", &c.Old.Mode, &c.New.Mode, &from, &to, &letter); err != nil {
			t.Fatalf("%q: %v", fields[i], err)
		}
		c.Path, c.Old.OID, c.New.OID = fields[i+1], oid(t, from), oid(t, to)
		changes = append(changes, c)
	}
	sort.Slice(changes, func(i, j int) bool { return changes[i].Path < changes[j].Path })
	return describe(changes)
}

func oid(t testing.TB, s string) git.OID {
	t.Helper()
	o, err := git.ParseOID(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func open(t *testing.T, repo string) *git.Objects {
	t.Helper()
	r, err := git.Open(repo, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	objects := r.Objects(t.Context())
	t.Cleanup(objects.Close)
	return objects
}

// TestDiffReads: what both trees share is not read.
func TestDiffReads(t *testing.T) {
	m := newMemory()
	shared := gittest.Tree{}
	for i := range 500 {
		shared[fmt.Sprintf("shared/%d/%d", i%50, i)] = gittest.Node{Mode: gittest.File, Data: fmt.Sprint(i)}
	}
	shared["changed/f"] = gittest.Node{Mode: gittest.File, Data: "old"}
	old := m.build(t, shared)
	shared["changed/f"] = gittest.Node{Mode: gittest.File, Data: "new"}
	changed := m.build(t, shared)
	m.reads, m.most = 0, 8 // two roots and two directories, twice
	if changes, err := Diff(m, old, changed, 1000); err != nil || len(changes) != 1 || changes[0].Path != "changed/f" {
		t.Errorf("%s%v", describe(changes), err)
	}
}

// TestBuild holds the trees of lists of paths against those that git writes.
func TestBuild(t *testing.T) {
	t.Parallel()
	history, _ := gittest.History(102, 40)
	repo := gittest.Bare(t)
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, history...))
	index := "GIT_INDEX_FILE=" + gittest.Dir(t) + "/index"
	for i, root := range trees {
		var paths []string
		var items []Item
		var below []git.OID
		for line := range strings.SplitSeq(strings.TrimSuffix(gittest.Git(t, repo, "ls-tree", "-r", "-t", "-z", root), "\x00"), "\x00") {
			if line == "" {
				continue
			}
			head, path, _ := strings.Cut(line, "\t")
			fields := strings.Fields(head)
			mode, err := strconv.ParseUint(fields[0], 8, 32)
			if err != nil {
				t.Fatal(err)
			}
			if fields[1] == "tree" {
				below = append(below, oid(t, fields[2]))
				continue
			}
			paths, items = append(paths, path), append(items, Item{Mode: Mode(mode), OID: oid(t, fields[2])})
		}
		if i%5 == 0 { // git's own way from an index
			gittest.Run(t, repo, []string{index}, "", "read-tree", root)
			root = strings.TrimSpace(gittest.Run(t, repo, []string{index}, "", "write-tree", "--missing-ok"))
		}
		beneath := newMemory()
		b := Build(beneath, len(paths), func(i int) (string, Item) { return paths[i], items[i] })
		if b.Root.String() != root {
			t.Errorf("tree %s, git writes %s", b.Root, root)
		}
		for _, oid := range append(below, b.Root) {
			if kind, data, err := b.Read(oid); err != nil || kind != "tree" || HashObject("tree", data, 20) != oid {
				t.Errorf("directory %s: %q, %v", oid, kind, err)
			}
		}
		if blob := beneath.add("blob", "beneath"); b.HashSize() != 20 {
			t.Errorf("hash size %d", b.HashSize())
		} else if kind, data, err := b.Read(blob); err != nil || kind != "blob" || string(data) != "beneath" {
			t.Errorf("an object beneath: %q %q, %v", kind, data, err)
		}
	}
}

func TestSHA256(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t, "--object-format=sha256")
	files := gittest.Files("a", "x\n", "d/b", "y\n", "d/e/c", "")
	trees := gittest.TreesOf(t, repo, gittest.Commits(t, repo, files, gittest.Files("a", "z\n", "d/e/c", "")))
	m := &memory{size: 32, objects: map[git.OID]object{}}
	if root := m.build(t, files); root.String() != trees[0] {
		t.Errorf("tree %s, git writes %s", root, trees[0])
	}
	changes, err := Diff(open(t, repo), oid(t, trees[0]), oid(t, trees[1]), 10)
	if want := gitDiff(t, repo, trees[0], trees[1]); err != nil || describe(changes) != want {
		t.Errorf("%s%v\ngit says:\n%s", describe(changes), err, want)
	}
}

func TestHashObject(t *testing.T) {
	t.Parallel()
	for format, size := range map[string]int{"sha1": 20, "sha256": 32} {
		repo := gittest.Bare(t, "--object-format="+format)
		for _, data := range []string{"", "x\n", strings.Repeat("\x00long", 10_000)} {
			if got, want := HashObject("blob", []byte(data), size).String(), gittest.Object(t, repo, "blob", data); got != want {
				t.Errorf("%s of %d bytes: %s, git says %s", format, len(data), got, want)
			}
		}
	}
}

// TestSymlinks holds trees against what is said of their symlinks, "" where
// they stay inside.
func TestSymlinks(t *testing.T) {
	link := func(target string) gittest.Node { return gittest.Node{Mode: gittest.Symlink, Data: target} }
	chain := func(n int) gittest.Tree {
		tree := gittest.Tree{"0": {Mode: gittest.File, Data: "end"}}
		for i := 1; i <= n; i++ {
			tree[strconv.Itoa(i)] = link(strconv.Itoa(i - 1))
		}
		return tree
	}
	file := gittest.Node{Mode: gittest.File, Data: "x"}
	tests := []struct {
		name string
		tree gittest.Tree
		want string
	}{
		{"none", gittest.Tree{"f": file}, ""},
		{"beside", gittest.Tree{"f": file, "l": link("f")}, ""},
		{"up", gittest.Tree{"f": file, "d/l": link("../f")}, ""},
		{"to the top", gittest.Tree{"d/l": link("..")}, ""},
		{"here", gittest.Tree{"l": link(".")}, ""},
		{"to nothing", gittest.Tree{"l": link("not/there/../yet")}, ""},
		{"through a file", gittest.Tree{"f": file, "l": link("f/x")}, ""},
		{"slashes", gittest.Tree{"d/l": link(".//..//./x/")}, ""},
		{"through another", gittest.Tree{"d/e/f": file, "s": link("d/e"), "l": link("s/f")}, ""},
		{"4,095 bytes", gittest.Tree{"l": link(strings.Repeat("x/", 2047) + "x")}, ""},
		{"30 in a row", chain(30), ""},
		{"dots are a name, and a loop", gittest.Tree{"d/...": link("..."), "d/..a": file, "e": link("d/..a")}, "circle"},
		{"bad name", gittest.Tree{"bad\xff": file, "l": link("bad\xff")}, ""},

		{"absolute", gittest.Tree{"l": link("/etc/passwd")}, "leads outside the tree"},
		{"root", gittest.Tree{"l": link("/")}, "leads outside the tree"},
		{"parent", gittest.Tree{"l": link("..")}, "leaves the tree"},
		{"up too far", gittest.Tree{"d/l": link("../../x")}, "leaves the tree"},
		{"out and in again", gittest.Tree{"d/l": link("../../web/d")}, "leaves the tree"},
		{"down and up too far", gittest.Tree{"d/f": file, "l": link("d/../../x")}, "leaves the tree"},
		{"through nothing", gittest.Tree{"l": link("none/../../x")}, "leaves the tree"},
		{"out by another", gittest.Tree{"s": link("."), "d/l": link("../s/../x")}, "leaves the tree through another"},
		{"out by one in a directory", gittest.Tree{"d/e/s": link("../.."), "l": link("d/e/s/../x")}, "leaves the tree through another"},
		{"out by two", gittest.Tree{"s": link("t"), "t": link("."), "d/l": link("../s/../x")}, "leaves the tree through another"},
		{"loop", gittest.Tree{"l": link("l")}, "circle"},
		{"loop of two", gittest.Tree{"a": link("b"), "b": link("a")}, "circle"},
		{"loop below", gittest.Tree{"l": link("l/x")}, "circle"},
		{"loop that grows", gittest.Tree{"a": link("b/b/b"), "b": link("a/a/a")}, "circle"},
		{"60 in a row", chain(60), "circle"},
		{"empty", gittest.Tree{"l": link("")}, "no target"},
		{"4,096 bytes", gittest.Tree{"l": link(strings.Repeat("x/", 2048))}, "longer than 4095 bytes"},
		{"NUL", gittest.Tree{"l": link("a\x00b")}, "NUL"},
		{"escape sequence", gittest.Tree{"l": link("/\x1b[2J")}, `"/\x1b[2J"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newMemory()
			root := m.build(t, test.tree)
			links, err := Links(m, root)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, path := range test.tree.Paths() {
				if test.tree[path].Mode == gittest.Symlink {
					want = append(want, path)
				}
			}
			var got []string
			for _, l := range links {
				got = append(got, l.Path)
			}
			if !slices.Equal(got, want) {
				t.Errorf("links %q, want %q", got, want)
			}
			err = CheckLinks(m, root, links)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q in it", err, test.want)
			}
			if err != nil && !isPrintable(err.Error()) {
				t.Errorf("the error is not for the terminal: %q", err)
			}
		})
	}
	m := newMemory()
	sub := m.tree()
	for want, oid := range map[string]git.OID{"is a tree": sub, "object not found": HashObject("blob", []byte("nowhere"), 20)} {
		root := m.tree(entry{"120000", "l", oid})
		if err := CheckLinks(m, root, []Link{{"l", oid}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	m := newMemory()
	blob := m.add("blob", "x\n")
	f.Add([]byte{}, false)
	f.Add([]byte(encode([]entry{{"100644", "a", blob}, {"40000", "d", blob}, {"120000", ".gitmodules", blob}})), false)
	f.Add([]byte(encode([]entry{{"100664", "bad\xff", blob}, {"160000", ".GIT", blob}, {"100755", "..", blob}})), false)
	f.Add([]byte("100644 a\x00"+strings.Repeat("x", 32)), true)
	f.Fuzz(func(t *testing.T, data []byte, long bool) {
		size := 20
		if long {
			size = 32
		}
		entries, err := Parse(data, size)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again = fmt.Appendf(again, "%o %s\x00", uint32(e.Mode), e.Name)
			again = append(again, padded(e.OID, size)...)
		}
		if !bytes.Equal(again, bytes.ReplaceAll(data, []byte("100664 "), []byte("100644 "))) && !bytes.Contains(data, []byte("100664 ")) {
			t.Errorf("%x is read as %x", data, again)
		}
		if Check(entries) != nil {
			return
		}
		for i, e := range entries {
			if e.Name == "" || e.Name == "." || e.Name == ".." || strings.EqualFold(e.Name, ".git") ||
				strings.ContainsAny(e.Name, "/\\\x00\n\x1b") || len(e.Name) > 255 || e.OID.IsZero() {
				t.Errorf("%q is accepted", e.Name)
			}
			if i > 0 && key(entries[i-1]) >= key(e) {
				t.Errorf("%q before %q is accepted", entries[i-1].Name, e.Name)
			}
		}
	})
}

// key is what git sorts an entry by.
func key(e Entry) string {
	if e.Mode == Directory {
		return e.Name + "/"
	}
	return e.Name
}

// FuzzDiff: the differences between two trees, applied to the one, give the
// other.
func FuzzDiff(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0, 1, 9, 5, 2, 64, 3, 0, 1, 9, 5, 130, 7})
	f.Add([]byte("file and directory, directory to symlink"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 400 {
			return
		}
		half := len(data) / 2
		m := newMemory()
		from, to := decode(data[:half]), decode(data[half:])
		changes, err := Diff(m, m.build(t, from), m.build(t, to), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range changes {
			if i > 0 && changes[i-1].Path >= c.Path {
				t.Errorf("%q before %q", changes[i-1].Path, c.Path)
			}
			if was := item(t, m, from, c.Path); was != c.Old {
				t.Errorf("%q was %v, the change says %v", c.Path, was, c.Old)
			}
			if is := item(t, m, to, c.Path); is != c.New || c.Old == c.New {
				t.Errorf("%q is %v, the change says %v", c.Path, is, c.New)
			}
			delete(from, c.Path)
			if node, there := to[c.Path]; there {
				from[c.Path] = node
			}
		}
		if got, want := fmt.Sprint(from), fmt.Sprint(to); got != want {
			t.Errorf("the changes lead to %s, want %s", got, want)
		}
	})
}

func item(t *testing.T, m *memory, tree gittest.Tree, path string) Item {
	t.Helper()
	node, found := tree[path]
	if !found {
		return Item{}
	}
	mode, err := strconv.ParseUint(node.Mode, 8, 32)
	if err != nil {
		t.Fatal(err)
	}
	if node.Mode == gittest.Gitlink {
		return Item{Mode(mode), oid(t, node.Data)}
	}
	return Item{Mode(mode), HashObject("blob", []byte(node.Data), m.size)}
}

// decode makes a small tree of any bytes: two bytes are a path's depth, names
// and mode, and the content.
func decode(data []byte) gittest.Tree {
	names := []string{"a", "b", "a-", "a0", "a.b", "ab", "\xff", "A"}
	modes := []string{gittest.File, gittest.Executable, gittest.Symlink, gittest.Gitlink}
	tree := gittest.Tree{}
	for ; len(data) >= 2; data = data[2:] {
		path := names[data[0]&7]
		for i := range data[0] >> 6 {
			path += "/" + names[(data[0]>>3+i)&7]
		}
		node := gittest.Node{Mode: modes[data[1]&3], Data: strings.Repeat("x", int(data[1]>>6))}
		if node.Mode == gittest.Gitlink {
			node.Data = hex.EncodeToString(bytes.Repeat([]byte{data[1] | 1}, 20))
		}
		for other := range tree {
			if strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/") {
				delete(tree, other)
			}
		}
		tree[path] = node
	}
	return tree
}
