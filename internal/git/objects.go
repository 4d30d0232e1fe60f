package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// maxInMemory bounds what Read takes into memory: a tree of a million names
// fits, a blob meant for the disk does not.
const maxInMemory = 64 << 20

// inProcess is of how many objects the size is looked up in this process: git
// takes less time for more.
const inProcess = 200

// ErrNoObject is returned for an object that the repository does not have.
var ErrNoObject = errors.New("object not found")

// Objects reads objects. It is for one goroutine, and must be closed.
type Objects struct {
	repo  *Repository
	ctx   context.Context
	store *store // nil: git is to be asked
	batch *batch // nil until it is needed
}

// Objects returns a reader that lives until it is closed or ctx ends.
func (r *Repository) Objects(ctx context.Context) *Objects {
	o := &Objects{repo: r, ctx: ctx}
	if l := r.layout(); len(l.objects) > 0 {
		o.store = r.takeStore(l)
	}
	return o
}

// takeStore returns a store, the one that was used last if it is free: its
// packs are open already.
func (r *Repository) takeStore(l layout) *store {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.spare; s != nil {
		r.spare = nil
		return s
	}
	return newStore(l.objects, l.hashSize)
}

// giveStore gives a store back. What has come into the repository since it was
// opened it may not find; git does.
func (r *Repository) giveStore(s *store) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spare == nil {
		r.spare = s
	} else {
		s.close()
	}
}

// Close ends the reader.
func (o *Objects) Close() {
	if o.store != nil {
		o.repo.giveStore(o.store)
		o.store = nil
	}
	if o.batch != nil {
		o.batch.close()
	}
}

// HashSize returns the bytes of an object name in this repository.
func (o *Objects) HashSize() int { return o.repo.HashSize() }

// Read returns an object's type ("commit", "tree", "blob", "tag") and content.
// Objects over 64 MiB are refused.
func (o *Objects) Read(oid OID) (kind string, data []byte, err error) {
	err = o.open(oid, func(k string, size int64, r io.Reader) error {
		kind = k
		if size > maxInMemory {
			return fmt.Errorf("%s %s is %d bytes, too large to be read into memory", k, oid, size)
		}
		data = make([]byte, size)
		_, err := io.ReadFull(r, data)
		return err
	})
	return kind, data, err
}

// Copy streams the blob oid to w.
func (o *Objects) Copy(oid OID, w io.Writer) error {
	return o.open(oid, func(kind string, size int64, r io.Reader) error {
		if kind != "blob" {
			return fmt.Errorf("object %s is a %s, not a blob", oid, kind)
		}
		_, err := io.CopyN(w, r, size)
		return err
	})
}

// cutShort makes the end of the input an error that cannot be taken for one
// that was expected.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// open calls read with the object's type, size and content.
func (o *Objects) open(oid OID, read func(kind string, size int64, r io.Reader) error) error {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	if o.store != nil && int(oid.size) == o.store.hashSize {
		if object, err := o.store.read(oid, nil); err == nil {
			return object.give(oid, read)
		} // what is not found, large or damaged is git's to tell
	}
	return o.ask(oid, read)
}

// give calls read with the object.
func (p plainObject) give(oid OID, read func(kind string, size int64, r io.Reader) error) error {
	if err := read(p.kind, int64(len(p.data)), bytes.NewReader(p.data)); err != nil {
		return fmt.Errorf("object %s: %w", oid, cutShort(err))
	}
	return nil
}

// ask is open by git's own reader.
func (o *Objects) ask(oid OID, read func(kind string, size int64, r io.Reader) error) error {
	if o.batch == nil {
		b, err := o.repo.startBatch(o.ctx, "--batch")
		if err != nil {
			return err
		}
		o.batch = b
	}
	return o.batch.ask(oid, read)
}

// maxTagDepth is how many tags of tags are followed.
const maxTagDepth = 8

// Commit follows tags to a commit and returns it with its tree.
func (o *Objects) Commit(oid OID) (commit, tree OID, err error) {
	name := oid
	for range maxTagDepth + 1 {
		kind, data, err := o.Read(oid)
		if err != nil {
			return OID{}, OID{}, err
		}
		switch kind {
		case "commit":
			tree, err = headerOID(data, "tree ")
			return oid, tree, err
		case "tag":
			if oid, err = headerOID(data, "object "); err != nil {
				return OID{}, OID{}, err
			}
		default:
			return OID{}, OID{}, fmt.Errorf("%s is a %s, not a commit", name.Short(), kind)
		}
	}
	return OID{}, OID{}, fmt.Errorf("tag %s leads through more than %d tags", name.Short(), maxTagDepth)
}

func headerOID(data []byte, header string) (OID, error) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	value, found := strings.CutPrefix(string(line), header)
	if !found {
		return OID{}, fmt.Errorf("object does not begin with %q", header)
	}
	return ParseOID(value)
}

// Stream reads many objects in the order given, in bulk. read is called for each,
// and must not keep r.
func (r *Repository) Stream(ctx context.Context, oids []OID, read func(i int, kind string, size int64, r io.Reader) error) error {
	o := r.Objects(ctx)
	defer o.Close()
	var buffer []byte
	for i, oid := range oids {
		if err := ctx.Err(); err != nil {
			return err
		}
		give := func(kind string, size int64, content io.Reader) error { return read(i, kind, size, content) }
		object, err := plainObject{}, errNotPlain
		if o.store != nil && int(oid.size) == o.store.hashSize {
			object, err = o.store.read(oid, &buffer)
		}
		switch {
		case err == nil:
			err = object.give(oid, give)
		case errors.Is(err, errLarge):
			err = o.ask(oid, give)
		default: // git knows what it is, and most likely the rest is so, too
			return r.bulk(ctx, oids[i:], "--batch", func(n int, kind string, size int64, content io.Reader) error {
				return read(i+n, kind, size, content)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Sizes returns the size in bytes of each of the blobs oids; an object that is
// missing or not a blob is an error.
func (r *Repository) Sizes(ctx context.Context, oids []OID) ([]int64, error) {
	sizes := make([]int64, len(oids))
	err := r.bulk(ctx, oids, "--batch-check", func(i int, kind string, size int64, _ io.Reader) error {
		if kind != "blob" {
			return fmt.Errorf("object %s is a %s where a blob should be", oids[i], kind)
		}
		sizes[i] = size
		return nil
	})
	return sizes, err
}

func (r *Repository) bulk(ctx context.Context, oids []OID, mode string, read func(int, string, int64, io.Reader) error) error {
	if len(oids) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b, err := r.startBatch(ctx, mode, "--buffer")
	if err != nil {
		return err
	}
	defer b.close()
	go func() { // ends when all is asked, or when the process is gone
		w := bufio.NewWriterSize(b.stdin, 1<<16)
		for i := range oids {
			w.WriteString(oids[i].String())
			w.WriteByte('\n')
		}
		w.Flush()
		b.stdin.Close()
	}()
	for i, oid := range oids {
		err := b.answer(oid, func(kind string, size int64, content io.Reader) error {
			return read(i, kind, size, content)
		})
		if err != nil {
			cancel()
			return err
		}
	}
	return nil
}

// batch is a running git cat-file.
type batch struct {
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	out     *bufio.Reader
	stderr  bytes.Buffer
	content bool // answers carry the content
}

func (r *Repository) startBatch(ctx context.Context, mode string, flags ...string) (*batch, error) {
	b := &batch{content: mode == "--batch"}
	b.cmd = r.command(ctx, nil, append([]string{"cat-file", mode}, flags...)...)
	b.cmd.Stderr = &b.stderr
	var err error
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting git cat-file: %w", err)
	}
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting git cat-file: %w", err)
	}
	b.out = bufio.NewReaderSize(stdout, 1<<17)
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting git cat-file: %w", err)
	}
	return b, nil
}

func (b *batch) close() {
	b.stdin.Close()
	io.Copy(io.Discard, b.out) // unread answers keep it from ending
	b.cmd.Wait()
}

func (b *batch) ask(oid OID, read func(string, int64, io.Reader) error) error {
	if _, err := io.WriteString(b.stdin, oid.String()+"\n"); err != nil {
		return b.failed(err)
	}
	return b.answer(oid, read)
}

// answer reads "OID TYPE SIZE" and, in content mode, SIZE bytes and a newline.
func (b *batch) answer(oid OID, read func(string, int64, io.Reader) error) error {
	line, err := b.out.ReadSlice('\n')
	if err != nil {
		return b.failed(fmt.Errorf("object %s: %w", oid, cutShort(err)))
	}
	_, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	if string(rest) == "missing" {
		return fmt.Errorf("object %s: %w", oid, ErrNoObject)
	}
	kind, number, _ := bytes.Cut(rest, []byte(" "))
	size, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil || size < 0 {
		return b.failed(fmt.Errorf("unexpected answer %q", line))
	}
	name := "blob" // of most
	if string(kind) != name {
		name = string(kind)
	}
	if !b.content {
		return read(name, size, nil)
	}
	content := &part{b.out, size}
	if err := read(name, size, content); errors.Is(err, io.EOF) {
		return b.failed(fmt.Errorf("object %s: %w", oid, cutShort(err)))
	} else if err != nil {
		content.WriteTo(io.Discard)
		b.out.Discard(1)
		return fmt.Errorf("object %s: %w", oid, err)
	}
	content.WriteTo(io.Discard)
	if end, err := b.out.ReadByte(); err != nil || end != '\n' {
		return b.failed(fmt.Errorf("object %s: %w", oid, io.ErrUnexpectedEOF))
	}
	return nil
}

// A part is the next n bytes of a stream. It is written from the stream's own
// buffer: a copy and a new buffer for each object took as long as writing it.
type part struct {
	r *bufio.Reader
	n int64
}

func (p *part) Read(b []byte) (int, error) {
	if p.n == 0 {
		return 0, io.EOF
	}
	n, err := p.r.Read(b[:min(int64(len(b)), p.n)])
	p.n -= int64(n)
	return n, err
}

// WriteTo writes what is left. A stream that ends before is io.EOF.
func (p *part) WriteTo(w io.Writer) (written int64, err error) {
	for p.n > 0 {
		if _, err := p.r.Peek(1); err != nil {
			return written, err
		}
		ready, err := p.r.Peek(int(min(p.n, int64(p.r.Buffered()))))
		if err != nil {
			return written, err
		}
		n, err := w.Write(ready)
		written += int64(n)
		p.n -= int64(n)
		p.r.Discard(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// failed ends the process, so that what it had to say is complete.
func (b *batch) failed(err error) error {
	b.cmd.Process.Kill()
	b.cmd.Wait()
	return &Error{Command: "cat-file", Stderr: strings.TrimSpace(b.stderr.String()), Err: err}
}

// Sizes is Repository.Sizes, in this process where that is the shorter way.
func (o *Objects) Sizes(oids []OID) ([]int64, error) {
	if o.store == nil || len(oids) > inProcess {
		return o.repo.Sizes(o.ctx, oids)
	}
	sizes := make([]int64, len(oids))
	for i, oid := range oids {
		kind, size, err := "", int64(0), errNotPlain
		if int(oid.size) == o.store.hashSize {
			kind, size, err = o.store.size(oid)
		}
		if err != nil || kind != "blob" {
			return o.repo.Sizes(o.ctx, oids) // git says what is wrong with it
		}
		sizes[i] = size
	}
	return sizes, nil
}

// File returns the first limit bytes of the file at path in commit, as it is
// committed, and the size of all of it: no more is kept in memory.
func (r *Repository) File(ctx context.Context, commit OID, path string, limit int) (start []byte, size int64, err error) {
	h := &head{limit: limit}
	if err := r.stream(ctx, nil, nil, h, "cat-file", "blob", commit.String()+":"+path); err != nil {
		return nil, 0, fmt.Errorf("reading %q in %s: %w", path, commit.Short(), err)
	}
	return h.start, h.size, nil
}

// A head keeps the first limit bytes of what is written to it, and counts all.
type head struct {
	limit int
	start []byte
	size  int64
}

func (h *head) Write(p []byte) (int, error) {
	h.start = append(h.start, p[:min(len(p), h.limit-len(h.start))]...)
	h.size += int64(len(p))
	return len(p), nil
}
