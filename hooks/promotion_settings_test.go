package hooks_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
	"bluegreen/internal/simulator"
)

// TestSigners lets only tags promote that a listed key has signed.
func TestSigners(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ssh-keygen"); err != nil {
		t.Skip("there is no ssh-keygen to sign with")
	}
	c := newCloud(t, "", "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	keys := t.TempDir()
	signers := filepath.Join(keys, "signers")
	c.edit(c.blue, "[promotion]\n", fmt.Sprintf("[promotion]\nsigners = %q\n", signers))
	for _, name := range []string{"ann", "eve"} {
		c.blue.run(keys, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", filepath.Join(keys, name))
	}
	public, err := os.ReadFile(filepath.Join(keys, "ann.pub"))
	must(t, err)
	must(t, os.WriteFile(signers, append([]byte("ann@example.com "), public...), 0o644))
	sign := func(c *cloud, key string, args ...string) {
		c.dev(append([]string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + filepath.Join(keys, key), "-c", "advice.nestedTag=false", "tag", "-s", "-m", "x"}, args...)...)
	}
	for _, row := range []struct {
		name string
		make func(c *cloud, name string)
		last string
	}{
		{"release-other-key", func(c *cloud, name string) { sign(c, "eve", name) }, `"release-other-key" does not promote: tag "release-other-key" is signed by somebody else`},
		{"release-unsigned", func(c *cloud, name string) { c.dev("tag", "-a", "-m", "x", name) }, `"release-unsigned" is not signed, and only signed tags promote here`},
		{"release-light", func(c *cloud, name string) { c.dev("tag", name) }, `"release-light" is not signed`},
		{"release-nested", func(c *cloud, name string) {
			sign(c, "ann", "inner")
			sign(c, "ann", name, "inner")
		}, `"release-nested" is a tag of a tag`},
		{"release-renamed", func(c *cloud, name string) {
			sign(c, "ann", "release-before")
			c.dev("update-ref", "refs/tags/"+name, "refs/tags/release-before")
		}, `the tag that was pushed as "release-renamed" calls itself "release-before"`},
		{"release-older", func(c *cloud, name string) { sign(c, "ann", name, c.first) }, `"release-older" is ` + c.first[:7] + `, but blue has ` + second[:7]},
		{"release-no-file", func(c *cloud, name string) {
			sign(c, "ann", name)
			must(c, os.Rename(signers, signers+".gone"))
			c.Cleanup(func() { must(c, os.Rename(signers+".gone", signers)) })
		}, `"release-no-file" does not promote: reading who may sign tags, ".*/signers": no such file`},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := c.sub(t)
			row.make(c, row.name)
			before, events := c.state(c.blue), len(c.blue.history())
			status, out := c.push(nil, "blue", row.name)
			if status != 1 || c.posts() != 0 {
				t.Errorf("status %d\n%s", status, out)
			}
			c.matches(out, "^error: "+row.last)
			c.unchanged(c.blue, before)
			if got := c.blue.since(events); !slices.Equal(got, []string{"promote refused"}) {
				t.Errorf("the history says %q", got)
			}
		})
	}
	sign(c, "ann", "release-signed")
	status, out := c.push(nil, "blue", "release-signed")
	if status != 0 || c.owner() != "blue" || !strings.Contains(out, `"release-signed" is signed by ann@example.com`) {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
}

// TestSignersOverSSH: where only signed tags promote, a pusher's key does not without
// one; it may still go back. Who has a shell may do both.
func TestSignersOverSSH(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	owner, signers := filepath.Join(s.dir, "owner"), filepath.Join(s.dir, "signers")
	for path, text := range map[string]string{owner: "green\n", signers: "ann@example.com ssh-ed25519 AAAA\n"} {
		s.must(os.WriteFile(path, []byte(text), 0o644))
	}
	s.configure(fmt.Sprintf("protect_live = false\n[promotion]\nprovider = \"command\"\nsigners = %q\nowner = [\"cat\", %q]\nassign = [\"/bin/sh\", \"-c\", %q, \"sh\", \"{to}\"]\n",
		signers, owner, "echo $1 >"+owner))
	commit := s.commit(map[string]string{"page": "1"})
	s.pushed("master")
	over := func(command string) (int, string) {
		t.Helper()
		return s.status([]string{"SSH_ORIGINAL_COMMAND=" + command}, s.dir, "bluegreen", "--repo", s.git, "ssh", "ann")
	}
	for _, command := range []string{"bluegreen promote", "bluegreen promote --wait 1s"} {
		status, out := over(command)
		if status != 1 || out != "hint: push a tag that you have signed: git tag -s\nerror: only signed tags promote here\n" || s.read("owner") != "green\n" {
			t.Errorf("%s: status %d, %q has the traffic\n%s", command, status, s.read("owner"), out)
		}
		if last := s.last(); last["event"] != "promote" || last["result"] != "refused" || last["pusher"] != "ann" || last["commit"] != commit || last["to"] != "blue" {
			t.Errorf("the history says %v", last)
		}
	}
	if status, out := s.status(nil, s.git, "bluegreen", "promote"); status != 0 || s.read("owner") != "blue\n" {
		t.Errorf("with a shell: status %d, %q has the traffic\n%s", status, s.read("owner"), out)
	}
	if status, out := over("bluegreen rollback --unchecked"); status != 0 || s.read("owner") != "green\n" {
		t.Errorf("going back: status %d, %q has the traffic\n%s", status, s.read("owner"), out)
	}
}

// TestRollbackFarBack goes back by a promotion that far more history has followed
// than is read at once.
func TestRollbackFarBack(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	owner := filepath.Join(s.dir, "owner")
	s.must(os.WriteFile(owner, []byte("green\n"), 0o644))
	s.configure(fmt.Sprintf("protect_live = false\n[promotion]\nprovider = \"command\"\nowner = [\"cat\", %q]\nassign = [\"/bin/sh\", \"-c\", %q, \"sh\", \"{to}\"]\n", owner, "echo $1 >"+owner))
	s.commit(map[string]string{"page": "1"})
	s.pushed("master")
	s.run(s.git, "bluegreen", "promote")
	line := fmt.Sprintf("{\"id\":\"x\",\"event\":\"promote\",\"result\":\"refused\",\"tag\":\"release-1\",\"reason\":%q}\n", strings.Repeat("x", 500))
	s.must(appendTo(filepath.Join(s.git, "bluegreen/history.jsonl"), strings.Repeat(line, 5<<20/len(line))))
	if out := s.run(s.git, "bluegreen", "status"); !regexp.MustCompile(`(?m)^deployed .*by ada`).MatchString(out) {
		t.Errorf("status does not say who has deployed:\n%s", out)
	}
	if status, out := s.status(nil, s.git, "bluegreen", "rollback", "--unchecked"); status != 0 || s.read("owner") != "green\n" {
		t.Errorf("status %d, %q has the traffic\n%s", status, s.read("owner"), out)
	}
}

// hideDroplet answers as a token without droplet:read is answered.
func (c *cloud) hideDroplet() {
	c.Script(get(ipAlone, simulator.Fault{Times: -1, Body: `{"reserved_ip":{"ip":"` + reservedIP + `","droplet":null,"region":{"slug":"fra1"},"locked":false}}`}),
		get("/v2/droplets/*", simulator.Fault{Times: -1, Status: http.StatusForbidden}))
}

// nobodyTells makes the metadata of an environment unreachable.
func (c *cloud) nobodyTells(s *server) {
	c.Helper()
	data, err := os.ReadFile(filepath.Join(s.git, "bluegreen.toml"))
	must(c, err)
	c.edit(s, regexp.MustCompile(`metadata_url = .*`).FindString(string(data)), `metadata_url = "http://127.0.0.1:1"`)
}

func (c *cloud) apiDown() {
	c.Script(simulator.Fault{Path: "/v2/", Times: -1, Status: http.StatusUnauthorized})
}

// TestProtectLive pushes the branch to the environment that is live, or may be,
// and to the other one.
func TestProtectLive(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...) // green is live
	const (
		live    = `^error: %s is live: it has 203\.0\.113\.10, and this push would change production`
		unknown = `^error: nobody can tell whether %s is live: `
	)
	for _, row := range []struct {
		name   string
		before func(c *cloud)
		to     string
		args   []string
		last   string // of a refusal; "" where it is deployed
	}{
		{"live", func(*cloud) {}, "green", nil, live},
		{"not live", func(*cloud) {}, "blue", nil, ""},
		{"the override", func(*cloud) {}, "green", []string{"-o", "live"}, ""},
		{"the metadata lags and says live", func(c *cloud) {
			c.SetMetadataLag(true)
			c.SetOwner(reservedIP, blueDroplet)
		}, "green", nil, ""},
		{"the metadata lags and says not live", func(c *cloud) {
			c.SetMetadataLag(true)
			c.SetOwner(reservedIP, blueDroplet)
		}, "blue", nil, live},
		{"only the metadata answers, live", func(c *cloud) { c.apiDown() }, "green", nil, live},
		{"only the metadata answers, not live", func(c *cloud) { c.apiDown() }, "blue", nil, ""},
		{"only the API answers, live", func(c *cloud) { c.nobodyTells(c.green) }, "green", nil, live},
		{"only the API answers, not live", func(c *cloud) { c.nobodyTells(c.blue) }, "blue", nil, ""},
		{"nobody answers", func(c *cloud) {
			c.apiDown()
			c.nobodyTells(c.blue)
		}, "blue", nil, unknown},
		{"nobody answers, the override", func(c *cloud) {
			c.apiDown()
			c.nobodyTells(c.blue)
		}, "blue", []string{"-o", "live"}, ""},
		{"the API hides the droplet, live", func(c *cloud) { c.hideDroplet() }, "green", nil, live},
		{"the API hides the droplet, not live", func(c *cloud) { c.hideDroplet() }, "blue", nil, ""},
		{"the API hides the droplet, no metadata", func(c *cloud) {
			c.hideDroplet()
			c.nobodyTells(c.green)
		}, "green", nil, unknown},
		{"not protected", func(c *cloud) { c.edit(c.green, "marker =", "protect_live = false\nmarker =") }, "green", nil, ""},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			c := c.sub(t)
			s := map[string]*server{"blue": c.blue, "green": c.green}[row.to]
			path := filepath.Join(s.git, "bluegreen.toml")
			config, err := os.ReadFile(path)
			must(t, err)
			t.Cleanup(func() {
				c.ClearScript()
				c.SetMetadataLag(false)
				c.SetOwner(reservedIP, greenDroplet)
				must(t, os.WriteFile(path, config, 0o644))
			})
			row.before(c)
			commit := c.blue.commit(nil)
			before, events := c.state(s), len(s.history())
			status, out := c.push(nil, row.to, append(row.args, "-f", "HEAD:master")...)
			if row.last == "" {
				if status != 0 {
					t.Errorf("status %d\n%s", status, out)
				}
				c.holdsMarked(s, commit)
			} else {
				if status != 1 {
					t.Errorf("status %d\n%s", status, out)
				}
				c.matches(out, fmt.Sprintf(row.last, row.to))
				c.says(out, "hint: .*to deploy here all the same: git push -o live")
				c.unchanged(s, before)
			}
			want := map[bool]string{true: "deploy succeeded", false: "deploy refused"}[row.last == ""]
			if got := s.since(events); !slices.Equal(got, []string{want}) {
				t.Errorf("the history says %q, want %q", got, want)
			}
			last := s.last()
			overridden := slices.Contains(last["options"].([]any), any("live"))
			if overridden != slices.Contains(row.args, "live") || last["commit"] != commit || (last["reason"] == "") != (row.last == "") {
				t.Errorf("the history says %v", last)
			}
		})
	}
}

// TestTokenFile promotes with token files that must not be used, and with ones
// that may.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	write := func(c *cloud, content string, mode os.FileMode) {
		must(c, os.WriteFile(c.token, []byte(content), 0o600))
		must(c, os.Chmod(c.token, mode))
	}
	for i, row := range []struct {
		name string
		make func(c *cloud)
		last string // of a refusal; "" where it promotes
	}{
		{"for all to read", func(c *cloud) { write(c, canary, 0o644) }, `may be read by others \(mode 0644\); run "chmod 600 .*/token"`},
		{"for the group", func(c *cloud) { write(c, canary, 0o640) }, `may be read by others \(mode 0640\); run "chmod 600 .*/token"`},
		{"empty", func(c *cloud) { write(c, "", 0o600) }, `token file ".*/token" is empty`},
		{"an empty line", func(c *cloud) { write(c, "\n", 0o600) }, `token file ".*/token": the token is empty`},
		{"two lines", func(c *cloud) { write(c, canary+"\n"+canary+"\n", 0o600) }, `token file ".*/token": the token has a character in it that is not printable`},
		{"a symlink", func(c *cloud) {
			write(c, canary, 0o600)
			must(c, os.Rename(c.token, c.token+".real"))
			must(c, os.Symlink(c.token+".real", c.token))
		}, `token file ".*/token" is a symlink`},
		{"a FIFO", func(c *cloud) { must(c, unix.Mkfifo(c.token, 0o600)) }, `token file ".*/token" is a FIFO`},
		{"a directory", func(c *cloud) { must(c, os.Mkdir(c.token, 0o700)) }, `token file ".*/token" is a directory`},
		{"missing", func(*cloud) {}, `opening token file ".*/token": no such file`},
		{"no newline", func(c *cloud) { write(c, canary, 0o600) }, ""},
		{"a Windows newline", func(c *cloud) { write(c, canary+"\r\n", 0o400) }, ""},
	} {
		t.Run(strings.ReplaceAll(row.name, " ", "-"), func(t *testing.T) {
			c := c.sub(t)
			c.SetOwner(reservedIP, greenDroplet)
			must(t, os.RemoveAll(c.token))
			row.make(c)
			tag := fmt.Sprintf("release-%d", i)
			c.dev("tag", tag)
			before, calls := c.state(c.blue), len(c.Calls())
			status, out := c.push(nil, "blue", tag)
			if row.last == "" {
				if status != 0 || c.owner() != "blue" {
					t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
				}
				return
			}
			if status != 1 || len(c.Calls()) != calls {
				t.Errorf("status %d after %d requests\n%s", status, len(c.Calls())-calls, out)
			}
			c.matches(out, "^error: .*"+row.last)
			c.unchanged(c.blue, before)
			if last := c.blue.last(); last["event"] != "promote" || last["result"] != "refused" || last["tag"] != tag {
				t.Errorf("the history says %v", last)
			}
		})
	}
}

// TestTokenIsKept has each of the operator's programs, and the repository's
// update hook, write down what they could know of the token, which comes from a
// file or from the environment.
func TestTokenIsKept(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"file", "environment"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "", "", allHooks...)
			dir := t.TempDir()
			// What a child has, and its parent's command line.
			const script = `{ env; tr '\0' '\n' </proc/self/environ; tr '\0' ' ' </proc/$PPID/cmdline; for a in "$@"; do echo "$a"; done; ls -l /proc/self/fd; } >>`
			dump := func(name string) string {
				return fmt.Sprintf(`["/bin/sh", "-c", %q]`, script+filepath.Join(dir, name))
			}
			for _, at := range []string{"deployed", "promoting", "promoted", "rolled-back"} {
				c.add(c.blue, fmt.Sprintf("[[command]]\nat = %q\nrun = %s\n", at, dump(at)))
			}
			for _, at := range []string{"deployed", "promoted"} {
				c.add(c.blue, fmt.Sprintf("[[health]]\nname = \"dump %s\"\nat = %q\ncommand = %s\n", at, at, dump("check-"+at)))
			}
			gittest.Script(t, filepath.Join(c.blue.git, "hooks/update"), "#!/bin/sh\n"+script+filepath.Join(dir, "update")+"\n")
			var env []string
			if from == "environment" {
				c.edit(c.blue, fmt.Sprintf("token_file = %q\n", c.token), "")
				c.blue.commit(map[string]string{"index.html": "v2\n"})
				c.dev("tag", "release-1")
				if status, out := c.push(nil, "blue", "-o", "live", "master", "release-1"); status != 1 || !strings.Contains(out, "there is no token: set promotion.token_file, or DIGITALOCEAN_TOKEN") {
					t.Errorf("without any: status %d\n%s", status, out)
				}
				env = []string{"DIGITALOCEAN_TOKEN=" + canary}
			}
			c.blue.commit(map[string]string{"index.html": "v3\n"})
			c.dev("tag", "release-3")
			c.breakOutside()
			if status, out := c.push(env, "blue", "master", "release-3"); status != 1 {
				t.Errorf("status %d\n%s", status, out)
			}
			c.outside.SetDown(false)
			if status, out := c.push(env, "blue", "release-3"); status != 0 || c.owner() != "blue" {
				t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
			}
			for _, name := range []string{"deployed", "promoting", "promoted", "rolled-back", "check-deployed", "check-promoted", "update"} {
				data, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil || !strings.Contains(string(data), "PATH=") {
					t.Errorf("%s has seen %q: %v", name, data, err)
				}
				if strings.Contains(string(data), canary) || strings.Contains(string(data), c.token) {
					t.Errorf("%s has seen the token\n%s", name, data)
				}
			}
		})
	}
}

// TestPromotionCommands runs the operator's commands around a promotion, and
// has each of them fail.
func TestPromotionCommands(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	dir := t.TempDir()
	moments := []string{"promoting", "promoted", "rolled-back"}
	for _, at := range moments {
		path := filepath.Join(dir, at)
		c.add(c.blue, fmt.Sprintf("[[command]]\nat = %q\nrun = [\"/bin/sh\", \"-c\", %q]\n", at,
			fmt.Sprintf("env | grep ^BLUEGREEN_ >%s; test ! -e %s.fails", path, path)))
	}
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	// play pushes a tag, and tells what has run.
	play := func(tag string) (status int, out string) {
		for _, at := range moments {
			os.Remove(filepath.Join(dir, at))
		}
		c.dev("tag", tag)
		return c.push(nil, "blue", tag)
	}
	ran := func(tag string, want ...string) {
		t.Helper()
		for _, at := range moments {
			data, err := os.ReadFile(filepath.Join(dir, at))
			if (err == nil) != slices.Contains(want, at) {
				t.Errorf("%s: %q %v", at, data, err)
			}
			for _, kv := range []string{"TAG=" + tag, "COMMIT=" + second, "REF=refs/tags/" + tag, "ENVIRONMENT=blue", "PREVIOUS=" + c.first, "DIRECTORY=" + c.blue.www} {
				if err == nil && !slices.Contains(strings.Split(string(data), "\n"), "BLUEGREEN_"+kv) {
					t.Errorf("%s sees no %s:\n%s", at, kv, data)
				}
			}
		}
	}

	must(t, os.WriteFile(filepath.Join(dir, "promoting.fails"), nil, 0o644))
	before := c.state(c.blue)
	status, out := play("release-1")
	c.matches(out, "^error: promoting command: ")
	if status != 1 || c.posts() != 0 {
		t.Errorf("status %d after %d requests\n%s", status, c.posts(), out)
	}
	c.unchanged(c.blue, before)
	must(t, os.Remove(filepath.Join(dir, "promoting.fails")))

	c.breakOutside()
	status, out = play("release-2")
	c.matches(out, "^error: .* is back with green$")
	if status != 1 || c.posts() != 2 {
		t.Errorf("status %d after %d requests\n%s", status, c.posts(), out)
	}
	ran("release-2", "promoting", "rolled-back")
	c.unchanged(c.blue, before)
	c.outside.SetDown(false)

	status, out = play("release-3")
	if status != 0 || c.owner() != "blue" {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	ran("release-3", "promoting", "promoted")

	c.SetOwner(reservedIP, greenDroplet)
	must(t, os.WriteFile(filepath.Join(dir, "promoted.fails"), nil, 0o644))
	status, out = play("release-4")
	c.matches(out, `^warning: "release-4" .* is live: .*; but promoted command: `)
	if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/release-4") != second {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	if last := c.blue.last(); last["result"] != "succeeded" {
		t.Errorf("the history says %v", last)
	}
	ran("release-4", "promoting", "promoted")
}

// TestBake has a check of the outside fail a while after it was healthy.
func TestBake(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "bake = \"1s\"", allHooks...)
	asked := filepath.Join(t.TempDir(), "asked")
	c.add(c.blue, fmt.Sprintf("[[health]]\nname = \"soak\"\nat = \"promoted\"\ncommand = [\"/bin/sh\", \"-c\", %q]\ninterval = \"50ms\"\nwithin = \"300ms\"\n",
		fmt.Sprintf(`echo x >>%s; test ! -e %s.sick || test $(wc -l <%s) -eq 1`, asked, asked, asked)))
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	must(t, os.WriteFile(asked+".sick", nil, 0o644))
	c.dev("tag", "release-2")
	before := c.state(c.blue)
	status, out := c.push(nil, "blue", "release-2")
	c.matches(out, `^error: the outside does not see the release: "soak" is not healthy: .*; 203\.0\.113\.10 is back with green$`)
	if status != 1 || c.posts() != 2 {
		t.Errorf("status %d after %d requests\n%s", status, c.posts(), out)
	}
	c.unchanged(c.blue, before)

	must(t, os.Remove(asked+".sick"))
	must(t, os.Remove(asked))
	began := time.Now()
	status, out = c.push(nil, "blue", "release-2")
	took := time.Since(began)
	data, err := os.ReadFile(asked)
	must(t, err)
	if n := strings.Count(string(data), "x"); status != 0 || c.owner() != "blue" || n < 2 || took < time.Second {
		t.Errorf("status %d after %s, %s has the IP, it was asked %d times\n%s", status, took, c.owner(), n, out)
	}
	if phases := c.blue.last()["phases"].(map[string]any); phases["baking"] == nil || c.blue.last()["commit"] != second {
		t.Errorf("the history says %v", c.blue.last())
	}
}

// TestMarker follows the marker through deployments and promotions.
func TestMarker(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	began := time.Now().Add(-time.Second)
	second := c.deploy(map[string]string{"index.html": "v2\n", ".well-known/security.txt": "x\n"})
	m := c.marker(c.blue)
	if m.Commit != second || m.Environment != "blue" || m.Tag != "" || m.Works_with != nil || m.Deployed_at.Before(began) || m.Deployed_at.After(time.Now()) {
		t.Errorf("the marker says %+v", m)
	}
	read := func() string {
		data, err := os.ReadFile(filepath.Join(c.blue.www, markerFile))
		must(t, err)
		return string(data)
	}
	untagged := read()
	if !regexp.MustCompile(`^\{"commit":"[0-9a-f]{40}","environment":"blue","deployed_at":"[^"]+","tag":"","works_with":null\}\n$`).MatchString(untagged) {
		t.Errorf("the marker is %q", untagged)
	}
	rest := func() listing {
		t.Helper()
		if _, there := c.blue.web(false)[markerFile]; !there {
			t.Error("there is no marker")
		}
		return c.blue.web(false).without(markerFile)
	}
	drift := func() {
		t.Helper()
		if out := c.blue.run(c.blue.git, "bluegreen", "status", "--json"); !strings.Contains(out, `"drift": []`) {
			t.Errorf("status:\n%s", out)
		}
	}
	if d := diff(c.blue.fresh(second).without(markerFile), rest()); d != "" {
		t.Errorf("the web root is not %s:\n%s", second, d)
	}
	drift()

	c.dev("tag", "release-2")
	c.breakOutside()
	if status, out := c.push(nil, "blue", "release-2"); status != 1 || read() != untagged {
		t.Errorf("a promotion that failed: status %d, the marker is %q\n%s", status, read(), out)
	}
	c.outside.SetDown(false)
	if status, out := c.push(nil, "blue", "release-2"); status != 0 || read() != strings.Replace(untagged, `"tag":""`, `"tag":"release-2"`, 1) {
		t.Errorf("a promotion: status %d, the marker is %q\n%s", status, read(), out)
	}
	drift()
	tagged := read()
	c.SetOwner(reservedIP, greenDroplet)
	c.dev("tag", "release-2b")
	c.breakOutside()
	if status, out := c.push(nil, "blue", "release-2b"); status != 1 || read() != tagged {
		t.Errorf("another one that failed: status %d, the marker is %q\n%s", status, read(), out)
	}
	c.outside.SetDown(false)

	// The same commit again, also where somebody has removed the file.
	must(t, os.Remove(filepath.Join(c.blue.www, markerFile)))
	c.blue.run(c.blue.git, "bluegreen", "deploy", "master")
	if again := c.marker(c.blue); again.Commit != second || again.Tag != "release-2" || !again.Deployed_at.After(m.Deployed_at) {
		t.Errorf("after a deployment of the same commit the marker says %+v", again)
	}
	drift()

	before := c.state(c.blue)
	c.blue.commit(map[string]string{markerFile: "mine\n"})
	status, out := c.push(nil, "blue", "master")
	c.matches(out, `^error: refusing the tree of [0-9a-f]{7}: .*release\.json`)
	if status != 1 {
		t.Errorf("status %d\n%s", status, out)
	}
	c.unchanged(c.blue, before)
	c.dev("reset", "-q", "--hard", second)

	third := c.deploy(map[string]string{"index.html": "v3\n", ".well-known": "-"})
	if m := c.marker(c.blue); m.Commit != third || m.Tag != "" {
		t.Errorf("the marker says %+v", m)
	}
	c.holdsMarked(c.blue, third)
	drift()

	c.edit(c.blue, "marker = \".well-known/release.json\"\n", "marker = \"release.json\"\n")
	c.blue.run(c.blue.git, "bluegreen", "deploy", "master")
	if d := diff(c.blue.fresh(third), c.blue.web(false).without("release.json")); d != "" || c.blue.web(false)["release.json"] == "" {
		t.Errorf("with another name:\n%s", d)
	}
	c.edit(c.blue, "marker = \"release.json\"\n", "")
	c.blue.run(c.blue.git, "bluegreen", "deploy", "master")
	c.blue.holds(third)
}
