package worktree

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// FuzzPlan makes two trees of what it is given. The plan from one to the other
// names what differs and nothing else; carried out it gives the second one, and
// taken back the very inodes of the first.
func FuzzPlan(f *testing.F) {
	f.Add([]byte("\x00"))
	f.Add([]byte("\x01\x03\x00a\x13\x11b\x23\x22c\x01\x10d\x02\x20e"))
	f.Add([]byte("\x02\x01\x00a\x02\x01a\x01\x11b\x12\x01b\x21\x02c\x02\x32d\x31\x13d"))
	f.Add([]byte("\x03\x03\x00a\x01\x21b\x12\x20b\x11\x31c\x32\x30c\x01\x43e\x02\x42f"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 200 {
			return
		}
		first, second := twoTrees(data[1:])
		repo := gittest.BareQuickly(t)
		w := newWorktree(t, repo, filepath.Join(gittest.Dir(t), "www"))
		w.Verify = data[0]&1 != 0
		if data[0]&2 != 0 { // then files are staged in the web root
			mkdir(t, w.Dir, 0o755|os.ModeSetgid)
		}
		w.deploy(t, first.Loose(t, repo), nil)
		w.is(t, first)
		was := gittest.Snap(t, w.Dir, true)

		plan, staged := w.stage(t, second.Loose(t, repo), nil)
		differs(t, plan, first, second)
		for range 2 { // what is done again must not do it twice
			must(t, w.Activate(staged.Record))
		}
		w.is(t, second)
		for range 2 {
			must(t, w.Undo(staged.Record))
		}
		if diff := was.Diff(unstaged(gittest.Snap(t, w.Dir, true))); diff != "" {
			t.Fatalf("undone, it is not what it was:\n%s", diff)
		}
		w.finish(t, staged)
		w.is(t, second)
		if plan, err := w.Plan(t.Context(), oid(t, second.Loose(t, repo)), Known{}); err != nil || len(plan.Writes)+len(plan.Deletes) > 0 {
			t.Fatalf("there is more to do: %+v, %v", plan, err)
		}
	})
}

// unstaged is a snapshot without the stage directory that lies in it.
func unstaged(snap gittest.Snapshot) gittest.Snapshot {
	for path := range snap {
		if strings.HasPrefix(path, ".bluegreen-") {
			delete(snap, path)
		}
	}
	return snap
}

// is fails unless the web root holds the tree.
func (w *Worktree) is(t *testing.T, tree gittest.Tree) {
	t.Helper()
	dir := filepath.Join(gittest.Dir(t), "want")
	st, err := os.Stat(w.Dir)
	must(t, err)
	mkdir(t, dir, st.Mode())
	tree.Write(t, dir)
	have := gittest.Snap(t, w.Dir, false)
	if diff := gittest.Snap(t, dir, false).Diff(unstaged(have)); diff != "" {
		t.Fatalf("the web root does not hold the tree:\n%s", diff)
	}
	must(t, os.RemoveAll(dir))
}

// differs fails unless the plan is the difference of the trees.
func differs(t *testing.T, plan *Plan, first, second gittest.Tree) {
	t.Helper()
	var writes, deletes []string
	for path, node := range second {
		if first[path] != node {
			writes = append(writes, path)
		}
	}
	for path := range first {
		if _, stays := second[path]; !stays {
			deletes = append(deletes, path)
		}
	}
	slices.Sort(writes)
	slices.Sort(deletes)
	planned := slices.Sorted(slices.Values(plan.Deletes))
	if !slices.Equal(plan.Paths(), writes) || !slices.Equal(planned, deletes) {
		t.Fatalf("planned to write %q and delete %q, want %q and %q", plan.Paths(), planned, writes, deletes)
	}
}

// twoTrees reads three bytes for each node: in which of the trees it is and
// what it is, its path, and its content.
func twoTrees(data []byte) (first, second gittest.Tree) {
	first, second = gittest.Tree{}, gittest.Tree{}
	modes := []string{gittest.File, gittest.Executable, gittest.Symlink, gittest.Gitlink}
	names := []string{"a", "b", "a.b", "a0", "A", "-", "é", "z"}
	for ; len(data) >= 3; data = data[3:] {
		node := gittest.Node{Mode: modes[data[0]>>4&3], Data: string(data[2:3]) + "\n"}
		switch node.Mode {
		case gittest.Gitlink:
			node.Data = strings.Repeat("1", 39) + "a"
		case gittest.Symlink:
			node.Data = names[data[2]&7]
		}
		path := names[data[1]&7]
		for depth := data[1] >> 6; depth > 0; depth-- {
			path += "/" + names[data[1]>>3&7]
		}
		if data[0]&1 != 0 {
			add(first, path, node)
		}
		if data[0]&2 != 0 {
			add(second, path, node)
		}
	}
	return first, second
}

// add puts a node into a tree, in the place of what cannot be beside it.
func add(tree gittest.Tree, path string, node gittest.Node) {
	for other := range tree {
		if strings.HasPrefix(other, path+"/") || strings.HasPrefix(path, other+"/") {
			delete(tree, other)
		}
	}
	tree[path] = node
}
