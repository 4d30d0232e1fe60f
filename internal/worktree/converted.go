package worktree

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/index"
)

// convertedDir is the directory of a stage that git writes into.
const convertedDir = "converted"

// convert has git write the files whose contents its checkout changes, and
// moves them to their places. It returns the places without those.
func (s *Staged) convert(ctx context.Context, places []place, written func()) ([]place, error) {
	byStage := map[*root][]int{}
	left := places
	for i := range places {
		if s.plan.Writes[i].converts && places[i].path != "" {
			byStage[places[i].stage] = append(byStage[places[i].stage], i)
		}
	}
	if len(byStage) > 0 {
		left = slices.Clone(places)
	}
	for _, stage := range s.stages { // each has what new files inherit there
		which := byStage[stage]
		if len(which) == 0 {
			continue
		}
		if err := s.convertIn(ctx, stage, which); err != nil {
			return nil, err
		}
		if err := s.adoptAll(stage, places, which, written); err != nil {
			return nil, err
		}
		for _, i := range which {
			left[i] = place{}
		}
	}
	if len(byStage) == 0 {
		return left, nil
	}
	return left, s.worktree.enoughLeft(s.plan)
}

func (s *Staged) convertIn(ctx context.Context, stage *root, which []int) error {
	if err := unix.Mkdirat(stage.fd, convertedDir, 0o777); err != nil {
		return fmt.Errorf("staging: making a directory: %w", err)
	}
	fd, err := stage.openDir(convertedDir)
	if err != nil {
		return fmt.Errorf("staging: %w", err)
	}
	into := os.NewFile(uintptr(fd), convertedDir)
	defer into.Close()
	wanted := make([]index.Entry, len(which))
	for n, i := range which {
		wanted[n] = index.Entry{Path: s.plan.Writes[i].Path, Item: s.plan.Writes[i].Item}
	}
	said, err := s.plan.conversions.write(ctx, wanted, into)
	if err != nil {
		return fmt.Errorf("staging: %w", err)
	}
	for _, line := range saidLines(said) {
		if !slices.Contains(s.Warnings, line) { // as when it was compared
			s.Warnings = append(s.Warnings, line)
		}
	}
	return nil
}

// saidLines are the lines of what git said.
func saidLines(said string) (lines []string) {
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func (s *Staged) adoptAll(stage *root, places []place, which []int, written func()) error {
	from, err := stage.sub(convertedDir)
	if err != nil {
		return fmt.Errorf("staging: %w", err)
	}
	defer from.close()
	for _, i := range which {
		if err := s.adopt(from, places[i], &s.plan.Writes[i]); err != nil {
			return fmt.Errorf("staging %q: %w", s.plan.Writes[i].Path, err)
		}
		written()
	}
	return nil
}

// adopt moves a file that git has written to its place.
func (s *Staged) adopt(from *root, at place, write *Write) error {
	dir, base, err := at.stage.parent(at.path)
	if err != nil {
		return err
	}
	source, name, err := from.parent(s.plan.conversions.dir + write.Path)
	if err == nil {
		err = unix.Renameat(source, name, dir, base)
	}
	if err != nil {
		return fmt.Errorf("what git has written: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if modified := s.twinTime(at, write, st.Size); modified != nil {
		times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, *modified}
		if err := unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	if len(s.plan.Writes) <= fsyncEach && !s.worktree.Unsynced {
		if err := fsyncAt(dir, base); err != nil {
			return err
		}
	}
	write.stat = index.StatOf(&st)
	s.plan.grown += st.Size - write.size
	return nil
}

// enoughLeft refuses what has turned out to be larger than its blobs.
func (w *Worktree) enoughLeft(p *Plan) error {
	if total := p.Accepted.Bytes + p.grown; total > w.MaxBytes {
		return &Refused{fmt.Errorf("it unpacks to %d bytes, more than max_bytes = %d", total, w.MaxBytes)}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(w.Dir, &fs); err != nil {
		return fmt.Errorf("looking for free space in %q: %w", w.Dir, err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < reserveBytes {
		return fmt.Errorf("not enough room in %q: what git has converted leaves %d bytes", w.Dir, free)
	}
	return nil
}

func fsyncAt(dir int, name string) error {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// settle decides about the entries of x at the places, whose inodes do not prove
// that they are unchanged.
func (w *Worktree) settle(ctx context.Context, conv *conversions, x *index.Index, places []int, modes *umask) (found findings, err error) {
	answers, err := conv.ask(ctx, at(x, places))
	if err != nil {
		return found, err
	}
	var plain, converting []int
	for n, i := range places {
		if answers[n].How == "" {
			plain = append(plain, i)
		} else {
			converting = append(converting, i)
		}
	}
	settled := *conv
	settled.settled = true
	if found, err = w.sweep(ctx, x, selection{doubted: plain, only: true}, modes, &settled); err != nil {
		return found, err
	}
	for len(converting) > 0 {
		n, err := w.compareSome(ctx, conv, x, converting, &found)
		if err != nil {
			return found, err
		}
		converting = converting[n:]
	}
	return found, nil
}

// at returns the entries at the places.
func at(x *index.Index, places []int) []index.Entry {
	all := make([]index.Entry, len(places))
	for n, i := range places {
		all[n] = x.Entry(i)
	}
	return all
}

// compareBytes bounds the room that a comparison needs on the disk, and
// compareFiles the files that it makes.
const (
	compareBytes = 256 << 20
	compareFiles = 10_000
)

// compareSome has git write the first of the entries again, as many as do not
// need much room, and compares the disk with that. It returns how many it has
// compared.
func (w *Worktree) compareSome(ctx context.Context, conv *conversions, x *index.Index, places []int, found *findings) (n int, err error) {
	web, err := openRoot(w.Dir)
	if err != nil {
		return 0, err
	}
	defer web.close()
	stats := make([]unix.Stat_t, 0, min(len(places), compareFiles))
	for total := int64(0); n < len(places) && n < compareFiles && (n == 0 || total < compareBytes); n++ {
		st, _, err := web.lstat(string(x.Path(places[n])))
		if err != nil {
			return 0, err
		}
		stats = append(stats, st)
		total += st.Size
	}
	dir, err := w.scratch()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	into, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer into.Close()
	wanted := at(x, places[:n])
	said, err := conv.write(ctx, wanted, into)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("looking for changed files: %w", ctx.Err())
	}
	if err != nil {
		// A filter fails: nobody can tell what they should hold.
		found.drifted = append(found.drifted, places[:n]...)
		return n, nil
	}
	found.said = append(found.said, saidLines(said)...)
	buffer := make([]byte, 1<<17)
	for k, i := range places[:n] {
		if sameContent(filepath.Join(dir, conv.dir+wanted[k].Path), web, wanted[k].Path, buffer) {
			found.see(x, i, &stats[k])
		} else {
			found.drifted = append(found.drifted, i)
		}
	}
	return n, nil
}

// sameContent tells whether a file holds what another one below r does. What
// cannot be read is as good as changed.
func sameContent(want string, r *root, path string, buffer []byte) bool {
	dir, base, err := r.parent(path)
	if err != nil {
		return false
	}
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	have := os.NewFile(uintptr(fd), path)
	defer have.Close()
	f, err := os.Open(want)
	if err != nil {
		return false
	}
	defer f.Close()
	a, b := buffer[:len(buffer)/2], buffer[len(buffer)/2:]
	for {
		n, errA := io.ReadFull(f, a)
		m, errB := io.ReadFull(have, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false
		}
		if errA != nil || errB != nil {
			return atEnd(errA) && atEnd(errB)
		}
	}
}

func atEnd(err error) bool { return err == io.EOF || err == io.ErrUnexpectedEOF }
