package hooks_test

import (
	"os"
	"path/filepath"
	"testing"

	"bluegreen/internal/confine"
)

// TestConfinement: what a deployment starts, a filter of git's for one, writes in
// the repository and the web root alone, unless the configuration runs programs.
func TestConfinement(t *testing.T) {
	t.Parallel()
	if !confine.Available() {
		t.Skip("this kernel has no Landlock, or one before Linux 5.19")
	}
	for name, c := range map[string]struct {
		config func(s *server) string
		free   bool
	}{
		"in place":     {config: func(*server) string { return "" }},
		"releases":     {config: func(s *server) string { return "releases = \"" + s.dir + "/releases\"\n" }},
		"with command": {config: func(*server) string { return "[[command]]\nat = \"deployed\"\nrun = [\"true\"]\n" }, free: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, "", "", allHooks...)
			s.configure(c.config(s))
			tmp := filepath.Join(s.dir, "tmp") // where it may write, too
			s.must(os.Mkdir(tmp, 0o700))
			s.env = append(s.env, "TMPDIR="+tmp)
			if name == "releases" {
				s.must(os.Remove(s.www))
			}
			canary := filepath.Join(s.dir, "outside")
			s.run(s.git, "git", "config", "filter.astray.smudge", "echo was here 2>/dev/null >"+canary+"; cat")
			s.commit(map[string]string{".gitattributes": "* filter=astray\n", "index.html": "App\n"})
			if status, out := s.push(nil, "HEAD:master"); status != 0 {
				t.Fatalf("status %d\n%s", status, out)
			}
			if text, err := os.ReadFile(filepath.Join(s.www, "index.html")); string(text) != "App\n" {
				t.Errorf("the page is %q, %v", text, err)
			}
			if _, err := os.Lstat(canary); (err == nil) != c.free {
				t.Errorf("the filter's file outside: %v", err)
			}
		})
	}
}
