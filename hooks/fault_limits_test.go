//go:build e2e

package hooks_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/gittest"

	"golang.org/x/sys/unix"
)

// TestLimits deploys with ever higher limits on what the hook that deploys may
// use, until it has enough.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, l := range []limit{
		{name: "few descriptors", first: 3, step: 1, each: true, under: prlimit("nofile")},
		{name: "small files only", first: 0, step: 64, under: prlimit("fsize")},
		{name: "little memory", first: 512 << 10, step: 128 << 10, under: memoryGroup, kills: true},
	} {
		for _, k := range deployments() {
			t.Run(l.name+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				needs(t, "prlimit")
				k.bin = buildWithFaults(t)
				l.walk(t, k, campaign(t) > 0)
			})
		}
	}
}

// A limit is one that the kernel keeps.
type limit struct {
	name        string
	first, step int
	each        bool                                   // step, also in the short form
	under       func(t *testing.T, limit int) []string // the command line of what runs others under it
	kills       bool                                   // what goes past it
}

func (l limit) walk(t *testing.T, k killing, long bool) {
	w := &struckWalker{walker: k.newWalker(t), found: figures{what: k.name + ": " + l.name}, dies: l.kills}
	defer func() { w.found.print(t) }()
	w.wrap("proc-receive")
	for n, worked := l.first, 0; worked < 2 && !t.Failed(); {
		what := fmt.Sprintf("%s, %d", l.name, n)
		mend := func() {}
		if l.kills {
			mend = func() {
				w.ageScratch()
				w.recovered(what)
			}
		}
		if w.strike(what, mend, func() (int, string) {
			return w.push([]string{"STRIKE=" + strings.Join(l.under(t, n), " ")}, "+"+w.walker.new+":refs/heads/master")
		}) {
			worked++
		}
		n += max(l.step, n/16)
		if !long && !l.each {
			n += max(l.step, n/2)
		}
	}
}

func prlimit(what string) func(*testing.T, int) []string {
	return func(_ *testing.T, limit int) []string {
		return []string{"prlimit", fmt.Sprintf("--%s=%d", what, limit)}
	}
}

// memoryGroup makes a control group for so much memory, and a program that runs
// others in it.
func memoryGroup(t *testing.T, limit int) []string {
	t.Helper()
	group, setting := "", ""
	for parent, name := range map[string]string{"/sys/fs/cgroup": "memory.max", "/sys/fs/cgroup/memory": "memory.limit_in_bytes"} {
		dir, err := os.MkdirTemp(parent, "bluegreen-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() { removeGroup(t, dir) })
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			group, setting = dir, filepath.Join(dir, name)
		}
	}
	if group == "" {
		t.Skip("no control group for memory can be made here")
	}
	if err := os.WriteFile(setting, fmt.Append(nil, limit), 0); err != nil {
		t.Skipf("memory cannot be limited here: %v", err)
	}
	script := filepath.Join(t.TempDir(), "enter")
	gittest.Script(t, script, fmt.Sprintf("#!/bin/sh\necho $$ >%s/cgroup.procs && exec \"$@\"\n", group))
	return []string{script}
}

// removeGroup waits for the last one in the group to be gone.
func removeGroup(t *testing.T, dir string) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("removing the control group: %v", err)
			return
		}
	}
}

// TestDiskFails takes the disk away: before a push, at each step of one, and
// for good until somebody has mounted it again.
func TestDiskFails(t *testing.T) {
	t.Parallel()
	for _, f := range []failure{
		{"ext4 read-only after an error", "ext4", []string{"-o", "errors=remount-ro"}, (*disk).raiseError},
		{"xfs shut down", "xfs", nil, (*disk).shutDown},
	} {
		for _, k := range deployments() {
			t.Run(f.name+"/"+k.name, func(t *testing.T) {
				t.Parallel()
				f.walk(t, k, campaign(t) > 0)
			})
		}
	}
}

// A failure is of a whole disk.
type failure struct {
	name, filesystem string
	options          []string // of mount
	strike           func(*disk)
}

func (f failure) walk(t *testing.T, k killing, long bool) {
	d := newDisk(t, f.filesystem)
	k.bin = buildWithFaults(t)
	w := &struckWalker{walker: k.newPowerWalker(t, d), found: figures{what: k.name + ": " + f.name}}
	defer func() { w.found.print(t) }()
	d.options = append(d.options, f.options...)
	d.remount()
	w.readOnly(d)
	for _, n := range w.points(long) {
		d.sync()
		w.found.times++
		status, out := w.deployWatched(true, func(taken []string) {
			if len(taken) == n {
				f.strike(d)
			}
		})
		d.remount()
		what := fmt.Sprintf("%s at step %d", f.name, n)
		held := w.recovered(what)
		w.count(held)
		if status == 0 && held != w.new || status != 0 && held == w.new && !strings.Contains(out, "bluegreen recover") {
			w.Errorf("%s: status %d, and the web root holds %s\n%s", what, status, held, out)
		}
		if !w.pushMore(what) {
			w.found.stuck++
		}
		w.restore()
		if t.Failed() {
			return
		}
	}
}

// readOnly pushes to a disk that has been mounted read-only before.
func (w *struckWalker) readOnly(d *disk) {
	d.run("mount", "-o", "remount,ro", d.dir)
	worked := w.strike("read-only before the push", func() { d.run("mount", "-o", "remount,rw", d.dir) }, func() (int, string) {
		return w.push(nil, "+"+w.walker.new+":refs/heads/master")
	})
	if worked {
		w.Errorf("a push to a disk that is read-only succeeds")
	}
}

// remount unmounts the disk, has what its filesystem recorded of an error
// checked, and mounts it.
func (d *disk) remount() {
	d.Helper()
	d.leave()
	if slices.Contains(d.options, "errors=remount-ro") {
		d.run("sh", "-c", `fsck.ext4 -p "$1" || test $? -eq 1`, "sh", d.device)
	}
	if err := d.mountDevice(); err != nil {
		d.failed(err)
	}
}

// raiseError has ext4 find an error, after which it only reads.
func (d *disk) raiseError() {
	d.Helper()
	d.must(os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(d.device), "trigger_fs_error"), []byte("the test's"), 0))
}

// shutDown has a filesystem do nothing any more, and forget what it has not
// written.
func (d *disk) shutDown() {
	d.Helper()
	const goingDown, noLogFlush = 0x8004587d, 2 // of linux/fs/xfs/libxfs/xfs_fs.h
	f, err := os.Open(d.dir)
	d.must(err)
	defer f.Close()
	d.must(unix.IoctlSetPointerInt(int(f.Fd()), goingDown, noLogFlush))
}
