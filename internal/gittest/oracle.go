package gittest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// FreshCheckout has git write the commit into a directory that it makes.
func FreshCheckout(t testing.TB, repo string, environ []string, dir, commit string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Chmod(dir, 0o755))
	env := append(slices.Clone(environ), "GIT_INDEX_FILE="+filepath.Join(t.TempDir(), "index"))
	Run(t, "/", env, "", "--git-dir="+repo, "--work-tree="+dir, "checkout", "-q", "-f", "--detach", commit)
}

// Status returns what git finds in dir that is not as the repository's index
// says, "" where all is. Git believes what the index says of the files' inodes.
func Status(t testing.TB, repo string, environ []string, dir string) string {
	t.Helper()
	path := filepath.Join(repo, "index")
	st, err := os.Stat(path)
	if os.IsNotExist(err) {
		return ""
	}
	must(t, err)
	SettleIndex(t, path)
	env := append(slices.Clone(environ), "GIT_OPTIONAL_LOCKS=0")
	said := Run(t, "/", env, "", "--git-dir="+repo, "--work-tree="+dir, "status", "--porcelain")
	must(t, os.Chtimes(path, st.ModTime(), st.ModTime()))
	return said
}

// SettleIndex makes an index newer than all files: git then trusts what it says
// of them.
func SettleIndex(t testing.TB, path string) {
	t.Helper()
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// ChangeSettings changes one of the settings that conversions depend on, and
// says which. environ ends with XDG_CONFIG_HOME.
func ChangeSettings(t testing.TB, repo string, environ []string, random *rand.Rand) string {
	t.Helper()
	pick := func(values ...string) string { return values[random.IntN(len(values))] }
	file := func(path string) string {
		text := pick("", "*.txt text eol=crlf\n", "*.id ident\n[attr]windows ident\n", "* text=auto\n*.up filter=upper\n")
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	set := func(key, value string) string {
		Git(t, repo, "config", key, value)
		return key + "=" + value
	}
	switch random.IntN(7) {
	case 0:
		return set("core.autocrlf", pick("true", "false", "input"))
	case 1:
		return set("core.eol", pick("crlf", "lf", "native"))
	case 2:
		return set("core.symlinks", pick("true", "false"))
	case 3:
		return set("filter.upper.smudge", pick("tr a-z A-Z", "tr a-m A-M"))
	case 4:
		return file(filepath.Join(repo, "info/attributes"))
	case 5:
		xdg, _ := strings.CutPrefix(environ[len(environ)-1], "XDG_CONFIG_HOME=")
		return file(filepath.Join(xdg, "git/attributes"))
	}
	return set("core.attributesFile", pick(file(filepath.Join(repo, "more attributes")), "", "relative", "/nonexistent"))
}

// Subdirectory is the directory that Below puts trees into.
const Subdirectory = "pub/www"

// Below puts the trees of a history into a directory, below attributes that
// change, too.
func Below(history []Tree) []Tree {
	var below []Tree
	for i, tree := range history {
		whole := Files("README", "not deployed\n", "pub/other", "nor this\n", Subdirectory+"/here", "deployed\n")
		for path, node := range tree {
			whole[Subdirectory+"/"+path] = node
		}
		above := []string{"", "*.txt text eol=crlf\n", Subdirectory + "/*.up filter=upper\n/a.txt ident\n"}
		whole[".gitattributes"] = Node{File, above[i%3]}
		whole["pub/.gitattributes"] = Node{File, above[i/3%3]}
		below = append(below, whole)
	}
	return below
}
