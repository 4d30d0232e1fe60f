// Package durable writes what must survive a power cut.
package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// suffix is what a file is called by while it is being written.
const suffix = ".new"

// CleanUp removes what a crash has left of WriteFile for the path.
func CleanUp(path string) error {
	if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing what was left of writing %q: %w", path, err)
	}
	return nil
}

// WriteFile replaces the file at path with what write produces, mode perm less
// the umask. After it returns nil the new content is there also after a power
// cut; after a crash at any moment there is the old file or the new one, whole.
// After an error the old file is untouched, but for one: where the directory
// cannot be synced the new file is in place, and the error says so. One process at
// a time may write one path.
func WriteFile(path string, perm os.FileMode, write func(io.Writer) error) error {
	temp := path + suffix
	if err := writeSynced(temp, perm, write); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("writing %q: it is in place, and may be the old one again after a power cut: %w", path, err)
	}
	return nil
}

func writeSynced(path string, perm os.FileMode, write func(io.Writer) error) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // a crash left it, perhaps with another mode
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer f.Close()
	buffered := bufio.NewWriter(f)
	if err := write(buffered); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// Remove removes the file at path, durably. A file that is not there is fine.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing %q: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// AppendLine adds line and a newline to the file at path, durably. A line that
// a crash cut short is ended first, so that it spoils no other; one for which
// there is no room leaves nothing behind. While others append it waits, but not
// for long: who reads the file may lock it.
func AppendLine(path string, line []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("appending to %q: %w", path, err)
	}
	defer f.Close()
	first, err := appendAlone(f, line)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("appending to %q: %w", path, err)
	}
	if first {
		return SyncDir(filepath.Dir(path))
	}
	return nil
}

// patience is how long another process may have a file to itself that is appended
// to: far above what it takes to add a line.
const patience = 5 * time.Second

// appendAlone adds the line while nobody else does: what others have half written
// would look cut short, and what is taken back could be theirs.
func appendAlone(f *os.File, line []byte) (first bool, err error) {
	if err := flock(f, patience); err != nil {
		return false, err
	}
	defer unix.Flock(int(f.Fd()), unix.LOCK_UN)
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	data := append(append([]byte{}, line...), '\n')
	if last := make([]byte, 1); end > 0 {
		if _, err := f.ReadAt(last, end-1); err != nil {
			return false, err
		}
		if last[0] != '\n' {
			data = append([]byte{'\n'}, data...)
		}
	}
	if _, err := f.Write(data); err != nil {
		return false, errors.Join(err, f.Truncate(end))
	}
	return end == 0, nil
}

// flock locks f, waiting up to wait.
func flock(f *os.File, wait time.Duration) error {
	deadline := time.Now().Add(wait)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return err
		case !time.Now().Before(deadline):
			return fmt.Errorf("another process keeps it locked for longer than %s", wait)
		}
		time.Sleep(pause)
	}
}

// SyncDir makes the names in the directory at path durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing %q: %w", path, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %q: %w", path, err)
	}
	return nil
}

// SyncFilesystem makes everything written to the filesystem of path durable.
// Since Linux 5.8 it reports the errors of writing back.
func SyncFilesystem(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing the filesystem of %q: %w", path, err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncing the filesystem of %q: %w", path, err)
	}
	return nil
}
