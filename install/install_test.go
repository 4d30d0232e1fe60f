package install_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"bluegreen/install"
	"bluegreen/internal/config"
)

func render(t *testing.T, name string, values any) string {
	t.Helper()
	text, err := install.Render(name, values)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sites are one for each web server, with a promotion and without.
func sites() map[string]*install.Site {
	all := map[string]*install.Site{}
	for _, server := range []string{"apache2", "nginx", ""} {
		all[server+" alone"] = &install.Site{Environment: "blue", Branch: "master", Directory: "/var/www/html", Server: server}
		all[server+" with an IP"] = &install.Site{Environment: "blue", Branch: "main", Directory: "/srv/the site", Server: server,
			IP: "203.0.113.10", Droplets: map[string]int{"blue": 1, "green": 2, `o"dd`: 3}, TokenFile: "/etc/bluegreen/token"}
	}
	all["an API of its own"] = &install.Site{Environment: `a"b\c`, Branch: "feature/ä", Directory: `/srv/"x"`, Server: "apache2",
		IP: "203.0.113.10", Droplets: map[string]int{`a"b\c`: 1}, TokenFile: "/etc/t", APIURL: "http://127.0.0.1:1/api", MetadataURL: "http://127.0.0.1:2"}
	return all
}

// TestConfiguration reads what is rendered as strictly as hooks do.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	for name, site := range sites() {
		text := render(t, install.Configuration, site)
		c, err := config.Parse("bluegreen.toml", []byte(text), "host")
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		if c.Environment != site.Environment || c.Deploy.Branch != site.Branch || c.Deploy.Directory != site.Directory {
			t.Errorf("%s: it is %+v", name, c)
		}
		p := c.Promotion
		switch {
		case site.IP == "" && (p != nil || c.Deploy.Marker != ""):
			t.Errorf("%s: it promotes", name)
		case site.IP != "" && (p == nil || p.IP != site.IP || p.TokenFile != site.TokenFile || len(p.Droplets) != len(site.Droplets) || c.Deploy.Marker == ""):
			t.Errorf("%s: the promotion is %+v", name, p)
		case site.APIURL != "" && (p.APIURL != site.APIURL || p.MetadataURL != site.MetadataURL):
			t.Errorf("%s: the promotion is %+v", name, p)
		}
		var asked []string
		for _, h := range c.Health {
			asked = append(asked, h.At)
		}
		var want []string
		if site.Server != "" {
			want = append(want, "deployed")
		}
		if site.IP != "" {
			want = append(want, "promoted")
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%s: it asks at %q, want %q", name, asked, want)
		}
	}
}

// TestComments accepts what is commented out, too: it is there to be used.
func TestComments(t *testing.T) {
	t.Parallel()
	commented := regexp.MustCompile(`(?m)^#(\[|[a-z_]+ = )`)
	for name, site := range sites() {
		text := commented.ReplaceAllString(render(t, install.Configuration, site), "$1")
		// The promotion that is commented out names environments of its own.
		if _, err := config.Parse("bluegreen.toml", []byte(text), "blue"); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

// TestReload has each web server reload itself.
func TestReload(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{"apache2": "apache2", "nginx": "nginx", "": "my-application"} {
		text := render(t, install.Configuration, &install.Site{Environment: "blue", Branch: "master", Directory: "/var/www/html", Server: server})
		if line := fmt.Sprintf("#run = [\"sudo\", \"/usr/bin/systemctl\", \"reload\", %q]\n", want); !strings.Contains(text, line) {
			t.Errorf("%q: there is no %q in\n%s", server, line, text)
		}
	}
}

// TestUnit has systemd read the unit.
func TestUnit(t *testing.T) {
	t.Parallel()
	for _, mounts := range [][]string{nil, {"/srv/app.git"}, {"/srv/app.git", "/var/www/html"}} {
		text := render(t, install.Unit, &install.Site{Repo: "/srv/app.git", User: "root", Mounts: mounts})
		if want := "\nRequiresMountsFor=" + strings.Join(mounts, " ") + "\n"; len(mounts) > 0 != strings.Contains(text, want) {
			t.Errorf("the unit has %q: %t\n%s", want, len(mounts) == 0, text)
		}
		verify(t, strings.Replace(text, "/usr/local/bin/bluegreen", "/bin/true", 1)) // it looks for the program
	}
}

// TestUnitSandbox keeps recovery to the directories that it writes in, where it
// does not need sudo.
func TestUnitSandbox(t *testing.T) {
	t.Parallel()
	text := render(t, install.Unit, &install.Site{Repo: "/srv/app.git", User: "root", Writes: []string{"/srv/app.git", "/var/www/html"}})
	for _, line := range []string{"ReadWritePaths=-/srv/app.git -/var/www/html", "ProtectSystem=strict", "NoNewPrivileges=yes"} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the unit has no %q:\n%s", line, text)
		}
	}
	verify(t, strings.Replace(text, "/usr/local/bin/bluegreen", "/bin/true", 1))
	text = render(t, install.Unit, &install.Site{Repo: "/srv/app.git", User: "root"})
	if strings.Contains(text, "NoNewPrivileges") || !strings.Contains(text, "ProtectSystem=full\n") {
		t.Errorf("a unit that may use sudo:\n%s", text)
	}
}

// verify asks systemd-analyze, which knows about a unit's neighbours, too: it
// is told of what is wrong with this one.
func verify(t *testing.T, text string) {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here: apt-get install systemd")
	}
	unit := filepath.Join(t.TempDir(), "bluegreen-recover-app.git.service")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte(filepath.Base(unit))) {
		t.Errorf("systemd-analyze: %v: %s\n%s", err, out, text)
	}
}

// TestSudoers ends each line, and says where they are from.
func TestSudoers(t *testing.T) {
	t.Parallel()
	want := "# written by \"bluegreen install\" from /srv/app/bluegreen.toml:\n# exactly these commands, with exactly these arguments\none\ntwo\n"
	if got := render(t, install.Sudoers, &install.Rules{Repo: "/srv/app", Lines: []string{"one", "two"}}); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	for _, name := range []string{install.ApacheHint, install.NginxHint} {
		text := render(t, name, &install.Site{Directory: "/srv/site"})
		if !strings.Contains(text, "/srv/site") || strings.Count(text, "\n") != 1 {
			t.Errorf("%s is %q", name, text)
		}
	}
}

func TestUnknownTemplate(t *testing.T) {
	t.Parallel()
	if text, err := install.Render("none", nil); err == nil || !strings.HasPrefix(err.Error(), `reading the template "none": `) {
		t.Errorf("got %q, %v", text, err)
	}
	if text, err := install.Render(install.Unit, struct{}{}); err == nil || !strings.HasPrefix(err.Error(), `filling in the template "bluegreen-recover.service": `) {
		t.Errorf("got %q, %v", text, err)
	}
}
