package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bluegreen/internal/release"
)

// webRoot looks at the directory that is deployed to.
func (x *exam) webRoot(context.Context) []Finding {
	dir := x.env.Worktree.Dir
	here, there := x.mountOf(x.repo.Dir), x.mountOf(dir)
	if there.has("ro") {
		return []Finding{broken(x.remount(there, "rw"), "the web root %s cannot be written to: %s is mounted read-only", dir, there.point)}
	}
	if x.env.Releases != nil {
		if wrong := x.releases(); len(wrong) > 0 {
			return wrong
		}
	}
	st, err := os.Stat(dir)
	if err != nil && os.IsNotExist(err) && x.env.Releases != nil {
		return ok("the web root %s will lead to the first release", dir)
	}
	if err != nil && os.IsNotExist(err) {
		return []Finding{broken(x.asRoot("install", "-d", "-o", x.account.Name, dir), "the web root %s does not exist", dir)}
	}
	if err == nil && st.IsDir() && !x.stranger() && !x.Host.Writable(dir) {
		return []Finding{broken(x.asRoot("chown", x.account.Name+":", dir), "%s may not write to the web root %s", x.account.Name, dir)}
	}
	if err := x.env.Ready(); err != nil && !(x.stranger() && errors.Is(err, fs.ErrPermission)) {
		return []Finding{broken(x.edit(), "%v", err)}
	}
	var found []Finding
	if here.has("ro") {
		found = append(found, broken(x.remount(here, "rw"), "the repository cannot be written to: %s is mounted read-only", here.point))
	}
	if here != nil && there != nil && here.id != there.id {
		found = append(found, warning("put both on one mount, or leave it so: deployments work all the same",
			"the web root %s is on another mount than the repository: while a push is deployed, its files lie in the web root, in a directory that only %s may read", dir, x.account.Name))
	}
	if st.Mode()&0o002 != 0 {
		found = append(found, warning(x.asAccount("chmod", "o-w", dir), "every account of this machine may write to the web root %s", dir))
	}
	if x.stranger() {
		return or(found, "the web root %s is there", dir)
	}
	return or(found, "the web root %s can be written to", dir)
}

// releases looks at the directory of the releases, and at the link to one.
func (x *exam) releases() []Finding {
	dir := x.env.Config.Deploy.Releases
	if st, err := os.Stat(dir); err == nil && st.IsDir() && !x.stranger() && !x.Host.Writable(dir) {
		return []Finding{broken(x.asRoot("chown", x.account.Name+":", dir), "%s may not write to the directory of the releases, %s", x.account.Name, dir)}
	}
	err := x.env.Releases.Check()
	switch {
	case err == nil || x.stranger() && errors.Is(err, fs.ErrPermission):
		return nil
	case errors.As(err, new(*release.Unconverted)):
		return []Finding{broken(x.install(), "%v", err)}
	}
	return []Finding{broken(x.edit(), "%v", err)}
}

// What a filesystem should have free, and must have. A number that is few is
// only so where it is less than half: a small filesystem may be all that a small
// site needs.
const (
	fewBytes    = 1 << 30
	fewInodes   = 100_000
	halfPercent = 50
	lowPercent  = 10
	outPercent  = 2
)

// space looks whether there is room for the next push.
func (x *exam) space(context.Context) []Finding {
	var found []Finding
	seen := map[string]bool{}
	for _, dir := range []string{x.repo.Dir, x.env.Worktree.Dir} {
		if m := x.mountOf(dir); m != nil {
			if seen[m.id] {
				continue
			}
			seen[m.id] = true
		}
		s, err := x.Host.Statfs(dir)
		if err != nil {
			found = append(found, broken(x.asAccount("df", dir), "%v", err))
			continue
		}
		found = append(found, x.room(dir, s)...)
	}
	return or(found, "there is room on the disk")
}

func (x *exam) room(dir string, s Space) (found []Finding) {
	judge := func(free, all, few uint64, flag, text string) {
		percent := 100 * float64(free) / float64(all)
		text = fmt.Sprintf("there is little room for %s: %s are free (%.1f%%)", dir, text, percent)
		switch fix := x.asRoot("df", flag, dir); {
		case percent < outPercent:
			found = append(found, broken(fix, "%s", text))
		case percent < lowPercent || free < few && percent < halfPercent:
			found = append(found, warning(fix, "%s", text))
		}
	}
	if s.Size > 0 {
		judge(s.Free, s.Size, fewBytes, "-h", fmt.Sprintf("%s of %s", size(s.Free), size(s.Size)))
	}
	if s.Files > 0 { // btrfs counts none
		judge(s.Spare, s.Files, fewInodes, "-i", fmt.Sprintf("%d of %d inodes", s.Spare, s.Files))
	}
	return found
}

// size writes a number of bytes as people do.
func size(n uint64) string {
	if n < 1<<30/10 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// privateTmp looks whether the web server sees the same /tmp.
func (x *exam) privateTmp(context.Context) []Finding {
	var found []Finding
	for _, dir := range []string{x.env.Worktree.Dir, x.env.Config.Deploy.Releases} {
		if !inside(dir, "/tmp") && !inside(dir, "/var/tmp") {
			continue
		}
		for _, unit := range x.webServers() {
			if x.isPrivate(unit) {
				found = append(found, broken(x.asRoot("systemctl", "edit", unit)+" # [Service], PrivateTmp=no; then restart it",
					"%s has PrivateTmp, and does not see %s: it has a /tmp of its own", unit, dir))
			}
		}
	}
	return or(found, "%s is not hidden from web servers by a /tmp of their own", x.env.Worktree.Dir)
}

// unitDirs are where systemd looks for units, the first one first.
func (x *exam) unitDirs() []string {
	var dirs []string
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		dirs = append(dirs, x.Host.system(dir))
	}
	return dirs
}

// webServers are the units of web servers that are installed.
func (x *exam) webServers() []string {
	var units []string
	for _, dir := range x.unitDirs() {
		for _, pattern := range []string{"apache2.service", "nginx.service", "php*-fpm.service"} {
			paths, _ := filepath.Glob(filepath.Join(dir, pattern)) // whose error is for bad patterns
			for _, path := range paths {
				units = append(units, filepath.Base(path))
			}
		}
	}
	slices.Sort(units)
	return slices.Compact(units)
}

// isPrivate reads a unit and what is added to it, as systemd does: the first
// file counts, then each addition by its name, the first of each name.
func (x *exam) isPrivate(unit string) bool {
	files := map[string]string{} // the unit is "", which sorts first
	for _, dir := range x.unitDirs() {
		additions, _ := filepath.Glob(filepath.Join(dir, unit+".d", "*.conf"))
		for _, path := range append(additions, filepath.Join(dir, unit)) {
			name := filepath.Base(path)
			if name == unit {
				name = ""
			}
			if _, found := files[name]; found {
				continue
			}
			if text, err := readText(path); err == nil {
				files[name] = text
			}
		}
	}
	private := false
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for line := range strings.Lines(files[name]) {
			if key, value, found := strings.Cut(line, "="); found && strings.TrimSpace(key) == "PrivateTmp" {
				switch strings.ToLower(strings.TrimSpace(value)) {
				case "yes", "true", "on", "1", "disconnected":
					private = true
				default:
					private = false
				}
			}
		}
	}
	return private
}
