//go:build e2e

package cloudinit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSchema: cloud-init takes the file, as it is and filled in.
func TestSchema(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"shipped": shipped(t), "filled in": filled(t)} {
		if ok, out := takes(t, text); !ok {
			t.Errorf("%s: %s", name, out)
		}
	}
	if ok, out := takes(t, strings.Replace(shipped(t), "package_update: true", "package_update: 7", 1)); ok {
		t.Errorf("cloud-init takes anything: %s", out)
	}
}

func takes(t *testing.T, text string) (ok bool, out string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "user-data.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("cloud-init"); err != nil {
		t.Fatalf("%v: apt-get install --no-install-recommends cloud-init", err)
	}
	output, err := exec.Command("cloud-init", "schema", "--config-file", path).CombinedOutput()
	return err == nil, string(output)
}

// TestReadme: the lines of the README fill the file in.
func TestReadme(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("envsubst"); err != nil {
		t.Fatalf("%v: apt-get install gettext-base", err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ := strings.Cut(string(readme), "```console\n")
	session, _, found := strings.Cut(session, "$ doctl ")
	if !found {
		t.Fatal("the README makes no droplet")
	}
	dir, v := t.TempDir(), values()
	ann, bob, _ := strings.Cut(keys, "\n")
	for name, text := range map[string]string{
		"user-data.yaml": shipped(t), "ann.pub": ann + "\n", "bob.pub": bob,
		"SHA256SUMS": strings.Repeat("ff", 32) + "  bluegreen_0.1.0_arm64.deb\n" + v["package_sha256"] + "  bluegreen_0.1.0_amd64.deb\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("sh", "-euc", strings.ReplaceAll("\n"+session, "\n$ ", "\n"))
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "blue.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(filled(t), "?a=1&b=2", "", 1); string(text) != want {
		t.Errorf("it makes\n%s\nwant\n%s", text, want)
	}
}
