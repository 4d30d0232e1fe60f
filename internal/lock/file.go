package lock

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A File lock is a flock on one file or directory. Who may open it may hold it.
type File struct{ file *os.File }

// AcquireFile locks an open file, waiting up to wait. It takes ownership of file:
// Release closes it, and so does a failed AcquireFile. A lock still taken after
// wait gives a *Busy that calls it what. file must be close-on-exec: a child that
// inherits it would hold the lock on.
func AcquireFile(ctx context.Context, file *os.File, what string, wait time.Duration) (*File, error) {
	start := time.Now()
	deadline := start.Add(max(wait, 50*time.Millisecond))
	busy := func() *Busy { return &Busy{PID: holderOf(file), What: what} }
	if err := poll(ctx, deadline, flock(file), busy, nil); err != nil {
		file.Close()
		return nil, waited(err, wait, start)
	}
	return &File{file}, nil
}

// Release frees the lock, also where a child that is about to be another program
// has the descriptor yet.
func (f *File) Release() {
	unix.Flock(int(f.file.Fd()), unix.LOCK_UN)
	f.file.Close()
}
