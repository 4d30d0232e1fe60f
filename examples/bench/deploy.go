package main

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A watch says what is looked at while a deployment runs, beside its time.
type watch struct {
	trace   string // the file that git notes the hooks' times in, "" for none
	memory  bool
	profile string // the directory that our programs write profiles to, "" for none
	strace  string // the directory that system calls are counted in, "" for none
}

// job is the push, or the operator's command, that brings a commit into the
// web root.
func (v *server) job(sh *shell, commit string, byCommand bool, w watch) (job, error) {
	j := job{dir: v.site.source(), argv: []string{"git", "push", "--force", v.repo, commit + ":" + branch}}
	if byCommand {
		j = job{dir: v.dir, argv: []string{filepath.Join(sh.bin, "bluegreen"), "--repo", v.repo, "deploy", commit}}
	}
	if w.trace != "" && !byCommand {
		j.env = append(j.env, "GIT_TRACE2_EVENT="+w.trace, "GIT_TRACE2_EVENT_NESTING=1")
		if err := remove(w.trace); err != nil {
			return j, err
		}
	}
	if w.profile != "" {
		j.env = append(j.env, "BLUEGREEN_PROFILE="+w.profile)
		return j, os.MkdirAll(w.profile, 0o755)
	}
	switch {
	case w.strace == "":
		return j, nil
	case byCommand:
		j.argv = append(straced(w.strace, j.argv[0]), j.argv[1:]...)
		return j, nil
	}
	return j, v.traceHooks(sh, w.strace)
}

// deploy brings the server's web root to a commit and returns what it took.
func (v *server) deploy(ctx context.Context, sh *shell, commit string, byCommand bool, w watch) (s sample, err error) {
	j, err := v.job(sh, commit, byCommand, w)
	if err != nil {
		return s, err
	}
	if w.strace != "" && !byCommand {
		defer func() { err = errors.Join(err, v.linkHooks(sh)) }()
	}
	peaks := &sampler{bin: sh.bin}
	if w.memory {
		j.started = peaks.start
	}
	var cpu time.Duration
	j.cpu = &cpu
	began := time.Now()
	_, err = sh.run(ctx, j)
	s.Whole, s.CPU = milliseconds(time.Since(began)), milliseconds(cpu)
	s.OwnPeak, s.GitPeak = peaks.stop()
	if err != nil {
		return s, fmt.Errorf("%s with %s: %w", nameOf(v.contestant), siteTitle(v.site.name), err)
	}
	if !byCommand {
		v.ref = commit
		if w.trace != "" {
			if s.Hooks, err = hookTimes(w.trace); err != nil {
				return s, err
			}
		}
	}
	before := v.at
	v.at = commit
	return s, v.check(ctx, sh, before)
}

// bring brings the server to a commit, by what makes git or the programs do
// something.
func (v *server) bring(ctx context.Context, sh *shell, commit string) error {
	if v.at == commit {
		return nil
	}
	_, err := v.deploy(ctx, sh, commit, v.ref == commit, watch{})
	return err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// enough is how many paths are looked at after each deployment.
const enough = 50

// check looks whether the web root holds what the commit says, where it has
// changed and at the top. Who is fast and wrong does not win.
func (v *server) check(ctx context.Context, sh *shell, before string) error {
	if v.contestant == plain {
		return nil
	}
	changes := []string{"diff-tree", "-r", "--raw", "-z", "--no-abbrev", before, v.at}
	if before == "" {
		changes = []string{"ls-tree", "-r", "-z", v.at}
	}
	for _, args := range [][]string{changes, {"ls-tree", "-z", v.at}} {
		out, err := sh.git(ctx, v.site.source(), args...)
		if err != nil {
			return err
		}
		entries, err := parseEntries(out)
		if err != nil {
			return err
		}
		for i := 0; i < len(entries); i += 1 + len(entries)/enough {
			if err := v.holds(entries[i]); err != nil {
				return fmt.Errorf("%s after %s: %w", nameOf(v.contestant), v.at, err)
			}
		}
	}
	return nil
}

// An entry is one path of a commit; with the mode 000000 it is not there.
type entry struct{ mode, oid, path string }

// parseEntries reads what git diff-tree --raw -z and git ls-tree -z print.
func parseEntries(out string) ([]entry, error) {
	var entries []entry
	fields := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	for i := 0; i < len(fields) && fields[i] != ""; i++ {
		if !strings.HasPrefix(fields[i], ":") { // "MODE TYPE OID\tPATH"
			meta, path, _ := strings.Cut(fields[i], "\t")
			words := strings.Fields(meta)
			if len(words) != 3 {
				return nil, fmt.Errorf("git ls-tree printed %q", fields[i])
			}
			if words[1] != "tree" {
				entries = append(entries, entry{words[0], words[2], path})
			}
			continue
		}
		words := strings.Fields(fields[i]) // ":MODE MODE OID OID STATUS", then the path
		if len(words) != 5 || i+1 == len(fields) {
			return nil, fmt.Errorf("git diff-tree printed %q", fields[i])
		}
		i++
		entries = append(entries, entry{words[1], words[3], fields[i]})
	}
	return entries, nil
}

// holds looks at one path of the web root.
func (v *server) holds(e entry) error {
	path := filepath.Join(v.www, e.path)
	st, err := os.Lstat(path)
	switch {
	case e.mode == "000000" && err == nil && !st.IsDir():
		return fmt.Errorf("%q is still there", e.path)
	case e.mode == "000000" || e.mode == "160000" && err == nil:
		return nil
	case err != nil:
		return err
	case e.mode == "120000":
		target, err := os.Readlink(path)
		return e.equals(strings.NewReader(target), int64(len(target)), err)
	case st.Mode()&fs.ModeType != 0 || (e.mode == "100755") != (st.Mode()&0o100 != 0):
		return fmt.Errorf("%q has the mode %v, and %s in the commit", e.path, st.Mode(), e.mode)
	case v.site.converted:
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return e.equals(file, st.Size(), nil)
}

// equals compares a content with the blob.
func (e entry) equals(content io.Reader, size int64, err error) error {
	if err != nil {
		return err
	}
	sum := sha1.New()
	sum.Write(slices.Concat([]byte("blob "), strconv.AppendInt(nil, size, 10), []byte{0}))
	if _, err := io.Copy(sum, content); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != e.oid {
		return fmt.Errorf("%q is %s, and %s in the commit", e.path, got, e.oid)
	}
	return nil
}
