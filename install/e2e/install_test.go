//go:build e2e

package e2e_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// asRoot runs a line as root, where the programs have been unpacked.
func (s *story) asRoot(server *host, line string) string {
	s.Helper()
	began := time.Now()
	status, out := server.run(root, "bash", "-c", line)
	s.hidden(out)
	s.Logf("root@%s# %s    # %.2f s\n%s", server.name, line, time.Since(began).Seconds(), indent(out))
	if status != 0 {
		s.Fatalf("%q on %s: status %d", line, server.name, status)
	}
	return out
}

// installs runs a line that installs, and returns how long that took. What it
// says in the end to be typed on the development machine, the README says, too.
func (s *story) installs(server *host, line string) time.Duration {
	s.Helper()
	began := time.Now()
	said := s.asRoot(server, line)
	took := time.Since(began)
	server.startWeb()
	remote := typed{"$", "git remote add " + server.name + " deploy@" + server.name + ":sample_app"}
	if !strings.Contains(said, "\n  "+remote.line+"\n") || !slices.Contains(readWalkThrough(s), remote) {
		s.Errorf("install on %s and README.md do not both say %q", server.name, remote.line)
	}
	return took
}

// rehearsed is installs with --dry-run before it, and once more after it.
func (s *story) rehearsed(server *host, line string) time.Duration {
	s.Helper()
	before, packages := s.written(server), server.packages()
	plan := s.asRoot(server, line+" --dry-run")
	if changed := differences(before, s.written(server)); len(changed) > 0 {
		s.Errorf("--dry-run has changed %q", changed)
	}
	took := s.installs(server, line)
	installed := s.written(server)
	theirs := server.filesOf(differences(packages, server.packages()))
	for _, path := range differences(before, installed) {
		if named(path) && !theirs[strings.TrimPrefix(path, "/usr")] && !strings.Contains(plan, path) {
			s.Errorf("--dry-run does not name %s", path)
		}
	}
	again := s.asRoot(server, line)
	if changed := differences(installed, s.written(server)); len(changed) > 0 {
		s.Errorf("the second installation has changed %q", changed)
	}
	if !strings.Contains(again, "success: nothing to do") {
		s.Error("the second installation does not say that there is nothing to do")
	}
	return took
}

// packages lists what is installed, with versions.
func (h *host) packages() map[string]string {
	h.Helper()
	list := make(map[string]string)
	for line := range strings.Lines(h.sh(`dpkg-query -W -f '${Package} ${db:Status-Status} ${Version}\n'`)) {
		name, version, _ := strings.Cut(line, " ")
		list[name] = version
	}
	return list
}

// filesOf lists the files that packages bring, without /usr before them.
func (h *host) filesOf(packages []string) map[string]bool {
	h.Helper()
	files := make(map[string]bool)
	if len(packages) > 0 {
		for line := range strings.Lines(h.must(root, append([]string{"dpkg-query", "-L"}, packages...)...)) {
			files[strings.TrimPrefix(strings.TrimSpace(line), "/usr")] = true // /lib is a symlink
		}
	}
	return files
}

// named tells whether a plan has to name a file. The repository's own files and
// the account's, git and useradd make; apt-get keeps books, and packages come
// with scripts.
func named(path string) bool {
	for _, place := range []string{
		"/etc/apache2/", "/etc/rc", "/etc/systemd/system/multi-user.target.wants/apache2.service", "/var/cache/",
		"/var/lib/apache2/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lib/systemd/", webRoot + "/index.html",
	} {
		if strings.HasPrefix(path, place) {
			return false
		}
	}
	switch dir, name := filepath.Split(path); {
	case strings.HasPrefix(path, repository+"/"):
		return strings.HasPrefix(path, repository+"/hooks/") && strings.HasSuffix(name, "-receive") || name == "bluegreen.toml"
	case dir == "/etc/":
		return false // passwd, group and what goes with them
	case strings.HasPrefix(path, "/home/deploy/."):
		return name == "authorized_keys"
	}
	return true
}

// written describes every file, not directory, that a host has written, but for
// its logs.
func (s *story) written(h *host) map[string]string {
	s.Helper()
	files := make(map[string]string)
	upper := filepath.Join(h.disk, "upper")
	must(s, filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, upper)
		if err != nil || d.IsDir() || strings.HasPrefix(name, "/var/log/") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprint(info.Mode(), st.Uid, st.Gid, st.Ino, info.ModTime().UnixNano())
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %x", sha256.Sum256(data))
		}
		files[name] = text
		return nil
	}))
	return files
}

// differences lists the files that are not the same.
func differences(before, after map[string]string) (paths []string) {
	for path := range maps.Keys(after) {
		if before[path] != after[path] {
			paths = append(paths, path)
		}
	}
	for path := range maps.Keys(before) {
		if _, ok := after[path]; !ok {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}
