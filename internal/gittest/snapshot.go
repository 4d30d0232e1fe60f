package gittest

import (
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
)

// A Snapshot says what is at each path below a directory.
type Snapshot map[string]string

// Snap describes all below dir: type, all twelve mode bits, and the content
// (its hash, when it is long) or the link's target. With inodes it tells also which inodes they are, and
// when files were written.
func Snap(t testing.TB, dir string, inodes bool) Snapshot {
	t.Helper()
	s := Snapshot{}
	castagnoli := crc32.MakeTable(crc32.Castagnoli) // both take next to no time, unlike what resists attacks
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		what := fmt.Sprintf("%s %04o", info.Mode().Type(), st.Mode&0o7777) // "d--------- 0755"
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " -> " + target
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if len(data) <= 32 {
				what += fmt.Sprintf(" %q", data)
			} else {
				what += fmt.Sprintf(" %d bytes, %08x%08x", len(data), crc32.ChecksumIEEE(data), crc32.Checksum(data, castagnoli))
			}
		}
		if inodes {
			what += fmt.Sprintf(" inode %d", st.Ino)
		}
		if inodes && !info.IsDir() {
			what += fmt.Sprintf(" of %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		rel, err := filepath.Rel(dir, path)
		s[rel] = what
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Diff describes how got differs from want, "" where it does not.
func (want Snapshot) Diff(got Snapshot) string {
	var lines []string
	for path, what := range want {
		if found, there := got[path]; !there {
			lines = append(lines, fmt.Sprintf("%q is missing: want %s", path, what))
		} else if found != what {
			lines = append(lines, fmt.Sprintf("%q: got %s, want %s", path, found, what))
		}
	}
	for path, what := range got {
		if _, there := want[path]; !there {
			lines = append(lines, fmt.Sprintf("%q should not be there: %s", path, what))
		}
	}
	sort.Strings(lines)
	if len(lines) > 12 {
		lines = append(lines[:12], fmt.Sprintf("and %d more", len(lines)-12))
	}
	return strings.Join(lines, "\n")
}
