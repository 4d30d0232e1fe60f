package gittest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
)

// The words that made-up .gitattributes are put together from.
var (
	patterns = []string{"*", "*.txt", "*.t*", "*.id", "*.enc", "*.up", "*.html", "a", "/a", "d/*", "d/**", "many/**", "many/a/*.txt", "\"with space\""}
	states   = []string{
		"text", "-text", "!text", "text=auto", "text eol=crlf", "text=auto eol=crlf", "eol=crlf", "eol=lf", "crlf", "-crlf", "crlf=input",
		"ident", "-ident", "!ident", "filter=upper", "filter=named", "filter=lenient", "filter=process", "filter=missing", "-filter", "filter",
		"working-tree-encoding=UTF-16", "working-tree-encoding=UTF-16LE-BOM", "working-tree-encoding=ISO-8859-1", "-working-tree-encoding=x",
		"working-tree-encoding=UTF-8", "binary", "windows", "-windows", "diff=php",
	}
	extensions = []string{".txt", ".id", ".enc", ".up", ".tt"}
)

// Filters are the settings for the filters that made-up attributes name, but
// for "process", which needs a program, and "missing", which has none.
func Filters() []string {
	return []string{
		"filter.upper.smudge", "tr a-z A-Z", "filter.upper.clean", "tr A-Z a-z", "filter.upper.required", "true",
		"filter.named.smudge", "cat; echo %f", "filter.named.clean", "cat",
		"filter.lenient.smudge", "cat >/dev/null; echo half; false", "filter.lenient.clean", "cat",
	}
}

var attributeChanges = []change{
	{"attributes", func(g *generator) bool { return g.put(g.attributesPath(), g.attributes()) }},
	{"content", func(g *generator) bool { return g.put(g.contentPath(), g.content()) }},
	{"attributes at the top", func(g *generator) bool {
		return g.put(".gitattributes", Node{File, "[attr]windows text eol=crlf\n" + g.attributes().Data})
	}},
	{"contents", func(g *generator) bool {
		for range 12 {
			g.put(g.contentPath(), g.content())
		}
		return true
	}},
	{"attributes alone", func(g *generator) bool {
		path := g.pickAttributes()
		return path != "" && g.put(path, g.attributes())
	}},
	{"attributes removed", func(g *generator) bool { return g.remove(g.pickAttributes()) }},
	{"attributes in a directory", func(g *generator) bool { return g.put("d/.gitattributes", g.attributes()) }},
	{"attributes are a symlink", func(g *generator) bool { return g.put(g.attributesPath(), Node{Symlink, "other * ident"}) }},
	{"attributes are executable", func(g *generator) bool {
		return g.put(g.attributesPath(), Node{Executable, g.attributes().Data})
	}},
	{"attributes with CRLF", func(g *generator) bool {
		return g.put(g.attributesPath(), Node{File, strings.ReplaceAll(g.attributes().Data, "\n", "\r\n")})
	}},
	{"attributes convert themselves", func(g *generator) bool {
		return g.put(g.attributesPath(), Node{File, g.attributes().Data + ".gitattributes text eol=crlf ident working-tree-encoding=UTF-16\n# $Id$\n"})
	}},
	{"attributes too long for git", func(g *generator) bool {
		return g.put(g.attributesPath(), Node{File, "* " + strings.Repeat("x", 2100) + " eol=crlf\n" + g.attributes().Data})
	}},
	{"case only", func(g *generator) bool {
		path := g.contentPath()
		g.put(path, g.content())
		return g.remove(path) && g.put(strings.ToUpper(path), g.content())
	}},
}

// AttributeKinds names every kind of change that AttributeHistory makes beyond
// those of History.
func AttributeKinds() []string {
	var kinds []string
	for _, c := range attributeChanges {
		kinds = append(kinds, c.name)
	}
	return kinds
}

// AttributeHistory is History with attributes, at several levels, and contents
// that they have converted.
func AttributeHistory(seed uint64, n int) ([]Tree, map[string]int) {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, seed)), tree: Tree{}, done: map[string]int{}}
	for i := range n {
		g.make(attributeChanges[(i+int(seed))%len(attributeChanges)])
		for range g.IntN(4) {
			g.make(attributeChanges[g.IntN(len(attributeChanges))])
		}
		for range g.IntN(4) {
			g.make(changes[1+g.IntN(len(changes)-4)])
		}
		g.history = append(g.history, maps.Clone(g.tree))
	}
	return g.history, g.done
}

// attributesPath is where attributes may be, whatever is there.
func (g *generator) attributesPath() string {
	if dir := g.pickDir(); dir != "" && g.IntN(2) == 0 {
		return dir + "/.gitattributes"
	}
	return ".gitattributes"
}

func (g *generator) pickAttributes() string {
	for _, path := range g.tree.Paths() {
		if strings.HasSuffix("/"+path, "/.gitattributes") && g.tree[path].Mode == File && g.IntN(2) == 0 {
			return path
		}
	}
	return ""
}

func (g *generator) attributes() Node {
	var b strings.Builder
	for range 1 + g.IntN(4) {
		fmt.Fprintf(&b, "%s %s\n", patterns[g.IntN(len(patterns))], states[g.IntN(len(states))])
	}
	return Node{File, b.String()}
}

func (g *generator) contentPath() string {
	path := fmt.Sprintf("%c%s", 'a'+g.IntN(5), extensions[g.IntN(len(extensions))])
	switch g.IntN(4) {
	case 0:
		return "d/" + path
	case 1:
		return "d/e/" + path
	}
	return path
}

// content is what conversions have to do with.
func (g *generator) content() Node {
	mode := File
	if g.IntN(5) == 0 {
		mode = Executable
	}
	switch g.IntN(9) {
	case 0:
		return Node{mode, "one\r\ntwo\r\n" + g.text()}
	case 1:
		return Node{mode, "one\r\ntwo\nthree\r" + g.text()}
	case 2:
		return Node{mode, "$Id$ $Id: old $ $Id:" + g.text() + "$\n"}
	case 3:
		return Node{mode, "gr\u00fc\u00dfe " + g.text()}
	case 4:
		return Node{mode, "bad \xff\xfe utf-8 " + g.text()}
	case 5:
		return Node{mode, "nul \x00\n" + g.text()}
	case 6:
		return Node{mode, ""}
	case 7:
		return Node{mode, strings.Repeat(g.text(), 8192)}
	}
	return Node{mode, "one\ntwo\n" + g.text()}
}
