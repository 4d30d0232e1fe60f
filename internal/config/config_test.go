package config

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBad holds every kind of mistake against the message for it, which is the
// first line of the file.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) < 60 {
		t.Fatalf("found %d bad configurations, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want := strings.TrimPrefix(first, "# ")
			for range 3 { // not by the luck of a map's order
				_, err = Parse("bluegreen.toml", data, "host")
				if err == nil || err.Error() != want {
					t.Fatalf("got  %v\nwant %s", err, want)
				}
			}
		})
	}
}

// contract has every key; it is what README and users write.
const contract = `
environment = "blue"

[deploy]
branch       = "master"
directory    = "/var/www/html"
releases     = ""
keep         = 3
shared       = []
verify       = true
marker       = ""
subdirectory = ""
protect_live = true
lock_wait    = "30s"
symlinks     = "inside"
max_files    = 1000000
max_bytes    = 20_000_000_000

[[health]]
name      = "home page"
at        = "deployed"
url       = "http://127.0.0.1/"
host      = "www.example.com"
headers   = { Accept = "text/html" }
status    = [200]
body      = "App"
body_regexp = ""
body_file = "index.html"
timeout   = "5s"
interval  = "1s"
within    = "30s"
successes = 1

[[command]]
at      = "deployed"
run     = ["sudo", "/bin/systemctl", "reload", "apache2"]
timeout = "1m"

[promotion]
tags         = ["release-*"]
provider     = "digitalocean"
ip           = "203.0.113.10"
droplets     = { blue = 3164494, green = 3164495 }
token_file   = "/etc/bluegreen/token"
broker       = ["sudo", "-n", "/usr/local/bin/bluegreen", "broker"]
signers      = ""
timeout      = "3m"
bake         = "0s"
api_url      = "https://api.digitalocean.com"
metadata_url = "http://169.254.169.254"

[peers]
green = "http://10.132.0.3/.well-known/release.json"

[database]
manifest = "schema.toml"
version  = ["/usr/local/bin/schema-version"]
migrate  = ["/usr/local/bin/schema-migrate", "{version}"]
tags     = ["schema-*"]
timeout  = "10m"
`

// defaultDeploy is [deploy] where the file does not say otherwise.
func defaultDeploy() Deploy {
	return Deploy{
		Branch:      "master",
		Directory:   "/var/www/html",
		Keep:        3,
		Verify:      true,
		ProtectLive: true,
		LockWait:    30 * time.Second,
		Symlinks:    "inside",
		MaxFiles:    1_000_000,
		MaxBytes:    20_000_000_000,
	}
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("bluegreen.toml", []byte(text), "blue")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func checkEqual(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestContract(t *testing.T) {
	c := mustParse(t, contract)
	checkEqual(t, c.Environment, "blue")
	checkEqual(t, c.Deploy, defaultDeploy())
	checkEqual(t, c.Health, []Health{{
		Name:      "home page",
		At:        "deployed",
		URL:       "http://127.0.0.1/",
		Host:      "www.example.com",
		Headers:   map[string]string{"Accept": "text/html"},
		Status:    []int{200},
		Body:      "App",
		BodyFile:  "index.html",
		Timeout:   5 * time.Second,
		Interval:  time.Second,
		Within:    30 * time.Second,
		Successes: 1,
	}})
	checkEqual(t, c.Commands, []Command{{
		At:      "deployed",
		Run:     []string{"sudo", "/bin/systemctl", "reload", "apache2"},
		Timeout: time.Minute,
	}})
	checkEqual(t, c.Promotion, &Promotion{
		Tags:        []string{"release-*"},
		Provider:    "digitalocean",
		IP:          "203.0.113.10",
		Droplets:    map[string]int{"blue": 3164494, "green": 3164495},
		TokenFile:   "/etc/bluegreen/token",
		Broker:      []string{"sudo", "-n", "/usr/local/bin/bluegreen", "broker"},
		Timeout:     3 * time.Minute,
		APIURL:      "https://api.digitalocean.com",
		MetadataURL: "http://169.254.169.254",
	})
	checkEqual(t, c.Peers, map[string]string{"green": "http://10.132.0.3/.well-known/release.json"})
	checkEqual(t, c.Database, &Database{
		Manifest: "schema.toml",
		Version:  []string{"/usr/local/bin/schema-version"},
		Migrate:  []string{"/usr/local/bin/schema-migrate", "{version}"},
		Tags:     []string{"schema-*"},
		Timeout:  10 * time.Minute,
	})
}

// different has values that no default has.
const different = `
environment = "green"
[deploy]
branch = "feature/x"
directory = "/srv/www"
releases = "/srv/releases"
keep = 5
shared = ["uploads", "var/cache"]
verify = false
marker = ".well-known/release.json"
subdirectory = "public"
protect_live = false
lock_wait = "0s"
symlinks = "none"
max_files = 7
max_bytes = 8
[[health]]
at = "promoted"
url = "https://[::1]:8443/x?y=z"
body_regexp = "^a+$"
timeout = "1s"
interval = "100ms"
within = "2s"
successes = 4
[promotion]
provider = "command"
tags = ["go-*", "v[0-9]*"]
signers = "/etc/signers"
timeout = "1m"
bake = "90s"
owner = ["owner"]
assign = ["assign", "--to={to}"]
`

// TestEveryKeyDiffers shows a key that is read into the wrong field.
func TestEveryKeyDiffers(t *testing.T) {
	c := mustParse(t, different)
	checkEqual(t, c.Environment, "green")
	checkEqual(t, c.Deploy, Deploy{
		Branch:       "feature/x",
		Directory:    "/srv/www",
		Releases:     "/srv/releases",
		Keep:         5,
		Shared:       []string{"uploads", "var/cache"},
		Marker:       ".well-known/release.json",
		Subdirectory: "public",
		Symlinks:     "none",
		MaxFiles:     7,
		MaxBytes:     8,
	})
	checkEqual(t, c.Health, []Health{{
		Name:       "https://[::1]:8443/x?y=z",
		At:         "promoted",
		URL:        "https://[::1]:8443/x?y=z",
		BodyRegexp: regexp.MustCompile("^a+$"),
		Timeout:    time.Second,
		Interval:   100 * time.Millisecond,
		Within:     2 * time.Second,
		Successes:  4,
	}})
	checkEqual(t, c.Promotion, &Promotion{
		Tags:        []string{"go-*", "v[0-9]*"},
		Provider:    "command",
		Signers:     "/etc/signers",
		Timeout:     time.Minute,
		Bake:        90 * time.Second,
		APIURL:      "https://api.digitalocean.com",
		MetadataURL: "http://169.254.169.254",
		Owner:       []string{"owner"},
		Assign:      []string{"assign", "--to={to}"},
	})
}

func TestTablesAsTheyCanBeWritten(t *testing.T) {
	c := mustParse(t, `
deploy.keep = 3
health = [{ tcp = "db:5432" }, { command = ["smoke", "--fast"], within = "2s" }]
command = [{ run = ["true"] }]
`)
	checkEqual(t, c.Health[0].Name, "db:5432")
	checkEqual(t, c.Health[1].Name, "smoke --fast")
	checkEqual(t, c.Health[1].Timeout, 5*time.Second) // a default gives way, the total is the limit
	checkEqual(t, c.Commands, []Command{{At: "deployed", Run: []string{"true"}, Timeout: time.Minute}})
}

func TestDefaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bluegreen.toml")
	c, err := Load(path, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	checkEqual(t, c, &Config{Path: path, Environment: "web-1", Deploy: defaultDeploy()})

	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err = Load(path, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	checkEqual(t, c, &Config{Path: path, Present: true, Environment: "web-1", Deploy: defaultDeploy()})
}

func TestDefaultTables(t *testing.T) {
	c := mustParse(t, `
[[health]]
url = "http://127.0.0.1/"
[promotion]
ip = "203.0.113.10"
droplets.blue = 1
[database]
manifest = "schema.toml"
version = ["v"]
migrate = ["m", "{version}"]
`)
	checkEqual(t, c.Health, []Health{{
		Name:      "http://127.0.0.1/",
		At:        "deployed",
		URL:       "http://127.0.0.1/",
		Timeout:   5 * time.Second,
		Interval:  time.Second,
		Within:    30 * time.Second,
		Successes: 1,
	}})
	checkEqual(t, c.Promotion, &Promotion{
		Tags:        []string{"release-*"},
		Provider:    "digitalocean",
		IP:          "203.0.113.10",
		Droplets:    map[string]int{"blue": 1},
		Timeout:     3 * time.Minute,
		APIURL:      "https://api.digitalocean.com",
		MetadataURL: "http://169.254.169.254",
	})
	checkEqual(t, c.Database.Tags, []string{"schema-*"})
	checkEqual(t, c.Database.Timeout, 10*time.Minute)
}

func TestEnvironmentOfTheHost(t *testing.T) {
	_, err := Parse("bluegreen.toml", nil, "")
	checkEqual(t, fmt.Sprint(err), "bluegreen.toml: environment: not set, and the host's name will not do: an environment's name is empty")
	c, err := Parse("bluegreen.toml", []byte(`environment = "blue"`), "")
	if err != nil || c.Environment != "blue" {
		t.Errorf("got %v, %v", c, err)
	}
	_, err = Parse("bluegreen.toml", []byte("[peers]\nweb = \"http://10.0.0.1/\"\n"), "web")
	checkEqual(t, fmt.Sprint(err), "bluegreen.toml:2: peers.web: is this environment; peers are the others")
}

// TestLoadRefuses covers what is at the path instead of a readable file.
func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	fifo, link, large, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "large"), filepath.Join(dir, "file")
	if err := errors.Join(
		syscall.Mkfifo(fifo, 0o600),
		os.Symlink("nowhere", link),
		os.WriteFile(large, []byte(strings.Repeat("#", maxSize+1)), 0o600),
		os.WriteFile(file, nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir:                       "cannot be read: not a regular file",
		fifo:                      "cannot be read: not a regular file",
		link:                      "cannot be read: a symlink to nothing",
		large:                     "is larger than 1048576 bytes",
		filepath.Join(file, "in"): "cannot be read: not a directory",
	} {
		_, err := Load(path, "blue")
		checkEqual(t, err, error(&Error{File: path, Msg: want}))
	}
}

func TestLoadUnreadable(t *testing.T) {
	// A file that nobody can read, root included: memory that is not mapped.
	_, err := Load("/proc/self/mem", "blue")
	checkEqual(t, err, error(&Error{File: "/proc/self/mem", Msg: "cannot be read: input/output error"}))
}

func TestLoadSymlink(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte(strings.Repeat("#", maxSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	c, err := Load(filepath.Join(dir, "link"), "blue")
	if err != nil || !c.Present {
		t.Errorf("got %v, %v", c, err)
	}
}

// TestText covers what cannot stand in a file of testdata/bad.
func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"\ufeff[deploy]\n\"keep\" = 1\n":        "f:2: deploy.keep: 1 is less than 2",
		"[deploy]\r\nbranch='''\r\n\r\n'''\r\n": `f:2: deploy.branch: "\r\n" is not a branch name`,
		"a\x00b":                                "f:1: files cannot contain NULL bytes; probably using UTF-16; TOML files must be UTF-8",
		"x = 1\ny = \xff\n":                     "f:2: y: invalid UTF-8 byte: 0xff",
		"[deploy]\nkeep=1":                      "f:2: deploy.keep: 1 is less than 2",
		"\xff\xfekeep = 1\n":                    "f:1: keep: unknown key",
		"\"\\u001b\" = 1\n\"\\u001b\" = 1\n":    `f:2: "\x1b": key '"\u001b"' has already been defined`,
		"[deploy]#x":                            "",
		"#":                                     "",
	} {
		_, err := Parse("f", []byte(text), "blue")
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func TestManifest(t *testing.T) {
	for text, want := range map[string]string{
		"works_with = '3..4'":             "3..4",
		"works_with = '4' # since then":   "4",
		"":                                "schema.toml:1: works_with: is missing",
		"works_with = 4":                  "schema.toml:1: works_with: 4 is an integer, want a string",
		"works_with = '4'\nworks = 5":     "schema.toml:2: works: unknown key",
		"works_with = ":                   "schema.toml:1: works_with: unexpected EOF; expected value",
		"works_with = '4'\n[deploy]\na=1": "schema.toml:2: deploy: unknown key",
	} {
		works, err := Manifest("schema.toml", []byte(text))
		if got := fmt.Sprint(err); err == nil && works != want || err != nil && got != want {
			t.Errorf("%q: %q, %v; want %s", text, works, err, want)
		}
	}
}

// TestBranchNames asks git itself.
func TestBranchNames(t *testing.T) {
	for _, name := range []string{
		"master", "feature/x", "a.b", "a-b", "ünï", "a@b", "a{b", "x/refs/y",
		"", "@", "HEAD", "-a", ".a", "a/.b", "a.", "a..b", "a.lock", "a.lock/b", "a/", "/a", "a//b",
		"a b", "a~b", "a^b", "a:b", "a?b", "a*b", "a[b", `a\b`, "a@{b", "a\tb", "a\x7fb", "a/-b", "a./b",
	} {
		git := exec.Command("git", "check-ref-format", "--branch", name)
		git.Dir = t.TempDir()
		out, err := git.Output()
		if ok, want := branchName(name) == nil, err == nil && string(out) == name+"\n"; ok != want {
			t.Errorf("%q: %t, and git says %t", name, ok, want)
		}
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples, %v", err)
	}
	for _, file := range files {
		if _, err := Load(file, "blue"); err != nil {
			t.Error(err)
		}
	}
}

// FuzzParse holds that whatever the file says, the answer is a configuration
// or an error that tells where.
func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, err := Parse("bluegreen.toml", data, "host")
		if err == nil {
			return
		}
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Fatalf("%T: %v", err, err)
		}
		if e.File != "bluegreen.toml" || e.Msg == "" || e.Line < 1 || e.Line > 1+strings.Count(string(data), "\n") {
			t.Fatalf("%+v", e)
		}
		if s := e.Error(); printable(s) != s {
			t.Fatalf("%q does not print", s)
		}
	})
}
