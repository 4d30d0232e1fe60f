package git

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRules finds what git looks at, wherever it is, and starts no process
// where nothing of it is set.
func TestRules(t *testing.T) {
	t.Parallel()
	const crlf = "[core]\n\tAutoCRLF = true\n"
	const ident = "*.c ident\n"
	tests := []struct {
		name     string
		file     string // below a directory that has repo.git
		text     string
		env      []string // with DIR for that directory
		converts bool
		calls    int // of git, before attributes are asked for
	}{
		{name: "nothing"},
		{name: "unrelated", file: "repo.git/config", text: "[gc]\n\tauto = 0\n"},
		{name: "the repository's configuration", file: "repo.git/config", text: crlf, converts: true, calls: 1},
		{name: "an included one", file: "repo.git/config", text: "[include]\n\tpath = ../more\n", calls: 2},
		{name: "that of the work tree, not in use", file: "repo.git/config.worktree", text: crlf, calls: 1},
		{name: "the account's", file: "home/.gitconfig", text: crlf, env: []string{"HOME=DIR/home", "GIT_CONFIG_GLOBAL="}, converts: true, calls: 1},
		{name: "the account's, XDG", file: "xdg/git/config", text: crlf, env: []string{"XDG_CONFIG_HOME=DIR/xdg", "GIT_CONFIG_GLOBAL="}, converts: true, calls: 1},
		{name: "the account's, named", file: "named", text: crlf, env: []string{"GIT_CONFIG_GLOBAL=DIR/named"}, converts: true, calls: 1},
		{name: "the system's", file: "system", text: crlf, env: []string{"GIT_CONFIG_SYSTEM=DIR/system", "GIT_CONFIG_NOSYSTEM="}, converts: true, calls: 1},
		{name: "the system's, switched off", file: "system", text: crlf, env: []string{"GIT_CONFIG_SYSTEM=DIR/system"}},
		{name: "a filter that nothing uses", file: "system", text: "[filter \"lfs\"]\n\tsmudge = false\n", env: []string{"GIT_CONFIG_SYSTEM=DIR/system", "GIT_CONFIG_NOSYSTEM=0"}},
		{name: "core.eol alone", file: "repo.git/config", text: "[core]\n\teol = crlf\n", calls: 1},
		{name: "the repository's attributes", file: "repo.git/info/attributes", text: ident, converts: true},
		{name: "text alone", file: "repo.git/info/attributes", text: "* text=auto\n*.c text eol=lf\n"},
		{name: "the account's attributes", file: "home/.config/git/attributes", text: ident, env: []string{"HOME=DIR/home"}, converts: true},
		{name: "the account's attributes, XDG", file: "xdg/git/attributes", text: ident, env: []string{"XDG_CONFIG_HOME=DIR/xdg"}, converts: true},
		{name: "the account's attributes, named", file: "home/mine", text: ident, env: []string{"HOME=DIR/home"}, converts: true, calls: 2},
		{name: "attributes in the work tree, which is empty", file: "repo.git/mine", text: ident, calls: 2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Dir(gittest.Bare(t))
			environ, calls := gittest.Counting(t)
			for _, kv := range test.env {
				name, value, _ := strings.Cut(kv, "=")
				environ = slices.DeleteFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
				environ = append(environ, name+"="+strings.ReplaceAll(value, "DIR", dir))
			}
			if test.file != "" {
				path := filepath.Join(dir, test.file)
				old, _ := os.ReadFile(path)
				put(t, path, string(old)+test.text)
			}
			put(t, filepath.Join(dir, "more"), "")
			if strings.HasSuffix(test.file, "/mine") {
				path := strings.NewReplacer("home/", "~/", "repo.git/", "").Replace(test.file)
				gittest.Git(t, filepath.Join(dir, "repo.git"), "config", "core.attributesFile", path)
			}
			repo, err := Open(filepath.Join(dir, "repo.git"), environ)
			if err != nil {
				t.Fatal(err)
			}
			plain := &Rules{}
			rules, err := repo.Rules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if made := calls(); len(made) != test.calls {
				t.Errorf("git was called: %q", made)
			}
			if got := rules.MayConvert(&Mentions{}); got != test.converts {
				t.Errorf("may convert: %t", got)
			}
			now, err := rules.Fingerprint(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if before, _ := plain.Fingerprint(t.Context()); test.converts && now == before {
				t.Errorf("fingerprint is %q as without it", now)
			}
			// Git itself, asked about a file that the rule is about.
			work := gittest.Dir(t)
			index := filepath.Join(work, "index")
			blob := gittest.Object(t, repo.Dir, "blob", "$Id$\n")
			gittest.Run(t, repo.Dir, []string{"GIT_INDEX_FILE=" + index}, "100644 "+blob+"\ta.c\n", "update-index", "--index-info")
			into := filepath.Join(work, "into")
			written := write(t, repo, Checkout{Index: index, WorkTree: emptyDir(t)}, into, "a.c")["a.c"]
			if changed := written != "$Id$\n"; changed != test.converts {
				t.Errorf("git writes %q", written)
			}
		})
	}
}

func emptyDir(t *testing.T) string { return gittest.Dir(t) }

// write has git write paths, and returns what it wrote.
func write(t *testing.T, repo *Repository, c Checkout, into string, paths ...string) map[string]string {
	t.Helper()
	if err := os.Mkdir(into, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(into)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if said, err := repo.CheckoutIndex(t.Context(), c, dir, paths); err != nil || said != "" {
		t.Fatalf("%q, %v", said, err)
	}
	contents := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Join(into, path))
		if err != nil {
			t.Fatal(err)
		}
		contents[path] = string(data)
	}
	return contents
}

// TestLineEnds asks git itself about every mixture of attributes and settings.
func TestLineEnds(t *testing.T) {
	t.Parallel()
	bare := gittest.Bare(t)
	blob := gittest.Object(t, bare, "blob", "one\ntwo\n")
	var attributes, list strings.Builder
	var paths []string
	for _, text := range []string{"", "text", "-text", "!text", "text=auto", "text=input", "text=other"} {
		for _, crlf := range []string{"", "crlf", "-crlf", "crlf=input", "crlf=auto"} {
			for _, eol := range []string{"", "eol=lf", "eol=crlf", "eol", "eol=other"} {
				path := fmt.Sprintf("f%d", len(paths))
				paths = append(paths, path)
				fmt.Fprintf(&attributes, "%s %s %s %s\n", path, text, crlf, eol)
				fmt.Fprintf(&list, "100644 %s\t%s\n", blob, path)
			}
		}
	}
	fmt.Fprintf(&list, "100644 %s\t.gitattributes\n", gittest.Object(t, bare, "blob", attributes.String()))
	index := filepath.Join(gittest.Dir(t), "index")
	gittest.Run(t, bare, []string{"GIT_INDEX_FILE=" + index}, list.String(), "update-index", "--add", "--index-info")
	for _, auto := range []string{"false", "true", "input", "INPUT", "yes", "0"} {
		for _, eol := range []string{"native", "lf", "crlf", "CRLF"} {
			gittest.Git(t, bare, "config", "core.autocrlf", auto)
			gittest.Git(t, bare, "config", "core.eol", eol)
			repo, err := Open(bare, gittest.Environ())
			if err != nil {
				t.Fatal(err)
			}
			rules, err := repo.Rules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			checkout := Checkout{Index: index, WorkTree: emptyDir(t)}
			answers, err := rules.Conversions(t.Context(), checkout, paths)
			if err != nil {
				t.Fatal(err)
			}
			written := write(t, repo, checkout, filepath.Join(gittest.Dir(t), "into"), paths...)
			for n, path := range paths {
				if converted := written[path] == "one\r\ntwo\r\n"; converted != (answers[n].How != "") {
					t.Errorf("core.autocrlf=%s, core.eol=%s, %s: %q, but git writes %q", auto, eol,
						strings.Split(attributes.String(), "\n")[n], answers[n].How, written[path])
				}
			}
		}
	}
}

// TestFilters tells the filters that a checkout runs, or fails for want of.
func TestFilters(t *testing.T) {
	t.Parallel()
	bare := gittest.Bare(t)
	for _, kv := range []string{"filter.a.smudge=x", "filter.b.process=x", "filter.c.clean=x", "filter.d.required=true",
		"filter.with.dots.smudge=x", "filter.Case.smudge=x", "filter.empty.smudge=", "filter.late.required=true", "filter.late.required=false"} {
		key, value, _ := strings.Cut(kv, "=")
		gittest.Git(t, bare, "config", "--add", key, value)
	}
	repo, err := Open(bare, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	rules, err := repo.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before, err := rules.Filters(t.Context())
	if err != nil || before == "" {
		t.Fatalf("%q, %v", before, err)
	}
	for name, want := range map[string]bool{"a": true, "b": true, "c": false, "d": true, "with.dots": true, "Case": true,
		"case": false, "empty": false, "late": false, "none": false} {
		if got := rules.filters(name); got != want {
			t.Errorf("%q: %t", name, got)
		}
	}
	for _, kv := range []string{"filter.a.smudge=y", "filter.d.required=false"} {
		key, value, _ := strings.Cut(kv, "=")
		gittest.Git(t, bare, "config", key, value)
		rules, err := repo.Rules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if after, err := rules.Filters(t.Context()); err != nil || after == before {
			t.Errorf("after %s: %q, %v", kv, after, err)
		}
	}
}

// TestMentions cuts the words in two at every place.
func TestMentions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Mentions{
		"":                                 {},
		"* text=auto eol=lf -crlf\n":       {any: true},
		"x ident":                          {any: true, converts: true},
		"x working-tree-encoding=UTF-16\n": {any: true, converts: true},
		"*.c text eol=crlf\n":              {any: true, converts: true},
		"*.bin filter=lfs diff=lfs -text":  {any: true, filter: true},
	} {
		for size := 1; size <= len(text)+1; size++ {
			m := &Mentions{}
			for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				m.Write(rest[:min(size, len(rest))])
			}
			if m.any != want.any || m.converts != want.converts || m.filter != want.filter {
				t.Errorf("%q in pieces of %d: %+v", text, size, m)
			}
		}
	}
}
