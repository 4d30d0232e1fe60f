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
)

// installLine is what the README has one type as root on each server.
var installLine = []string{
	unpacked + "/bluegreen", "install", "--key", "ann.pub", "--key", "mallory.pub", "--ip", reservedIP,
	"--droplet", fmt.Sprintf("blue=%d", blueDroplet), "--droplet", fmt.Sprintf("green=%d", greenDroplet), "--token-file", "token",
}

// install installs on a server, and returns what was said.
func (s *story) install(server *host, more ...string) string {
	s.Helper()
	argv := append(slices.Clone(installLine), append([]string{"--web", server.web}, more...)...)
	status, out := server.run(root, argv...)
	s.hidden(out)
	s.Logf("root@%s# %s\n%s", server.name, strings.Join(argv, " "), indent(out))
	if status != 0 {
		s.Fatalf("bluegreen install on %s: status %d", server.name, status)
	}
	return out
}

// installBoth installs on both servers. On blue the plan is read first, and the
// installation is repeated.
func (s *story) installBoth() {
	s.Helper()
	before := s.written(s.blue)
	plan := s.install(s.blue, "--dry-run")
	if changed := differences(before, s.written(s.blue)); len(changed) > 0 {
		s.Errorf("--dry-run has changed %q", changed)
	}
	said := s.install(s.blue)
	installed := s.written(s.blue)
	for _, path := range differences(before, installed) {
		if named(path) && !strings.Contains(plan, path) {
			s.Errorf("--dry-run does not name %s", path)
		}
	}
	if line := "git remote add blue deploy@blue:sample_app"; !strings.Contains(said, line) {
		s.Errorf("install does not end with %q", line)
	}
	again := s.install(s.blue)
	if changed := differences(installed, s.written(s.blue)); len(changed) > 0 {
		s.Errorf("the second installation has changed %q", changed)
	}
	if !strings.Contains(again, "nothing") {
		s.Error("the second installation does not say that nothing has changed")
	}
	s.install(s.green)
}

// named tells whether a plan has to name a file. The repository's own files and
// the account's, git and useradd make.
func named(path string) bool {
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
