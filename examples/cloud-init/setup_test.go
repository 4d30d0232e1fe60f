package cloudinit_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// setup is the script that the user-data brings along.
const setup = "/usr/local/sbin/bluegreen-setup"

const pack = "the package's bytes\n"

// program notes with how many arguments it was called, and with which, and fails where the test wants it.
const program = "#!/bin/sh -eu\ncd '%[2]s'; echo %[1]s $# \"$@\" >>called; [ ! -e %[1]s-fails ]\n"

// A droplet is a directory with the script, and with programs in the place of
// those that would change a machine. curl and sha256sum are real, and so are
// the server and its certificate.
type droplet struct {
	*testing.T
	dir  string
	site *httptest.Server
	open *httptest.Server // without TLS
}

func newDroplet(t *testing.T) *droplet {
	t.Helper()
	for _, program := range []string{"curl", "sha256sum"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the script needs it: %v", err)
		}
	}
	d := &droplet{T: t, dir: t.TempDir()}
	quiet := log.New(io.Discard, "", 0) // of clients that break a connection off
	d.open = httptest.NewServer(http.HandlerFunc(serve))
	t.Cleanup(d.open.Close)
	d.site = httptest.NewUnstartedServer(http.HandlerFunc(d.redirect))
	d.site.Config.ErrorLog = quiet
	d.site.StartTLS()
	t.Cleanup(d.site.Close)

	u := parse(t, filled(t))
	d.write("bluegreen-setup", strings.ReplaceAll(u.find(t, setup).Content, "/usr/bin/bluegreen", d.path("bin/bluegreen")))
	d.write("authorities.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.site.Certificate().Raw})))
	// apt-get's last argument is the package.
	d.write("bin/apt-get", fmt.Sprintf(program, "apt-get", d.dir)+`for last; do :; done; cp "$last" '`+d.path("installed")+"'\n")
	d.write("bin/bluegreen", fmt.Sprintf(program, "bluegreen", d.dir))
	if err := os.Mkdir(d.path("tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

func serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/bluegreen.deb" {
		http.NotFound(w, r)
		return
	}
	io.WriteString(w, pack)
}

// redirect serves the package, leads to it, and leads to it without TLS.
func (d *droplet) redirect(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/moved":
		http.Redirect(w, r, "/bluegreen.deb", http.StatusFound)
	case "/open":
		http.Redirect(w, r, d.open.URL+"/bluegreen.deb", http.StatusFound)
	default:
		serve(w, r)
	}
}

func (d *droplet) path(name string) string { return filepath.Join(d.dir, name) }

func (d *droplet) write(name, text string) {
	d.Helper()
	if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o755); err != nil {
		d.Fatal(err)
	}
	if err := os.WriteFile(d.path(name), []byte(text), 0o755); err != nil {
		d.Fatal(err)
	}
}

// run runs the script, and returns its exit status, what it has printed, and
// the calls that it has made, one a line.
func (d *droplet) run(args ...string) (status int, out, called string) {
	d.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", append([]string{d.path("bluegreen-setup")}, args...)...)
	c.Env = []string{"PATH=" + d.path("bin") + ":" + os.Getenv("PATH"), "TMPDIR=" + d.path("tmp"),
		"CURL_CA_BUNDLE=" + d.path("authorities.pem")}
	text, err := c.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		d.Fatal(err)
	}
	if left, err := os.ReadDir(d.path("tmp")); err != nil || len(left) > 0 {
		d.Errorf("it leaves %v, %v", left, err)
	}
	return c.ProcessState.ExitCode(), string(text), d.read("called")
}

// read returns the text of a file, "" where there is none.
func (d *droplet) read(name string) string {
	d.Helper()
	text, err := os.ReadFile(d.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.Fatal(err)
	}
	return string(text)
}

// sum is the checksum of the package.
func sum() string {
	sum := sha256.Sum256([]byte(pack))
	return hex.EncodeToString(sum[:])
}

// TestSetup: the package that is meant is installed, and then bluegreen called,
// with its options as they were given.
func TestSetup(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/bluegreen.deb", "/moved"} {
		d := newDroplet(t)
		status, out, called := d.run(d.site.URL+path, sum(), "--environment", "blue", "--key", "a b")
		if status != 0 || out != "" || d.read("installed") != pack {
			t.Errorf("%s: status %d, %q, installed is %q", path, status, out, d.read("installed"))
		}
		apt, rest, _ := strings.Cut(called, "\n")
		if !strings.HasPrefix(apt, "apt-get ") || !strings.Contains(apt, " install ") || rest != "bluegreen 5 install --environment blue --key a b\n" {
			t.Errorf("%s: it has called\n%s", path, called)
		}
	}
}

// TestNotThePackage: where anything is in doubt, nothing is installed.
func TestNotThePackage(t *testing.T) {
	t.Parallel()
	d := newDroplet(t)
	good, another := d.site.URL+"/bluegreen.deb", strings.Repeat("0", 64)
	for name, c := range map[string]struct{ url, sum, says string }{
		"another checksum": {good, another, "bluegreen-setup: this is not the package that is meant: " + good},
		"no checksum":      {good, "", "not the package"},
		"not filled in":    {good, "${package_sha256}", "not the package"},
		"half a checksum":  {good, sum()[:32], "not the package"},
		"nothing there":    {d.site.URL + "/other.deb", sum(), "404"},
		"without TLS":      {d.open.URL + "/bluegreen.deb", sum(), "rotocol"},
		"leads out of TLS": {d.site.URL + "/open", sum(), "rotocol"},
		"another's name":   {strings.Replace(good, "127.0.0.1", "localhost", 1), sum(), "localhost"},
		"a file":           {"file://" + d.path("authorities.pem"), sum(), "rotocol"},
	} {
		status, out, called := d.run(c.url, c.sum, "--environment", "blue")
		if status == 0 || called != "" || !strings.Contains(out, c.says) {
			t.Errorf("%s: status %d, %q, it has called %q", name, status, out, called)
		}
	}
	for _, args := range [][]string{nil, {good}} {
		if status, out, called := d.run(args...); status == 0 || called != "" {
			t.Errorf("with %q: status %d, %q, it has called %q", args, status, out, called)
		}
	}
}

// TestFails: what fails ends the script, and its status tells cloud-init so.
func TestFails(t *testing.T) {
	t.Parallel()
	for i, program := range []string{"apt-get", "bluegreen"} {
		d := newDroplet(t)
		d.write(program+"-fails", "")
		status, out, called := d.run(d.site.URL+"/bluegreen.deb", sum())
		if status == 0 || strings.Count(called, "\n") != i+1 {
			t.Errorf("%s fails: status %d, %q, it has called %q", program, status, out, called)
		}
	}
}
