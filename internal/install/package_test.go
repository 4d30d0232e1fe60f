package install

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// packagedHost is a throw-away root with the programs of a package, and the
// copies that an earlier install has made.
func packagedHost(t *testing.T, packaged, copied string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range append(Hooks(), "bluegreen") {
		place := "lib/bluegreen"
		if name == "bluegreen" {
			place = "bin"
		}
		for prefix, content := range map[string]string{"usr": packaged, "usr/local": copied} {
			write(t, filepath.Join(root, prefix, place, name), content)
		}
	}
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if content == "1" { // can be run at once: this process has not had it open
		if out, err := exec.Command("cp", "testdata/first/"+filepath.Base(path), path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func installation(t *testing.T, o Options) *Installation {
	t.Helper()
	o.HostName, o.Version = "blue", "the first"
	i, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// said returns the lines of what a plan would change.
func said(t *testing.T, changes []Change, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.What)
	}
	return strings.Join(lines, "\n")
}

// TestProgramsOfPackage runs the package's program, which installs what the
// package has, and the copy, which comes first in PATH and must not say without
// more that all is done when the package has been upgraded.
func TestProgramsOfPackage(t *testing.T) {
	t.Parallel()
	const warning = "/usr/local/bin/bluegreen is not the package's program; to install those of the package: " +
		"/usr/bin/bluegreen install --user deploy --repo /home/deploy/sample_app"
	for _, test := range []struct {
		name, packaged, copied, run string
		from                        string // where the hooks that are written come from; "" for none written
		warnings                    []string
	}{
		{"the package", "2", "1", "usr/bin", "usr/lib/bluegreen", nil},
		{"the package, installed", "1", "1", "usr/bin", "", nil},
		{"the copy, upgraded since", "2", "1", "usr/local/bin", "", []string{warning}},
		{"the copy", "1", "1", "usr/local/bin", "", nil},
		{"a tarball", "2", "1", "root/bluegreen", "root/bluegreen", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := packagedHost(t, test.packaged, test.copied)
			for _, name := range append(Hooks(), "bluegreen") {
				write(t, filepath.Join(root, "root/bluegreen", name), "3")
			}
			i := installation(t, Options{Root: root, Programs: filepath.Join(root, test.run)})
			changes, err := i.planPrograms(t.Context())
			plan := said(t, changes, err)
			wanted := "write /usr/local/lib/bluegreen/pre-receive (root, 0755), from " + filepath.Join(root, test.from, "pre-receive")
			if test.from == "" && plan != "" || test.from != "" && !strings.Contains(plan, wanted) {
				t.Errorf("the plan is\n%s", plan)
			}
			if !slices.Equal(i.Warnings(), test.warnings) {
				t.Errorf("warned %q, not %q", i.Warnings(), test.warnings)
			}
		})
	}
}

// TestWebServerRemembered leaves out what was asked for at first: an upgrade
// must not bring another web server.
func TestWebServerRemembered(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, test := range []struct{ option, web string }{{"nginx", "nginx"}, {"", "nginx"}, {"none", "none"}, {"", "none"}} {
		i := installation(t, Options{Root: root, Web: test.option})
		if i.o.Web != test.web {
			t.Errorf("--web %q: %s is installed, not %s", test.option, i.o.Web, test.web)
		}
		changes, err := i.planRecord(t.Context())
		if plan := said(t, changes, err); strings.Contains(plan, "write /var/lib/bluegreen/sample_app.json") != (test.option != "") {
			t.Errorf("--web %q: the plan is %q", test.option, plan)
		}
		for _, c := range changes {
			if err := c.do(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
