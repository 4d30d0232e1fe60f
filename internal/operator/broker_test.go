package operator

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/simulator"
)

const canary = "dop_v1_canary0123456789abcdef"

// TestBrokerFile reads a broker's file, and refuses what is none.
func TestBrokerFile(t *testing.T) {
	t.Parallel()
	const good = "environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { blue = 1 }\n"
	for text, want := range map[string]string{
		good + "token_file = \"/etc/t\"\n": "",
		good:                               "where the token is",
		good + "token_file = \"/etc/t\"\nbroker = [\"x\"]\n":                                                  "by DigitalOcean itself",
		"environment = \"blue\"\n":                                                                            "by DigitalOcean itself",
		strings.TrimPrefix(good, "environment = \"blue\"\n"):                                                  "environment",
		"environment = \"blue\"\n[promotion]\nprovider = \"command\"\nowner = [\"a\"]\nassign = [\"{to}\"]\n": "by DigitalOcean itself",
		good + "tokenfile = 1\n":                                                                              "unknown key",
	} {
		file := filepath.Join(t.TempDir(), "app.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parseBroker(file); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := brokerSettings(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "the broker's file: ") {
		t.Errorf("no file: %v", err)
	}
}

// A jail is a system with nothing but a broker in it.
type jail struct {
	*testing.T
	*simulator.Cloud
	root string
}

const brokerFile = "/etc/bluegreen/brokers/app.toml"

func newJail(t *testing.T) *jail {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root has a root of its own")
	}
	c := &jail{T: t, root: t.TempDir(), Cloud: simulator.New(simulator.Options{Token: canary})}
	c.AddDroplet(11, "blue", "fra1")
	c.AddDroplet(12, "green", "fra1")
	c.AddIP("203.0.113.10", "fra1", 12)
	url, stop, err := c.Start()
	c.must(err)
	t.Cleanup(stop)
	c.must(os.Chmod(c.root, 0o755))
	c.must(os.MkdirAll(filepath.Join(c.root, filepath.Dir(brokerFile)), 0o755))
	c.must(os.MkdirAll(filepath.Join(c.root, "proc/self/fd"), 0o755)) // nothing is inherited here
	build := exec.Command("go", "build", "-o", filepath.Join(c.root, "bluegreen"), "bluegreen/install/bluegreen")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // there are no libraries in there
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
	c.write("/etc/bluegreen/token", canary+"\n", 0o600)
	c.write(brokerFile, fmt.Sprintf("environment = \"blue\"\n[promotion]\nip = \"203.0.113.10\"\ndroplets = { blue = 11, green = 12 }\n"+
		"token_file = \"/etc/bluegreen/token\"\napi_url = %q\n", url), 0o644)
	return c
}

func (c *jail) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *jail) write(path, text string, mode os.FileMode) {
	c.Helper()
	c.must(os.WriteFile(filepath.Join(c.root, path), []byte(text), mode))
	c.must(os.Chmod(filepath.Join(c.root, path), mode))
}

// ask asks as sudo does, with variables that are to be of no use.
func (c *jail) ask(args ...string) (answer map[string]any, status int, out string) {
	c.Helper()
	cmd := exec.Command("chroot", append([]string{c.root, "/bluegreen"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"HTTP_PROXY=http://127.0.0.1:1", "HTTPS_PROXY=http://127.0.0.1:1", "DIGITALOCEAN_TOKEN=another"}
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		c.Fatal(err)
	}
	if strings.Contains(string(text), canary) {
		c.Errorf("%q tells the token: %s", args, text)
	}
	json.Unmarshal(text, &answer)
	return answer, cmd.ProcessState.ExitCode(), string(text)
}

// TestBroker asks the real broker all there is.
func TestBroker(t *testing.T) {
	t.Parallel()
	c := newJail(t)
	asked := func(question ...string) map[string]any {
		c.Helper()
		a, status, out := c.ask(append([]string{"broker", "--config", brokerFile}, question...)...)
		if status != 0 || a["question"] != strings.Join(question, " ") || a["error"] != nil {
			c.Errorf("%q: status %d, %s", question, status, out)
		}
		return a
	}
	if s, _ := asked("state")["state"].(map[string]any); s["Owner"] != "green" {
		t.Errorf("the state is %v", s)
	}
	if a := asked("fit", "blue"); a["fits"] != true {
		t.Errorf("blue: %v", a)
	}
	asked("address", "green")
	if a := asked("assign", "blue"); a["action"] == nil || c.Owner("203.0.113.10") != 11 {
		t.Errorf("assigned: %v; %d has it", a, c.Owner("203.0.113.10"))
	}
	if a := asked("assign", "red"); a["rejected"] != `"red" is none of the broker's environments` {
		t.Errorf("red: %v", a)
	}
	c.Script(simulator.Fault{Status: 401, Times: -1})
	if a := asked("assign", "green"); !strings.Contains(fmt.Sprint(a["rejected"]), "401") {
		t.Errorf("a wrong token: %v", a)
	}
	for _, args := range [][]string{{"broker", "state"}, {"broker", "--config", brokerFile}, {"broker", "--config", brokerFile, "state", "blue", "x"},
		{"broker", "--config", brokerFile, "unassign", "blue"}, {"broker", "--config", brokerFile, "--api-url", "x", "state"}} {
		if _, status, out := c.ask(args...); status != 2 || strings.HasPrefix(out, "{") {
			t.Errorf("%q: status %d, %s", args, status, out)
		}
	}
	if _, status, out := c.ask("help"); status != 0 || strings.Contains(out, "broker") {
		t.Errorf("help: status %d, %s", status, out)
	}
}

// TestBrokerRefuses reads nothing that others than root may change, and does
// nothing then.
func TestBrokerRefuses(t *testing.T) {
	t.Parallel()
	c := newJail(t)
	at := func(path string) string { return filepath.Join(c.root, path) }
	for _, test := range []struct {
		want       string
		harm, mend func()
	}{
		{`the broker's file: others than root may change "/etc/bluegreen/brokers/app.toml"`,
			func() { c.must(os.Chmod(at(brokerFile), 0o664)) }, func() { c.must(os.Chmod(at(brokerFile), 0o644)) }},
		{`the broker's file: others than root may change "/etc/bluegreen/brokers"`,
			func() { c.must(os.Chmod(at("/etc/bluegreen/brokers"), 0o777)) }, func() { c.must(os.Chmod(at("/etc/bluegreen/brokers"), 0o755)) }},
		{`the broker's file: others than root may change "/etc"`,
			func() { c.must(os.Chown(at("/etc"), 54321, 0)) }, func() { c.must(os.Chown(at("/etc"), 0, 0)) }},
		{`the token's file: others than root may change "/etc/bluegreen/token"`,
			func() { c.must(os.Chown(at("/etc/bluegreen/token"), 54321, 0)) }, func() { c.must(os.Chown(at("/etc/bluegreen/token"), 0, 0)) }},
		{`may be read by others (mode 0644)`,
			func() { c.must(os.Chmod(at("/etc/bluegreen/token"), 0o644)) }, func() { c.must(os.Chmod(at("/etc/bluegreen/token"), 0o600)) }},
	} {
		test.harm()
		a, status, out := c.ask("broker", "--config", brokerFile, "assign", "blue")
		if status != 0 || !strings.Contains(fmt.Sprint(a["rejected"]), test.want) || c.Owner("203.0.113.10") != 12 {
			t.Errorf("status %d, %s, want %q", status, out, test.want)
		}
		test.mend()
	}
	if a, _, out := c.ask("broker", "--config", brokerFile, "assign", "blue"); a["action"] == nil {
		t.Errorf("mended: %s", out)
	}
}
