// Package gittest builds real repositories for tests, the same ones on every
// machine: git there reads no configuration but the repository's, and commits
// carry fixed names and dates.
package gittest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
)

// Environ is what git commands of tests run in, and what the packages under
// test are given as the caller's environment.
func Environ() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "TZ=UTC",
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=T", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_AUTHOR_DATE=1700000000 +0000",
		"GIT_COMMITTER_NAME=T", "GIT_COMMITTER_EMAIL=t@example.com", "GIT_COMMITTER_DATE=1700000000 +0000",
	}
}

// Counting is Environ with a git that writes down how it is called. calls
// returns that, from the time before on.
func Counting(t testing.TB) (environ []string, calls func() []string) {
	t.Helper()
	dir := Dir(t)
	log := filepath.Join(dir, "calls")
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>'%s'\nPATH='%s'\nexec git \"$@\"\n", log, os.Getenv("PATH"))
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	Script(t, filepath.Join(dir, "bin/git"), script)
	return append(Environ()[1:], "PATH="+filepath.Join(dir, "bin")), func() []string {
		data, _ := os.ReadFile(log)
		os.Remove(log)
		lines := strings.Split(string(data), "\n")
		return lines[:len(lines)-1]
	}
}

// Script writes a program. A child that is forked meanwhile would have it open for
// writing, and nobody could run it: none is.
func Script(t testing.TB, path, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	err := os.WriteFile(path, []byte(text), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
}

// Git runs git in dir and returns its standard output. The test ends when git
// fails.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return Run(t, dir, nil, "", args...)
}

// Run is Git with further environment variables and a standard input.
func Run(t testing.TB, dir string, env []string, stdin string, args ...string) string {
	t.Helper()
	out, err := Try(dir, env, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try is Run for a git that may fail.
func Try(dir string, env []string, stdin string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// Bare makes an empty bare repository whose branch is master and returns its
// path, symlinks resolved.
func Bare(t testing.TB, flags ...string) string {
	t.Helper()
	dir := filepath.Join(Dir(t), "repo.git")
	Git(t, "/", append(append([]string{"init", "-q", "--bare", "-b", "master"}, flags...), dir)...)
	return dir
}

// Dir is t.TempDir with symlinks resolved.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Clone makes a bare clone with objects of its own and returns its path.
func Clone(t testing.TB, repo string, flags ...string) string {
	t.Helper()
	dir := filepath.Join(Dir(t), "clone.git")
	Git(t, "/", append(append([]string{"clone", "-q", "--bare"}, flags...), repo, dir)...)
	return dir
}

// Head moves the branch master, which HEAD points at, to commit.
func Head(t testing.TB, repo, commit string) {
	t.Helper()
	path := filepath.Join(repo, "refs/heads/master")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(commit+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Object writes an object of any content, also one that git refuses, and
// returns its name.
func Object(t testing.TB, repo, kind, data string) string {
	t.Helper()
	return strings.TrimSpace(Run(t, repo, nil, data, "hash-object", "-w", "--stdin", "--literally", "-t", kind))
}

// A Node is what one path of a tree holds. Mode is as git writes it; Data is
// the file's content, the symlink's target, or the gitlink's commit.
type Node struct {
	Mode, Data string
}

// The modes of nodes.
const (
	File       = "100644"
	Executable = "100755"
	Symlink    = "120000"
	Gitlink    = "160000"
)

// A Tree holds the nodes of a commit by path.
type Tree map[string]Node

// Files makes a Tree of plain files: path, content, path, content.
func Files(pairs ...string) Tree {
	tree := Tree{}
	for i := 0; i < len(pairs); i += 2 {
		tree[pairs[i]] = Node{File, pairs[i+1]}
	}
	return tree
}

// Paths lists the paths of t in order.
func (t Tree) Paths() []string {
	paths := make([]string, 0, len(t))
	for path := range t {
		paths = append(paths, path)
	}
	sort.Strings(paths)
	return paths
}

// Commits writes one commit for each tree, each the child of the one before,
// and returns their names. The branch master ends at the last one.
func Commits(t testing.TB, repo string, trees ...Tree) []string {
	t.Helper()
	var in bytes.Buffer
	blobs := map[string]int{}
	mark := len(trees)
	for _, tree := range trees {
		for _, path := range tree.Paths() {
			node := tree[path]
			if _, known := blobs[node.Data]; known || node.Mode == Gitlink {
				continue
			}
			mark++
			blobs[node.Data] = mark
			fmt.Fprintf(&in, "blob\nmark :%d\ndata %d\n%s\n", mark, len(node.Data), node.Data)
		}
	}
	for i, tree := range trees {
		fmt.Fprintf(&in, "commit refs/heads/master\nmark :%d\ncommitter T <t@example.com> 1700000000 +0000\n", i+1)
		message := fmt.Sprintf("commit %d", i)
		fmt.Fprintf(&in, "data %d\n%s\ndeleteall\n", len(message), message)
		for _, path := range tree.Paths() {
			if node := tree[path]; node.Mode == Gitlink {
				fmt.Fprintf(&in, "M %s %s %s\n", node.Mode, node.Data, quote(path))
			} else {
				fmt.Fprintf(&in, "M %s :%d %s\n", node.Mode, blobs[node.Data], quote(path))
			}
		}
	}
	marks := filepath.Join(t.TempDir(), "marks")
	Run(t, repo, nil, in.String(), "fast-import", "--quiet", "--force", "--export-marks="+marks)
	data, err := os.ReadFile(marks)
	if err != nil {
		t.Fatal(err)
	}
	commits := make([]string, len(trees))
	for line := range strings.Lines(string(data)) {
		var mark int
		var oid string
		if _, err := fmt.Sscanf(line, ":%d %s", &mark, &oid); err != nil {
			t.Fatalf("mark %q: %v", line, err)
		}
		if mark <= len(trees) {
			commits[mark-1] = oid
		}
	}
	return commits
}

// quote writes path as git's fast-import reads it.
func quote(path string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(path) {
		if c := path[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' {
			fmt.Fprintf(&b, "\\%03o", c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// TreesOf returns the name of each commit's tree.
func TreesOf(t testing.TB, repo string, commits []string) []string {
	t.Helper()
	out := Run(t, repo, nil, strings.Join(commits, "^{tree}\n")+"^{tree}\n", "cat-file", "--batch-check=%(objectname)")
	return strings.Fields(out)
}
