package gittest

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// BareQuickly is Bare without git: for tests that make thousands.
func BareQuickly(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(Dir(t), "repo.git")
	for _, sub := range []string{"objects/pack", "refs/heads"} {
		must(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "HEAD"), []byte("ref: refs/heads/master\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "config"), []byte("[core]\n\trepositoryformatversion = 0\n\tbare = true\n"), 0o644))
	return dir
}

// Loose writes the tree and all that it holds into repo, without git, and
// returns its name.
func (t Tree) Loose(tb testing.TB, repo string) string {
	tb.Helper()
	paths := t.Paths()
	var build func(prefix string) string
	build = func(prefix string) string {
		var lines []string
		for len(paths) > 0 && strings.HasPrefix(paths[0], prefix) {
			name, _, nested := strings.Cut(paths[0][len(prefix):], "/")
			if nested {
				lines = append(lines, "40000 "+name+"\x00"+unhex(tb, build(prefix+name+"/")))
				continue
			}
			node := t[paths[0]]
			paths = paths[1:]
			oid := node.Data
			if node.Mode != Gitlink {
				oid = loose(tb, repo, "blob", node.Data)
			}
			lines = append(lines, node.Mode+" "+name+"\x00"+unhex(tb, oid))
		}
		// A directory sorts as if its name ended in a slash.
		slices.SortFunc(lines, func(a, b string) int { return strings.Compare(sortName(a), sortName(b)) })
		return loose(tb, repo, "tree", strings.Join(lines, ""))
	}
	return build("")
}

func sortName(line string) string {
	mode, rest, _ := strings.Cut(line, " ")
	name, _, _ := strings.Cut(rest, "\x00")
	if mode == "40000" {
		name += "/"
	}
	return name
}

func unhex(t testing.TB, name string) string {
	t.Helper()
	raw, err := hex.DecodeString(name)
	must(t, err)
	return string(raw)
}

func loose(t testing.TB, repo, kind, data string) string {
	t.Helper()
	object := fmt.Sprintf("%s %d\x00%s", kind, len(data), data)
	oid := fmt.Sprintf("%x", sha1.Sum([]byte(object)))
	path := filepath.Join(repo, "objects", oid[:2], oid[2:])
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	z.Write([]byte(object))
	must(t, z.Close())
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, packed.Bytes(), 0o644))
	return oid
}

// Write makes the tree's files below dir, as a checkout that converts nothing
// would.
func (t Tree) Write(tb testing.TB, dir string) {
	tb.Helper()
	for path, node := range t {
		at := filepath.Join(dir, path)
		must(tb, os.MkdirAll(filepath.Dir(at), 0o777))
		switch node.Mode {
		case Gitlink:
			must(tb, os.MkdirAll(at, 0o777))
		case Symlink:
			must(tb, os.Symlink(node.Data, at))
		case Executable:
			must(tb, os.WriteFile(at, []byte(node.Data), 0o777))
		default:
			must(tb, os.WriteFile(at, []byte(node.Data), 0o666))
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
