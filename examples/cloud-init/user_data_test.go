// Package cloudinit_test tries the user-data: what is filled in arrives, and the
// script in it installs nothing but the package that is meant.
package cloudinit_test

import (
	"encoding/base64"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/oasdiff/yaml3"
)

// userData is what the file may have.
type userData struct {
	PackageUpdate bool       `yaml:"package_update"`
	Packages      []string   `yaml:"packages"`
	WriteFiles    []file     `yaml:"write_files"`
	RunCmd        [][]string `yaml:"runcmd"`
}

type file struct{ Path, Permissions, Encoding, Content string }

const keys = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ann\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5BBBB bob\n"

// values are what an operator fills in.
func values() map[string]string {
	return map[string]string{
		"environment":    "blue",
		"package_url":    "https://downloads.example.com/bluegreen_0.1.0_amd64.deb?a=1&b=2",
		"package_sha256": strings.Repeat("0a", 32),
		"keys":           base64.StdEncoding.EncodeToString([]byte(keys)),
	}
}

func shipped(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("user-data.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// filled is the file as an operator would fill it in.
func filled(t *testing.T) string {
	t.Helper()
	var pairs []string
	for name, value := range values() {
		pairs = append(pairs, "${"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(shipped(t))
}

func parse(t *testing.T, text string) (u userData) {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&u); err != nil {
		t.Fatal(err)
	}
	return u
}

// find returns one of the files that are written.
func (u *userData) find(t *testing.T, path string) file {
	t.Helper()
	i := slices.IndexFunc(u.WriteFiles, func(f file) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("%s is not written", path)
	}
	return u.WriteFiles[i]
}

// TestBlanks: each value is asked for once, in quotes, and the shell's own
// variables are none for Terraform or envsubst, which fill in.
func TestBlanks(t *testing.T) {
	t.Parallel()
	text := shipped(t)
	if !strings.HasPrefix(text, "#cloud-config\n") {
		t.Error("cloud-init knows the file by its first line, #cloud-config")
	}
	for name := range values() {
		if n := strings.Count(text, `"${`+name+`}"`); n != 1 {
			t.Errorf("%s is to be filled in %d times, in quotes", name, n)
		}
	}
	if blanks := regexp.MustCompile(`[$%]\{`).FindAllString(text, -1); len(blanks) != len(values()) {
		t.Errorf("there are %d blanks, and %d values", len(blanks), len(values()))
	}
}

// TestFilled: the keys arrive as they are, and one command gets the values.
func TestFilled(t *testing.T) {
	t.Parallel()
	u := parse(t, filled(t))
	if f := u.find(t, "/root/pushers.pub"); f.Encoding != "b64" {
		t.Errorf("the keys' encoding is %q", f.Encoding)
	} else if text, err := base64.StdEncoding.DecodeString(f.Content); err != nil || string(text) != keys {
		t.Errorf("the keys are %q, %v", text, err)
	}
	v := values()
	want := []string{setup, v["package_url"], v["package_sha256"], "--environment", "blue", "--key", "/root/pushers.pub"}
	if len(u.RunCmd) != 1 || !slices.Equal(u.RunCmd[0], want) {
		t.Errorf("runcmd is %q, want %q alone", u.RunCmd, want)
	}
	if f := u.find(t, setup); f.Permissions != "0755" || f.Encoding != "" {
		t.Errorf("%s has permissions %q, encoding %q", setup, f.Permissions, f.Encoding)
	}
	if !u.PackageUpdate || !slices.Contains(u.Packages, "curl") {
		t.Errorf("the script calls curl, and apt-get with the package's dependencies: %t, %q", u.PackageUpdate, u.Packages)
	}
}
