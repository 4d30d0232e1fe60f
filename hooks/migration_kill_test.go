package hooks_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"bluegreen/internal/gittest"
)

// TestMigrationKilled kills the hook at each step of a migration. Recovery says
// where the database is, and the ref and the history agree with that.
func TestMigrationKilled(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..99")
	for step, version := 1, 2; ; step, version = step+1, version+1 {
		tag := s.tag(fmt.Sprintf("schema-%d", version))
		status, out := s.push([]string{fmt.Sprintf("BLUEGREEN_DIE_AT=%d", step)}, "blue", tag)
		if r := s.report(s.blue); r.Unfinished != nil && (r.Unfinished.Event != "migrate" || r.Unfinished.To == nil || *r.Unfinished.To != version) {
			t.Errorf("step %d: unfinished is %+v", step, r.Unfinished)
		}
		s.blue.run(s.blue.git, "bluegreen", "recover")
		if r := s.report(s.blue); r.Unfinished != nil {
			t.Errorf("step %d: unfinished is %+v", step, r.Unfinished)
		}
		var last map[string]any
		for _, e := range s.blue.history() {
			if e["event"] == "migrate" && e["schema_to"] == float64(version) {
				last = e
			}
		}
		moved := strings.TrimSpace(s.file("version")) == fmt.Sprint(version)
		switch {
		case last == nil && moved, last != nil && (last["result"] == "succeeded") != moved:
			t.Errorf("step %d: the history says %v, and the database is at %s\n%s", step, last, s.file("version"), out)
		case moved != (s.blue.ref("refs/tags/"+tag) != ""):
			t.Errorf("step %d: the ref is at %q, and the database at %s\n%s", step, s.blue.ref("refs/tags/"+tag), s.file("version"), out)
		case status == 0 && step < 5:
			t.Fatalf("step %d: the hook was not killed\n%s", step, out)
		}
		if status == 0 {
			return
		}
		s.pushes(0, "", "blue", tag)
		s.is(version)
	}
}

// TestMigrationOutlivesItsHook: the program goes on when the hook is killed, and
// the recovery waits for it.
func TestMigrationOutlivesItsHook(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..2")
	gate := filepath.Join(s.db, "gate")
	must(t, syscall.Mkfifo(gate, 0o600))
	s.tag("schema-2")
	push, out := s.blue.start("schema-2")
	s.file("gate") // when it is at work
	must(t, syscall.Kill(s.blue.holder(), syscall.SIGKILL))
	if err := push.Wait(); err == nil {
		t.Errorf("the push succeeded\n%s", out)
	}
	recovery := s.blue.command(s.blue.git, "bluegreen", "recover")
	var said bytes.Buffer
	recovery.Stdout, recovery.Stderr = &said, &said
	must(t, recovery.Start())
	s.blue.until("the recovery is at work", s.blue.locked)
	must(t, os.WriteFile(gate, nil, 0))
	if err := recovery.Wait(); err != nil || !strings.Contains(said.String(), "the database is at 2") {
		t.Errorf("%v\n%s", err, said.String())
	}
	s.is(2)
	if last := s.blue.last(); last["event"] != "recover" || last["schema"] != 2.0 {
		t.Errorf("%v", last)
	}
}

// TestMigrationNotSettled puts one thing after the other into the way of a recovery
// that asks what became of a migration, and has the tag moved elsewhere before it
// comes to that: what is said in the end is where the database is.
func TestMigrationNotSettled(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..4")
	gate := filepath.Join(s.db, "gate")
	must(t, syscall.Mkfifo(gate, 0o600))
	s.tag("schema-2")
	push, _ := s.blue.start("schema-2")
	s.file("gate") // when it is at work
	if record := s.blue.read("srv.git/bluegreen/migration.json"); !strings.Contains(record, `"process":`) {
		t.Errorf("the record does not name the process: %s", record)
	}
	must(t, syscall.Kill(s.blue.holder(), syscall.SIGKILL))
	push.Wait()
	events := len(s.blue.history())
	s.edit(s.blue, "[database]\n", "[database]\ntimeout = \"1s\"\n")
	changed := func(old, new string) func(*server) func() {
		return func(on *server) func() {
			before := on.read("srv.git/bluegreen.toml")
			from, _, _ := strings.Cut(before, old)
			must(t, os.WriteFile(filepath.Join(on.git, "bluegreen.toml"), []byte(from+new), 0o644))
			return func() { must(t, os.WriteFile(filepath.Join(on.git, "bluegreen.toml"), []byte(before), 0o644)) }
		}
	}
	s.blue.obstruct([]obstacle{{"the program still runs", func(*server) func() { return func() {} }, "is still running (process "}})
	must(t, os.WriteFile(gate, nil, 0))
	s.blue.until("the program has ended", func() bool {
		_, err := os.Stat(filepath.Join(s.db, "lock"))
		return os.IsNotExist(err)
	})
	s.is(2)
	s.blue.obstruct([]obstacle{
		{"the record is not readable", damages("bluegreen/migration.json"), "journal is damaged"},
		{"there is no database any more", changed("[peers]", ""), "there is no [database] in the configuration any more"},
		{"the version cannot be read", func(*server) func() {
			must(t, os.Rename(filepath.Join(s.db, "version"), filepath.Join(s.db, "away")))
			return func() { must(t, os.Rename(filepath.Join(s.db, "away"), filepath.Join(s.db, "version"))) }
		}, "asking for the database's version"},
		{"a directory is where the history was", occupies("srv.git/bluegreen/history.jsonl"), "history"},
	})
	s.blue.run(s.blue.git, "git", "update-ref", "refs/tags/schema-2", s.first)
	if said := s.blue.recovers(); !strings.Contains(said, "the database is at 2") {
		t.Errorf("it says\n%s", said)
	}
	last := s.blue.last()
	if got := s.blue.since(events); !slices.Equal(got, []string{"migrate succeeded", "recover succeeded"}) || !strings.Contains(last["reason"].(string), "the database is at 2; but ") {
		t.Errorf("the history says %q, and last %v", got, last)
	}
	if at := s.blue.ref("refs/tags/schema-2"); at != s.first {
		t.Errorf("the tag is at %s", at)
	}

	// What moves the database says that it has failed, although the version is new.
	script := filepath.Join(s.db, "migrate")
	must(t, os.Remove(gate))
	gittest.Script(t, script, fmt.Sprintf("#!/bin/sh\necho $1 >%s/version; exit 3\n", s.db))
	out := s.pushes(1, "the migration failed, and the database is at 3: ", "blue", s.tag("schema-3"))
	if !strings.Contains(out, "hint: the version is what was asked for: look whether the rest of the migration is complete") {
		t.Errorf("%s", out)
	}
	// And nobody can tell how far it has come.
	gittest.Script(t, script, fmt.Sprintf("#!/bin/sh\nrm %s/version; exit 3\n", s.db))
	s.pushes(1, "nobody can tell which version the database is at: ", "blue", s.tag("schema-4"))
	if r := s.report(s.blue); r.Unfinished == nil || r.Unfinished.Event != "migrate" {
		t.Errorf("unfinished is %+v", r.Unfinished)
	}
	s.at(t, 3)
	if said := s.blue.recovers(); !strings.Contains(said, "the database is at 3") || s.blue.ref("refs/tags/schema-4") != "" {
		t.Errorf("it says\n%s", said)
	}
	// Or somebody makes the tag meanwhile.
	gittest.Script(t, script, fmt.Sprintf("#!/bin/sh\necho $1 >%s/version; git --git-dir=%s update-ref refs/tags/schema-4 %s\n", s.db, s.blue.git, s.first))
	s.pushes(1, "the database is at 4, but the ref could not move: ", "blue", "schema-4")
	if at := s.blue.ref("refs/tags/schema-4"); at != s.first || s.report(s.blue).Unfinished != nil {
		t.Errorf("the tag is at %s", at)
	}
}

// TestMigrationKilledThenAnotherPush: the tag of a migration that a killed hook had
// begun is made by whichever hook settles it, also by the gate.
func TestMigrationKilledThenAnotherPush(t *testing.T) {
	t.Parallel()
	s := newMiddle(t, "1..2")
	s.push([]string{"BLUEGREEN_DIE_AT=3"}, "blue", s.tag("schema-2"))
	s.is(2)
	s.release("next", "2")
	s.pushes(0, "success:", "blue", "master")
	if s.blue.ref("refs/tags/schema-2") == "" {
		t.Errorf("the tag was not made: %v", s.blue.history())
	}
}
