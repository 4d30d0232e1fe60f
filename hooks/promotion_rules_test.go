package hooks_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// edit replaces a part of an environment's configuration, which must be there.
func (c *cloud) edit(s *server, old, new string) {
	c.Helper()
	path := filepath.Join(s.git, "bluegreen.toml")
	data, err := os.ReadFile(path)
	must(c, err)
	if !strings.Contains(string(data), old) {
		c.Fatalf("the configuration has no %q:\n%s", old, data)
	}
	must(c, os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o644))
}

// add puts tables at the end of an environment's configuration.
func (c *cloud) add(s *server, tables string) {
	c.Helper()
	f, err := os.OpenFile(filepath.Join(s.git, "bluegreen.toml"), os.O_APPEND|os.O_WRONLY, 0)
	must(c, err)
	_, err = f.WriteString(tables)
	must(c, err)
	must(c, f.Close())
}

// state is all that a push which is refused must leave alone: the refs, the web
// root, the index, what is recorded as deployed, and who has the IP.
func (c *cloud) state(s *server) listing {
	c.Helper()
	all := s.web(false)
	all["refs"] = s.run(s.git, "git", "for-each-ref", "--format=%(refname) %(objectname)")
	for _, file := range []string{"index", "bluegreen/deployed.json"} {
		what, err := describe(filepath.Join(s.git, file), false)
		must(c, err)
		all[file] = what
	}
	all["owner"] = c.owner()
	return all
}

// unchanged checks that nothing has changed since before.
func (c *cloud) unchanged(s *server, before listing) {
	c.Helper()
	if d := diff(before, c.state(s)); d != "" {
		c.Errorf("something has changed:\n%s", d)
	}
	left, err := leftovers(s.git, s.www)
	must(c, err)
	if len(left) > 0 {
		c.Errorf("left behind: %q", left)
	}
}

// deploy commits files and deploys them on blue.
func (c *cloud) deploy(files map[string]string) string {
	c.Helper()
	commit := c.blue.commit(files)
	if status, out := c.push(nil, "blue", "-o", "live", "master"); status != 0 {
		c.Fatalf("status %d\n%s", status, out)
	}
	return commit
}

// rewire leaves only some of the hooks on blue.
func (c *cloud) rewire(hooks ...string) {
	c.Helper()
	for _, hook := range allHooks {
		if slices.Contains(hooks, hook) {
			continue
		}
		must(c, os.Remove(filepath.Join(c.blue.git, "hooks", hook)))
		if hook == "proc-receive" {
			c.blue.run(c.blue.git, "git", "config", "--unset-all", "receive.procReceiveRefs")
		}
	}
}

// dev runs git in the developer's repository.
func (c *cloud) dev(args ...string) string {
	c.Helper()
	return c.blue.run(c.blue.dev, "git", args...)
}

// markerFile is what the tests' configuration says.
const markerFile = ".well-known/release.json"

type markerText struct {
	Commit, Environment, Tag string
	Deployed_at              time.Time
	Works_with               *string
}

// marker reads the marker, strictly.
func (c *cloud) marker(s *server) (m markerText) {
	c.Helper()
	data, err := os.ReadFile(filepath.Join(s.www, markerFile))
	must(c, err)
	in := json.NewDecoder(strings.NewReader(string(data)))
	in.DisallowUnknownFields()
	if err := in.Decode(&m); err != nil {
		c.Errorf("the marker is %q: %v", data, err)
	}
	return m
}

// holdsMarked checks that the web root is commit's, but for the marker.
func (c *cloud) holdsMarked(s *server, commit string) {
	c.Helper()
	if d := diff(s.fresh(commit), s.web(false).without(filepath.Dir(markerFile), markerFile)); d != "" {
		c.Errorf("the web root is not %s:\n%s", commit, d)
	}
	s.settled(commit)
	if m := c.marker(s); m.Commit != commit {
		c.Errorf("the web root holds %s, and the marker says %s", commit, m.Commit)
	}
}

// since lists the events of the history after the first n: "promote refused".
func (s *server) since(n int) (events []string) {
	s.Helper()
	for _, e := range s.history()[n:] {
		events = append(events, fmt.Sprintf("%s %s", e["event"], e["result"]))
	}
	return events
}

// matches checks that the last line of the hooks matches a pattern, and that no error
// comes twice in a row.
func (c *cloud) matches(out, last string) {
	c.Helper()
	before := ""
	for line := range strings.Lines(out) {
		if line == before && strings.HasPrefix(line, "remote: error: ") {
			c.Errorf("twice in a row: %s", line)
		}
		before = line
	}
	if !regexp.MustCompile(last).MatchString(lastLine(out)) {
		c.Errorf("the last line is %q, want %q\n%s", lastLine(out), last, out)
	}
}

// says checks that some line of the output matches a pattern.
func (c *cloud) says(out, pattern string) {
	c.Helper()
	if !regexp.MustCompile(pattern).MatchString(out) {
		c.Errorf("nothing matches %q\n%s", pattern, out)
	}
}

// sub is the cloud as a subtest uses it.
func (c *cloud) sub(t *testing.T) *cloud {
	d := *c
	blue, green := *c.blue, *c.green
	blue.TB, green.TB = t, t
	d.TB, d.blue, d.green = t, &blue, &green
	return &d
}

// nested makes annotated tags of tags, depth of them, the outermost one called
// name.
func (c *cloud) nested(name string, depth int) {
	target := "HEAD"
	for i := 1; i < depth; i++ {
		inner := fmt.Sprintf("%s-inner-%d", name, i)
		c.dev("-c", "advice.nestedTag=false", "tag", "-a", "-m", "inner", inner, target)
		target = "refs/tags/" + inner
	}
	c.dev("-c", "advice.nestedTag=false", "tag", "-a", "-m", "outer", name, target)
}

// TestTagsRefused pushes tags that must not promote. Each is refused with a
// reason that makes sense alone, and leaves everything as it was.
func TestTagsRefused(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	c.blue.commit(map[string]string{"index.html": "v3\n"})
	third := c.dev("rev-parse", "HEAD")
	for _, row := range []struct {
		name string // of the tag
		make func(c *cloud, name string)
		last string
		hint string
	}{
		{"release-old", func(c *cloud, name string) { c.dev("tag", name, c.first) },
			`"release-old" is ` + c.first[:7] + `, but blue has ` + second[:7] + ` deployed$`,
			"push " + c.first[:7] + " to the branch that is deployed here first, then the tag"},
		{"release-new", func(c *cloud, name string) { c.dev("tag", "-a", "-m", "x", name, third) },
			`"release-new" is ` + third[:7] + `, but blue has ` + second[:7] + ` deployed$`,
			"push " + third[:7] + " to the branch that is deployed here first, then the tag"},
		{"release-renamed", func(c *cloud, name string) {
			c.dev("tag", "-a", "-m", "x", "another", second)
			c.dev("update-ref", "refs/tags/"+name, "refs/tags/another")
		}, `the tag that was pushed as "release-renamed" calls itself "another"`, "git tag -a release-renamed"},
		{"release-deep", func(c *cloud, name string) { c.nested(name, 9) }, `"release-deep" does not lead to a commit: .*more than 8 tags`, "tag a commit"},
		{"release-blob", func(c *cloud, name string) { c.dev("tag", name, "HEAD:index.html") }, `"release-blob" does not lead to a commit: .* is a blob`, "tag a commit"},
		{"release-tree", func(c *cloud, name string) { c.dev("tag", name, "HEAD^{tree}") }, `"release-tree" does not lead to a commit: .* is a tree`, "tag a commit"},
		{"release-blob-a", func(c *cloud, name string) { c.dev("tag", "-a", "-m", "x", name, "HEAD:index.html") }, `"release-blob-a" does not lead to a commit: .* not a commit`, "tag a commit"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := c.sub(t)
			row.make(c, row.name)
			before, events, posts := c.state(c.blue), len(c.blue.history()), c.posts()
			status, out := c.push(nil, "blue", row.name)
			if status != 1 || c.posts() != posts {
				t.Errorf("status %d after %d requests\n%s", status, c.posts()-posts, out)
			}
			c.matches(out, "^error: "+row.last)
			c.says(out, `! \[remote rejected\] +`+row.name+` -> `+row.name+` \(`+strings.TrimSuffix(row.last, "$"))
			c.says(out, "hint: .*"+row.hint)
			c.unchanged(c.blue, before)
			if got := c.blue.since(events); !slices.Equal(got, []string{"promote refused"}) {
				t.Errorf("the history says %q", got)
			}
			last := c.blue.last()
			if last["tag"] != row.name || last["ip"] != reservedIP || last["to"] != "blue" || last["ref"] != "refs/tags/"+row.name || last["reason"] == "" {
				t.Errorf("the history says %v", last)
			}
		})
	}
	// What the hint says works.
	if status, out := c.push(nil, "blue", "master"); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	status, out := c.push(nil, "blue", "release-new")
	if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/release-new") != c.dev("rev-parse", "refs/tags/release-new") {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
}

// TestTagsThatPromote pushes each kind of tag that leads to what is deployed,
// to the environment that another one takes the IP from.
func TestTagsThatPromote(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	for _, row := range []struct {
		name string
		make func(c *cloud, name string)
		args []string
	}{
		{"release-light", func(c *cloud, name string) { c.dev("tag", name) }, nil},
		{"release-annotated", func(c *cloud, name string) { c.dev("tag", "-a", "-m", "x", name) }, nil},
		{"release-eight", func(c *cloud, name string) { c.nested(name, 8) }, nil},
		// It is there already, and is moved.
		{"release-light", func(c *cloud, name string) { c.dev("tag", "-f", "-a", "-m", "moved", name, second) }, []string{"-f"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := c.sub(t)
			c.SetOwner(reservedIP, greenDroplet)
			row.make(c, row.name)
			deployed, events := c.marker(c.blue).Deployed_at, len(c.blue.history())
			status, out := c.push(nil, "blue", append(row.args, row.name)...)
			if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/"+row.name) != c.dev("rev-parse", "refs/tags/"+row.name) {
				t.Errorf("status %d, %s has the IP, the tag is at %q\n%s", status, c.owner(), c.blue.ref("refs/tags/"+row.name), out)
			}
			c.matches(out, `^success: "`+row.name+`" \(`+second[:7]+`\) is live: 203\.0\.113\.10 moved from green to blue, seen from outside by 1 check`)
			if got := c.blue.since(events); !slices.Equal(got, []string{"promote succeeded"}) {
				t.Errorf("the history says %q", got)
			}
			if last := c.blue.last(); last["commit"] != second || last["tag"] != row.name || last["from"] != "green" || last["to"] != "blue" || last["action_id"] == 0. {
				t.Errorf("the history says %v", last)
			}
			if m := c.marker(c.blue); m.Tag != row.name || !m.Deployed_at.Equal(deployed) {
				t.Errorf("the marker says %+v", m)
			}
			c.holdsMarked(c.blue, second)
		})
	}
}

// TestOtherTags pushes tags that have nothing to do with promotion.
func TestOtherTags(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	for _, name := range []string{"v1.0", "releases-1", "release-2/rc", "x/release-2"} {
		c.dev("tag", name)
	}
	before, calls := c.blue.web(true), c.posts()
	status, out := c.push(nil, "blue", "--tags")
	if status != 0 || len(remoteLines(out)) > 0 || c.owner() != "green" || c.posts() != calls {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	if d := diff(before, c.blue.web(true)); d != "" {
		t.Errorf("the web root has changed:\n%s", d)
	}
	for _, name := range []string{"v1.0", "releases-1", "release-2/rc", "x/release-2"} {
		if c.blue.ref("refs/tags/"+name) == "" {
			t.Errorf("%q is not stored", name)
		}
	}
}

// TestUnhealthyRelease promotes what has stopped working since it was deployed.
func TestUnhealthyRelease(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	page := filepath.Join(c.blue.www, "index.html")
	must(t, os.WriteFile(page, []byte("\x1b[31m"), 0o644))
	c.dev("tag", "release-2")
	before, events, posts := c.state(c.blue), len(c.blue.history()), c.posts()
	status, out := c.push(nil, "blue", "release-2")
	if status != 1 || c.posts() != posts {
		t.Errorf("status %d after %d requests\n%s", status, c.posts()-posts, out)
	}
	c.matches(out, `^error: not promoted: ".*" is not healthy: status 200, body "\\x1b\[31`)
	c.unchanged(c.blue, before)
	if got := c.blue.since(events); !slices.Equal(got, []string{"promote refused"}) {
		t.Errorf("the history says %q", got)
	}
	must(t, os.WriteFile(page, []byte("v2\n"), 0o644))
	if status, out := c.push(nil, "blue", "release-2"); status != 0 || c.owner() != "blue" {
		t.Errorf("mended: status %d, %s has the IP\n%s", status, c.owner(), out)
	}
}

// A wholePush is one git push to blue of a new commit, with tags on it.
type wholePush struct {
	name string
	tags []string // made on the new commit; "@" stands for its number
	args []string
	// sick has the commit lack the page that the check asks for; dark keeps
	// what comes from outside away.
	sick, dark bool
	status     int
	deployed   bool     // the commit is in the web root and master there
	promoted   bool     // and the IP is here
	stored     []string // refs that are there afterwards; the others of the push are as before
	last       string
	also       []string
	events     []string
	again      bool // once it is light, the same push deploys and promotes
}

var wholePushes = []wholePush{
	{name: "branch and tag", tags: []string{"release-@"}, args: []string{"master", "release-@"}, deployed: true, promoted: true,
		stored: []string{"refs/tags/release-@"}, last: `^success: "release-@" \(.*\) is live`, also: []string{`success: [0-9a-f]{7} is deployed to`},
		events: []string{"deploy succeeded", "promote succeeded"}},
	{name: "tag and branch", tags: []string{"release-@"}, args: []string{"release-@", "master"}, deployed: true, promoted: true,
		stored: []string{"refs/tags/release-@"}, last: `^success: "release-@" \(.*\) is live`,
		events: []string{"deploy succeeded", "promote succeeded"}},
	{name: "a branch that is not healthy, and a tag", sick: true, tags: []string{"release-@"}, args: []string{"master", "release-@"}, status: 1,
		last: `^error: `, also: []string{`"release-@" does not promote: the deployment of the same push failed`, `! \[remote rejected\] master -> master \(`},
		events: []string{"deploy failed", "promote refused"}},
	{name: "a branch, and a tag that the outside does not see", dark: true, tags: []string{"release-@"}, args: []string{"master", "release-@"}, status: 1, deployed: true,
		last: `^error: the outside does not see the release: .*; 203\.0\.113\.10 is back with green`, events: []string{"deploy succeeded", "promote failed"}},
	{name: "two tags", tags: []string{"release-@a", "release-@b"}, args: []string{"release-@a", "release-@b"}, status: 1,
		last: `^error: .*2 tags in this push`, events: []string{"promote refused", "promote refused"},
		also: []string{`! \[remote rejected\] release-@a -> release-@a \(.*2 tags`, `! \[remote rejected\] release-@b -> release-@b \(.*2 tags`, "hint: push one of them"}},
	{name: "two tags and the branch", tags: []string{"release-@a", "release-@b"}, args: []string{"release-@a", "master", "release-@b"}, status: 1, deployed: true,
		last: `^error: .*2 tags in this push`, also: []string{`success: [0-9a-f]{7} is deployed`},
		events: []string{"deploy succeeded", "promote refused", "promote refused"}},
	{name: "one tag that promotes, and one that does not", tags: []string{"release-@", "v@"}, args: []string{"master", "v@", "release-@"}, deployed: true, promoted: true,
		stored: []string{"refs/tags/release-@", "refs/tags/v@"}, last: `^success: "release-@" `, events: []string{"deploy succeeded", "promote succeeded"}},

	{name: "atomic", tags: []string{"release-@"}, args: []string{"--atomic", "master", "release-@"}, deployed: true, promoted: true,
		stored: []string{"refs/tags/release-@"}, last: `^success: "release-@" \(.*\) is live`, also: []string{`success: [0-9a-f]{7} is deployed to`},
		events: []string{"deploy succeeded", "promote succeeded"}},
	{name: "atomic, the tag first, others beside it", tags: []string{"v@", "release-@"}, args: []string{"--atomic", "release-@", "HEAD:refs/heads/side-@", "v@", "master"}, deployed: true, promoted: true,
		stored: []string{"refs/tags/release-@", "refs/tags/v@", "refs/heads/side-@"}, last: `^warning: "side-@" is stored`,
		events: []string{"deploy succeeded", "promote succeeded"}},
	{name: "atomic, the outside does not see it", dark: true, tags: []string{"release-@"}, args: []string{"--atomic", "master", "release-@"}, status: 1,
		last: `^error: the outside does not see the release: .*; 203\.0\.113\.10 is back with green`, events: []string{"deploy failed", "promote failed"}, again: true},
	{name: "atomic, not healthy", sick: true, tags: []string{"release-@"}, args: []string{"--atomic", "master", "release-@"}, status: 1,
		last: `^error: `, events: []string{"deploy failed", "promote failed"}},
	{name: "atomic, two tags", tags: []string{"release-@a", "release-@b"}, args: []string{"--atomic", "master", "release-@a", "release-@b"}, status: 1,
		last: `^error: .*2 tags in this push`, events: []string{"deploy refused", "promote refused", "promote refused"}},
	{name: "atomic, git will refuse another ref", tags: []string{"release-@"}, args: []string{"--atomic", "master", "release-@", "HEAD:refs/heads/master/below"}, status: 1,
		last: `^error: atomic push: "refs/heads/master" and "refs/heads/master/below" cannot both be refs`, events: []string{"deploy refused", "promote refused"}},

	{name: "option", args: []string{"-o", "promote", "master"}, deployed: true, promoted: true,
		last: `^success: [0-9a-f]{7} is live: 203\.0\.113\.10 moved from green to blue`, events: []string{"deploy succeeded", "promote succeeded"}},
	{name: "option, the outside does not see it", dark: true, args: []string{"-o", "promote", "master"}, status: 1,
		last: `^error: the outside does not see the release: .*; 203\.0\.113\.10 is back with green`, also: []string{`! \[remote rejected\] master -> master \(the outside does not see`},
		events: []string{"deploy failed", "promote failed"}, again: true},
	{name: "option, not healthy", sick: true, args: []string{"-o", "promote", "master"}, status: 1, last: `^error: `, events: []string{"deploy failed", "promote failed"}},
	{name: "option, and a tag", tags: []string{"release-@"}, args: []string{"-o", "promote", "master", "release-@"}, deployed: true, promoted: true,
		stored: []string{"refs/tags/release-@"}, last: `^success: "release-@" .* is live: 203\.0\.113\.10 was with blue already`},

	{name: "plan", tags: []string{"release-@"}, args: []string{"-o", "plan", "master", "release-@"}, status: 1, last: `^warning: plan only: nothing has changed`,
		also: []string{`! \[remote rejected\] master -> master \(plan only\)`, `! \[remote rejected\] release-@ -> release-@ \(plan only\)`,
			"plan: green is live: it has 203.0.113.10", "plan: refs/tags/release-@ would promote [0-9a-f]{7} on blue", "plan:   write  index.html"}},
	{name: "plan of a promotion", args: []string{"-o", "plan", "-o", "promote", "master"}, status: 1, last: `^warning: plan only: nothing has changed`,
		also: []string{`! \[remote rejected\] master -> master \(plan only\)`, "plan: green is live", "plan: 203.0.113.10 would move to blue after a healthy deployment"}},
	{name: "atomic plan", tags: []string{"release-@"}, args: []string{"--atomic", "-o", "plan", "master", "release-@"}, status: 1, last: `^warning: plan only: nothing has changed`,
		also: []string{`master -> master \(plan only\)`, `release-@ -> release-@ \(plan only\)`}},
}

// TestWholePushes pushes branches and tags together, one push after the other
// to the same server: also that a push leaves nothing behind is seen so.
func TestWholePushes(t *testing.T) {
	t.Parallel()
	const parts = 3
	for part := range parts {
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "", "", allHooks...)
			for i, p := range wholePushes {
				if i%parts == part {
					t.Run(strings.ReplaceAll(p.name, " ", "-"), func(t *testing.T) { p.numbered(i).play(c.sub(t)) })
				}
			}
		})
	}
}

// numbered puts a number for "@".
func (p wholePush) numbered(n int) wholePush {
	fill := func(s string) string { return strings.ReplaceAll(s, "@", fmt.Sprint(n)) }
	for _, list := range []*[]string{&p.tags, &p.args, &p.stored, &p.also} {
		filled := make([]string, len(*list))
		for i, s := range *list {
			filled[i] = fill(s)
		}
		*list = filled
	}
	p.last = fill(p.last)
	return p
}

func (p wholePush) play(c *cloud) {
	c.SetOwner(reservedIP, greenDroplet)
	c.dev("reset", "-q", "--hard", c.blue.ref("refs/heads/master"))
	files := map[string]string{"index.html": p.name + "\n"}
	if p.sick {
		files["index.html"] = "-"
	}
	commit := c.blue.commit(files)
	for _, tag := range p.tags {
		c.dev("tag", "-a", "-m", "x", tag)
	}
	c.outside.SetDown(p.dark)
	before, events := c.state(c.blue), len(c.blue.history())
	status, out := c.push(nil, "blue", p.args...)
	c.outside.SetDown(false)
	if status != p.status || c.Unassigns() != 0 {
		c.Errorf("status %d\n%s", status, out)
	}
	c.matches(out, p.last)
	for _, line := range p.also {
		c.says(out, line)
	}
	if got := c.blue.since(events); p.events != nil && !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(p.events))) {
		c.Errorf("the history says %q, want %q", got, p.events)
	} else if p.events == nil && !p.deployed && len(got) > 0 {
		c.Errorf("the history says %q", got)
	}
	p.check(c, before, commit)
	if p.again {
		if status, out := c.push(nil, "blue", p.args...); status != 0 {
			c.Errorf("again: status %d\n%s", status, out)
		}
		p.deployed, p.promoted = true, true
		for _, tag := range p.tags {
			p.stored = append(p.stored, "refs/tags/"+tag)
		}
		p.check(c, before, commit)
	}
}

// check looks at what the push has left.
func (p wholePush) check(c *cloud, before listing, commit string) {
	c.Helper()
	if !p.deployed && !p.promoted {
		c.unchanged(c.blue, before)
		return
	}
	c.holdsMarked(c.blue, commit)
	want := "refs/heads/master " + commit + "\n"
	for line := range strings.Lines(before["refs"] + "\n") {
		if !strings.HasPrefix(line, "refs/heads/master ") {
			want += line
		}
	}
	for _, ref := range p.stored {
		oid := commit
		if strings.HasPrefix(ref, "refs/tags/") {
			oid = c.dev("rev-parse", ref)
		}
		want += ref + " " + oid + "\n"
	}
	sorted := func(refs string) []string {
		return slices.Sorted(slices.Values(strings.Split(strings.TrimSpace(refs), "\n")))
	}
	if got := c.state(c.blue)["refs"]; !slices.Equal(sorted(got), sorted(want)) {
		c.Errorf("the refs are\n%s\nwant\n%s", got, want)
	}
	if owner := map[bool]string{true: "blue", false: "green"}[p.promoted]; c.owner() != owner {
		c.Errorf("%s has the IP", c.owner())
	}
}

// TestAtomicDeletion deletes a tag that promoted together with other changes.
func TestAtomicDeletion(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.dev("tag", "release-1")
	c.SetOwner(reservedIP, blueDroplet)
	if status, out := c.push(nil, "blue", "release-1"); status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	c.SetOwner(reservedIP, greenDroplet)
	second := c.blue.commit(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	status, out := c.push(nil, "blue", "--atomic", "master", "release-2", ":release-1")
	c.matches(out, `^warning: "release-1" is deleted, but no traffic moves`)
	if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/release-1") != "" || c.blue.ref("refs/tags/release-2") != second {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	c.holdsMarked(c.blue, second)
}

// TestPromotionWired tells one story with each way to install the hooks that
// promotes: a tag on what is not deployed, one on what is, and its deletion.
func TestPromotionWired(t *testing.T) {
	t.Parallel()
	for _, hooks := range [][]string{
		allHooks, {"pre-receive", "proc-receive"}, {"proc-receive", "post-receive"}, {"proc-receive"},
		{"pre-receive", "post-receive"}, {"post-receive"},
	} {
		t.Run(strings.Join(hooks, ","), func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, "", "", allHooks...)
			c.rewire(hooks...)
			stops := slices.Contains(hooks, "pre-receive") || slices.Contains(hooks, "proc-receive")
			second := c.deploy(map[string]string{"index.html": "v2\n"})
			c.dev("tag", "release-early", c.first)
			c.dev("tag", "-a", "-m", "x", "release-2")
			before := c.state(c.blue)
			status, out := c.push(nil, "blue", "release-early")
			c.matches(out, `^error: "release-early" is `+c.first[:7]+`, but blue has `+second[:7]+` deployed`)
			if stops {
				c.unchanged(c.blue, before)
			}
			if at := c.blue.ref("refs/tags/release-early"); (status == 1) != stops || (at == "") != stops || c.owner() != "green" {
				t.Errorf("status %d, %s has the IP, the tag is at %q\n%s", status, c.owner(), at, out)
			}
			if last := c.blue.last(); last["event"] != "promote" || last["result"] != "refused" || last["tag"] != "release-early" {
				t.Errorf("the history says %v", last)
			}

			status, out = c.push(nil, "blue", "release-2")
			c.matches(out, `^success: "release-2" \(`+second[:7]+`\) is live`)
			if status != 0 || c.owner() != "blue" || c.blue.ref("refs/tags/release-2") == "" {
				t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
			}
			if last := c.blue.last(); last["event"] != "promote" || last["result"] != "succeeded" || last["commit"] != second {
				t.Errorf("the history says %v", last)
			}
			c.holdsMarked(c.blue, second)

			posts, events := c.posts(), len(c.blue.history())
			status, out = c.push(nil, "blue", "--delete", "release-2")
			c.matches(out, `^warning: "release-2" is deleted, but no traffic moves`)
			if n := strings.Count(out, "no traffic moves"); n != 1 {
				t.Errorf("it is said %d times\n%s", n, out)
			}
			if status != 0 || c.owner() != "blue" || c.posts() != posts || c.blue.ref("refs/tags/release-2") != "" || len(c.blue.history()) != events {
				t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
			}
			c.holdsMarked(c.blue, second)
		})
	}
}

// TestPromotionByPostReceive has the promotions of post-receive fail, alone and
// after a deployment: the refs have moved, the web root and the IP go back.
func TestPromotionByPostReceive(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.rewire("post-receive")
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	c.breakOutside()
	before := c.blue.web(false)
	status, out := c.push(nil, "blue", "release-2")
	c.matches(out, `^error: the outside does not see the release: .*; 203\.0\.113\.10 is back with green`)
	if status != 0 || c.owner() != "green" || c.blue.ref("refs/tags/release-2") != second {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	third := c.blue.commit(map[string]string{"index.html": "v3\n"})
	status, out = c.push(nil, "blue", "-o", "promote", "master")
	c.matches(out, `^error: `+third[:7]+` is not deployed, the web root is as it was: the outside does not see the release`)
	if status != 0 || c.owner() != "green" || c.blue.ref("refs/heads/master") != third {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	if d := diff(before, c.blue.web(false)); d != "" {
		t.Errorf("the web root has changed:\n%s", d)
	}
	c.outside.SetDown(false)
	c.blue.commit(map[string]string{"index.html": "-"})
	c.dev("tag", "release-4")
	status, out = c.push(nil, "blue", "master", "release-4")
	c.says(out, `error: "release-4" does not promote: the deployment of the same push failed`)
	if d := diff(before, c.blue.web(false)); status != 0 || c.owner() != "green" || d != "" {
		t.Errorf("status %d, %s has the IP\n%s\n%s", status, c.owner(), d, out)
	}
	c.dev("reset", "-q", "--hard", third)
	status, out = c.push(nil, "blue", "-f", "-o", "promote", "master")
	c.matches(out, `^success: `+third[:7]+` is live`)
	if status != 0 || c.owner() != "blue" {
		t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
	}
	c.holdsMarked(c.blue, third)
}

// TestPromoteOption refuses the option where it makes no sense.
func TestPromoteOption(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	c.deploy(map[string]string{"index.html": "v2\n"})
	c.dev("tag", "release-2")
	config, err := os.ReadFile(filepath.Join(c.blue.git, "bluegreen.toml"))
	must(t, err)
	for _, row := range []struct {
		name   string
		before func(c *cloud)
		args   []string
		last   string
	}{
		{"nothing deploys", func(*cloud) {}, []string{"release-2"}, `nothing in this push deploys "master"`},
		{"another branch", func(*cloud) {}, []string{"HEAD:refs/heads/side"}, `nothing in this push deploys "master"`},
		{"signers", func(c *cloud) { c.edit(c.blue, "timeout = \"20s\"", "signers = \"/etc/hosts\"") }, []string{"master"}, `only signed tags promote here`},
		{"no promotion", func(c *cloud) { c.blue.configure("") }, []string{"master"}, `promotion is not set up here`},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := c.sub(t)
			must(t, os.WriteFile(filepath.Join(c.blue.git, "bluegreen.toml"), config, 0o644))
			row.before(c)
			c.blue.commit(nil)
			before := c.state(c.blue)
			status, out := c.push(nil, "blue", append([]string{"-o", "promote"}, row.args...)...)
			if status != 1 {
				t.Errorf("status %d\n%s", status, out)
			}
			c.matches(out, `^error: push option "promote": `+row.last)
			c.says(out, "hint: ")
			c.unchanged(c.blue, before)
		})
	}
}

// TestOddTagNames pushes tags whose names a shell, a terminal or a format would
// like to understand: they promote under their names, are refused under their
// names, and nothing raw is printed.
func TestOddTagNames(t *testing.T) {
	t.Parallel()
	c := newCloud(t, "", "", allHooks...)
	seen := filepath.Join(c.blue.dir, "seen")
	c.add(c.blue, fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", `printf %s "$BLUEGREEN_TAG" >`+seen))
	second := c.deploy(map[string]string{"index.html": "v2\n"})
	for _, name := range []string{
		"release-\u202etxt.exe", "release-\u009b31mred\u200b\u2066", "release--rf", "release-$(id)`id`;%s%n%0a'\"ü",
	} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			c := c.sub(t)
			ref := "refs/tags/" + name
			c.SetOwner(reservedIP, greenDroplet)
			os.Remove(seen)
			c.dev("update-ref", ref, c.first)
			for _, args := range [][]string{{ref}, {"-o", "plan", ref}} {
				status, out := c.push(nil, "blue", args...) // looks for what is raw
				if status != 1 || c.blue.ref(ref) != "" || c.owner() != "green" {
					t.Errorf("git push %q: status %d, %s has the IP\n%s", args, status, c.owner(), out)
				}
				_, reason, _ := strings.Cut(out, "[remote rejected]")
				_, reason, _ = strings.Cut(reason, " (")
				if wrong := rawControls("remote:" + reason); wrong != "" {
					t.Errorf("the reason has %s", wrong)
				}
			}
			c.dev("update-ref", ref, second)
			status, out := c.push(nil, "blue", ref)
			if status != 0 || c.blue.ref(ref) != second || c.owner() != "blue" {
				t.Errorf("status %d, %s has the IP\n%s", status, c.owner(), out)
			}
			if got, _ := os.ReadFile(seen); string(got) != name {
				t.Errorf("the command sees %q", got)
			}
			if m, last := c.marker(c.blue), c.blue.last(); m.Tag != name || last["tag"] != name || last["ref"] != ref {
				t.Errorf("the marker says %+v, the history %v", m, last)
			}
			for _, command := range []string{"history", "status"} {
				if wrong := rawControls("remote:" + strings.ReplaceAll(c.blue.run(c.blue.git, "bluegreen", command), "\n", "\nremote:")); wrong != "" {
					t.Errorf("bluegreen %s printed %s", command, wrong)
				}
			}
		})
	}
}
