package hooks_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/simulator"
)

const (
	reservedIP   = "203.0.113.10"
	blueDroplet  = 3164494
	greenDroplet = 3164495
	// canary is the token of the tests. It must appear nowhere.
	canary = "dop_v1_canary0123456789abcdef"
)

// A cloud is two environments, blue and green, that share a reserved IP which
// is with green, and a developer who pushes to both. Each web root is served on
// its own address, and the reserved IP leads to the one that has it.
type cloud struct {
	testing.TB
	*simulator.Cloud
	blue, green *server
	api         string
	outside     *simulator.Forwarder
	token       string         // its file
	first       string         // the commit that both hold
	sites       map[int]string // the address of each droplet's web server
}

// newCloud makes a cloud. Lines of config go below [promotion], and may begin
// other tables. bin is newServer's.
func newCloud(t testing.TB, bin, config string, hooks ...string) *cloud {
	t.Helper()
	c := &cloud{TB: t, Cloud: simulator.New(simulator.Options{Token: canary, Limit: 1 << 20})}
	c.AddDroplet(blueDroplet, "blue", "fra1")
	c.AddDroplet(greenDroplet, "green", "fra1")
	c.AddIP(reservedIP, "fra1", greenDroplet)
	url, stop, err := c.Start()
	must(t, err)
	t.Cleanup(stop)
	c.api = url
	c.blue, c.green = newServer(t, bin, "", hooks...), newServer(t, bin, "", hooks...)
	c.green.name = "green"
	c.sites = map[int]string{}
	for droplet, s := range map[int]*server{blueDroplet: c.blue, greenDroplet: c.green} {
		site := httptest.NewServer(http.FileServer(http.Dir(s.www)))
		t.Cleanup(site.Close)
		c.sites[droplet] = site.Listener.Addr().String()
	}
	c.outside, err = c.Forward(reservedIP, c.sites)
	must(t, err)
	t.Cleanup(c.outside.Close)
	c.token = filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(c.token, []byte(canary+"\n"), 0o600))
	c.blue.configure(c.config(blueDroplet, config))
	c.green.configure(c.config(greenDroplet, config))
	must(t, os.RemoveAll(c.green.dev))
	c.green.dev = c.blue.dev
	must(t, appendTo(filepath.Join(c.blue.dev, ".git/config"), remote("blue", c.blue.git)+remote("green", c.green.git)))
	c.first = c.blue.commit(map[string]string{"index.html": "v1\n"})
	for _, remote := range []string{"blue", "green"} {
		if status, out := c.push(nil, remote, "-o", "live", "master"); status != 0 {
			t.Fatalf("the first push to %s: status %d\n%s", remote, status, out)
		}
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// config is what both environments share, and the metadata of each.
func (c *cloud) config(droplet int, more string) string {
	c.Helper()
	url, stop, err := simulator.Serve(c.Metadata(droplet))
	must(c, err)
	c.Cleanup(stop)
	return fmt.Sprintf(`marker = ".well-known/release.json"
[[health]]
url = "http://%s/"
body_file = "index.html"
interval = "100ms"
within = "5s"
[[health]]
name = "production"
at = "promoted"
url = "http://%s/.well-known/release.json"
body = '"commit":"{commit}"'
interval = "100ms"
within = "1500ms"
[promotion]
ip = %q
droplets = { blue = %d, green = %d }
token_file = %q
api_url = %q
metadata_url = %q
timeout = "20s"
%s
`, c.sites[droplet], c.outside.Addr(), reservedIP, blueDroplet, greenDroplet, c.token, c.api, url, more)
}

// push runs git push to a remote. Whatever happens, the token is not shown.
func (c *cloud) push(env []string, remote string, args ...string) (int, string) {
	c.Helper()
	status, out := c.blue.status(env, c.blue.dev, "git", append([]string{"push", remote}, args...)...)
	c.secret(out)
	return status, out
}

// secret checks that the token is neither in a text nor in any file of the
// environments.
func (c *cloud) secret(text string) {
	c.Helper()
	if wrong := rawControls(text); wrong != "" {
		c.Errorf("printed %s", wrong)
	}
	if strings.Contains(text, canary) {
		c.Errorf("the token is shown:\n%s", text)
	}
	for _, s := range []*server{c.blue, c.green} {
		files, err := filepath.Glob(filepath.Join(s.git, "bluegreen", "*"))
		must(c, err)
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), canary) {
				c.Errorf("the token is in %s", file)
			}
		}
	}
}

// owner is the environment that the API says has the IP.
func (c *cloud) owner() string {
	switch c.Owner(reservedIP) {
	case blueDroplet:
		return "blue"
	case greenDroplet:
		return "green"
	case 0:
		return "nobody"
	}
	return "another"
}

// posts counts the requests for a move.
func (c *cloud) posts() (n int) {
	for _, call := range c.Calls() {
		if call.Method == http.MethodPost {
			n++
		}
	}
	return n
}

// lastLine is the last line of the hooks.
func lastLine(out string) string {
	lines := remoteLines(out)
	if len(lines) == 0 {
		return ""
	}
	return lines[len(lines)-1]
}
