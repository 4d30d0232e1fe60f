// Package console is what the pusher sees: short lines, escaped, through a
// queue that never blocks the work. A pusher who is gone, or has stopped
// reading, changes nothing but that lines are dropped.
package console

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// maxQueue bounds the lines that wait for a slow reader, in bytes. It is below
// what a pipe and git's relay hold, so it fills only when nobody reads.
const maxQueue = 256 << 10

// maxProgress is the longest progress line, in characters.
const maxProgress = 70

// The pace of progress lines: none before the work is half a second old, and
// few after that.
const (
	progressAfter = 500 * time.Millisecond
	progressEvery = 300 * time.Millisecond
)

// A Console writes lines. Its methods may be called from several goroutines,
// and return at once.
type Console struct {
	mu       sync.Mutex
	more     sync.Cond
	queue    []string
	queued   int             // bytes in queue
	dropped  int             // lines that gave way to newer ones in a full queue
	flushes  []chan struct{} // each closed once what was queued before it is written
	closed   bool
	finished chan struct{}

	started      time.Time
	lastProgress time.Time
	progressLen  int // of the progress line in which the cursor stands
	still        bool
}

// New returns a console that writes to w until it is closed.
func New(w io.Writer) *Console {
	c := &Console{finished: make(chan struct{}), started: time.Now()}
	c.more.L = &c.mu
	go c.write(w)
	return c
}

// write is the only one to wait for the reader. After an error, for one that
// the pipe is closed, it goes on taking lines and throws them away.
func (c *Console) write(w io.Writer) {
	defer close(c.finished)
	gone := false
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && len(c.flushes) == 0 && !c.closed {
			c.more.Wait()
		}
		lines, flushes := c.queue, c.flushes
		if c.dropped > 0 {
			lines = append([]string{fmt.Sprintf("warning: %d lines were left out: nobody read them\n", c.dropped)}, lines...)
		}
		c.queue, c.queued, c.dropped, c.flushes = nil, 0, 0, nil
		done := c.closed
		c.mu.Unlock()
		for _, line := range lines {
			if gone {
				break
			}
			// One write a line: lines of git's own do not cut into it.
			_, err := io.WriteString(w, line)
			gone = err != nil
		}
		for _, flushed := range flushes {
			close(flushed)
		}
		if done && len(lines) == 0 {
			return
		}
	}
}

func (c *Console) line(prefix, format string, args ...any) {
	text := prefix + Escape(fmt.Sprintf(format, args...))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.progressLen > 0 { // a script that reads line by line looks at how one begins
		c.progressLen = 0
		text = "\n" + text
	}
	c.push(text + "\n")
}

// push queues text. When the queue is full the oldest lines go: the last one
// tells the outcome.
func (c *Console) push(text string) {
	if c.closed {
		return
	}
	for c.queued+len(text) > maxQueue && len(c.queue) > 0 {
		c.queued -= len(c.queue[0])
		c.queue = c.queue[1:]
		c.dropped++
	}
	c.queue = append(c.queue, text)
	c.queued += len(text)
	c.more.Signal()
}

// Say writes a plain line.
func (c *Console) Say(format string, args ...any) { c.line("", format, args...) }

// Success writes a line that tells that what was asked for has been done.
func (c *Console) Success(format string, args ...any) { c.line("success: ", format, args...) }

// Warning writes a line about something that is not as it should be.
func (c *Console) Warning(format string, args ...any) { c.line("warning: ", format, args...) }

// Error writes a line that tells that what was asked for has not been done.
func (c *Console) Error(format string, args ...any) { c.line("error: ", format, args...) }

// Hint writes a line that tells what to do next.
func (c *Console) Hint(format string, args ...any) { c.line("hint: ", format, args...) }

// Progress writes a line that the next one replaces, at most a few times a
// second, and not at all in the first half second.
func (c *Console) Progress(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.still || now.Sub(c.started) < progressAfter || now.Sub(c.lastProgress) < progressEvery || c.queued > 0 {
		return
	}
	text := Escape(fmt.Sprintf(format, args...))
	if cut := []rune(text); len(cut) > maxProgress { // a line that wraps cannot be covered
		text = string(cut[:maxProgress-3]) + "..."
	}
	c.push(text + strings.Repeat(" ", max(0, c.progressLen-len(text))) + "\r")
	c.lastProgress, c.progressLen = now, len(text)
}

// Still has no progress written: for a file, in which no line replaces another.
func (c *Console) Still() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.still = true
}

// Flush waits, up to wait, until what has been said so far is written, and covers
// a progress line: for who goes on writing to the same terminal by another way.
func (c *Console) Flush(wait time.Duration) {
	flushed := make(chan struct{})
	c.mu.Lock()
	if c.progressLen > 0 {
		c.push(strings.Repeat(" ", c.progressLen) + "\r")
		c.progressLen = 0
	}
	c.flushes = append(c.flushes, flushed)
	c.more.Signal()
	c.mu.Unlock()
	select {
	case <-flushed:
	case <-c.finished:
	case <-time.After(wait):
	}
}

// Close waits, up to wait, until everything is written.
func (c *Console) Close(wait time.Duration) {
	c.mu.Lock()
	c.closed = true
	c.more.Signal()
	c.mu.Unlock()
	select {
	case <-c.finished:
	case <-time.After(wait):
	}
}
