package gittest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// names has every kind of name that may be deployed.
var names = []string{
	"a", "b", "A", "index.html", "app.css", "with space", " leading", "trailing ", "dots...", "...",
	"grüße.txt", "e\u0301", "\u00e9", "日本語", "bad\xffutf8", "\xc3", "\xed\xa0\x80", "c1\u0085", "bidi\u202egnp.exe",
	"-rf", "--upload-pack=x", ".hidden", ".g", ".gitx", "git~2", "HEAD", "index.lock", "stage-1", "~", "aux.txt", "con",
	"a:b", "a.b", "a-b", "a0", "*?[x]", "\"quoted\"", "it's", "a&b;c|d", "$(id)", "`id`", "%0a", "#", "!", "=", ",",
	strings.Repeat("long", 50),
}

// A generator makes a random history.
type generator struct {
	*rand.Rand
	tree    Tree
	history []Tree
	done    map[string]int
}

// change is one kind of change to the tree. It returns false where the tree
// has nothing to do it to.
type change struct {
	name string
	do   func(*generator) bool
}

var changes = []change{
	{"many", (*generator).many},
	{"add", func(g *generator) bool { return g.put(g.newPath(), g.file()) }},
	{"modify", func(g *generator) bool {
		return g.replace(File, func(n Node) Node { return Node{n.Mode, n.Data + g.text()} })
	}},
	{"modify, same size", func(g *generator) bool {
		return g.replace(File, func(n Node) Node { return Node{n.Mode, strings.Repeat(string(rune('a'+g.IntN(26))), len(n.Data))} })
	}},
	{"delete", func(g *generator) bool { return g.remove(g.pick(File)) }},
	{"executable", func(g *generator) bool { return g.replace(File, func(n Node) Node { return Node{Executable, n.Data} }) }},
	{"not executable", func(g *generator) bool { return g.replace(Executable, func(n Node) Node { return Node{File, n.Data} }) }},
	{"rename", (*generator).rename},
	{"rename directory", (*generator).renameDir},
	{"file to directory", func(g *generator) bool {
		path := g.pick(File)
		return path != "" && g.put(path+"/"+g.name()+"/"+g.name(), g.file()) && g.put(path+"/"+g.name(), g.file())
	}},
	{"directory to file", func(g *generator) bool { return g.put(g.pickDir(), g.file()) }},
	{"file to symlink", func(g *generator) bool { return g.put(g.pick(File), g.link()) }},
	{"symlink to file", func(g *generator) bool { return g.put(g.pick(Symlink), g.file()) }},
	{"symlink to directory", func(g *generator) bool {
		path := g.pick(Symlink)
		return path != "" && g.put(path+"/"+g.name(), g.file())
	}},
	{"directory to symlink", func(g *generator) bool { return g.put(g.pickDir(), g.link()) }},
	{"symlink", func(g *generator) bool { return g.put(g.newPath(), g.link()) }},
	{"retarget", func(g *generator) bool { return g.replace(Symlink, func(Node) Node { return g.link() }) }},
	{"deep", func(g *generator) bool {
		parts := make([]string, 12)
		for i := range parts {
			parts[i] = g.name()[:1]
		}
		return g.put("deep/"+strings.Join(parts, "x/")+"x", g.file())
	}},
	{"empty a directory", func(g *generator) bool { return g.removeDir(g.pickDir()) }},
	{"empty file", func(g *generator) bool { return g.put(g.newPath(), Node{File, ""}) }},
	{"gitlink", func(g *generator) bool { return g.put(g.newPath(), g.gitlink()) }},
	{"gitlink moved", func(g *generator) bool { return g.replace(Gitlink, func(Node) Node { return g.gitlink() }) }},
	{"gitlink removed", func(g *generator) bool { return g.remove(g.pick(Gitlink)) }},
	{"file to gitlink", func(g *generator) bool { return g.put(g.pick(File), g.gitlink()) }},
	{"gitlink to file", func(g *generator) bool { return g.put(g.pick(Gitlink), g.file()) }},
	{"gitlink to directory", func(g *generator) bool {
		path := g.pick(Gitlink)
		return path != "" && g.put(path+"/"+g.name(), g.file())
	}},
	{"binary", func(g *generator) bool { return g.put(g.newPath(), Node{File, g.bytes(3000)}) }},
	{"big", func(g *generator) bool {
		return g.put("big", Node{File, g.bytes(5000) + strings.Repeat(g.text(), 1<<17)})
	}},
	{"nothing", func(g *generator) bool { return true }},
	{"back", func(g *generator) bool {
		if len(g.history) == 0 {
			return false
		}
		g.tree = maps.Clone(g.history[g.IntN(len(g.history))])
		return true
	}},
	{"empty tree", func(g *generator) bool {
		g.tree = Tree{}
		return true
	}},
}

// Kinds names every kind of change that History makes.
func Kinds() []string {
	var kinds []string
	for _, c := range changes {
		kinds = append(kinds, c.name)
	}
	return kinds
}

// History makes n trees, each a few random changes from the one before, and
// counts how often each kind of change was made. The same seed gives the same
// history.
func History(seed uint64, n int) ([]Tree, map[string]int) {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, seed)), tree: Tree{}, done: map[string]int{}}
	for i := range n {
		// Every kind has its turn, among others at random; the ones that
		// replace all of the tree only then.
		g.make(changes[i%len(changes)])
		for range g.IntN(6) {
			g.make(changes[1+g.IntN(len(changes)-4)])
		}
		g.history = append(g.history, maps.Clone(g.tree))
	}
	return g.history, g.done
}

func (g *generator) make(c change) {
	if c.do(g) {
		g.done[c.name]++
	}
}

func (g *generator) name() string { return names[g.IntN(len(names))] }

func (g *generator) newPath() string {
	path := g.name()
	if dir := g.pickDir(); dir != "" && g.IntN(2) == 0 {
		path = dir + "/" + path
	}
	for g.IntN(3) == 0 && len(path) < 1000 {
		path += "/" + g.name()
	}
	return path
}

func (g *generator) text() string { return fmt.Sprintf("%08x\n", g.Uint32()) }

func (g *generator) bytes(n int) string {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(g.Uint32())
	}
	return string(data)
}

func (g *generator) file() Node {
	if g.IntN(4) == 0 {
		return Node{Executable, "#!/bin/sh\n" + g.text()}
	}
	return Node{File, g.text()}
}

func (g *generator) gitlink() Node { return Node{Gitlink, fmt.Sprintf("%040x", g.Uint64()|1)} }

func (g *generator) link() Node {
	switch g.IntN(6) {
	case 0:
		return Node{Symlink, "/nonexistent/" + g.name()}
	case 1:
		return Node{Symlink, "../../" + g.name()}
	case 2:
		return Node{Symlink, "."}
	case 3:
		return Node{Symlink, strings.Repeat("x/../", 700) + g.name()}
	case 4:
		if dir := g.pickDir(); dir != "" {
			return Node{Symlink, dir}
		}
	}
	return Node{Symlink, g.name()}
}

// pick returns a path that holds a node of that mode, "" where there is none.
func (g *generator) pick(mode string) string {
	var found []string
	for _, path := range g.tree.Paths() {
		if g.tree[path].Mode == mode {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return ""
	}
	return found[g.IntN(len(found))]
}

func (g *generator) pickDir() string {
	dirs := map[string]bool{}
	for path := range g.tree {
		for i := range len(path) {
			if path[i] == '/' {
				dirs[path[:i]] = true
			}
		}
	}
	if len(dirs) == 0 {
		return ""
	}
	return slices.Sorted(maps.Keys(dirs))[g.IntN(len(dirs))]
}

// put sets path, and removes what cannot be beside it. Attributes are files for
// git's strict check.
func (g *generator) put(path string, node Node) bool {
	if path == "" || strings.Contains(path, ".gitattributes/") || strings.HasSuffix(path, ".gitattributes") && node.Mode == Gitlink {
		return false
	}
	g.removeDir(path)
	for i := range len(path) {
		if path[i] == '/' {
			delete(g.tree, path[:i])
		}
	}
	g.tree[path] = node
	return true
}

func (g *generator) replace(mode string, by func(Node) Node) bool {
	path := g.pick(mode)
	return path != "" && g.put(path, by(g.tree[path]))
}

func (g *generator) remove(path string) bool {
	delete(g.tree, path)
	return path != ""
}

func (g *generator) removeDir(dir string) bool {
	maps.DeleteFunc(g.tree, func(path string, _ Node) bool { return strings.HasPrefix(path, dir+"/") })
	return dir != ""
}

func (g *generator) rename() bool {
	path := g.pick(File)
	node := g.tree[path]
	return g.remove(path) && g.put(g.newPath(), node)
}

func (g *generator) renameDir() bool {
	dir, to := g.pickDir(), g.newPath()
	if dir == "" || to == dir || strings.HasPrefix(to, dir+"/") {
		return false
	}
	moved := Tree{}
	for path, node := range g.tree {
		if rest, below := strings.CutPrefix(path, dir+"/"); below {
			moved[to+"/"+rest] = node
		}
	}
	g.removeDir(dir)
	for _, path := range moved.Paths() {
		g.put(path, moved[path])
	}
	return true
}

func (g *generator) many() bool {
	for i := range 110 {
		g.put(fmt.Sprintf("many/%c/%03d.txt", 'a'+i%7, i), g.file())
	}
	return true
}
