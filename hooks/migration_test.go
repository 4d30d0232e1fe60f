package hooks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/gittest"
)

// A shared is a cloud whose environments share a database: a directory with a
// version in a file, moved by a script that a test can make fail or wait.
type shared struct {
	*cloud
	db string
}

// migrateScript moves the "database". Like a tool that holds a lock in the
// database, it refuses to run twice at once.
const migrateScript = `#!/bin/sh
cd "$DATABASE" || exit 9
mkdir lock 2>/dev/null || { echo "another migration is running" >&2; exit 75; }
trap 'rmdir lock' EXIT
echo "moving to $1 for $BLUEGREEN_TAG at $BLUEGREEN_COMMIT"
echo "$1" >>log
[ ! -p gate ] || { echo reached >gate; cat gate >/dev/null; echo "let through"; }
[ ! -e fails ] || exit 3
[ -e stays ] || echo "$1" >version
`

// newMiddle is newShared where both environments serve a release that works with
// these versions of the database.
func newMiddle(t *testing.T, worksWith string) *shared {
	t.Helper()
	s := newShared(t, allHooks...)
	s.release("turquoise", worksWith)
	s.pushes(0, "success:", "blue", "master")
	s.pushes(0, "success:", "green", "-o", "live", "master")
	return s
}

func newShared(t *testing.T, hooks ...string) *shared {
	t.Helper()
	s := &shared{db: t.TempDir()}
	script := filepath.Join(s.db, "migrate")
	gittest.Script(t, script, strings.Replace(migrateScript, "$DATABASE", s.db, 1))
	s.at(t, 1)
	s.cloud = newCloud(t, "", "", hooks...)
	for droplet, server := range map[int]*server{blueDroplet: s.blue, greenDroplet: s.green} {
		other, name := greenDroplet, "green"
		if droplet == greenDroplet {
			other, name = blueDroplet, "blue"
		}
		server.configure(s.config(droplet, fmt.Sprintf(`[peers]
%s = "http://%s/.well-known/release.json"
[database]
manifest = "schema.toml"
version = ["cat", %q]
migrate = [%q, "{version}"]
`, name, s.sites[other], filepath.Join(s.db, "version"), script)))
	}
	s.release("v1", "1")
	s.pushes(0, "success:", "blue", "master")
	s.pushes(0, "success:", "green", "-o", "live", "master")
	return s
}

// at puts the database at a version.
func (s *shared) at(t testing.TB, version int) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(s.db, "version"), fmt.Appendln(nil, version), 0o644))
}

// file reads one of the database's.
func (s *shared) file(name string) string {
	s.Helper()
	data, err := os.ReadFile(filepath.Join(s.db, name))
	must(s, err)
	return string(data)
}

// is holds where the database is against what is wanted.
func (s *shared) is(version int) {
	s.Helper()
	if got := s.file("version"); strings.TrimSpace(got) != fmt.Sprint(version) {
		s.Errorf("the database is at %s, want %d", got, version)
	}
}

// release commits one that works with a range of versions.
func (s *shared) release(page, works string) string {
	s.Helper()
	return s.blue.commit(map[string]string{"index.html": page + "\n", "schema.toml": fmt.Sprintf("works_with = %q\n", works)})
}

// pushes pushes, and holds the status and a part of what is printed against what
// is wanted.
func (s *shared) pushes(status int, want, remote string, args ...string) string {
	s.Helper()
	got, out := s.push(nil, remote, args...)
	if got != status || !strings.Contains(out, want) {
		s.Fatalf("git push %s %s: status %d, want %d and %q\n%s", remote, strings.Join(args, " "), got, status, want, out)
	}
	return out
}

// tag makes a tag of the current commit.
func (s *shared) tag(name string) string {
	s.Helper()
	s.blue.run(s.blue.dev, "git", "tag", "-f", name)
	return name
}

func (s *shared) report(on *server) (r struct {
	WayBack    bool   `json:"way_back"`
	Reason     string `json:"way_back_reason"`
	Schema     *int   `json:"schema"`
	Unfinished *struct {
		Event string `json:"event"`
		To    *int   `json:"schema_to"`
	} `json:"unfinished"`
}) {
	s.Helper()
	must(s, json.Unmarshal([]byte(on.run(on.git, "bluegreen", "status", "--json")), &r))
	return r
}

// TestTurquoise goes the tutorial's way through a change of the database, and
// tries each forbidden step before the right one.
func TestTurquoise(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	v1 := s.blue.ref("refs/heads/master")

	// The migration comes before the release that both structures suit.
	out := s.pushes(1, "error: the database must not move from 1 to 2: blue serves "+v1[:7]+", which works with version 1 of the database", "blue", s.tag("schema-2"))
	if !strings.Contains(out, "hint: deploy a release that works with 2 first") || !strings.Contains(out, "remote rejected") {
		t.Errorf("%s", out)
	}
	if ref := s.blue.ref("refs/tags/schema-2"); ref != "" {
		t.Errorf("the refused tag is at %s", ref)
	}
	turquoise := s.release("turquoise", "1..2")
	s.pushes(0, "success:", "blue", "master")
	s.pushes(1, "green serves "+v1[:7]+", which works with version 1 of the database, and is live", "blue", s.tag("schema-2"))
	out = s.pushes(0, "success:", "blue", s.tag("release-1"))
	if want := "green, the way back, serves " + v1[:7] + ", which works with version 1 of the database"; !strings.Contains(out, want) {
		t.Errorf("there is no %q in\n%s", want, out)
	}
	if r := s.report(s.blue); !r.WayBack || r.Schema == nil || *r.Schema != 1 {
		t.Errorf("%+v", r)
	}
	// Green could not come back.
	s.pushes(1, "hint: deploy a release that works with 2 to green first; or, if nobody needs to go back there: git push -o no-way-back", "blue", s.tag("schema-2"))
	s.is(1)
	s.pushes(0, "success:", "green", "master")
	s.pushes(0, `success: "schema-2" (`+turquoise[:7]+"): the database has moved from 1 to 2", "blue", s.tag("schema-2"))
	s.is(2)
	s.pushes(0, "the database is at 2 already", "green", "schema-2")
	if log := s.file("log"); log != "2\n" {
		t.Errorf("the migrations: %q", log)
	}

	// v1 does not know the new structure.
	s.blue.run(s.blue.dev, "git", "checkout", "-q", v1)
	s.pushes(1, v1[:7]+" works with version 1 of the database, which is at 2", "green", "-f", "HEAD:master")
	s.serves(s.green, "turquoise")
	s.blue.run(s.blue.dev, "git", "checkout", "-q", "master")

	s.release("v3", "2..3")
	s.pushes(0, "success:", "green", "master")
	s.pushes(0, "success:", "green", s.tag("release-2"))
	if r := s.report(s.green); !r.WayBack {
		t.Errorf("%+v", r)
	}
	s.pushes(1, "git push -o no-way-back", "green", s.tag("schema-3"))
	s.pushes(0, "there will be no way back: blue serves "+turquoise[:7], "green", "-o", "no-way-back", "schema-3")
	s.is(3)
	r := s.report(s.green)
	if r.WayBack || !strings.Contains(r.Reason, "blue serves "+turquoise[:7]+", which works with version 1..2 of the database, which is at 3") ||
		!strings.Contains(r.Reason, "no-way-back") {
		t.Errorf("%+v", r)
	}
	s.pushes(1, turquoise[:7]+" works with version 1..2 of the database, which is at 3", "blue", s.tag2("release-3", turquoise))
	s.pushes(0, "success:", "blue", "master")
	s.serves(s.blue, "v3")
	if r := s.report(s.green); !r.WayBack {
		t.Errorf("%+v", r)
	}
	s.checkMigrations()
}

func (s *shared) serves(on *server, page string) {
	s.Helper()
	if got := on.read(filepath.Join("www", "index.html")); got != page+"\n" {
		s.Errorf("%s serves %q, want %q", on.name, got, page)
	}
}

func (s *shared) tag2(name, commit string) string {
	s.Helper()
	s.blue.run(s.blue.dev, "git", "tag", name, commit)
	return name
}

// checkMigrations looks at what the histories say.
func (s *shared) checkMigrations() {
	s.Helper()
	var got []string
	for _, server := range []*server{s.blue, s.green} {
		for _, e := range server.history() {
			if e["event"] == "migrate" {
				got = append(got, fmt.Sprintf("%s %v %v %v %v", server.name, e["result"], e["schema_from"], e["schema_to"], e["schema"]))
			}
		}
	}
	want := []string{" refused 1 2 1", " refused 1 2 1", " refused 1 2 1", " succeeded 1 2 2", "green succeeded 2 2 2", "green refused 2 3 2", "green succeeded 2 3 3"}
	if !slices.Equal(got, want) {
		s.Errorf("the histories say %q, want %q", got, want)
	}
}

// TestMigrationFails: what is said of a migration that did not succeed is where the
// database is.
func TestMigrationFails(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..3")
	knob := func(name string, on bool) {
		path := filepath.Join(s.db, name)
		if on {
			must(t, os.WriteFile(path, nil, 0o644))
		} else {
			must(t, os.Remove(path))
		}
	}
	knob("fails", true)
	s.pushes(1, `the migration failed, and the database is at 1: `, "blue", s.tag("schema-2"))
	knob("fails", false)
	knob("stays", true)
	s.pushes(1, "the migration to 2 ended without an error, but the database is at 1", "blue", "schema-2")
	knob("stays", false)
	must(t, os.Rename(filepath.Join(s.db, "version"), filepath.Join(s.db, "away")))
	s.pushes(1, "asking for the database's version", "blue", "schema-2")
	s.pushes(1, "whether the release works with the database is not known", "blue", "-f", "HEAD~1:master")
	must(t, os.Rename(filepath.Join(s.db, "away"), filepath.Join(s.db, "version")))
	s.pushes(1, "2 tags in this push migrate, and only one can", "blue", "schema-2", s.tag("schema-3"))
	s.release("another", "1..3")
	s.pushes(1, "plan: refs/tags/schema-2 would then move the database from 1 to 2", "blue", "-o", "plan", "master", s.tag("schema-2"))
	s.pushes(1, "a migration cannot be taken back", "blue", "--atomic", "master", s.tag("schema-2"))
	s.pushes(0, "success:", "blue", "master")
	s.blue.run(s.blue.dev, "git", "branch", "-f", "side", "HEAD~1")
	s.pushes(1, "a migration cannot be taken back", "blue", "--atomic", "side", "schema-2")
	s.pushes(1, `"release-1" does not promote: the migration of the same push failed`, "blue", "schema-2", "schema-3", s.tag("release-1"))
	s.pushes(1, "does not say which version", "blue", s.tag("schema-next"))
	s.pushes(1, "plan: refs/tags/schema-2 would move the database from 1 to 2", "blue", "-o", "plan", "schema-2")
	s.is(1)
	s.pushes(0, "success:", "blue", "schema-2")
	s.is(2)
	s.pushes(0, `"schema-2" is deleted, but the database stays as it is`, "blue", ":schema-2")
	s.pushes(1, "error:", "blue", s.tag2("schema-1", s.first))
	s.is(2)
}

// TestMigrationWhilePeerIsAway: nobody migrates without knowing what the other
// environment serves, unless the pusher says so, and it is not live.
func TestMigrationWhilePeerIsAway(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..2")
	s.pushes(0, "success:", "blue", s.tag("release-1"))
	marker := filepath.Join(s.green.www, ".well-known/release.json")
	must(t, os.Rename(marker, marker+".away"))
	s.pushes(1, "what green serves is not known: asking green what it serves", "blue", s.tag("schema-2"))
	if r := s.report(s.blue); r.WayBack || !strings.Contains(r.Reason, "status 404") {
		t.Errorf("%+v", r)
	}
	s.is(1)
	s.pushes(0, "success:", "blue", "-o", "no-way-back", "schema-2")
	s.is(2)
	must(t, os.Rename(marker+".away", marker))
	if r := s.report(s.blue); !r.WayBack {
		t.Errorf("%+v", r)
	}
}

// TestNoWayBackNeedsToKnowWhoIsLive: the option does not break what may be live.
func TestNoWayBackNeedsToKnowWhoIsLive(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	s.release("turquoise", "1..2")
	s.pushes(0, "success:", "blue", "master")
	s.apiDown()
	s.pushes(1, "which works with version 1 of the database, and may be live", "blue", "-o", "no-way-back", s.tag("schema-2"))
	must(t, os.Remove(filepath.Join(s.green.www, ".well-known/release.json")))
	s.pushes(1, "and may be live", "blue", "-o", "no-way-back", "schema-2")
	s.is(1)
}

// TestManifest: a release that does not say what it works with, in a line or two, is
// refused in words about that.
func TestManifest(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	for want, content := range map[string]string{
		`there is no "schema.toml" in it`:  "-",
		"more than the 4096 that are read": "a=" + strings.Repeat("{a=", 300_000),
		"works_with: is missing":           "# none\n",
		`"4..3" ends before it begins`:     "works_with = '4..3'\n",
	} {
		s.blue.commit(map[string]string{"schema.toml": content, "index.html": want})
		s.pushes(1, want, "blue", "-f", "HEAD:master")
	}
	path := filepath.Join(s.blue.dev, "schema.toml")
	must(t, os.RemoveAll(path))
	must(t, os.Symlink("index.html", path))
	s.blue.run(s.blue.dev, "git", "add", "-A")
	s.blue.run(s.blue.dev, "git", "commit", "-qm", "a symlink")
	s.pushes(1, `"schema.toml" is a symlink, not a file`, "blue", "master")
	s.serves(s.blue, "v1")
}

// TestMigrationsAtOnce: both servers are told to migrate; one does, and the other
// says so.
func TestMigrationsAtOnce(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..2")
	gate := filepath.Join(s.db, "gate")
	must(t, syscall.Mkfifo(gate, 0o600))
	s.tag("schema-2")
	first, firstOut := s.blue.start("schema-2")
	s.file("gate") // when the first one is at work
	out := s.pushes(1, "another migration", "green", "-o", "wait=0s", "schema-2")
	if !strings.Contains(out, "remote rejected") {
		t.Errorf("%s", out)
	}
	must(t, os.WriteFile(gate, nil, 0))
	if err := first.Wait(); err != nil || !strings.Contains(firstOut.String(), "the database has moved from 1 to 2") {
		t.Errorf("%v\n%s", err, firstOut)
	}
	s.is(2)
}

// TestMigrationByOneHook: post-receive alone migrates, too, and says what it could
// not refuse; with pre-receive beside it, it is refused.
func TestMigrationByOneHook(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	for _, server := range []*server{s.blue, s.green} {
		must(t, os.Remove(filepath.Join(server.git, "hooks/proc-receive")))
		must(t, os.Remove(filepath.Join(server.git, "hooks/pre-receive")))
		server.run(server.git, "git", "config", "--unset-all", "receive.procReceiveRefs")
	}
	out := s.pushes(0, "error: the database must not move from 1 to 2", "blue", s.tag("schema-2"))
	if !strings.Contains(out, "git has stored the tag: remove it (git push --delete), then push it again") {
		t.Errorf("%s", out)
	}
	s.is(1)
	must(t, installHooks(s.blue.git, s.blue.bin, "pre-receive"))
	s.pushes(0, "but the database stays as it is", "blue", "--delete", "schema-2")
	s.pushes(1, "pre-receive hook declined", "blue", "schema-2")
	s.release("turquoise", "1..2")
	s.pushes(0, "success:", "green", "-o", "live", "master")
	s.pushes(0, "the database has moved from 1 to 2", "blue", "master", s.tag("schema-2"))
	s.is(2)
}

// behind makes blue live with a release that works with 1 and 2, while green holds one
// that works with 1 alone.
func (s *shared) behind() (v1 string) {
	s.Helper()
	v1 = s.blue.ref("refs/heads/master")
	s.release("turquoise", "1..2")
	s.pushes(0, "success:", "blue", "master")
	s.pushes(0, "success:", "blue", s.tag("release-1"))
	return v1
}

// TestTrafficMovesDuringMigration: what was not live when the migration was begun, and
// the pusher gave up, is live at its end.
func TestTrafficMovesDuringMigration(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	v1 := s.behind()
	gate := filepath.Join(s.db, "gate")
	must(t, syscall.Mkfifo(gate, 0o600))
	s.tag("schema-2")
	push, out := s.blue.start("-o", "no-way-back", "schema-2")
	s.file("gate") // when it is at work
	s.green.run(s.green.git, "bluegreen", "promote")
	must(t, os.WriteFile(gate, nil, 0))
	err := push.Wait()
	want := "warning: \"schema-2\" (" + s.blue.ref("refs/heads/master")[:7] + "): the database has moved from 1 to 2"
	if last := lastLine(out.String()); err != nil || !strings.HasPrefix(last, want) ||
		!strings.Contains(last, "but green serves "+v1[:7]+", which works with version 1 of the database, and is live") {
		t.Errorf("%v\n%s", err, out)
	}
	s.is(2)
	s.blue.run(s.blue.git, "bluegreen", "promote")
	if owner := s.owner(); owner != "blue" {
		t.Errorf("%s is live", owner)
	}
}

// TestMigrationDuringPromotion: the release worked with the database when the
// promotion was begun, and does not when the traffic has moved. It goes back.
func TestMigrationDuringPromotion(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	v1 := s.behind()
	gate := s.green.newGate()
	must(t, appendTo(filepath.Join(s.green.git, "bluegreen.toml"), fmt.Sprintf("[[command]]\nat = \"promoting\"\nrun = [\"/bin/sh\", \"-c\", %q]\n", gate.Script)))
	promotion := s.green.command(s.green.git, "bluegreen", "promote")
	var said bytes.Buffer
	promotion.Stdout, promotion.Stderr = &said, &said
	must(t, promotion.Start())
	gate.wait()
	s.pushes(0, "the database has moved from 1 to 2", "blue", "-o", "no-way-back", s.tag("schema-2"))
	gate.pass()
	err := promotion.Wait()
	if want := v1[:7] + " works with version 1 of the database, which is at 2"; err == nil || !strings.Contains(said.String(), want) {
		t.Errorf("%v, want %q\n%s", err, want, said.String())
	}
	if owner := s.owner(); owner != "blue" {
		t.Errorf("%s is live", owner)
	}
}

// TestDatabaseExamined has doctor and plan look at the database and at the other
// environment.
func TestDatabaseExamined(t *testing.T) {
	t.Parallel()
	s := newShared(t, allHooks...)
	says := func(want string, check ...string) {
		t.Helper()
		_, e := s.blue.doctor(t)
		for _, f := range e.Findings {
			if slices.Contains(check, f.Check) && strings.Contains(f.Text, want) && (f.Level == "ok") == (f.Fix == "") {
				return
			}
		}
		t.Errorf("doctor does not say %q, but %+v", want, e.Findings)
	}
	says("works with version 1", "database")
	says("each of 1 other environments says what it serves", "peers")
	if out := s.blue.run(s.blue.git, "bluegreen", "plan"); !strings.Contains(out, "plan: it works with version 1 of the database, as that is") {
		t.Errorf("%s", out)
	}
	s.at(t, 2)
	says("the database is at 2, and ", "database")
	if out := s.blue.run(s.blue.git, "bluegreen", "plan"); !strings.Contains(out, "works with version 1 of the database, which is at 2") {
		t.Errorf("%s", out)
	}
	must(t, os.WriteFile(filepath.Join(s.db, "version"), []byte("none"), 0o644))
	says(`"none" is not a version`, "database")
	must(t, os.Remove(filepath.Join(s.green.www, ".well-known/release.json")))
	says("what green serves is not known", "peers")
}
