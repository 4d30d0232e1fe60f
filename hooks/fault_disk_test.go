//go:build e2e

package hooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needs skips a test that this machine cannot run.
func needs(t testing.TB, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount and to limit")
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s, which is not installed", name)
		}
	}
}

// A disk is a file with a filesystem in it, mounted.
type disk struct {
	testing.TB
	image, dir string
	device     string   // the loop device of what is mounted
	options    []string // of mount
}

// filesystems says how each one is made. The sizes are near the least that each
// program accepts.
var filesystems = map[string]struct {
	size    int64
	mkfs    []string
	options []string // of mount
}{
	// Nothing is to be written in the background, and root has no room of its own.
	"ext4": {64 << 20, []string{"mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"}, nil},
	// Somebody's copy of our mounts may keep a filesystem of the same name for a while.
	"xfs":   {320 << 20, []string{"mkfs.xfs", "-q", "-f"}, []string{"-o", "nouuid"}},
	"btrfs": {128 << 20, []string{"mkfs.btrfs", "-q", "-f"}, nil},
}

// newDisk makes a disk. More flags go to mkfs.
func newDisk(t testing.TB, filesystem string, flags ...string) *disk {
	t.Helper()
	kind := filesystems[filesystem]
	needs(t, kind.mkfs[0], "losetup")
	dir := t.TempDir()
	d := &disk{TB: t, image: filepath.Join(dir, "image"), dir: filepath.Join(dir, "disk"), options: kind.options}
	d.must(os.Mkdir(d.dir, 0o755))
	d.must(os.WriteFile(d.image, nil, 0o600))
	d.must(os.Truncate(d.image, kind.size))
	d.run(append(append(slices.Clone(kind.mkfs), flags...), d.image)...)
	t.Cleanup(func() { d.remove(t) })
	if err := d.attach(d.image); err != nil {
		t.Skipf("this machine has no loop devices: %v", err)
	}
	if err := d.mountDevice(); err != nil {
		t.Skipf("this machine does not mount %s from a file: %v", filesystem, err)
	}
	return d
}

// remove leaves nothing mounted and nothing attached, whatever still uses it.
func (d *disk) remove(t testing.TB) {
	unmountAll(t, d.dir)
	if d.device != "" {
		if out, err := exec.Command("losetup", "--detach", d.device).CombinedOutput(); err != nil {
			t.Errorf("detaching the disk: %v: %s", err, out)
		}
	}
}

// newMemory makes a disk of memory that has only so much.
func newMemory(t testing.TB, options string) *disk {
	t.Helper()
	needs(t, "mount")
	d := &disk{TB: t, dir: filepath.Join(t.TempDir(), "disk")}
	d.must(os.Mkdir(d.dir, 0o755))
	t.Cleanup(func() { unmountAll(t, d.dir) })
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", d.dir).CombinedOutput(); err != nil {
		t.Skipf("this machine does not mount tmpfs: %v: %s", err, out)
	}
	return d
}

// unmountAll leaves nothing mounted at dir, whatever still uses it.
func unmountAll(t testing.TB, dir string) {
	err := unix.Unmount(dir, unix.MNT_DETACH)
	for err == nil {
		err = unix.Unmount(dir, unix.MNT_DETACH)
	}
	if err != unix.EINVAL { // which says that nothing is mounted there
		t.Errorf("unmounting: %v", err)
	}
}

func (d *disk) must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

func (d *disk) run(argv ...string) string {
	d.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		d.Fatalf("%q: %v\n%s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// attach makes an image a device. mount's own option loop would let the device
// go with the mount, unless somebody looks at it at that moment: then the next
// mount would find the same device with what it remembers of the image, whatever
// fsck has written to the file meanwhile.
func (d *disk) attach(image string) error {
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		return fmt.Errorf("attaching %s: %w: %s", image, err, out)
	}
	d.device = strings.TrimSpace(string(out))
	return nil
}

func (d *disk) detach() {
	d.Helper()
	d.run("losetup", "--detach", d.device)
	d.device = ""
}

func (d *disk) mountDevice() error {
	args := append(append([]string{}, d.options...), d.device, d.dir)
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("mounting: %w: %s", err, out)
	}
	return nil
}

// unmount unmounts and detaches the disk.
func (d *disk) unmount() {
	d.Helper()
	d.leave()
	d.detach()
}

// leave unmounts the disk when nobody has anything open on it any more.
func (d *disk) leave() {
	d.Helper()
	deadline := time.Now().Add(patience)
	d.whileBusy(deadline, func() error { return unix.Unmount(d.dir, 0) })
	// Who has just copied all mounts may have it yet.
	d.whileBusy(deadline, func() error {
		fd, err := unix.Open(d.device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	})
}

// whileBusy tries again what others are in the way of.
func (d *disk) whileBusy(deadline time.Time, try func() error) {
	d.Helper()
	for err := try(); err != nil; err = try() {
		if err != unix.EBUSY || time.Now().After(deadline) {
			d.Fatalf("unmounting the disk: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// mount mounts an image: the disk's own, or another one in its place. Paths stay
// what they were.
func (d *disk) mount(image string) {
	d.Helper()
	d.must(d.attach(image))
	if err := d.mountDevice(); err != nil {
		d.failed(err)
	}
}

// failed ends the test with what the kernel said last.
func (d *disk) failed(err error) {
	d.Helper()
	said, _ := exec.Command("sh", "-c", "dmesg | tail -n 30").Output()
	d.Fatalf("%v\nthe kernel says:\n%s", err, said)
}

// sync makes all durable that was written so far.
func (d *disk) sync() {
	d.Helper()
	f, err := os.Open(d.dir)
	d.must(err)
	defer f.Close()
	d.must(unix.Syncfs(int(f.Fd())))
}

// cut copies the image as it would be found if the power failed now: what the
// filesystem has written to the device, and nothing that it has yet in memory.
// The copy counts only if nothing was written meanwhile, else it would have a
// later write and lack an earlier one.
func (d *disk) cut(to string) {
	d.Helper()
	for deadline := time.Now().Add(patience); ; {
		before, busy := d.written()
		if !busy {
			d.run("cp", "--sparse=always", d.image, to)
			if after, busy := d.written(); !busy && after == before {
				return
			}
		}
		if time.Now().After(deadline) {
			d.Fatalf("the disk is written to all the time")
		}
	}
}

// written counts what the device has done that changes it, and tells whether it
// is doing something.
func (d *disk) written() (count string, busy bool) {
	d.Helper()
	data, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.device), "stat"))
	d.must(err)
	f := strings.Fields(string(data))
	if len(f) < 15 {
		d.Fatalf("the kernel says %q of the device", data)
	}
	return fmt.Sprint(f[4], f[11]), f[8] != "0"
}
