package install

import (
	"os"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// TestReleases sets a bare server up for whole releases.
func TestReleases(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	o := s.options()
	o.Releases = "/var/www/releases"
	did := s.install(o)
	if want := "link /var/www/html to /var/www/releases/current"; !slices.Contains(did, want) && !slices.ContainsFunc(did, func(line string) bool { return strings.Contains(line, "/var/www/html the first release") }) {
		t.Errorf("the web root leads nowhere: %q", did)
	}
	if target, err := os.Readlink(s.path("/var/www/html")); err != nil || target != "/var/www/releases/current" {
		t.Errorf("the web root leads to %q, %v", target, err)
	}
	before := gittest.Snap(t, s.root, true)
	if did := s.install(o); len(did) > 0 {
		t.Errorf("the second installation: %q", did)
	}
	if d := before.Diff(gittest.Snap(t, s.root, true)); d != "" {
		t.Errorf("the second installation:\n%s", d)
	}
}

// newDeployed makes a server that deploys in place, with a site that git has
// checked out, and then asks for releases.
func newDeployed(t *testing.T, more string) *server {
	t.Helper()
	s := newServer(t)
	s.install(s.options())
	work := s.path("/tmp-work")
	gittest.Git(t, "/", "init", "-q", "-b", "master", work)
	must(t, os.WriteFile(work+"/index.html", []byte("site"), 0o644))
	must(t, os.Mkdir(work+"/css", 0o755))
	must(t, os.WriteFile(work+"/css/a.css", []byte("style"), 0o644))
	gittest.Git(t, work, "add", ".")
	gittest.Git(t, work, "-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "-q", "-m", "site")
	gittest.Git(t, work, "--git-dir="+work+"/.git", "--work-tree="+s.path("/var/www/html"), "checkout", "-q", "-f")
	must(t, os.Rename(work+"/.git/index", s.path(repo+"/index")))
	must(t, os.RemoveAll(work))
	data, err := os.ReadFile(s.path(toml))
	must(t, err)
	text := strings.Replace(string(data), "directory = \"/var/www/html\"\n", "directory = \"/var/www/html\"\nreleases = \"/var/www/releases\"\n"+more, 1)
	must(t, os.WriteFile(s.path(toml), []byte(text), 0o644))
	return s
}

// TestFirstRelease makes a web root the first release, with the files that it
// has, and nothing else changes.
func TestFirstRelease(t *testing.T) {
	t.Parallel()
	s := newDeployed(t, "shared = [\"uploads\"]\nmarker = \"release.json\"\n")
	s.mkdir("/var/www/html/uploads", 0o755)
	s.write("/var/www/html/uploads/mine", "mine", 0o644)
	s.write("/var/www/html/release.json", "{}", 0o644)
	site := gittest.Snap(t, s.path("/var/www/html"), true)
	did := s.install(s.options())
	if len(did) != 3 { // the releases, the link, and the unit that writes there now
		t.Errorf("the work: %q", did)
	}
	for link, want := range map[string]string{"/var/www/html": "/var/www/releases/current", "/var/www/releases/current": "1"} {
		if target, err := os.Readlink(s.path(link)); err != nil || target != want {
			t.Errorf("%s leads to %q, want %q, %v", link, target, want, err)
		}
	}
	if d := site.Diff(gittest.Snap(t, s.path("/var/www/releases/1"), true)); d != "" {
		t.Errorf("the first release is not what the web root was:\n%s", d)
	}
	if did := s.install(s.options()); len(did) > 0 {
		t.Errorf("the second installation: %q", did)
	}
}

// TestFirstReleaseRefused leaves a web root alone of which something would be
// lost, or where something else is in the way.
func TestFirstReleaseRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, want string
		prepare    func(*server)
	}{
		{"an untracked file", "has what no commit has, and what the next release would not have: css/b.css, notes", func(s *server) {
			s.write("/var/www/html/notes", "mine", 0o644)
			s.write("/var/www/html/css/b.css", "mine", 0o644)
		}},
		{"a directory of untracked files", "would not have: uploads", func(s *server) {
			s.mkdir("/var/www/html/uploads", 0o755)
			s.write("/var/www/html/uploads/mine", "mine", 0o644)
		}},
		{"a symlink elsewhere", "which is not in /var/www/releases", func(s *server) {
			must(s, os.RemoveAll(s.path("/var/www/html")))
			must(s, os.Symlink("/srv/site", s.path("/var/www/html")))
		}},
		{"a file for the releases", "is not a directory", func(s *server) { s.write("/var/www/releases", "", 0o644) }},
	} {
		s := newDeployed(t, "")
		test.prepare(s)
		before := gittest.Snap(t, s.root, true)
		i := s.prepare(s.options())
		_, err := i.Do(t.Context(), func(Step, Change) {})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
		if d := before.Diff(gittest.Snap(t, s.root, true)); d != "" {
			t.Errorf("%s:\n%s", test.name, d)
		}
	}
}
