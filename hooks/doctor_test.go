package hooks_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// An examination is what "bluegreen doctor --json" prints.
type examination struct {
	Repository, Environment string
	Findings                []struct {
		Check, Level, Text, Fix string
		Fixable                 bool
	}
	Mended []struct {
		Fix, Error string
	}
	Summary struct {
		OK, Warnings, Broken int
	}
}

// doctor runs the doctor. Of its findings those about the machine that the
// tests run on are left out: where it starts, whose its keys are, who runs the
// tests.
func (s *server) doctor(t *testing.T, args ...string) (status int, e examination) {
	t.Helper()
	var out strings.Builder
	cmd := s.command(s.dir, "bluegreen", append([]string{"doctor", "--repo", s.git, "--json"}, args...)...)
	cmd.Stdout = &out
	status = s.exitStatus(cmd.Run())
	if err := json.Unmarshal([]byte(out.String()), &e); err != nil {
		t.Fatalf("status %d: %v\n%s", status, err, out.String())
	}
	if strings.Contains(out.String(), canary) {
		t.Errorf("the token is shown:\n%s", out.String())
	}
	return status, e
}

// amiss are the checks that have found something, in order.
func (e examination) amiss() (found []string) {
	for _, f := range e.Findings {
		machine := f.Check == "boot" || f.Check == "keys" || f.Check == "space" || strings.Contains(f.Text, " may replace the hooks") ||
			strings.Contains(f.Text, " may overwrite ") || strings.Contains(f.Text, " may change ") || strings.Contains(f.Text, "pushes are received by root") || strings.Contains(f.Text, "can read the API's token")
		if f.Level != "ok" && !machine {
			found = append(found, f.Check+": "+f.Level+": "+f.Text)
		}
	}
	return found
}

// TestDoctor examines a cloud that is in order, one whose settings, token and
// journal are not, and mends them.
func TestDoctor(t *testing.T) {
	t.Parallel()
	c := newCloud(t, played, "", allHooks...)
	for _, setting := range [][]string{{"receive.fsckObjects", "true"}, {"receive.maxInputSize", "2g"}, {"core.fsync", "all"}} {
		c.blue.run(c.blue.git, "git", append([]string{"--git-dir", c.blue.git, "config"}, setting...)...)
	}
	c.blue.run(c.blue.dir, "chmod", "-R", "go-w", c.blue.git, c.blue.www)
	posts := c.posts()
	status, e := c.blue.doctor(t)
	if found := e.amiss(); len(found) > 0 || e.Summary.Broken > 0 || status != 0 || e.Environment != "blue" || e.Summary.OK < 10 {
		t.Fatalf("status %d, %q, %+v", status, found, e.Summary)
	}

	c.blue.run(c.blue.git, "git", "--git-dir", c.blue.git, "config", "--unset-all", "receive.procReceiveRefs")
	must(t, os.Chmod(c.token, 0o644))
	if status, e = c.blue.doctor(t); status != 1 || len(e.Mended) > 0 {
		t.Errorf("status %d, mended %v", status, e.Mended)
	}
	found := strings.Join(e.amiss(), "\n")
	for _, want := range []string{"does not name refs/heads/master", "does not name refs/tags", "may be read by others (mode 0644)"} {
		if !strings.Contains(found, want) {
			t.Errorf("%q was not found, but\n%s", want, found)
		}
	}
	if status, e = c.blue.doctor(t, "--fix"); status != 0 || len(e.Mended) != 3 || len(e.amiss()) > 0 {
		t.Errorf("status %d, mended %v, then %q", status, e.Mended, e.amiss())
	}
	if status, e = c.blue.doctor(t, "--fix"); status != 0 || len(e.Mended) != 0 {
		t.Errorf("again: status %d, mended %v", status, e.Mended)
	}
	if c.posts() != posts {
		t.Error("the doctor has asked for something of the API")
	}
	c.blue.commit(map[string]string{"index.html": "v2\n"})
	if status, out := c.push(nil, "blue", "master"); status != 0 || !strings.HasPrefix(lastLine(out), "success: ") {
		t.Errorf("a push after it: status %d\n%s", status, out)
	}
}

// TestDoctorSays reads what people read.
func TestDoctorSays(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	s.run(s.git, "git", "--git-dir", s.git, "symbolic-ref", "HEAD", "refs/heads/\u202eniam")
	status, out := s.status(nil, s.dir, "bluegreen", "doctor", "--repo", s.git)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if wrong := rawControls(out); wrong != "" || status != 0 {
		t.Errorf("status %d, printed %s:\n%s", status, wrong, out)
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, s.git+": 0 broken, ") {
		t.Errorf("the last line is %q", last)
	}
	for i, line := range lines[:len(lines)-1] {
		mend := strings.HasPrefix(line, "  mend: ")
		wrong := strings.HasPrefix(line, "warning: ") || strings.HasPrefix(line, "broken: ")
		if !mend && !wrong && !strings.HasPrefix(line, "ok: ") || wrong != strings.HasPrefix(lines[i+1], "  mend: ") {
			t.Errorf("line %d is %q", i, line)
		}
	}
	if !strings.Contains(out, `warning: HEAD points at refs/heads/\u202eniam, and refs/heads/master is deployed`) {
		t.Errorf("HEAD is not mentioned:\n%s", out)
	}

	s.configure("brnach = \"x\"\n")
	status, out = s.status(nil, s.dir, "bluegreen", "doctor", "--repo", s.git)
	if want := "broken: " + s.git + "/bluegreen.toml:4: deploy.brnach: unknown key; did you mean \"branch\"?"; status != 2 || !strings.Contains(out, want) {
		t.Errorf("status %d, without %q:\n%s", status, want, out)
	}
	for _, args := range [][]string{{"doctor", "--repo", s.dev}, {"doctor", "--repo", s.git, "--fixx"}} {
		if status, out := s.status(nil, s.dir, "bluegreen", args...); status != 2 || !strings.Contains(out, "error: ") {
			t.Errorf("%q: status %d\n%s", args, status, out)
		}
	}
}
