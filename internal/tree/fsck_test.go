package tree

import (
	"flag"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
)

// parts are what names of generated entries are made of: what git's own check
// looks for, in all its disguises, and what is harmless.
var parts = []string{"a", "b", "a-", "a0", "A", ".", "..", ".git", ".GIT", "git", "GIT~1", "git~1", "git~2", "git~5", ".gitmodules", ".gitattributes", ".gitignore",
	"gitmod~1", "gitmod~4", "gitmod~5", "gi7eba~1", "gi7d29~1", "gi250a~1", "gitatt~1", ".mailmap", "mailma~1", "/", `\`, ":", "::$INDEX_ALLOCATION", " ", "~", "~1", "\u200c", "\ufeff", "\u202e", "\xff",
	"\x01", "\n", "", "con", "aux.txt", "i", "t"}

var modes = []string{"100644", "100644", "100644", "100755", "100664", "120000", "120000", "160000", "40000", "40000", "040000", "100600", "100666", "120777", "0", "140000"}

// odd decodes bytes as a tree with entries of any name, mode and order: one byte
// is how many parts a name has, one each is a part, one is the mode.
func odd(m *memory, data []byte) git.OID {
	blob, sub := m.add("blob", "x\n"), m.tree(entry{"100644", "f", m.add("blob", "x\n")})
	next := func() (b byte) {
		if len(data) > 0 {
			b, data = data[0], data[1:]
		}
		return b
	}
	var entries []entry
	for len(data) > 0 && len(entries) < 8 {
		var name strings.Builder
		for n := next() & 3; ; n-- {
			name.WriteString(parts[int(next())%len(parts)])
			if n == 0 {
				break
			}
		}
		e := entry{modes[int(next())%len(modes)], name.String(), blob}
		switch e.mode {
		case "40000", "040000":
			e.oid = sub
		case "160000":
			e.oid = HashObject("commit", nil, m.size) // it is not here
		}
		entries = append(entries, e)
	}
	return m.tree(entries...)
}

// accepts tells whether the gate would let the tree pass.
func accepts(m *memory, root git.OID) bool {
	_, err := Diff(m, git.OID{}, root, 1000)
	if err != nil {
		return false
	}
	links, err := Links(m, root)
	return err == nil && CheckLinks(m, root, links) == nil
}

// TestFsck: what the gate accepts, git's own strict check does not refuse. The
// trees are of a fixed seed; most have one or two names, of which one is odd.
func TestFsck(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(7, 7))
	m := newMemory()
	accepted := map[git.OID]bool{}
	refused := 0
	for range 2_000 {
		data := make([]byte, 2+random.IntN(9))
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		if root := odd(m, data); accepts(m, root) {
			accepted[root] = true
		} else {
			refused++
		}
	}
	if len(accepted) < 300 || refused < 300 {
		t.Fatalf("%d accepted, %d refused: nothing is tested", len(accepted), refused)
	}
	fsck(t, m, accepted)
}

// fsck has git check the trees, and all that they hold.
func fsck(t *testing.T, m *memory, roots map[git.OID]bool) {
	t.Helper()
	p := &gittest.Pack{TB: t}
	blob := p.Add("blob", "x\n")
	p.Tree("100644", "f", blob)
	for root := range roots {
		p.Add("tree", m.objects[root].data)
	}
	repo := gittest.BareQuickly(t)
	gittest.Run(t, repo, nil, string(p.Bytes()), "index-pack", "--stdin")
	_, err := gittest.Try(repo, nil, "", "fsck", "--strict", "--no-dangling", "--full")
	if err != nil {
		t.Errorf("git refuses what the gate accepts: %v", err)
	}
	if packs, _ := filepath.Glob(filepath.Join(repo, "objects/pack/*.pack")); len(packs) != 1 {
		t.Errorf("git has looked at %q", packs)
	}
}

// FuzzFsck is TestFsck for one tree. While it fuzzes, git is asked about many at
// once: it takes a hundred times as long as the gate.
func FuzzFsck(f *testing.F) {
	f.Add([]byte{0, 7, 0})
	f.Add([]byte{1, 14, 33, 5, 0, 0, 8})
	atOnce := 1
	if fuzzing := flag.Lookup("test.fuzz"); fuzzing != nil && fuzzing.Value.String() != "" {
		atOnce = 500
	}
	m, accepted := newMemory(), map[git.OID]bool{}
	f.Fuzz(func(t *testing.T, data []byte) {
		if root := odd(m, data); accepts(m, root) {
			accepted[root] = true
		}
		if len(accepted) >= atOnce {
			fsck(t, m, accepted)
			m, accepted = newMemory(), map[git.OID]bool{}
		}
	})
}
