// Package lock keeps two deployments apart. A lock is a flock on a file or
// directory that is never removed, or a name that is bound to a socket, so the
// kernel frees it when its holder dies, however it dies.
package lock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// A Holder says who has a lock. It is for people to read: only the kernel
// knows whether the lock is held.
type Holder struct {
	PID   int       `json:"pid"`
	Who   string    `json:"who"`
	Since time.Time `json:"since"`
	Phase string    `json:"phase"`
}

// A Lock is held on a repository's lock file and on the web root itself, which
// two repositories may share.
type Lock struct {
	file, dir *os.File
	held      bool // the lock file, that is
	holder    Holder
}

// A Busy error tells who held the lock until the end of the wait.
type Busy struct {
	Holder *Holder // nil where it is not known
	PID    int     // of the holder, 0 where it is not known
	What   string  // the name of the lock, "" where it is a deployment's
	Waited time.Duration
}

func (b *Busy) Error() string {
	return fmt.Sprintf("%s; waited %s", b.Describe(), b.Waited)
}

// Describe says who has the lock, as far as it is known.
func (b *Busy) Describe() string {
	what := b.What
	if strings.ContainsFunc(what, func(r rune) bool { return !unicode.IsPrint(r) }) {
		what = strconv.Quote(what)
	}
	switch {
	case what != "" && b.PID != 0:
		return fmt.Sprintf("another %s is running on this machine (process %d)", what, b.PID)
	case what != "":
		return fmt.Sprintf("another %s is running on this machine", what)
	case b.Holder != nil:
		return fmt.Sprintf("another deployment is running: %s, since %s, now %s (process %d)",
			b.Holder.Who, b.Holder.Since.Format("15:04:05"), b.Holder.Phase, b.Holder.PID)
	case b.PID != 0:
		return fmt.Sprintf("another deployment into the same directory is running (process %d)", b.PID)
	}
	return "another deployment is running"
}

// FileName is the name of the lock file in a repository's state directory.
const FileName = "lock"

// Acquire locks the state directory and the web root dir ("" where there is
// none), waiting up to wait. The order of waiters is not kept: whoever acquires
// must read again what it decided on. waiting, which may be nil, is called at
// most once for each of the two, when that is found held.
func Acquire(ctx context.Context, stateDir, dir, who string, wait time.Duration, waiting func(*Busy)) (*Lock, error) {
	file, err := os.OpenFile(filepath.Join(stateDir, FileName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	l := &Lock{file: file, holder: Holder{PID: os.Getpid(), Who: who, Since: time.Now()}}
	if dir != "" {
		if l.dir, err = os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
			file.Close()
			return nil, fmt.Errorf("opening the lock: %w", err)
		}
	}
	start := time.Now()
	// Held takes the lock for a moment to see whether it is free.
	deadline := start.Add(max(wait, 50*time.Millisecond))
	err = poll(ctx, deadline, flock(file), func() *Busy { return busyFile(file) }, waiting)
	l.held = err == nil
	if err == nil && l.dir != nil {
		l.Phase("waiting for another repository that deploys into the same directory")
		err = poll(ctx, deadline, flock(l.dir), func() *Busy { return busyDirectory(l.dir) }, waiting)
	}
	if err != nil {
		l.Release()
		return nil, waited(err, wait, start)
	}
	l.Phase("starting")
	return l, nil
}

// flock tries once to lock f, and tells whether others have it.
func flock(f *os.File) func() (taken bool, err error) {
	return func() (bool, error) {
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EWOULDBLOCK):
				return true, nil
			case err != nil:
				return false, fmt.Errorf("locking %q: %w", f.Name(), err)
			}
			return false, nil
		}
	}
}

// poll tries for a lock until the deadline, at a pace that costs nothing.
func poll(ctx context.Context, deadline time.Time, try func() (taken bool, err error), who func() *Busy, waiting func(*Busy)) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if taken, err := try(); err != nil || !taken {
			return err
		}
		if waiting != nil {
			waiting(who())
			waiting = nil
		}
		if !time.Now().Before(deadline) {
			return who()
		}
		select {
		case <-time.After(min(pause, time.Until(deadline))):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the lock: %w", ctx.Err())
		}
	}
}

// waited says in a Busy error how long was waited.
func waited(err error, wait time.Duration, start time.Time) error {
	if busy := (*Busy)(nil); errors.As(err, &busy) {
		busy.Waited = max(0, min(wait, time.Since(start))).Round(100 * time.Millisecond)
	}
	return err
}

// Phase writes down what the holder is doing, for those who wait.
func (l *Lock) Phase(phase string) {
	l.holder.Phase = phase
	data, err := json.Marshal(l.holder)
	if err != nil {
		return
	}
	// For display only: a reader that meets a half-written line shows less.
	l.file.Truncate(0)
	l.file.WriteAt(append(data, '\n'), 0)
}

// Release frees the lock, also where a child that is about to be another program
// has the descriptors yet: closing them would not.
func (l *Lock) Release() {
	if l.held {
		l.file.Truncate(0) // nobody is to be told our name any more
	}
	if l.dir != nil {
		unix.Flock(int(l.dir.Fd()), unix.LOCK_UN)
		l.dir.Close()
	}
	unix.Flock(int(l.file.Fd()), unix.LOCK_UN)
	l.file.Close()
}

func busyFile(file *os.File) *Busy {
	data := make([]byte, 4096)
	n, _ := file.ReadAt(data, 0)
	var h Holder
	if json.Unmarshal(data[:n], &h) != nil {
		return &Busy{}
	}
	return &Busy{Holder: &h, PID: h.PID}
}

// busyDirectory finds a holder in another repository: a hook's working directory
// is its repository. Only there where the holder is of our own account: what it
// says would be another's words.
func busyDirectory(dir *os.File) *Busy {
	pid := holderOf(dir)
	busy := &Busy{PID: pid}
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &st); err != nil || int(st.Uid) != os.Geteuid() {
		return busy
	}
	f, err := open(fmt.Sprintf("/proc/%d/cwd/bluegreen/%s", pid, FileName))
	if err != nil {
		return busy
	}
	defer f.Close()
	if found := busyFile(f); found.PID == pid {
		return found
	}
	return busy
}

// open opens a lock file to be read, whatever has been put in its place: it
// follows no symlink, and waits for no FIFO and no device.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.Join(err, fmt.Errorf("%q is not a regular file", path))
	}
	return f, nil
}

// holderOf is the process that has a lock on f, as the kernel lists it; 0 where
// it is not known. Who reads the list in parts misses some of it where a lock of
// somebody else's goes meanwhile: it is read at once, as far as the kernel lets
// one, and again.
func holderOf(f *os.File) (pid int) {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return 0
	}
	inode := fmt.Sprintf("%02x:%02x:%d", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)), st.Ino)
	for attempts := 3; attempts > 0 && pid == 0; attempts-- {
		list, err := os.Open("/proc/locks")
		if err != nil {
			return 0
		}
		locks := make([]byte, 256<<10)
		n, _ := io.ReadFull(list, locks)
		list.Close()
		pid = listedHolder(string(locks[:n]), inode)
	}
	return pid
}

// listedHolder finds who has a lock on an inode in what /proc/locks says.
func listedHolder(locks, inode string) int {
	for line := range strings.Lines(locks) {
		// "1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF"
		fields := strings.Fields(line)
		if len(fields) < 6 || fields[1] != "FLOCK" || fields[5] != inode {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(fields[4], &pid); err != nil || pid <= 0 {
			continue
		}
		return pid
	}
	return 0
}

// Held tells who holds the lock of a state directory, nil when nobody does.
func Held(stateDir string) *Busy {
	f, err := open(filepath.Join(stateDir, FileName))
	if err != nil {
		return nil
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return busyFile(f)
	}
	return nil
}
