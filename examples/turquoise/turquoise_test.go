//go:build e2e

// Package turquoise_test goes the whole way of the example with the files as they are
// shipped: real web servers, a real database, real pushes, and guests who read and
// write all the time.
package turquoise_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPostgreSQL has Apache with PHP for each environment. What keeps two migrations
// apart is the database's own lock: two servers do not see each other's.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPostgres()
	w.startApaches()
	w.begin()
	w.story(w.bothMigrate)
}

// TestSQLite needs PHP alone, with the web server that it has built in. Both
// environments are on the database's machine, where a lock of bluegreen's has a name.
func TestSQLite(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.database = "sqlite:" + w.path("guestbook.sqlite")
	w.together = true
	w.startPHPs()
	w.begin()
	w.story(w.oneMigrates)
}

// story is the README's, with each step that is refused before the one that is not.
// second has the schema moved to 2 by both servers.
func (w *world) story(second func()) {
	began := time.Now()
	w.is("green", 1)
	w.guests = w.visit()
	w.sees("v1", 1)
	// v1 is everywhere, and green is live.
	w.refused("the database must not move from 1 to 2: blue serves", "deploy a release that works with 2 first", "blue", w.tag("schema-2", "v1"))
	w.refused("works with version 2 of the database, which is at 1", "first migrate the database to 2", "blue", w.head("v2"))
	w.refused("works with version 2..3 of the database, which is at 1", "first migrate the database to 2", "blue", w.head("v3"))
	w.refused("green is live", "-o live", "green", w.head("turquoise"))

	w.pushed("blue", w.head("turquoise"))
	w.refused("which works with version 1 of the database, and is live", "deploy a release that works with 2 to green first", "blue", w.tag("schema-2", "turquoise"))
	w.refused("which works with version 1 of the database, and is live", "deploy a release that works with 2 to green first", "blue", "-o", "no-way-back", "schema-2")
	w.thereAndBack("blue", "turquoise", "v1", 1)
	w.refused("the database must not move from 1 to 2: green serves", "deploy a release that works with 2 to green first", "blue", "schema-2")
	w.pushed("green", w.head("turquoise"))

	second()
	w.is("blue", 2)
	w.sees("turquoise", 2)
	w.refused("works with version 1 of the database, which is at 2", "deploy a release that works with 2", "green", "-f", w.head("v1"))
	w.refused("the database must not move from 2 to 3: green serves", "deploy a release that works with 3 first", "green", w.tag("schema-3", "turquoise"))
	w.refused("the migration failed, and the database is at 2", "mend what it says", "green", w.tag("schema-1", "turquoise"))
	w.thereAndBack("green", "turquoise", "turquoise", 2)

	w.pushed("blue", w.head("v2"))
	w.thereAndBack("blue", "v2", "turquoise", 2)
	w.refused("which works with version 2 of the database", "deploy a release that works with 3 first", "blue", w.tag("schema-3", "v2"))

	w.pushed("green", w.head("v3"))
	w.refused("which works with version 2 of the database, and is live", "deploy a release that works with 3 to blue first", "green", w.tag("schema-3", "v3"))
	w.refused("which works with version 2 of the database, and is live", "deploy a release that works with 3 to blue first", "green", "-o", "no-way-back", "schema-3")
	w.thereAndBack("green", "v3", "v2", 2)
	w.refused("the database must not move from 2 to 3: blue serves", "deploy a release that works with 3 to blue first", "green", "schema-3")
	w.pushed("blue", w.head("v3"))

	w.migratedByADeadHook()
	w.is("green", 3)
	w.sees("v3", 3)
	for _, release := range []string{"v1", "turquoise", "v2"} {
		w.refused("of the database, which is at 3", "deploy a release that works with 3", "blue", "-f", w.head(release))
	}
	w.thereAndBack("blue", "v3", "v3", 3)
	w.end(time.Since(began))
}

// bothMigrate has blue's hook and its program killed while they migrate, and then both
// servers told to migrate at once.
func (w *world) bothMigrate() {
	before := w.state()
	visit := w.slowVisit("blue")
	push := w.start("blue", w.tag("schema-2", "turquoise"))
	w.until("blue migrates", push.says("waiting for the requests"))
	must(w, syscall.Kill(w.holder("blue"), syscall.SIGKILL))
	must(w, syscall.Kill(-w.migration("blue"), syscall.SIGKILL))
	push.fails("")
	visit()
	w.recovers("blue", 1)
	if after := w.state(); after != before {
		w.Errorf("a migration that was killed has left\n%s\nof\n%s", after, before)
	}

	visit = w.slowVisit("green")
	push = w.start("blue", "schema-2")
	w.until("blue migrates", push.says("waiting for the requests"))
	w.failed("another migration of this database is running; push the tag again when it has ended", "push the tag again", "green", "schema-2")
	visit()
	push.succeeds(`success: "schema-2" (` + w.commits["turquoise"][:7] + "): the database has moved from 1 to 2")
	w.pushed("green", "schema-2", "the database is at 2 already")
}

// oneMigrates has the second server find out, from bluegreen itself, that the first
// one is at it.
func (w *world) oneMigrates() {
	visit := w.slowVisit("green")
	push := w.start("blue", w.tag("schema-2", "turquoise"))
	w.until("blue migrates", push.says("waiting for the requests"))
	w.refused("migration by", "", "green", "-o", "wait=0s", "schema-2")
	visit()
	push.succeeds("the database has moved from 1 to 2")
	w.pushed("green", "schema-2", "the database is at 2 already")
}

// migratedByADeadHook kills the hook, but not the program that migrates. That goes on,
// and the recovery waits for it.
func (w *world) migratedByADeadHook() {
	visit := w.slowVisit("blue")
	push := w.start("green", w.tag("schema-3", "v3"))
	w.until("green migrates", push.says("waiting for the requests"))
	must(w, syscall.Kill(w.holder("green"), syscall.SIGKILL))
	push.fails("")
	if r := w.status("green"); r.Unfinished == nil || r.Unfinished.Event != "migrate" || r.Schema == nil || *r.Schema != 2 {
		w.Errorf("status of what is unfinished: %+v", r)
	}
	visit()
	w.recovers("green", 3)
	if ref := w.refs("green"); !strings.Contains(ref, "refs/tags/schema-3") {
		w.Errorf("the tag is not there after the recovery:\n%s", ref)
	}
	w.pushed("blue", "schema-3", "the database is at 3 already")
}

// recovers runs bluegreen recover, which must say at which version the database is, as
// bluegreen status must afterwards.
func (w *world) recovers(environment string, version int) {
	w.Helper()
	status, out := w.bluegreen(environment, "recover")
	if want := fmt.Sprintf("the database is at %d", version); status != 0 || !strings.Contains(out, want) {
		w.Errorf("bluegreen recover: %d, want %q\n%s", status, want, out)
	}
	if r := w.status(environment); r.Unfinished != nil || r.Schema == nil || *r.Schema != version {
		w.Errorf("status after a recovery: %+v", r)
	}
	if got := w.version(); got != version {
		w.Errorf("the database is at %d, want %d", got, version)
	}
}

// thereAndBack moves the traffic to an environment by a tag, back by a rollback, and
// there again. Guests read and write meanwhile, and get the release that is there.
func (w *world) thereAndBack(to, release, former string, version int) {
	w.Helper()
	w.releases++
	w.pushed(to, w.tag(fmt.Sprintf("release-%d", w.releases), release), " is live: "+reservedIP+" moved from "+other(to)+" to "+to)
	w.is(to, version)
	w.sees(release, version)
	for _, c := range []struct{ verb, to, release string }{{"rollback", other(to), former}, {"promote", to, release}} {
		if status, out := w.bluegreen(to, c.verb); status != 0 || !strings.Contains(out, "success: ") {
			w.Errorf("bluegreen %s on %s: %d\n%s", c.verb, to, status, out)
		}
		w.is(c.to, version)
		w.sees(c.release, version)
	}
}

// end looks whether anything was lost, or seen that must not be.
func (w *world) end(took time.Duration) {
	acknowledged := w.guests.leave()
	rows := w.rows()
	for message, name := range acknowledged {
		if got := rows[message]; got != name {
			w.Errorf("%q by %q is in the database by %q", message, name, got)
		}
	}
	if len(rows) != len(acknowledged) {
		w.Errorf("the database has %d entries, and %d were acknowledged", len(rows), len(acknowledged))
	}
	want := map[string]bool{}
	for _, met := range []string{"v1, database 1", "turquoise, database 1", "turquoise, database 2", "v2, database 2", "v3, database 2", "v3, database 3"} {
		want[met] = true
	}
	for met, n := range w.guests.met {
		if !want[met] {
			w.Errorf("guests met %q %d times", met, n)
		}
	}
	for _, log := range w.logs {
		if text := w.read(log); strings.Contains(text, "of the database, which is at") || strings.Contains(text, "PHP ") {
			w.Errorf("%s says\n%s", filepath.Base(log), text)
		}
	}
	w.Logf("MEASURED %s: %d requests, 0 failed; %d rows acknowledged, %d in the database; %d steps refused, %d moves of the traffic, in %.1f s",
		w.Name(), w.guests.requests, len(acknowledged), len(rows), w.steps, len(w.cloud.Moves()), took.Seconds())
	w.Logf("guests met %v", w.guests.met)
}
