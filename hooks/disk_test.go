package hooks_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// A listing maps each path below a directory to what is there. Two listings
// that are equal are the same site.
type listing map[string]string

// list walks dir. With identity it also tells the inodes and the times, so that
// a file that was written anew with the same content shows.
func list(dir string, identity bool) (listing, error) {
	l := listing{}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // a release
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		l[name], err = describe(path, identity)
		return err
	})
	return l, err
}

func describe(path string, identity bool) (string, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	what := st.Mode().String()
	switch {
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		what = fmt.Sprintf("symlink to %q", target)
	case st.Mode().IsRegular():
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		what += fmt.Sprintf(" %d bytes %q", len(content), content[:min(len(content), 40)])
		if len(content) > 40 {
			sum := sha256.Sum256(content)
			what += " " + hex.EncodeToString(sum[:8])
		}
	}
	if identity && !st.IsDir() { // see directories.txtar
		what += fmt.Sprintf(" inode %d at %d", st.Sys().(*syscall.Stat_t).Ino, st.ModTime().UnixNano())
	}
	return what, nil
}

// without returns l less the paths given, and the directories that hold only
// them.
func (l listing) without(paths ...string) listing {
	rest := listing{}
	for path, what := range l {
		if !slices.Contains(paths, path) && !slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(p, path+"/") }) {
			rest[path] = what
		}
	}
	return rest
}

func (l listing) exceptRefs(really bool) listing {
	if really {
		return l.without("refs")
	}
	return l
}

// diff tells how got differs from want, "" when they are equal.
func diff(want, got listing) string {
	var lines []string
	for path, what := range want {
		if got[path] != what {
			lines = append(lines, fmt.Sprintf("%q: want %s, got %s", path, what, got[path]))
		}
	}
	for path, what := range got {
		if _, known := want[path]; !known {
			lines = append(lines, fmt.Sprintf("%q: want nothing, got %s", path, what))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// checkout lists what git itself writes for a revision of the repository at
// gitDir, under the umask given as for sh, in a fresh directory below tmp.
func checkout(env []string, gitDir, rev, umask, tmp string) (listing, error) {
	dir, err := os.MkdirTemp(tmp, "fresh-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	index := dir + ".index"
	defer os.Remove(index)
	cmd := exec.Command("sh", "-c", `umask "$1" && exec git --git-dir="$2" --work-tree="$3" read-tree --reset -u "$4"`,
		"sh", umask, gitDir, dir, rev+"^{tree}")
	cmd.Env = append(slices.Clone(env), "GIT_INDEX_FILE="+index)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("git read-tree %s: %w: %s", rev, err, out)
	}
	return list(dir, false)
}

// leftovers lists what a deployment that has ended must not leave behind in the
// repository gitDir and the web root www.
func leftovers(gitDir, www string) ([]string, error) {
	var left []string
	if entries, err := os.ReadDir(filepath.Join(gitDir, "bluegreen")); err == nil {
		for _, e := range entries {
			switch name := e.Name(); {
			case name == "releases":
			case name == "lock" || name == "history.jsonl" || name == "deployed.json":
			case strings.HasPrefix(strings.TrimPrefix(name, "new-"), "push-"): // see notes.txtar
			default:
				left = append(left, "bluegreen/"+name)
			}
		}
	}
	for _, pattern := range []string{
		filepath.Join(gitDir, "*.lock"),
		filepath.Join(gitDir, "refs/heads/*.lock"),
		filepath.Join(gitDir, "*.new"),
		filepath.Join(gitDir, "objects/incoming-*"),
		filepath.Join(gitDir, "objects/tmp_objdir-incoming-*"),
		filepath.Join(www, ".bluegreen*"),
		filepath.Join(filepath.Dir(www), ".*.bluegreen"),
		filepath.Join(gitDir, "bluegreen/releases/*/stage*"),
		filepath.Join(gitDir, "bluegreen/releases/*/index"),
		filepath.Join(gitDir, "bluegreen/releases/*/*.new"),
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		left = append(left, found...)
	}
	return left, nil
}
