//go:build e2e

package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// TestPowerCuts cuts the power during deployments: at each step, and at any
// moment. What is on the disk then recovers to exactly one commit, and goes on.
func TestPowerCuts(t *testing.T) {
	t.Parallel()
	limit := campaign(t)
	bin := buildWithFaults(t)
	for _, filesystem := range []string{"ext4", "xfs", "btrfs"} {
		for _, k := range killings() {
			if k.operator || limit == 0 && k.fails {
				continue
			}
			k.bin = bin
			t.Run(filesystem+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				k.cutPower(t, filesystem, limit)
			})
		}
	}
}

// A cut is a disk as it was when the power failed.
type cut struct {
	image, step, when string
	steps             int // that the hooks had taken
}

// A powerWalker is a server on a disk of its own whose power is cut.
type powerWalker struct {
	struckWalker
	disk   *disk
	before []map[string]any // the history before the deployment
}

// newPowerWalker sets git up as "bluegreen install" does: its defaults do not
// write everything durably.
func (k killing) newPowerWalker(t *testing.T, d *disk) *walker {
	k.disk = d.dir
	w := k.newWalker(t)
	w.run(w.git, "git", "config", "core.fsync", "all")
	return w
}

func (k killing) cutPower(t *testing.T, filesystem string, limit time.Duration) {
	d := newDisk(t, filesystem)
	p := &powerWalker{disk: d}
	p.walker, p.found.what = k.newPowerWalker(t, d), fmt.Sprintf("%s: power cut on %s", k.name, filesystem)
	defer func() { p.found.print(t) }()
	end := time.Now().Add(limit)
	for n := 0; n < 1 || time.Now().Before(end) && !t.Failed(); n++ {
		cuts := p.deployAndCut(n%2 == 0)
		if limit == 0 { // a few of them, the same in each run
			cuts = slices.DeleteFunc(cuts, func(c cut) bool { return !slices.Contains([]string{"planned", k.needs, "index written"}, c.step) })
		}
		p.disk.unmount()
		for _, c := range cuts {
			p.examine(c)
		}
		p.disk.mount(p.disk.image)
		p.restore()
	}
}

// deployAndCut deploys the new commit, and cuts the power at each step, or now
// and then.
func (p *powerWalker) deployAndCut(steps bool) (cuts []cut) {
	p.disk.sync()
	p.before = p.history()
	status, out := p.deployWatched(steps, func(taken []string) {
		c := cut{image: fmt.Sprintf("%s-%d", p.disk.image, len(cuts)), steps: len(taken), when: "before any step"}
		if c.steps > 0 {
			c.step = taken[c.steps-1]
			c.when = fmt.Sprintf("after step %d, %q", c.steps, c.step)
		}
		p.disk.cut(c.image)
		cuts = append(cuts, c)
	})
	if (status == 0) != p.succeeds() {
		p.Errorf("the deployment whose power is cut: status %d\n%s", status, out)
	}
	return cuts
}

// examine starts the machine again with what is on the disk after a cut.
func (p *powerWalker) examine(c cut) {
	p.found.times++
	what := "power cut " + c.when
	p.disk.mount(c.image)
	defer func() {
		p.disk.unmount()
		p.must(os.Remove(c.image))
	}()
	if status, out := p.status(nil, p.git, "bluegreen", "recover"); status != 0 {
		p.found.stuck++
		p.Errorf("%s: bluegreen recover: status %d\n%s", what, status, out)
		return
	}
	p.tidyGit(c.steps == 0)
	p.count(p.verify(what))
	if events := p.history(); len(events) < len(p.before) || !slices.EqualFunc(p.before, events[:len(p.before)], sameEvent) {
		p.found.lost++
		p.Errorf("%s: the history has lost events: it was\n%v\nand is\n%v", what, p.before, events)
	}
	if out := p.run(p.git, "git", "fsck", "--no-dangling", "--no-progress"); out != "" {
		p.found.stuck++
		p.Errorf("%s: git fsck: %s", what, out)
	}
	if !p.pushMore(what) {
		p.found.stuck++
	}
}

func sameEvent(a, b map[string]any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// tidyGit removes what git leaves after a crash, whatever its hooks are: objects
// that were on their way, which its housekeeping removes, and where it was alone
// yet also its lock of the branch, which it asks a person to remove.
func (s *server) tidyGit(alone bool) {
	s.Helper()
	left, err := filepath.Glob(filepath.Join(s.git, "objects/*incoming-*"))
	s.must(err)
	if alone {
		left = append(left, filepath.Join(s.git, "refs/heads/master.lock"))
	}
	for _, path := range left {
		s.must(os.RemoveAll(path))
	}
}
