//go:build e2e

package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNoRoom deploys where there is ever more room, from none on, until there is
// enough; and where the last of it goes while the deployment is at a step. The
// push fails and the site stays what it is, or the push succeeds. With room again,
// the next one works.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	for _, s := range []shortage{
		{"memory without room", func(t testing.TB) *disk { return newMemory(t, "size=64m") }, leaveBytes, 4 << 10},
		{"memory without inodes", func(t testing.TB) *disk { return newMemory(t, "size=64m,nr_inodes=600") }, leaveInodes, 1},
		{"ext4 without room", func(t testing.TB) *disk { return newDisk(t, "ext4") }, leaveBytes, 4 << 10},
		{"ext4 without inodes", func(t testing.TB) *disk { return newDisk(t, "ext4", "-N", "600") }, leaveInodes, 1},
	} {
		for _, k := range deployments() {
			t.Run(s.name+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				d := s.disk(t)
				k.bin, k.disk = buildWithFaults(t), d.dir
				w := &struckWalker{walker: k.newWalker(t), found: figures{what: k.name + ": " + s.name}}
				defer func() { w.found.print(t) }()
				s.before(w, d, campaign(t) > 0)
				s.amid(w, d, campaign(t) > 0)
			})
		}
	}
}

// deployments are the two ways that succeed in all that they are asked for.
func deployments() []killing {
	return slices.DeleteFunc(killings(), func(k killing) bool { return k.name != "proc-receive" && k.name != "releases" })
}

// A shortage is of something that a disk has only so much of.
type shortage struct {
	name  string
	disk  func(testing.TB) *disk
	leave func(d *disk, left uint64) // take what there is, less so much
	step  uint64
}

// before has the shortage there when the push comes.
func (s shortage) before(w *struckWalker, d *disk, long bool) {
	for left, worked := uint64(0), false; !worked && !w.Failed(); {
		d.sync()
		s.leave(d, left)
		worked = w.strike(fmt.Sprintf("%s, %d left", s.name, left), d.release, func() (int, string) {
			return w.push(nil, "+"+w.walker.new+":refs/heads/master")
		})
		if long {
			left += max(s.step, left/8)
		} else {
			left += max(s.step, 3*left)
		}
	}
}

// amid has it begin at each step of a deployment, in the short form at some.
func (s shortage) amid(w *struckWalker, d *disk, long bool) {
	for _, n := range w.points(long) {
		what := fmt.Sprintf("%s from step %d on", s.name, n)
		w.strike(what, d.release, func() (int, string) {
			return w.deployWatched(true, func(taken []string) {
				if len(taken) == n {
					s.leave(d, 0)
				}
			})
		})
		if w.Failed() {
			return
		}
	}
}

// points are the steps of a deployment at which something is to happen: all, or
// some in the short form.
func (w *struckWalker) points(long bool) (points []int) {
	_, steps, _ := w.deploy(0)
	w.restore()
	some := []string{"planned", "intent recorded", "activated", "checked", "committing", "ref moved"}
	for i, step := range steps {
		if long || slices.Contains(some, step) {
			points = append(points, i+1)
		}
	}
	return points
}

// leaveBytes fills the disk but for so many bytes.
func leaveBytes(d *disk, left uint64) {
	d.Helper()
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	d.must(err)
	defer f.Close()
	var st unix.Statfs_t
	d.must(unix.Fstatfs(int(f.Fd()), &st))
	size := int64(st.Bavail)*st.Bsize - int64(left)
	for size > 0 && unix.Fallocate(int(f.Fd()), 0, 0, size) != nil {
		size -= st.Bsize // the filesystem needs some for the ballast itself
	}
}

// leaveInodes makes files until only so many more can be made.
func leaveInodes(d *disk, left uint64) {
	d.Helper()
	dir := filepath.Join(d.dir, "ballast")
	d.must(os.Mkdir(dir, 0o755))
	var st unix.Statfs_t
	d.must(unix.Statfs(dir, &st))
	for n := left; n < st.Ffree; n++ {
		d.must(os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), nil, 0o644))
	}
}

// release gives back what was taken.
func (d *disk) release() {
	d.Helper()
	d.must(os.RemoveAll(filepath.Join(d.dir, "ballast")))
}

// A struckWalker is a server that lacks something while it deploys.
type struckWalker struct {
	*walker
	found figures
	dies  bool // by the fault: only recovery brings the web root back
}

// strike deploys the new commit under a fault, mends that, and looks: the push
// has failed and all is as it was, to the inode, or it has succeeded.
func (w *struckWalker) strike(what string, mend func(), deploy func() (status int, out string)) (worked bool) {
	w.found.times++
	before := w.web(true)
	status, out := deploy()
	after := w.web(true)
	mend()
	if status != 0 {
		if d := diff(before, after); d != "" && !w.dies {
			w.found.mixed++
			w.Errorf("%s: status %d, and the web root has changed:\n%s\n%s", what, status, d, out)
		}
		w.tidyGit(false)
		w.ageScratch()
		w.count(w.verify(what))
	} else {
		w.count(w.recovered(what)) // what could not be recorded without room
	}
	// Who dies after the ref has moved cannot say so any more.
	if held := w.ref("refs/heads/master"); (held == w.new) != (status == 0) && !(w.dies && held == w.new) {
		w.Errorf("%s: status %d, and master is at %s\n%s", what, status, held, out)
	}
	if !w.pushMore(what) {
		w.found.stuck++
		w.Errorf("%s: the push under it said\n%s", what, out)
	}
	w.restore()
	return status == 0
}

// count counts what the web root holds.
func (w *struckWalker) count(held string) {
	switch held {
	case w.walker.new:
		w.found.new++
	case w.walker.old:
		w.found.old++
	default:
		w.found.mixed++
	}
	if held != w.lastDeployed() {
		w.found.lost++
	}
}
