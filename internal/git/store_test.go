package git

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// history makes a repository whose packs have deltas of deltas, and returns the
// files' contents.
func history(t testing.TB, flags ...string) string {
	t.Helper()
	repo := gittest.Bare(t, flags...)
	var trees []gittest.Tree
	text := strings.Repeat("a line of some length, so that deltas pay\n", 100)
	for i := range 60 {
		text := fmt.Sprintf("version %d\n", i) + text[i*7:] + fmt.Sprintf("end %d\n", i)
		trees = append(trees, gittest.Files("page", text, "d/other", text[:len(text)/2], fmt.Sprintf("many/%d", i), "same\n"))
		for j := range i {
			trees[i][fmt.Sprintf("many/%d", j)] = gittest.Node{Mode: gittest.File, Data: "same\n"}
		}
	}
	gittest.Commits(t, repo, trees...)
	gittest.Git(t, repo, "tag", "-a", "-m", "tag", "tag", "master")
	return repo
}

// TestStore reads every object of packs of all kinds without git, as git does.
func TestStore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		format string
		pack   func(t *testing.T, repo string)
	}{
		"loose": {"sha1", func(t *testing.T, repo string) {
			pack, err := filepath.Glob(filepath.Join(repo, "objects/pack/*.pack"))
			if err != nil || len(pack) != 1 {
				t.Fatalf("packs %q, %v", pack, err)
			}
			moved := filepath.Join(gittest.Dir(t), "pack")
			if err := os.Rename(pack[0], moved); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(moved)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(filepath.Join(repo, "objects/pack")); err != nil {
				t.Fatal(err)
			}
			gittest.Run(t, repo, nil, string(data), "unpack-objects", "-q")
		}},
		"distances": {"sha1", func(t *testing.T, repo string) { gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f", "--depth=50") }},
		"names": {"sha1", func(t *testing.T, repo string) {
			gittest.Git(t, repo, "-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f", "--depth=50")
		}},
		"deep": {"sha1", func(t *testing.T, repo string) {
			gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f", "--depth=4000", "--window=200")
		}},
		"several": {"sha1", func(t *testing.T, repo string) {
			gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f", "--max-pack-size=1m")
			for i := range 5 {
				gittest.Object(t, repo, "blob", fmt.Sprint("another ", i))
				gittest.Git(t, repo, "repack", "-q", "-d")
			}
			gittest.Git(t, repo, "multi-pack-index", "write")
		}},
		"SHA-256":                 {"sha256", func(t *testing.T, repo string) { gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f") }},
		"large offsets":           {"sha1", func(t *testing.T, repo string) { reindex(t, repo, "--index-version=2,0x40") }},
		"large and small offsets": {"sha1", func(t *testing.T, repo string) { reindex(t, repo, "--index-version=2,0x800") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := history(t, "--object-format="+test.format)
			test.pack(t, repo)
			r := open(t, repo)
			want := everything(t, r)
			s := newStore(r.layout().objects, r.HashSize())
			defer s.close()
			if len(want) < 200 || len(s.dirs) == 0 {
				t.Fatalf("%d objects in %q", len(want), s.dirs)
			}
			for oid, o := range want {
				if object, err := s.read(oid, nil); err != nil || object.kind != o.kind || string(object.data) != o.data {
					t.Fatalf("%s: %q of %d bytes, %v; want %q of %d", oid, object.kind, len(object.data), err, o.kind, len(o.data))
				}
				if kind, size, err := s.size(oid); err != nil || kind != o.kind || size != int64(len(o.data)) {
					t.Fatalf("%s: %d bytes, %v; want %d", oid, size, err, len(o.data))
				}
			}
			if _, err := s.read(missing(r), nil); err == nil {
				t.Error("a missing object is read")
			}
			if s.held > maxBases {
				t.Errorf("%d bytes are kept", s.held)
			}
		})
	}
}

// reindex makes the index of a pack anew.
func reindex(t *testing.T, repo string, flag string) {
	t.Helper()
	gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f")
	packs, err := filepath.Glob(filepath.Join(repo, "objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatalf("packs %q, %v", packs, err)
	}
	index := strings.TrimSuffix(packs[0], "pack") + "idx"
	if err := os.Remove(index); err != nil {
		t.Fatal(err)
	}
	gittest.Git(t, repo, "index-pack", flag, "-o", index, packs[0])
}

// TestObjectDirs: all places of objects are known, or none.
func TestObjectDirs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		alternates string
		env        []string
		want       []string // relative to the repository; nil where git is to be asked
	}{
		"one":           {"", nil, []string{"objects"}},
		"absolute":      {"# comment\n\n/elsewhere/objects\n", nil, []string{"objects", "/elsewhere/objects"}},
		"relative":      {"../../other/objects", nil, []string{"objects", "../other/objects"}},
		"quoted":        {"\"/a\\nb\"\n", nil, nil},
		"line ends":     {"/a\r\n", nil, nil},
		"round about":   {"../objects\n", nil, nil},
		"pushed":        {"", []string{"GIT_OBJECT_DIRECTORY=/q", "GIT_ALTERNATE_OBJECT_DIRECTORIES=/a:objects"}, []string{"/q", "/a", "objects"}},
		"pushed, near":  {"/b\n", []string{"GIT_OBJECT_DIRECTORY=./objects/in", "GIT_ALTERNATE_OBJECT_DIRECTORIES=objects"}, []string{"objects/in", "objects", "/b"}},
		"pushed, odd":   {"", []string{"GIT_OBJECT_DIRECTORY=/q", "GIT_ALTERNATE_OBJECT_DIRECTORIES=\"/a\\072b\""}, nil},
		"pushed, empty": {"", []string{"GIT_OBJECT_DIRECTORY=/q", "GIT_ALTERNATE_OBJECT_DIRECTORIES=::/a"}, []string{"/q", "/a"}},
	} {
		repo := gittest.Bare(t)
		if test.alternates != "" {
			appendTo(t, filepath.Join(repo, "objects/info/alternates"), test.alternates)
		}
		r := open(t, repo, test.env...)
		var want []string
		for _, dir := range test.want {
			want = append(want, r.relative(dir))
		}
		if dirs, err := r.objectDirs(); !slices.Equal(dirs, want) || (err != nil) != (want == nil) {
			t.Errorf("%s: %q, %v; want %q", name, dirs, err, want)
		}
	}
}

// TestNotPlain: what is not as git writes it is left to git.
func TestNotPlain(t *testing.T) {
	t.Parallel()
	repo := history(t)
	gittest.Git(t, repo, "repack", "-q", "-a", "-d", "-f")
	for name, damage := range map[string]func(t *testing.T, pack string){
		"many packs": func(t *testing.T, pack string) {
			for i := range maxPacks {
				duplicate(t, pack+".idx", fmt.Sprintf("%s%d.idx", pack, i))
				duplicate(t, pack+".pack", fmt.Sprintf("%s%d.pack", pack, i))
			}
		},
		"no pack":      func(t *testing.T, pack string) { remove(t, pack+".pack") },
		"no index":     func(t *testing.T, pack string) { remove(t, pack+".idx") },
		"short index":  func(t *testing.T, pack string) { truncate(t, pack+".idx", 1100) },
		"empty index":  func(t *testing.T, pack string) { truncate(t, pack+".idx", 0) },
		"short pack":   func(t *testing.T, pack string) { truncate(t, pack+".pack", 20) },
		"unsupported":  func(t *testing.T, pack string) { change(t, pack+".idx", 7, 3) },
		"fan-out":      func(t *testing.T, pack string) { change(t, pack+".idx", 8+4*255, 0xff) },
		"half a fan":   func(t *testing.T, pack string) { truncate(t, pack+".idx", 500) },
		"type unknown": func(t *testing.T, pack string) { change(t, pack+".pack", 12, 0x50) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clone := gittest.Clone(t, repo, "--no-local")
			packs, err := filepath.Glob(filepath.Join(clone, "objects/pack/*.pack"))
			if err != nil || len(packs) != 1 {
				t.Fatalf("packs %q, %v", packs, err)
			}
			r := open(t, clone)
			all := everything(t, r)
			damage(t, strings.TrimSuffix(packs[0], ".pack"))
			read := 0
			for oid, o := range all {
				s := newStore(r.layout().objects, r.HashSize())
				object, err := s.read(oid, nil)
				if err == nil && (object.kind != o.kind || string(object.data) != o.data) {
					t.Errorf("%s: another object", oid)
				}
				if err == nil {
					read++
				}
				s.close()
			}
			some := name == "type unknown" // of one object, and those that build on it
			if read == len(all) || read > 0 && !some {
				t.Errorf("%d objects of %d are read", read, len(all))
			}
		})
	}
}

func duplicate(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o444)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	rewrite(t, path, func(data []byte) []byte { return data[:size] })
}

func change(t *testing.T, path string, at int, to byte) {
	t.Helper()
	rewrite(t, path, func(data []byte) []byte { data[at] = to; return data })
}

func rewrite(t *testing.T, path string, by func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, path)
	if err := os.WriteFile(path, by(data), 0o444); err != nil {
		t.Fatal(err)
	}
}

// TestDelta holds deltas that git never writes.
func TestDelta(t *testing.T) {
	t.Parallel()
	base := []byte("0123456789")
	for name, test := range map[string]struct {
		delta, want string
	}{
		"copy and insert":     {"\x0a\x08\x91\x02\x03\x03abc\x90\x02", "234abc01"},
		"nothing":             {"\x0a\x00", ""},
		"empty":               {"", "error"},
		"no size":             {"\x0a", "error"},
		"endless size":        {"\x0a" + strings.Repeat("\xff", 20), "error"},
		"another base":        {"\x0b\x01\x01a", "error"},
		"too short":           {"\x0a\x02\x01a", "error"},
		"too long":            {"\x0a\x01\x02ab", "error"},
		"insert nothing":      {"\x0a\x01\x00", "error"},
		"insert what is not":  {"\x0a\x03\x03a", "error"},
		"copy beyond the end": {"\x0a\x03\x91\x09\x03", "error"},
		"copy from outside":   {"\x0a\x03\x91\x0b\x03", "error"},
		"copy all of 64 KiB":  {"\x0a\x80\x80\x04\x80", "error"},
		"copy, cut short":     {"\x0a\x03\x91\x01", "error"},
		"far, cut short":      {"\x0a\x03\xff\x01\x01\x01", "error"},
		"a large result":      {"\x0a\x81\x80\x80\x80\x01\x90\x01", "error"},
	} {
		made, err := applyDelta(base, []byte(test.delta))
		if test.want == "error" && err == nil || test.want != "error" && (err != nil || string(made) != test.want) {
			t.Errorf("%s: %q, %v", name, made, err)
		}
	}
}

// FuzzPack reads a pack of anything: it ends, and takes no memory for it.
// TestFarOffset: a damaged index may say that an object is anywhere.
func TestFarOffset(t *testing.T) {
	t.Parallel()
	index := append([]byte("\xfftOc\x00\x00\x00\x02"), make([]byte, 4*256)...)
	p, err := newPack(bytes.NewReader(index), strings.NewReader(strings.Repeat("x", 1000)), 20)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(nil, 20)
	for _, offset := range []int64{12, math.MaxInt64, math.MaxInt64 - 13, 999, 1000, 1 << 40, 12} {
		data, err := s.view(place{p, offset}, maxHead)
		if want := max(0, 1000-offset); err == nil && int64(len(data)) != want {
			t.Errorf("at %d: %d bytes, want %d", offset, len(data), want)
		}
	}
}

func FuzzPack(f *testing.F) {
	repo := gittest.Bare(f)
	page := strings.Repeat("a line of some length\n", 10)
	gittest.Commits(f, repo, gittest.Files("page", page), gittest.Files("page", page+"end\n"))
	gittest.Git(f, repo, "repack", "-q", "-a", "-d", "-f")
	packs, err := filepath.Glob(filepath.Join(repo, "objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		f.Fatalf("packs %q, %v", packs, err)
	}
	data, err := os.ReadFile(packs[0])
	if err != nil {
		f.Fatal(err)
	}
	index, err := os.ReadFile(strings.TrimSuffix(packs[0], "pack") + "idx")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:len(data)/2], index[:len(index)/2], uint16(12))
	f.Add(data, index, uint16(12))
	f.Add([]byte("PACK\x7f\xff\xff\xff\x80"), index, uint16(4))
	f.Fuzz(func(t *testing.T, data, index []byte, at uint16) {
		p, err := newPack(bytes.NewReader(index), bytes.NewReader(data), 20)
		if err != nil {
			return
		}
		s := newStore(nil, 20)
		s.packs, s.listed = []*pack{p}, true
		name := bytes.Repeat([]byte{1}, 20)
		copy(name, index[min(len(index), 1032):])
		s.read(OIDFromBytes(name), nil)
		s.size(OIDFromBytes(name))
		s.packedSize(place{p, int64(at)})
		var buffer []byte
		got, wrong := s.packed(place{p, int64(at)}, &buffer)
		object, err := s.packed(place{p, int64(at)}, nil)
		if err == nil && len(object.data) > maxPlain {
			t.Errorf("%d bytes", len(object.data))
		}
		if (err == nil) != (wrong == nil) || got.kind != object.kind || !bytes.Equal(got.data, object.data) {
			t.Errorf("%q of %d bytes, %v; into a buffer %q of %d, %v", object.kind, len(object.data), err, got.kind, len(got.data), wrong)
		}
	})
}
