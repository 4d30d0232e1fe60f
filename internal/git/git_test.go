package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// kinds are repositories that store the same in different ways. Each function
// makes one of a plain repository, and returns what its environment has in
// addition. plain tells whether objects are read without git.
var kinds = []struct {
	name   string
	format string
	plain  bool
	make   func(t *testing.T, repo string) (dir string, env []string)
}{
	{"loose", "sha1", true, func(t *testing.T, repo string) (string, []string) { return repo, nil }},
	{"packed", "sha1", true, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f")
		gittest.Git(t, repo, "prune-packed")
		gittest.Git(t, repo, "pack-refs", "--all")
		return repo, nil
	}},
	{"several packs", "sha1", true, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "repack", "-q", "-d")
		gittest.Object(t, repo, "blob", "another pack")
		gittest.Git(t, repo, "repack", "-q", "-d")
		gittest.Git(t, repo, "multi-pack-index", "write")
		return repo, nil
	}},
	{"alternates", "sha1", true, func(t *testing.T, repo string) (string, []string) {
		clone := gittest.Clone(t, repo, "--shared")
		gittest.Git(t, clone, "symbolic-ref", "refs/heads/alias", "refs/heads/master")
		return clone, nil
	}},
	{"quarantine", "sha1", true, func(t *testing.T, repo string) (string, []string) {
		quarantine := filepath.Join(repo, "objects/incoming")
		if err := os.Rename(filepath.Join(repo, "objects"), filepath.Join(repo, "aside")); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"info", "pack"} {
			if err := os.MkdirAll(filepath.Join(repo, "objects", dir), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(filepath.Join(repo, "aside"), quarantine); err != nil {
			t.Fatal(err)
		}
		return repo, []string{"GIT_OBJECT_DIRECTORY=" + quarantine,
			"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + filepath.Join(repo, "objects")}
	}},
	{"SHA-256", "sha256", true, func(t *testing.T, repo string) (string, []string) { return repo, nil }},
	{"SHA-256, packed", "sha256", true, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "repack", "-q", "-a", "-d")
		gittest.Git(t, repo, "pack-refs", "--all")
		return repo, nil
	}},
	{"replaced objects", "sha1", false, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "replace", gittest.Object(t, repo, "blob", "replaced"), gittest.Object(t, repo, "blob", "new"))
		return repo, nil
	}},
	{"replaced objects, packed", "sha1", false, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "replace", gittest.Object(t, repo, "blob", "replaced"), gittest.Object(t, repo, "blob", "new"))
		gittest.Git(t, repo, "pack-refs", "--all")
		os.RemoveAll(filepath.Join(repo, "refs/replace"))
		return repo, nil
	}},
	{"worktree configuration", "sha1", false, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "config", "core.repositoryFormatVersion", "1")
		gittest.Git(t, repo, "config", "extensions.worktreeConfig", "true")
		return repo, nil
	}},
	{"partial clone", "sha1", false, func(t *testing.T, repo string) (string, []string) {
		gittest.Git(t, repo, "config", "core.repositoryFormatVersion", "1")
		gittest.Git(t, repo, "config", "extensions.partialClone", "origin")
		return repo, nil
	}},
	{"odd configuration", "sha1", true, func(t *testing.T, repo string) (string, []string) {
		appendTo(t, filepath.Join(repo, "config"), "[odd \"sub.section\"]\n\tshort\n\tlong = a;b # comment\n\tvalue = \"; \\\" \\n\"\n")
		return repo, nil
	}},
}

// forKinds runs a test on each kind of repository, or on some of them. It has
// commits, tags of them, symbolic refs, and blobs small and large.
func forKinds(t *testing.T, test func(t *testing.T, r *Repository), only ...string) {
	for _, kind := range kinds {
		if len(only) > 0 && !slices.Contains(only, kind.name) {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			repo := gittest.Bare(t, "--object-format="+kind.format)
			gittest.Git(t, repo, "config", "fastimport.unpackLimit", "1000")
			large := make([]byte, 1<<20+1<<19)
			rand.NewChaCha8([32]byte{}).Read(large)
			gittest.Commits(t, repo, gittest.Files("old", "old\n"), gittest.Tree{
				"a":      {Mode: gittest.File, Data: "a\n"},
				"empty":  {Mode: gittest.File, Data: ""},
				"d/e/f":  {Mode: gittest.Executable, Data: strings.Repeat("f\n", 1000)},
				"d/link": {Mode: gittest.Symlink, Data: "../a"},
				"large":  {Mode: gittest.File, Data: string(large)},
			})
			gittest.Git(t, repo, "tag", "-a", "-m", "one", "one", "master")
			gittest.Git(t, repo, "tag", "-a", "-m", "two", "two", "one")
			gittest.Git(t, repo, "tag", "light", "master~1")
			gittest.Git(t, repo, "tag", "tree", "master^{tree}")
			gittest.Git(t, repo, "symbolic-ref", "refs/heads/alias", "refs/heads/master")
			gittest.Git(t, repo, "symbolic-ref", "refs/heads/dangling", "refs/heads/none")
			dir, env := kind.make(t, repo)
			r, err := Open(dir, append(gittest.Environ(), env...))
			if err != nil {
				t.Fatal(err)
			}
			if plain := len(r.layout().objects) > 0; plain != kind.plain {
				t.Errorf("plain is %v", plain)
			}
			test(t, r)
		})
	}
}

// ask is git's own answer, in the same environment.
func ask(t *testing.T, r *Repository, args ...string) string {
	t.Helper()
	out, err := r.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func name(t *testing.T, r *Repository, revision string) OID {
	t.Helper()
	return parse(t, strings.TrimSpace(ask(t, r, "rev-parse", "--verify", revision)))
}

func parse(t *testing.T, s string) OID {
	t.Helper()
	oid, err := ParseOID(s)
	if err != nil {
		t.Fatal(err)
	}
	return oid
}

func missing(r *Repository) OID { return OIDFromBytes(bytes.Repeat([]byte{0x11}, r.HashSize())) }

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err == nil {
		_, err = f.WriteString(text)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

type object struct{ kind, data string }

// everything is every object of the repository, as git gives it.
func everything(t *testing.T, r *Repository) map[OID]object {
	t.Helper()
	objects := map[OID]object{}
	rest := ask(t, r, "cat-file", "--batch-all-objects", "--batch")
	for rest != "" {
		line, content, _ := strings.Cut(rest, "\n")
		fields := strings.Fields(line) // name, type, size
		size, err := strconv.Atoi(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		objects[parse(t, fields[0])] = object{fields[1], content[:size]}
		rest = content[size+1:]
	}
	return objects
}

func TestObjects(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		objects := r.Objects(t.Context())
		defer objects.Close()
		if objects.HashSize() != r.HashSize() || len(name(t, r, "master").String()) != 2*r.HashSize() {
			t.Errorf("hash size %d", objects.HashSize())
		}
		want := everything(t, r)
		if len(want) < 12 {
			t.Fatalf("%d objects", len(want))
		}
		for oid, o := range want {
			if r.replacesObjects() && o.data == "replaced" {
				o.data = "new" // git does not do it where it lists all objects
			}
			if kind, data, err := objects.Read(oid); err != nil || kind != o.kind || string(data) != o.data {
				t.Errorf("%s: %q of %d bytes, %v; want %q of %d", oid, kind, len(data), err, o.kind, len(o.data))
			}
			var copied strings.Builder
			err := objects.Copy(oid, &copied)
			if o.kind == "blob" && (err != nil || copied.String() != o.data) {
				t.Errorf("copying %s: %d bytes, %v", oid, copied.Len(), err)
			}
			if o.kind != "blob" && (err == nil || !strings.Contains(err.Error(), "is a "+o.kind+", not a blob")) {
				t.Errorf("copying a %s: %v", o.kind, err)
			}
			if _, _, err := objects.Read(missing(r)); !errors.Is(err, ErrNoObject) {
				t.Errorf("a missing object: %v", err)
			}
		}
	})
}

// TestManyReads: one reader goes over to git's own after a while, and gives
// the same.
func TestManyReads(t *testing.T) {
	t.Parallel()
	r, oids := manyBlobs(t, 2*inProcess)
	objects := r.Objects(t.Context())
	defer objects.Close()
	for i, oid := range oids {
		if kind, data, err := objects.Read(oid); err != nil || kind != "blob" || string(data) != blob(i) {
			t.Fatalf("object %d: %q %q, %v", i, kind, data, err)
		}
		if i%50 == 0 {
			if _, _, err := objects.Read(missing(r)); !errors.Is(err, ErrNoObject) {
				t.Fatalf("a missing object: %v", err)
			}
		}
	}
	if objects.batch == nil {
		t.Error("git was never asked")
	}
}

func blob(i int) string { return fmt.Sprintf("blob %d\n", i) + strings.Repeat("x", i%100) }

// manyBlobs makes a repository of n blobs.
func manyBlobs(t *testing.T, n int) (*Repository, []OID) {
	t.Helper()
	repo := gittest.Bare(t)
	tree := gittest.Tree{}
	for i := range n {
		tree[fmt.Sprintf("%06d", i)] = gittest.Node{Mode: gittest.File, Data: blob(i)}
	}
	gittest.Commits(t, repo, tree)
	r := open(t, repo)
	var oids []OID
	for line := range strings.Lines(ask(t, r, "ls-tree", "--object-only", "master")) {
		oids = append(oids, parse(t, strings.TrimSpace(line)))
	}
	return r, oids
}

func open(t *testing.T, dir string, env ...string) *Repository {
	t.Helper()
	r, err := Open(dir, append(gittest.Environ(), env...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStream(t *testing.T) {
	t.Parallel()
	const n = 5000
	r, oids := manyBlobs(t, n)
	next := 0
	err := r.Stream(t.Context(), oids, func(i int, kind string, size int64, content io.Reader) error {
		if i != next || kind != "blob" || size != int64(len(blob(i))) {
			t.Errorf("object %d of %q, %d bytes, after %d", i, kind, size, next)
		}
		next++
		if i%3 == 0 {
			return nil // what is not read is passed over
		}
		data, err := io.ReadAll(content)
		if string(data) != blob(i) {
			t.Errorf("object %d is %q", i, data)
		}
		return err
	})
	if err != nil || next != n {
		t.Errorf("%d objects, %v", next, err)
	}
	if err := r.Stream(t.Context(), nil, nil); err != nil {
		t.Errorf("nothing: %v", err)
	}

	errStop := errors.New("enough")
	next = 0
	err = r.Stream(t.Context(), oids, func(int, string, int64, io.Reader) error {
		if next++; next == 10 {
			return errStop
		}
		return nil
	})
	if !errors.Is(err, errStop) || next != 10 {
		t.Errorf("stopped at %d: %v", next, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	err = r.Stream(ctx, slices.Repeat(oids, 20), func(int, string, int64, io.Reader) error {
		cancel()
		return nil
	})
	if err == nil {
		t.Error("100,000 objects were read after the end")
	}

	for _, at := range []int{0, n / 2, n - 1} {
		broken := slices.Clone(oids)
		broken[at] = missing(r)
		read := 0
		err := r.Stream(t.Context(), broken, func(int, string, int64, io.Reader) error { read++; return nil })
		if !errors.Is(err, ErrNoObject) || read != at {
			t.Errorf("missing object at %d: %v after %d", at, err, read)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	r, oids := manyBlobs(t, 5000)
	for _, n := range []int{0, 1, inProcess, inProcess + 1, 5000} {
		objects := r.Objects(t.Context())
		for _, sizes := range []func() ([]int64, error){
			func() ([]int64, error) { return r.Sizes(t.Context(), oids[:n]) },
			func() ([]int64, error) { return objects.Sizes(oids[:n]) },
		} {
			got, err := sizes()
			if err != nil || len(got) != n {
				t.Fatalf("%d sizes of %d: %v", len(got), n, err)
			}
			for i := range got {
				if got[i] != int64(len(blob(i))) {
					t.Errorf("blob %d has %d bytes, want %d", i, got[i], len(blob(i)))
				}
			}
		}
		objects.Close()
	}
}

func TestSizesOfOthers(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		objects := r.Objects(t.Context())
		defer objects.Close()
		good := []OID{name(t, r, "master:a"), name(t, r, "master:empty"), name(t, r, "master:large")}
		if sizes, err := objects.Sizes(good); err != nil || !slices.Equal(sizes, []int64{2, 0, 3 << 19}) {
			t.Errorf("sizes %d, %v", sizes, err)
		}
		for _, sizes := range []func([]OID) ([]int64, error){objects.Sizes, func(oids []OID) ([]int64, error) { return r.Sizes(t.Context(), oids) }} {
			if _, err := sizes(append(good, name(t, r, "master:d"))); err == nil || !strings.Contains(err.Error(), "is a tree") {
				t.Errorf("a tree: %v", err)
			}
		}
		if _, err := objects.Sizes(append(good, missing(r))); !errors.Is(err, ErrNoObject) {
			t.Errorf("a missing object: %v", err)
		}
	}, "loose", "packed", "alternates", "SHA-256")
}

// TestBigBlob: a blob that memory would not hold goes through it in pieces.
func TestBigBlob(t *testing.T) { // alone: what others allocate would count
	const size = 100 << 20
	repo := gittest.Bare(t)
	gittest.Git(t, repo, "config", "core.compression", "1")
	cmd := exec.Command("git", "hash-object", "-w", "--stdin")
	cmd.Dir, cmd.Env, cmd.Stdin = repo, gittest.Environ(), io.LimitReader(zeros{}, size)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	oid := parse(t, strings.TrimSpace(string(out)))
	tree := gittest.Run(t, repo, nil, "100644 blob "+oid.String()+"\tlarge\n", "mktree")
	commit := parse(t, strings.TrimSpace(gittest.Git(t, repo, "commit-tree", "-m", "large", strings.TrimSpace(tree))))
	r := open(t, repo)
	objects := r.Objects(t.Context())
	defer objects.Close()
	for way, read := range map[string]func(io.Writer) error{
		"file": func(w io.Writer) error {
			start, n, err := r.File(t.Context(), commit, "large", 1<<16)
			if len(start) != 1<<16 {
				t.Errorf("a file: the first %d bytes", len(start))
			}
			io.CopyN(w, zeros{}, n) // as if it had come
			return err
		},
		"copy": func(w io.Writer) error { return objects.Copy(oid, w) },
		"stream": func(w io.Writer) error {
			return r.Stream(t.Context(), []OID{oid, oid}, func(i int, kind string, n int64, content io.Reader) error {
				if i == 0 {
					return nil
				}
				_, err := io.Copy(w, content)
				return err
			})
		},
	} {
		var w counter
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := read(&w)
		runtime.ReadMemStats(&after)
		if err != nil || w != size {
			t.Errorf("%s: %d bytes, %v", way, w, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > size {
			t.Errorf("%s: %d bytes of memory were allocated", way, used)
		}
	}
	if _, _, err := objects.Read(oid); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("reading it whole: %v", err)
	}
	if kind, data, err := objects.Read(parse(t, gittest.Object(t, repo, "blob", "x"))); err != nil || kind != "blob" || string(data) != "x" {
		t.Errorf("after that: %q %q, %v", kind, data, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func TestCommit(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		objects := r.Objects(t.Context())
		defer objects.Close()
		commit, tree := name(t, r, "master^{commit}"), name(t, r, "master^{tree}")
		for _, revision := range []string{"master", "one", "two"} {
			if c, tr, err := objects.Commit(name(t, r, revision)); err != nil || c != commit || tr != tree {
				t.Errorf("%s: commit %s, tree %s, %v", revision, c, tr, err)
			}
		}
		for revision, want := range map[string]string{"master^{tree}": "is a tree, not a commit", "master:a": "is a blob, not a commit"} {
			if _, _, err := objects.Commit(name(t, r, revision)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", revision, err)
			}
		}
		if _, _, err := objects.Commit(missing(r)); !errors.Is(err, ErrNoObject) {
			t.Errorf("a missing object: %v", err)
		}
		for path, want := range map[string]string{"a": "a\n", "d/link": "../a", "empty": ""} {
			for _, limit := range []int{0, 1, len(want), 1 << 20} {
				start, size, err := r.File(t.Context(), commit, path, limit)
				if err != nil || string(start) != want[:min(len(want), limit)] || size != int64(len(want)) {
					t.Errorf("%d bytes of %s: %q of %d, %v", limit, path, start, size, err)
				}
			}
		}
		for _, path := range []string{"none", "d", ""} {
			if data, _, err := r.File(t.Context(), commit, path, 1<<20); err == nil {
				t.Errorf("%q: %q", path, data)
			}
		}
	}, "loose", "packed", "quarantine", "SHA-256", "replaced objects")
}

// TestTagsOfTags: a chain of tags is followed so far and no further.
func TestTagsOfTags(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	commit := gittest.Commits(t, repo, gittest.Files("a", "x"))[0]
	objects := open(t, repo).Objects(t.Context())
	defer objects.Close()
	at, kind := commit, "commit"
	for depth := range maxTagDepth + 2 {
		got, _, err := objects.Commit(parse(t, at))
		if depth <= maxTagDepth && (err != nil || got.String() != commit) || depth > maxTagDepth && err == nil {
			t.Errorf("%d tags: %s, %v", depth, got, err)
		}
		at, kind = gittest.Object(t, repo, "tag", fmt.Sprintf("object %s\ntype %s\ntag t\ntagger T <t> 1 +0000\n\nx\n", at, kind)), "tag"
	}
	for data, want := range map[string]string{"type commit\n": `"object "`, "": `"object "`, "object xyz\n": `"xyz" is not an object name`} {
		if _, _, err := objects.Commit(parse(t, gittest.Object(t, repo, "tag", data))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tag %q: %v", data, err)
		}
	}
}

// TestDamaged: an object that is damaged is an error that says which one it
// is, or what git says of it.
func TestDamaged(t *testing.T) {
	t.Parallel()
	big := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(big)
	tests := map[string]struct {
		data   string
		damage func(object []byte) []byte
	}{
		"cut short":      {string(big[:10_000]), func(o []byte) []byte { return o[:len(o)/2] }},
		"empty":          {"x", func([]byte) []byte { return nil }},
		"garbage":        {"x", func(o []byte) []byte { return bytes.Repeat([]byte("garbage"), 10) }},
		"big, cut short": {string(big), func(o []byte) []byte { return o[:len(o)/2] }},
		"big, one bit":   {string(big), func(o []byte) []byte { o[len(o)/2] ^= 4; return o }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := gittest.Bare(t)
			oid := gittest.Object(t, repo, "blob", test.data)
			path := filepath.Join(repo, "objects", oid[:2], oid[2:])
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, test.damage(data), 0o444); err != nil {
				t.Fatal(err)
			}
			r := open(t, repo)
			objects := r.Objects(t.Context())
			defer objects.Close()
			var copied bytes.Buffer
			failures := map[string]error{"copy": objects.Copy(parse(t, oid), &copied)}
			failures["stream"] = r.Stream(t.Context(), []OID{parse(t, oid)}, func(_ int, _ string, _ int64, content io.Reader) error {
				_, err := io.Copy(io.Discard, content)
				return err
			})
			for way, err := range failures {
				if err == nil {
					t.Errorf("%s: %d bytes of nonsense", way, copied.Len())
					continue
				}
				if said := new(Error); !strings.Contains(err.Error(), oid) && (!errors.As(err, &said) || said.Stderr == "") {
					t.Errorf("%s: nobody would know what is wrong: %v", way, err)
				}
			}
		})
	}
}

func TestRefs(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		ctx := t.Context()
		for ref, revision := range map[string]string{
			"refs/heads/master": "master", "refs/tags/one": "one", "refs/tags/two": "two", "refs/tags/light": "master~1",
			"refs/tags/tree": "master^{tree}", "refs/heads/alias": "master", "HEAD": "master",
		} {
			if oid, err := r.Ref(ctx, ref); err != nil || oid != name(t, r, revision) {
				t.Errorf("%s is %s, %v; want %s", ref, oid, err, name(t, r, revision))
			}
		}
		for _, ref := range []string{"refs/heads/none", "refs/heads/master/below", "refs/tags", "refs/heads/dangling"} {
			if oid, err := r.Ref(ctx, ref); err != nil || !oid.IsZero() {
				t.Errorf("%s is %s, %v", ref, oid, err)
			}
		}
		for ref, want := range map[string]string{"HEAD": "refs/heads/master", "refs/heads/alias": "refs/heads/master",
			"refs/heads/master": "", "refs/tags/one": "", "refs/heads/none": "", "refs/heads/master/below": "", "refs/tags": ""} {
			if target, err := r.SymbolicTarget(ctx, ref); err != nil || target != want {
				t.Errorf("%s points at %q, %v; want %q", ref, target, err, want)
			}
		}
		refs, err := r.Refs(ctx)
		if err != nil || refs["refs/heads/alias"] != name(t, r, "master") || refs["refs/tags/two"] != name(t, r, "two") {
			t.Errorf("refs %v, %v", refs, err)
		}
		maps.DeleteFunc(refs, func(ref string, _ OID) bool { return strings.HasPrefix(ref, "refs/replace/") })
		want := []string{"refs/heads/alias", "refs/heads/master", "refs/tags/light", "refs/tags/one", "refs/tags/tree", "refs/tags/two"}
		if names := slices.Sorted(maps.Keys(refs)); !slices.Equal(names, want) {
			t.Errorf("refs %q", names)
		}
		old, tip := name(t, r, "master~1"), name(t, r, "master")
		for _, pair := range []struct {
			old, new OID
			want     bool
		}{{old, tip, true}, {tip, tip, true}, {tip, old, false}} {
			if is, err := r.IsAncestor(ctx, pair.old, pair.new); err != nil || is != pair.want {
				t.Errorf("%s before %s: %v, %v", pair.old, pair.new, is, err)
			}
		}
		if is, err := r.IsAncestor(ctx, missing(r), tip); err == nil {
			t.Errorf("a missing commit: %v", is)
		}
		for revision, want := range map[string]OID{"master": tip, "two": tip, "light": old, tip.String()[:12]: tip, "HEAD~1": old} {
			if oid, err := r.Resolve(ctx, revision); err != nil || oid != want {
				t.Errorf("%s: %s, %v", revision, oid, err)
			}
		}
		for _, revision := range []string{"none", "master:a", "tree", "", "--all", "-h"} {
			if oid, err := r.Resolve(ctx, revision); err == nil {
				t.Errorf("%q: %s", revision, oid)
			}
		}
	}, "loose", "packed", "alternates", "quarantine", "SHA-256, packed", "replaced objects, packed", "odd configuration")
}

// TestFullRefNames: a full name is not looked for elsewhere.
func TestFullRefNames(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		tip := name(t, r, "master").String()
		for _, ref := range []string{"refs/heads/refs/heads/none", "refs/tags/refs/heads/none", "refs/refs/heads/none"} {
			ask(t, r, "update-ref", ref, tip)
		}
		if oid, err := r.Ref(t.Context(), "refs/heads/none"); err != nil || !oid.IsZero() {
			t.Errorf("refs/heads/none is %s, %v", oid, err)
		}
	}, "loose", "packed", "alternates", "SHA-256", "worktree configuration")
}

func TestUpdateRefs(t *testing.T) {
	t.Parallel()
	forKinds(t, func(t *testing.T, r *Repository) {
		ctx := t.Context()
		old, tip := name(t, r, "master~1"), name(t, r, "master")
		const a, b, c = "refs/heads/a", "refs/tags/b", "refs/heads/c/d"
		none := OID{}
		steps := []struct {
			name    string
			updates []RefUpdate
			want    map[string]OID // after it
			err     string
		}{
			{"create", []RefUpdate{{a, none, old}}, map[string]OID{a: old}, ""},
			{"create again", []RefUpdate{{a, none, tip}}, map[string]OID{a: old}, "already exists"},
			{"create the same again", []RefUpdate{{a, none, old}}, map[string]OID{a: old}, "already exists"},
			{"move", []RefUpdate{{a, old, tip}}, map[string]OID{a: tip}, ""},
			{"move, stale", []RefUpdate{{a, old, tip}}, map[string]OID{a: tip}, "but expected " + old.String()},
			{"create two", []RefUpdate{{b, none, old}, {c, none, old}}, map[string]OID{b: old, c: old}, ""},
			{"move two, the first stale", []RefUpdate{{b, tip, old}, {c, old, tip}}, map[string]OID{b: old, c: old}, "but expected"},
			{"move two, the second stale", []RefUpdate{{b, old, tip}, {c, tip, old}}, map[string]OID{b: old, c: old}, "but expected"},
			{"move two, the second there", []RefUpdate{{b, old, tip}, {a, none, old}}, map[string]OID{b: old, a: tip}, "already exists"},
			{"move one, delete one, stale", []RefUpdate{{b, old, tip}, {c, tip, none}}, map[string]OID{b: old, c: old}, "but expected"},
			{"move to nothing", []RefUpdate{{b, old, tip}, {a, tip, missing(r)}}, map[string]OID{b: old, a: tip}, "nonexistent object"},
			{"move a branch to a tree", []RefUpdate{{a, tip, name(t, r, "master^{tree}")}}, map[string]OID{a: tip}, "non-commit"},
			{"a file for a directory", []RefUpdate{{b, old, tip}, {"refs/heads/c", none, tip}}, map[string]OID{b: old, c: old}, "'refs/heads/c/d' exists"},
			{"a directory for a file", []RefUpdate{{b, old, tip}, {a + "/x", none, tip}}, map[string]OID{b: old, a: tip}, "'refs/heads/a' exists"},
			{"bad name", []RefUpdate{{b, old, tip}, {"refs/heads/a..b", none, tip}}, map[string]OID{b: old}, "refs/heads/a..b"},
			{"odd names", []RefUpdate{{"refs/heads/`id`$(id)%0a\xff", none, tip}}, map[string]OID{"refs/heads/`id`$(id)%0a\xff": tip}, ""},
			{"move two, delete one", []RefUpdate{{b, old, tip}, {a, tip, old}, {c, old, none}}, map[string]OID{a: old, b: tip, c: none}, ""},
			{"delete what is gone", []RefUpdate{{c, old, none}}, map[string]OID{c: none}, c},
			{"delete", []RefUpdate{{a, old, none}, {b, tip, none}}, map[string]OID{a: none, b: none}, ""},
			{"nothing", nil, map[string]OID{"refs/heads/master": tip}, ""},
		}
		for _, step := range steps {
			err := r.UpdateRefs(ctx, "test: "+step.name, step.updates...)
			if step.err == "" && err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			if said := new(Error); step.err != "" && (!errors.As(err, &said) || said.Command != "update-ref" || !strings.Contains(said.Stderr, step.err)) {
				t.Errorf("%s: error %v, want %q in it", step.name, err, step.err)
			}
			for ref, want := range step.want {
				if oid, err := r.Ref(ctx, ref); err != nil || oid != want {
					t.Errorf("%s: %s is %s, %v; want %s", step.name, ref, oid, err, want)
				}
			}
		}
	}, "loose", "packed", "alternates", "SHA-256, packed", "worktree configuration")
}

// TestQuarantine: git itself refuses to move a ref onto objects that may yet
// be thrown away, and so do we.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	commit := gittest.Commits(t, repo, gittest.Files("a", "x"))[0]
	r := open(t, repo, "GIT_QUARANTINE_PATH="+filepath.Join(repo, "objects/incoming-1"))
	err := r.UpdateRefs(t.Context(), "test", RefUpdate{Name: "refs/heads/new", New: parse(t, commit)})
	if said := new(Error); !errors.As(err, &said) || !strings.Contains(said.Stderr, "quarantine") {
		t.Errorf("error %v", err)
	}
}

// TestStaleLocks: what a git that was killed left behind keeps refs from
// moving, until it is removed.
func TestStaleLocks(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"refs/heads/master.lock", "HEAD.lock", "packed-refs.lock"} {
		t.Run(lock, func(t *testing.T) {
			t.Parallel()
			repo := gittest.Bare(t)
			commits := gittest.Commits(t, repo, gittest.Files("a", "x"), gittest.Files("a", "y"))
			gittest.Git(t, repo, "tag", "gone", commits[0])
			gittest.Git(t, repo, "pack-refs", "--all")
			r := open(t, repo)
			old, tip := parse(t, commits[0]), parse(t, commits[1])
			updates := []RefUpdate{{"refs/heads/master", tip, old}, {"refs/tags/gone", old, OID{}}}
			appendTo(t, filepath.Join(repo, lock), "")
			long := time.Now().Add(-time.Minute)
			if err := os.Chtimes(filepath.Join(repo, lock), long, long); err != nil {
				t.Fatal(err)
			}
			if err := r.UpdateRefs(t.Context(), "test", updates...); err == nil {
				t.Fatalf("%s does not keep refs from moving", lock)
			}
			r.RemoveStaleLocks(updates)
			if err := r.UpdateRefs(t.Context(), "test", updates...); err != nil {
				t.Errorf("after that: %v", err)
			}
			if oid, err := r.Ref(t.Context(), "refs/heads/master"); err != nil || oid != old {
				t.Errorf("master is %s, %v", oid, err)
			}
		})
	}
}

// TestEnvironment: nothing that the caller inherited turns git elsewhere.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	repo, other := gittest.Bare(t), gittest.Bare(t)
	tip := gittest.Commits(t, repo, gittest.Files("a", "x"), gittest.Files("a", "y"))[1]
	gittest.Commits(t, other, gittest.Files("b", "z"))
	scratch := gittest.Dir(t)
	hostile := []string{
		"GIT_DIR=.", "GIT_WORK_TREE=" + scratch, "GIT_INDEX_FILE=" + scratch + "/index", "GIT_COMMON_DIR=" + other,
		"GIT_CONFIG_PARAMETERS='core.bare'='false' 'odd.key'='injected'", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=odd.key",
		"GIT_CONFIG_VALUE_0=injected", "GIT_CONFIG=" + scratch + "/config", "GIT_NAMESPACE=ns", "GIT_PREFIX=d/",
		"GIT_CEILING_DIRECTORIES=/", "GIT_TRACE=" + scratch + "/trace", "GIT_REPLACE_REF_BASE=refs/heads/",
		"GIT_SHALLOW_FILE=" + scratch + "/shallow", "GIT_EXEC_PATH=" + scratch, "GIT_DEFAULT_HASH=sha256", "GIT_SSH_COMMAND=false",
		"LD_PRELOAD=", "LANG=de_DE.UTF-8", "LC_ALL=de_DE.UTF-8", "GIT_LITERAL_PATHSPECS=1", "GIT_NO_REPLACE_OBJECTS=1",
	}
	tests := map[string][]string{
		"hooks":      append(gittest.Environ(), hostile...),
		"nothing":    nil,
		"empty":      {"PATH=", "HOME=", "GIT_OBJECT_DIRECTORY=", "GIT_ALTERNATE_OBJECT_DIRECTORIES=", "GIT_QUARANTINE_PATH="},
		"no PATH":    {"HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1"},
		"no HOME":    {"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1"},
		"odd PATH":   {"PATH=.:bin::" + scratch + ":" + os.Getenv("PATH")},
		"wrong PATH": {"PATH=" + scratch},
		"malformed":  append([]string{"", "=", "=x", "GIT_DIR", "PATH"}, gittest.Environ()...),
	}
	if err := os.MkdirAll(filepath.Join(scratch, "git"), 0o777); err != nil { // a directory is not a program
		t.Fatal(err)
	}
	for name, environ := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := Open(repo, environ)
			if err != nil {
				t.Fatal(err)
			}
			ctx := t.Context()
			for _, kv := range r.env {
				if strings.HasPrefix(kv, "GIT_OBJECT_DIRECTORY=") || strings.HasPrefix(kv, "GIT_ALTERNATE_OBJECT_DIRECTORIES=") {
					t.Errorf("objects are looked for elsewhere: %s", kv)
				}
			}
			if out, err := r.Run(ctx, "rev-parse", "--absolute-git-dir", "refs/heads/master"); err != nil || out != repo+"\n"+tip+"\n" {
				t.Errorf("%q, %v", out, err)
			}
			config, err := r.Config(ctx)
			if err != nil || config.Last("odd.key") != "" || !config.Bool("core.bare") {
				t.Errorf("configuration %q, %v", config, err)
			}
			objects := r.Objects(ctx)
			defer objects.Close()
			if commit, _, err := objects.Commit(parse(t, tip)); err != nil || commit.String() != tip {
				t.Errorf("commit %s, %v", commit, err)
			}
			const ref = "refs/heads/moved"
			if err := r.UpdateRefs(ctx, "test", RefUpdate{Name: ref, New: parse(t, tip)}); err != nil {
				t.Errorf("moving a ref: %v", err)
			}
			if err := r.UpdateRefs(ctx, "test", RefUpdate{Name: ref, Old: parse(t, tip)}); err != nil {
				t.Errorf("deleting a ref: %v", err)
			}
			if version, err := r.Version(ctx); err != nil || !strings.Contains(version, ".") || strings.Contains(version, "git") {
				t.Errorf("version %q, %v", version, err)
			}
		})
	}
	if entries, err := os.ReadDir(scratch); err != nil || len(entries) != 1 {
		t.Errorf("git wrote elsewhere: %v, %v", entries, err)
	}
}

// TestErrors: what git says, and how it ended, is in the error.
func TestErrors(t *testing.T) {
	t.Parallel()
	r := open(t, gittest.Bare(t))
	_, err := r.Run(t.Context(), "-c", "a.b=c", "rev-parse", "--verify", "nonsense")
	said := new(Error)
	var exit *exec.ExitError
	if !errors.As(err, &said) || said.Command != "rev-parse" || said.Stderr != "fatal: Needed a single revision" || !errors.As(err, &exit) || exit.ExitCode() != 128 {
		t.Errorf("error %#v", err)
	}
	if text := err.Error(); text != "git rev-parse: fatal: Needed a single revision: exit status 128" {
		t.Errorf("error %q", text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Run(ctx, "version"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	objects := r.Objects(ctx)
	defer objects.Close()
	if _, _, err := objects.Read(missing(r)); !errors.Is(err, context.Canceled) {
		t.Errorf("reading, canceled: %v", err)
	}
	if out, err := r.RunInput(t.Context(), []string{"GIT_AUTHOR_NAME=N", "GIT_AUTHOR_EMAIL=E", "GIT_AUTHOR_DATE=1700000000 +0000"}, strings.NewReader("in"),
		"var", "GIT_AUTHOR_IDENT"); err != nil || out != "N <E> 1700000000 +0000\n" {
		t.Errorf("extra environment: %q, %v", out, err)
	}
	if out, err := r.RunInput(t.Context(), nil, strings.NewReader("in"), "hash-object", "--stdin"); err != nil || strings.TrimSpace(out) != gittest.Object(t, r.Dir, "blob", "in") {
		t.Errorf("input: %q, %v", out, err)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	repo := gittest.Bare(t)
	if err := os.Symlink(repo, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	appendTo(t, filepath.Join(dir, "file"), "x")
	for path, want := range map[string]string{repo: "", filepath.Join(dir, "link"): "", dir: "is not a bare git repository",
		filepath.Join(dir, "none"): "no such file", filepath.Join(dir, "file"): "not a directory"} {
		r, err := Open(path, nil)
		if want == "" && (err != nil || r.Dir != repo) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	repo := gittest.Bare(t)
	appendTo(t, filepath.Join(repo, "extra"), "[One]\n\tKey = included\n")
	appendTo(t, filepath.Join(repo, "config"), "[include]\n\tpath = extra\n[one]\n\tkey = last\n\tlines = \"a\\nb=c\"\n\tshort\n\tempty =\n"+
		"[flags]\n\tyes = yes\n\tno = no\n\tOn = on\n\toff = off\n\tone = 1\n\tzero = 0\n\tmany = 17\n\ttwice = true\n\ttwice = FALSE\n[Sub \"Case.x\"]\n\tK = v\n")
	r := open(t, repo)
	c, err := r.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"one.key": {"included", "last"}, "one.lines": {"a\nb=c"}, "one.short": {"true"}, "one.empty": {""},
		"sub.Case.x.k": {"v"}, "core.bare": {"true"}}
	for key, values := range want {
		if !slices.Equal(c[key], values) {
			t.Errorf("%s is %q, want %q", key, c[key], values)
		}
	}
	if c.Last("one.key") != "last" || c.Last("none.such") != "" {
		t.Errorf("last values %q, %q", c.Last("one.key"), c.Last("none.such"))
	}
	for _, key := range slices.Sorted(maps.Keys(c)) {
		if !strings.HasPrefix(key, "flags.") && key != "one.short" && key != "one.empty" {
			continue
		}
		git := strings.TrimSpace(ask(t, r, "config", "--type=bool", key))
		if got := strconv.FormatBool(c.Bool(key)); got != git {
			t.Errorf("%s is %s, git says %s", key, got, git)
		}
	}
	if c.Bool("none.such") {
		t.Error("what is not given is true")
	}
}

func TestOID(t *testing.T) {
	t.Parallel()
	short, long := strings.Repeat("a1", 20), strings.Repeat("b2", 32)
	for _, s := range []string{short, long} {
		oid, err := ParseOID(s)
		if err != nil || oid.String() != s || oid.IsZero() || oid.Short() != s[:7] || oid != OIDFromBytes(oid.Bytes()) {
			t.Errorf("%s is read as %s, %v", s, oid, err)
		}
		text, err := oid.MarshalText()
		var again OID
		if err != nil || string(text) != s || again.UnmarshalText(text) != nil || again != oid {
			t.Errorf("%s is written as %q, %v", s, text, err)
		}
	}
	for _, n := range []int{40, 64} {
		zero, err := ParseOID(strings.Repeat("0", n))
		if err != nil || zero != (OID{}) || !zero.IsZero() || zero.String() != strings.Repeat("0", 40) || zero.Short() != "none" {
			t.Errorf("zero is %s, %v", zero, err)
		}
		text, err := zero.MarshalText()
		again := OIDFromBytes(bytes.Repeat([]byte{1}, 20))
		if err != nil || len(text) != 0 || again.UnmarshalText(text) != nil || again != zero {
			t.Errorf("zero is written as %q, %v", text, err)
		}
	}
	for _, s := range []string{"", "a", short[:39], short + "a", strings.ToUpper(short), strings.Repeat("g", 40), "-" + short[1:], long[:63], strings.Repeat("é", 20)} {
		if oid, err := ParseOID(s); err == nil {
			t.Errorf("%q is read as %s", s, oid)
		}
		if s != "" && new(OID).UnmarshalText([]byte(s)) == nil {
			t.Errorf("%q is unmarshaled", s)
		}
	}
}
