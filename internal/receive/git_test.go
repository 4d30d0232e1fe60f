package receive

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/git"
	"bluegreen/internal/gittest"
	"bluegreen/internal/policy"
)

// TestMain lets the test binary be a proc-receive hook that writes down which
// refs git hands to it, and leaves them to git.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "proc-receive" {
		os.Exit(m.Run())
	}
	if err := witness(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func witness() error {
	in := bufio.NewReader(os.Stdin)
	for _, err := readPacket(in); !errors.Is(err, errFlush); _, err = readPacket(in) {
		if err != nil {
			return err
		}
	}
	if err := errors.Join(writePacket(os.Stdout, "version=1"), writeFlush(os.Stdout)); err != nil {
		return err
	}
	lines, err := readSection(in)
	if err != nil {
		return err
	}
	var refs []string
	for _, line := range lines {
		u, err := parseUpdate(line)
		if err != nil {
			return err
		}
		refs = append(refs, u.Ref)
		err = errors.Join(writePacket(os.Stdout, "ok "+u.Ref), writePacket(os.Stdout, "option fall-through"))
		if err != nil {
			return err
		}
	}
	return errors.Join(writeFlush(os.Stdout), os.WriteFile("handed-over", []byte(strings.Join(refs, "\n")), 0o600))
}

// An origin is a bare repository, beside another one to push from.
type origin struct {
	testing.TB
	dir, from     string
	base, forward string // commits, the second one's parent the first
	tree, tag     string // of forward
}

func newOrigin(t testing.TB) *origin {
	o := &origin{TB: t, dir: gittest.Bare(t), from: gittest.Bare(t)}
	commit := func(name string, parents ...string) string {
		o.tree = strings.TrimSpace(gittest.Run(t, o.from, nil, fmt.Sprintf("100644 blob %s\t%s\n", gittest.Object(t, o.from, "blob", name), name), "mktree"))
		return strings.TrimSpace(gittest.Git(t, o.from, append([]string{"commit-tree", "-m", name, o.tree}, parents...)...))
	}
	o.base = commit("base")
	o.forward = commit("forward", "-p", o.base)
	gittest.Git(t, o.from, "tag", "-a", "-m", "text", "annotated", o.forward)
	o.tag = strings.TrimSpace(gittest.Git(t, o.from, "rev-parse", "annotated"))
	return o
}

// push pushes refspecs, in which base, forward, tree and tag stand for the
// objects. It returns git's error.
func (o *origin) push(flags string, refspecs ...string) (string, error) {
	args := []string{"push", "--porcelain", flags, o.dir}
	for _, spec := range refspecs {
		source, target, _ := strings.Cut(spec, ":")
		object := map[string]string{"base": o.base, "forward": o.forward, "tree": o.tree, "tag": o.tag, "": ""}[source]
		args = append(args, "+"+object+":"+target)
		if object == "" {
			args[len(args)-1] = ":" + target
		}
	}
	return gittest.Try(o.from, []string{"GORACE=atexit_sleep_ms=0"}, "", args...)
}

// TestMatchesProcReceive compares with what git hands to proc-receive.
func TestMatchesProcReceive(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Each push creates, moves and deletes in several places.
	existing := []string{"base:refs/heads/moved", "base:refs/heads/gone", "base:refs/heads/master", "base:refs/tags/moved", "base:refs/tags/gone"}
	pushed := []string{
		"forward:refs/heads/moved", ":refs/heads/gone", "forward:refs/heads/made", "forward:refs/heads/master", "forward:refs/heads/master-too",
		"forward:refs/heads/deep/master", "forward:refs/tags/moved", ":refs/tags/gone", "forward:refs/tags/made", "forward:refs/tags/release-1", "forward:refs/other/made",
	}
	for _, patterns := range [][]string{
		nil,
		{"refs/heads/master"},
		{"refs/heads/master/"},
		{"refs/heads/master///"},
		{"refs/heads/master", "refs/tags"},
		{"refs/heads/mas"},
		{"refs/tags/release-"},
		{"refs"},
		{"refs/"},
		{"a:refs/heads"},
		{"d:refs/heads"},
		{"m:refs/heads"},
		{"ad:refs"},
		{"!:refs/heads"},
		{"!adm:refs/heads"},
		{"!m:refs/tags"},
		{":refs/heads"},
		{"x:refs/heads"},
		{"ax:refs/tags"},
		{"a:"},
		{"m:refs/heads/master", "a:refs/tags/made"},
		{"refs/heads:x"},
	} {
		t.Run(strings.Join(patterns, " "), func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			if _, err := o.push("--quiet", existing...); err != nil {
				t.Fatal(err)
			}
			for _, pattern := range patterns {
				gittest.Git(t, o.dir, "config", "--add", "receive.procReceiveRefs", pattern)
			}
			hooks := filepath.Join(o.dir, "hooks")
			if err := errors.Join(os.MkdirAll(hooks, 0o777), os.Symlink(program, filepath.Join(hooks, "proc-receive"))); err != nil {
				t.Fatal(err)
			}
			if out, err := o.push("--quiet", pushed...); err != nil {
				t.Fatal(err, out)
			}
			data, err := os.ReadFile(filepath.Join(o.dir, "handed-over"))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			want := strings.Fields(string(data))
			var got []string
			for _, spec := range pushed {
				source, ref, _ := strings.Cut(spec, ":")
				u := policy.Update{Old: name(t, ones), New: name(t, twos), Ref: ref}
				if source == "" {
					u.New = git.OID{}
				}
				if !slices.Contains(existing, "base:"+ref) {
					u.Old = git.OID{}
				}
				if matchesProcReceive(patterns, u) {
					got = append(got, ref)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("we say %q, git hands over %q", got, want)
			}
		})
	}
}

func name(t testing.TB, digits string) git.OID {
	t.Helper()
	oid, err := git.ParseOID(digits)
	if err != nil {
		t.Fatal(err)
	}
	return oid
}

// TestForesee compares what is foreseen of an atomic push with what git does
// with it.
func TestForesee(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		config   []string // key=value
		existing []string
		pushed   []string
		head     string
	}{
		{name: "forward", existing: []string{"base:refs/heads/a"}, pushed: []string{"forward:refs/heads/a"}},
		{name: "backward", existing: []string{"forward:refs/heads/a"}, pushed: []string{"base:refs/heads/a"}},
		{name: "backward, denied", config: []string{"receive.denyNonFastForwards=true"}, existing: []string{"forward:refs/heads/a"}, pushed: []string{"base:refs/heads/a"}},
		{name: "backward, denied by yes", config: []string{"receive.denyNonFastForwards=yes"}, existing: []string{"forward:refs/heads/a"}, pushed: []string{"base:refs/heads/a"}},
		{name: "backward, denied by 1", config: []string{"receive.denynonfastforwards=1"}, existing: []string{"forward:refs/heads/a"}, pushed: []string{"base:refs/heads/a"}},
		{name: "backward, denied then not", config: []string{"receive.denyNonFastForwards=true", "receive.denyNonFastForwards=off"}, existing: []string{"forward:refs/heads/a"}, pushed: []string{"base:refs/heads/a"}},
		{name: "forward, denied", config: []string{"receive.denyNonFastForwards=true"}, existing: []string{"base:refs/heads/a"}, pushed: []string{"forward:refs/heads/a"}},
		{name: "tag backward, denied", config: []string{"receive.denyNonFastForwards=true"}, existing: []string{"forward:refs/tags/a"}, pushed: []string{"base:refs/tags/a"}},
		{name: "deleted", existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}},
		{name: "deleted, denied", config: []string{"receive.denyDeletes=true"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}},
		{name: "tag deleted, denied", config: []string{"receive.denyDeletes=true"}, existing: []string{"base:refs/tags/a"}, pushed: []string{":refs/tags/a"}},
		{name: "current branch deleted", existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch deleted, warn", config: []string{"receive.denyDeleteCurrent=warn"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch deleted, ignore", config: []string{"receive.denyDeleteCurrent=Ignore"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch deleted, refuse", config: []string{"receive.denyDeleteCurrent=refuse"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch deleted, false", config: []string{"receive.denyDeleteCurrent=false"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch deleted, no", config: []string{"receive.denyDeleteCurrent=no"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch deleted, true", config: []string{"receive.denyDeleteCurrent=true"}, existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a"}, head: "refs/heads/a"},
		{name: "current branch moved", existing: []string{"base:refs/heads/a"}, pushed: []string{"forward:refs/heads/a"}, head: "refs/heads/a"},
		{name: "branch to a tree", pushed: []string{"tree:refs/heads/a"}},
		{name: "branch to a tag", pushed: []string{"tag:refs/heads/a"}},
		{name: "branch moved to a tag", existing: []string{"base:refs/heads/a"}, pushed: []string{"tag:refs/heads/a"}},
		{name: "tag to a tree", pushed: []string{"tree:refs/tags/a"}},
		{name: "tag", pushed: []string{"tag:refs/tags/a"}},
		{name: "file in a file", existing: []string{"base:refs/heads/a"}, pushed: []string{"base:refs/heads/a/b"}},
		{name: "directory", existing: []string{"base:refs/heads/a/b"}, pushed: []string{"base:refs/heads/a"}},
		{name: "deep directory", existing: []string{"base:refs/heads/a/b/c/d"}, pushed: []string{"base:refs/heads/a/b"}},
		{name: "both new", pushed: []string{"base:refs/heads/a", "base:refs/heads/a/b"}},
		{name: "beside", existing: []string{"base:refs/heads/a/b"}, pushed: []string{"base:refs/heads/a/c", "base:refs/heads/ab"}},
		{name: "in place of one that goes", existing: []string{"base:refs/heads/a"}, pushed: []string{":refs/heads/a", "base:refs/heads/a/b"}},
		{name: "in place of a directory that goes", existing: []string{"base:refs/heads/a/b"}, pushed: []string{":refs/heads/a/b", "base:refs/heads/a"}},
		{name: "one of several", config: []string{"receive.denyDeletes=true"}, existing: []string{"base:refs/heads/a"}, pushed: []string{"base:refs/heads/x", ":refs/heads/a", "base:refs/tags/y"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			// All objects are there, as they are when pre-receive runs.
			if _, err := o.push("--quiet", "tag:refs/keep/1", "tree:refs/keep/2"); err != nil {
				t.Fatal(err)
			}
			if len(c.existing) > 0 {
				if _, err := o.push("--quiet", c.existing...); err != nil {
					t.Fatal(err)
				}
			}
			for _, setting := range c.config {
				key, value, _ := strings.Cut(setting, "=")
				gittest.Git(t, o.dir, "config", "--add", key, value)
			}
			if c.head != "" {
				gittest.Git(t, o.dir, "symbolic-ref", "HEAD", c.head)
			}
			foreseen := o.foresee(c.existing, c.pushed)
			_, err := o.push("--atomic", c.pushed...)
			if (err != nil) != (len(foreseen) > 0) {
				t.Errorf("foreseen is %q, git says %v", foreseen, err)
			}
		})
	}
}

// foresee asks the function under test about a push.
func (o *origin) foresee(existing, pushed []string) []string {
	o.Helper()
	objects := map[string]git.OID{"base": name(o, o.base), "forward": name(o, o.forward), "tree": name(o, o.tree), "tag": name(o, o.tag)}
	old := map[string]git.OID{}
	for _, spec := range existing {
		source, ref, _ := strings.Cut(spec, ":")
		old[ref] = objects[source]
	}
	var updates []policy.Update
	for _, spec := range pushed {
		source, ref, _ := strings.Cut(spec, ":")
		updates = append(updates, policy.Update{Old: old[ref], New: objects[source], Ref: ref})
	}
	repo, err := git.Open(o.dir, gittest.Environ())
	if err != nil {
		o.Fatal(err)
	}
	foreseen, err := foresee(o.Context(), repo, updates)
	if err != nil {
		o.Fatal(err)
	}
	return foreseen
}

// TestForeseeStale foresees an update whose old object is not where the ref is.
func TestForeseeStale(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	if _, err := o.push("--quiet", "forward:refs/heads/a"); err != nil {
		t.Fatal(err)
	}
	for _, existing := range [][]string{nil, {"base:refs/heads/a"}} {
		foreseen := o.foresee(existing, []string{"forward:refs/heads/a"})
		if len(foreseen) != 1 || !strings.Contains(foreseen[0], `"refs/heads/a" is at `+o.forward[:7]+" now") {
			t.Errorf("foreseen is %q", foreseen)
		}
	}
}
