package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// small is a bench that works in directories of the test, with a few files.
func small(t *testing.T, contestants ...string) (*bench, *place) {
	t.Helper()
	home := t.TempDir()
	sh, err := newShell(home, "/nonexistent")
	if err != nil {
		t.Fatal(err)
	}
	p := &place{name: tmpfs, dir: t.TempDir(), servers: map[string]*server{}, sites: map[string]*site{}}
	o := options{contestants: contestants, rounds: 2, scale: 0.0003, scenarios: []string{"tiny", "few", "far-back", history, "cold"}}
	return &bench{options: o, out: &bytes.Buffer{}, shell: sh, dir: home, sites: map[string]*site{}}, p
}

// TestBench runs scenarios of each kind with the contestants that need no programs of
// ours. Times are not looked at.
func TestBench(t *testing.T) {
	t.Parallel()
	b, p := small(t, plain, script, archive)
	s, err := b.shell.makeSite(t.Context(), plan{name: "own", files: 6, perDirectory: 2, steps: 5, changed: 2}, filepath.Join(p.dir, "own"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.shell.git(t.Context(), s.source(), "update-ref", branch, s.steps[5]); err != nil {
		t.Fatal(err)
	}
	b.repository = s.source()
	if err := b.measureAt(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	for _, name := range b.scenarios {
		s, _ := scenarioNamed(name)
		measured := b.results.find(name, tmpfs)
		if measured == nil {
			t.Errorf("%s was not measured: %s", name, b.out)
			continue
		}
		for _, site := range s.sites {
			l := measured.lane(site, script)
			if l == nil {
				t.Errorf("%s with %s was not measured", s.name, site)
				continue
			}
			if len(l.Samples) != 2 {
				t.Errorf("%s with %s has %d rounds, and not 2", s.name, site, len(l.Samples))
			}
			if one := l.Samples[0]; one.Whole <= 0 || one.CPU <= 0 || one.hooks() > one.Whole || (len(one.Hooks) == 1) != (s.metric != wholePush) {
				t.Errorf("%s with %s: %+v", s.name, site, one)
			}
		}
	}
	for _, key := range b.contestants {
		if left, err := filepath.Glob(filepath.Join(p.dir, key+"-*")); err != nil || len(left) > 0 {
			t.Errorf("%q are still there: %v", left, err)
		}
	}
}

// TestSite: the same commits on every machine.
func TestSite(t *testing.T) {
	t.Parallel()
	b, p := small(t)
	s, err := b.shell.makeSite(t.Context(), plan{files: 12, perDirectory: 3, large: 1000, steps: 2, changed: 2}, filepath.Join(p.dir, "site"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join([]string{s.base, s.steps[2], s.same[2], s.far}, "\n")
	const want = "e8f6beb0102593547f055cf1d6c2e898fbce5a53\n86a0f7480c5c78bb93dbd9cdd60272bb07c19151\n" +
		"db93e54189fa815e7dc4f89811b10866130a28e5\na4a7705ec1fedea6e673891e2d0775fe7b495b4e"
	if got != want {
		t.Errorf("the commits are\n%s", got)
	}
	changed, err := b.shell.git(t.Context(), s.source(), "diff-tree", "-r", "--name-only", s.steps[1], s.steps[2])
	if err != nil || len(strings.Fields(changed)) != 2 {
		t.Errorf("a step changes %q, %v", changed, err)
	}
}

// TestCheck: a contestant that leaves anything wrong is found out.
func TestCheck(t *testing.T) {
	t.Parallel()
	b, p := small(t)
	s, err := b.shell.makeSite(t.Context(), plan{files: 6, perDirectory: 2, steps: 1, changed: 2}, filepath.Join(p.dir, "site"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := newServer(t.Context(), b.shell, p.fresh("script"), s, script)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.bring(t.Context(), b.shell, s.steps[1]); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(v.www, "index.html")
	whole, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func() error{
		"":          func() error { return nil },
		"has the":   func() error { return os.Chmod(page, 0o755) },
		" is ":      func() error { return os.WriteFile(page, []byte("other\n"), 0o644) },
		"no such":   func() error { return os.Remove(page) },
		"index.htm": func() error { return errors.Join(os.Remove(page), os.Symlink("/etc/hostname", page)) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		err := v.check(t.Context(), b.shell, s.base)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%v, and not %q", err, want)
		}
		if err := errors.Join(remove(page), os.WriteFile(page, whole, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	gone := entry{"000000", "", "index.html"}
	if err := v.holds(gone); err == nil || !strings.Contains(err.Error(), "still there") {
		t.Errorf("a file that should be gone: %v", err)
	}
}

func TestParseEntries(t *testing.T) {
	t.Parallel()
	got, err := parseEntries(":100644 100755 aa bb M\x00a file\x00:100644 000000 cc 00 D\x00b\x00")
	want := []entry{{"100755", "bb", "a file"}, {"000000", "00", "b"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, and not %v", got, err, want)
	}
	got, err = parseEntries("120000 blob aa\ta link\x00040000 tree bb\tdir\x00")
	if want := []entry{{"120000", "aa", "a link"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, and not %v", got, err, want)
	}
	for _, text := range []string{":100644 100755 aa bb M\x00", ":100644 100755\x00a\x00", "blob aa\tx\x00"} {
		if got, err := parseEntries(text); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestParseOptions(t *testing.T) {
	t.Parallel()
	o, err := parseOptions(strings.Fields("-scenario cold,tiny -place ext4 -contestant script,verify -rounds 3 -out there"))
	if err != nil || !slices.Equal(o.scenarios, []string{"tiny", "cold"}) || !slices.Equal(o.places, []string{ext4}) ||
		!slices.Equal(o.contestants, []string{script, verify}) || o.rounds != 3 || o.scale != 1 || o.to != "there" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"-scenario warm", "-place disk", "-contestant me", "-scale 0", "-scale 2", "cold"} {
		if _, err := parseOptions(strings.Fields(args)); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// TestLeftOut: what is not there is said once, and is no error.
func TestLeftOut(t *testing.T) {
	t.Parallel()
	b, _ := small(t)
	for range 2 {
		err := error(leftOut("no such thing"))
		if !b.skipped("ext4", &err) || err != nil {
			t.Error("it was not skipped")
		}
	}
	if err := errors.New("broken"); b.skipped("ext4", &err) || err == nil {
		t.Error("an error was skipped")
	}
	if got := b.out.(*bytes.Buffer).String(); got != "ext4: left out: no such thing\n" || len(b.results.LeftOut) != 1 {
		t.Errorf("%q, %q", got, b.results.LeftOut)
	}
}
