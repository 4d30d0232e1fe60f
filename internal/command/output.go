package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxLine     = 4 << 10 // longer lines are cut into pieces, in bytes
	maxTail     = 20      // lines that are kept
	maxTailLine = 1000    // bytes of each that are kept
	// linger is how long output may come after the leader's exit, from a
	// helper such as tee, where something in the background keeps the pipe open.
	linger = 100 * time.Millisecond
)

// A stream is a pipe from a command to us.
type stream struct {
	r, w *os.File
	done chan struct{} // closed when all has been read
}

func newStream() (*stream, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	return &stream{r: r, w: w, done: make(chan struct{})}, nil
}

// maxPipe is the most that a pipe holds, in bytes: what the kernel allows to anybody.
const maxPipe = 1 << 20

// again opens the reading end once more, for the command to inherit, nil where there
// is no /proc. As long as it has one itself, writing is no SIGPIPE when we are gone:
// the pipe takes up to maxPipe. The descriptor that we have would not do: os/exec
// makes what it hands on block, and our reading with it.
func (s *stream) again() (reader *os.File) {
	raw, err := s.r.SyscallConn()
	if err != nil {
		return nil
	}
	raw.Control(func(fd uintptr) {
		unix.FcntlInt(fd, unix.F_SETPIPE_SZ, maxPipe) // else it is 64 KiB
		reader, _ = os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	})
	return reader
}

// copy hands all that comes to sink, until the last writer has closed the pipe
// or finish is called. Its memory does not follow the output's length.
func (s *stream) copy(sink func([]byte)) {
	defer close(s.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := s.r.Read(buf)
		sink(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain(buf, sink)
		}
		if err != nil {
			return
		}
	}
}

// drain hands on what the pipe holds, without waiting for more: on a busy
// machine the deadline may pass before what the leader wrote has been read.
func (s *stream) drain(buf []byte, sink func([]byte)) {
	s.r.SetReadDeadline(time.Time{}) // one that has passed forbids reading
	raw, err := s.r.SyscallConn()
	if err != nil {
		return
	}
	// What comes after a full pipe is the background's.
	for left := maxPipe; left > 0; {
		n := 0
		raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf)
			return true
		})
		if n <= 0 {
			return
		}
		sink(buf[:n])
		left -= n
	}
}

// finish ends the reading after the command has ended.
func (s *stream) finish() {
	s.r.SetReadDeadline(time.Now().Add(linger))
	<-s.done
	s.r.Close()
}

// close gives up a stream that was never read.
func (s *stream) close() {
	s.r.Close()
	s.w.Close()
}

// lines cuts output into lines, hands each on, and keeps the last ones.
type lines struct {
	line  func(string) // nil where nobody wants them
	part  []byte       // the start of a line whose end has not come
	ring  [maxTail][]byte
	count int // of lines so far
}

func (l *lines) write(p []byte) {
	for len(p) > 0 {
		room := maxLine - len(l.part)
		end := bytes.IndexByte(p[:min(len(p), room+1)], '\n')
		if end < 0 && len(p) <= room {
			l.part = append(l.part, p...)
			return
		}
		next := end + 1
		if end < 0 {
			end, next = room, room
		}
		l.part = append(l.part, p[:end]...)
		l.emit(l.part)
		l.part, p = l.part[:0], p[next:]
	}
}

// flush hands on a last line without an end.
func (l *lines) flush() {
	if len(l.part) > 0 {
		l.emit(l.part)
		l.part = l.part[:0]
	}
}

func (l *lines) emit(text []byte) {
	text = bytes.TrimSuffix(text, []byte("\r"))
	kept := &l.ring[l.count%maxTail]
	*kept = append((*kept)[:0], text[:min(len(text), maxTailLine)]...)
	l.count++
	if l.line != nil {
		l.line(string(text))
	}
}

// tail returns the last lines, oldest first.
func (l *lines) tail() []string {
	var tail []string
	for i := max(0, l.count-maxTail); i < l.count; i++ {
		tail = append(tail, string(l.ring[i%maxTail]))
	}
	return tail
}
