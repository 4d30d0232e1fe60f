package doctor

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A mount is one line of the kernel's list.
type mount struct {
	id, point string
	options   []string
}

func (m *mount) has(option string) bool { return m != nil && slices.Contains(m.options, option) }

// readMounts reads a list as in /proc/self/mountinfo; nil where there is none.
func readMounts(path string) []mount {
	text, err := readText(path)
	if err != nil {
		return nil
	}
	var mounts []mount
	for line := range strings.Lines(text) {
		// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
		before, after, found := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !found || len(fields) < 6 {
			continue
		}
		options := strings.Split(fields[5], ",")
		// A filesystem that an error has made read-only says so here alone.
		if filesystem := strings.Fields(after); len(filesystem) > 2 && slices.Contains(strings.Split(filesystem[2], ","), "ro") {
			options = append(options, "ro")
		}
		mounts = append(mounts, mount{id: fields[0], point: unescape(fields[4]), options: options})
	}
	return mounts
}

// unescape undoes the kernel's \040 for a space, and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountOf finds the mount that a path lies on, symlinks followed; nil where it
// is not known.
func (x *exam) mountOf(path string) *mount {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	var found *mount
	for i, m := range x.mounts {
		// Of two on one point the later one is on top.
		if inside(path, m.point) && (found == nil || len(m.point) >= len(found.point)) {
			found = &x.mounts[i]
		}
	}
	return found
}

// inside tells whether path is dir, or below it.
func inside(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
