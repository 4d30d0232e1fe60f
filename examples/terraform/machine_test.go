//go:build e2e

package terraform_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// TestMachine boots a machine with what Terraform would give a droplet, and
// then does what Terraform would do over ssh. cloud-init, apt-get, dpkg and the
// package's programs are real; the network, the services and the cloud are not
// there.
func TestMachine(t *testing.T) {
	for program, pack := range map[string]string{"cloud-init": "cloud-init", "curl": "curl", "dpkg-deb": "dpkg",
		"unshare": "util-linux", "apache2": "apache2", "sudo": "sudo", "ssh-keygen": "openssh-client"} {
		if _, err := exec.LookPath(program); err != nil {
			if _, err := os.Stat("/usr/sbin/" + program); err != nil {
				t.Fatalf("%s is not here: apt-get install --no-install-recommends %s", program, pack)
			}
		}
	}
	file := pack(t)
	site := httptest.NewTLSServer(http.FileServer(http.Dir(filepath.Dir(file))))
	t.Cleanup(site.Close)

	c, values := read(t), given(t)
	values["package_url"] = cty.StringVal(site.URL + "/" + filepath.Base(file))
	values["package_sha256"] = cty.StringVal(sum(t, file))
	if err := c.set(values); err != nil {
		t.Fatal(err)
	}
	p := c.plan()

	m := machine{t, t.TempDir()}
	m.write("root/authorities.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw})))
	m.write("root/user-data", *p.droplets["blue"].UserData)
	m.write("root/story", prepare+provisioning(m, p.promotion["blue"])+examine)
	m.boot()
}

// prepare makes the machine a fresh one, and boots it: as systemd would, and
// with those of cloud-init's modules that the user-data speaks to.
const prepare = `
export CURL_CA_BUNDLE=/root/authorities.pem
set -x
rm -rf /var/lib/cloud /etc/apt/sources.list.d/*
: >/etc/apt/sources.list
find /etc/cloud/cloud.cfg.d -type f ! -name 05_logging.cfg -delete
mkdir -p /var/lib/cloud/seed/nocloud
mv /root/user-data /var/lib/cloud/seed/nocloud/
echo 'instance-id: droplet' >/var/lib/cloud/seed/nocloud/meta-data
cat >/etc/cloud/cloud.cfg <<END
datasource_list: [NoCloud]
network: {config: disabled}
cloud_init_modules: [write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [package-update-upgrade-install, scripts-user]
system_info: {distro: debian}
END
echo 127.0.0.1 localhost droplet api.digitalocean.com >/etc/hosts # which nobody asks here
cloud-init init --local
cloud-init init
cloud-init modules --mode=config
cloud-init modules --mode=final
cloud-init status --long
`

// examine ends with status 0 if the server is as Terraform's user expects it.
const examine = `
[ ! -e /run/bluegreen-setup ]
dpkg-query --show --showformat='${Status}\n' bluegreen
[ "$(grep -c ^restrict,command= /home/deploy/.ssh/authorized_keys)" = 2 ]
cat /home/deploy/sample_app/bluegreen.toml
grep -q '^environment = "blue"$' /home/deploy/sample_app/bluegreen.toml
grep -q '^ip = "203.0.113.10"$' /home/deploy/sample_app/bluegreen.toml
[ "$(stat -c '%U %a' /etc/bluegreen/token)" = 'root 600' ]
[ "$(cat /etc/bluegreen/token)" = dop_v1_move ]
[ -x /home/deploy/sample_app/hooks/proc-receive ]
bluegreen version
`

// provisioning is what Terraform does with the provisioners.
func provisioning(m machine, d terraformData) string {
	script := ""
	for i, p := range d.Provisioners {
		name := fmt.Sprintf("root/provisioner-%d", i)
		if p.Kind == "file" {
			m.write(name, *p.Content)
			script += fmt.Sprintf("cp /%s %s\n", name, *p.Destination)
		} else {
			m.write(name, strings.Join(p.Inline, "\n"))
			script += fmt.Sprintf("sh /%s\n", name)
		}
	}
	return script
}

// pack returns the package that PACKAGE names, one that "make dist" has built.
// Without it one is built that has the programs in the same places.
func pack(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("PACKAGE"); file != "" {
		return file
	}
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	for _, sub := range []string{"DEBIAN", "usr/bin", "usr/lib/bluegreen"} {
		if err := os.MkdirAll(filepath.Join(tree, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	control := "Package: bluegreen\nVersion: 0.0.1\nArchitecture: all\nDepends: git\nMaintainer: nobody <nobody@example.com>\nDescription: a test\n"
	if err := os.WriteFile(filepath.Join(tree, "DEBIAN/control"), []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bluegreen.deb")
	for _, argv := range [][]string{
		{"go", "build", "-ldflags=-s -w", "-o", filepath.Join(tree, "usr/lib/bluegreen") + "/", "bluegreen/hooks/..."},
		{"go", "build", "-ldflags=-s -w", "-o", filepath.Join(tree, "usr/bin") + "/", "bluegreen/install/bluegreen"},
		{"dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, file},
	} {
		c := exec.Command(argv[0], argv[1:]...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", argv, err, out)
		}
	}
	return file
}

func sum(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// A machine is a directory with what is to be on its disk.
type machine struct {
	testing.TB
	dir string
}

func (m machine) write(name, text string) {
	m.Helper()
	path := filepath.Join(m.dir, "disk", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
}

// boot runs the machine to the end of its story, which must be a good one.
func (m machine) boot() {
	m.Helper()
	if err := os.Mkdir(filepath.Join(m.dir, "machine"), 0o755); err != nil {
		m.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "sh", "testdata/boot", m.dir)
	c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	out, err := c.CombinedOutput()
	m.Logf("%s", out)
	if err != nil {
		m.Error(err)
	}
}
