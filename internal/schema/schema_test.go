package schema

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/gittest"
)

func TestMain(m *testing.M) {
	command.Become(os.Args[1:])
	os.Exit(m.Run())
}

func TestParseRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Range{"4": {4, 4}, "3..4": {3, 4}, "0": {0, 0}, "0..0": {0, 0}, "20261128094500": {20261128094500, 20261128094500}, "007": {7, 7}} {
		if got, err := ParseRange(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"": "not a range", "..": "not a range", "3..": "not a range", "..4": "not a range", "3...4": "not a range", "-1": "not a range",
		"+1": "not a range", " 3": "not a range", "3..4\n": "not a range", "a": "not a range", "3.4": "not a range", "1..2..3": "not a range",
		"4..3": "ends before it begins", "99999999999999999999": "not a range", "1e3": "not a range", "\x1b[31m": `"\x1b[31m"`,
		strings.Repeat("9", 10_000): "not a range",
	} {
		if got, err := ParseRange(text); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 300 {
			t.Errorf("%q: %v, %v", text[:min(len(text), 50)], got, err)
		}
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	r := Range{2, 4}
	for version, want := range map[int]bool{1: false, 2: true, 3: true, 4: true, 5: false} {
		if r.Has(version) != want {
			t.Errorf("%v has %d: %t", r, version, !want)
		}
	}
	for _, text := range []string{"2..4", "3"} {
		if r, err := ParseRange(text); err != nil || r.String() != text {
			t.Errorf("%q became %q, %v", text, r, err)
		}
	}
}

func TestTagVersion(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]int{"schema-4": 4, "4": 4, "db/v12": 12, "schema-0": 0, "v1.2.3": 3, "schema-004": 4} {
		if got, err := TagVersion(tag); err != nil || got != want {
			t.Errorf("%q: %d, %v", tag, got, err)
		}
	}
	for _, tag := range []string{"", "schema-", "schema-4a", "schema-99999999999999999999"} {
		if got, err := TagVersion(tag); err == nil {
			t.Errorf("%q: %d", tag, got)
		}
	}
}

// program writes a shell script.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	gittest.Script(t, path, "#!/bin/sh\n"+script+"\n")
	return path
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]int{"echo 4": 4, "printf 4": 4, "echo ' 12 '": 12} {
		d := &Database{VersionArgv: []string{program(t, script)}, Timeout: time.Minute}
		if got, err := d.Version(t.Context(), nil); err != nil || got != want {
			t.Errorf("%q: %d, %v", script, got, err)
		}
	}
	for script, want := range map[string]string{
		"echo": "printed something else", "echo four": `"four"`, "echo 4; echo 5": "printed something else", "echo -4": "printed something else",
		"echo no connection >&2; exit 3": `exited with status 3, saying "no connection"`,
		`printf '\033[31m'`:              `"\x1b[31m"`,
		"exec sleep 300":                 "asking for the database's version",
	} {
		limit := time.Minute
		if strings.Contains(script, "sleep") {
			limit = 200 * time.Millisecond
		}
		d := &Database{VersionArgv: []string{program(t, script)}, Timeout: limit}
		if got, err := d.Version(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %d, %v", script, got, err)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &Database{MigrateArgv: []string{program(t, `echo "$PWD $1 $2"; exit "$EXIT"`), "{version}", "to-{version}"}, Dir: dir, Timeout: time.Minute}
	var said []string
	pid := 0
	started := func(p int) error { pid = p; return nil }
	if err := d.Migrate(t.Context(), 7, []string{"EXIT=0"}, started, func(line string) { said = append(said, line) }); err != nil || pid == 0 {
		t.Errorf("%v, process %d", err, pid)
	}
	if want := dir + " 7 to-7"; len(said) != 1 || said[0] != want {
		t.Errorf("it said %q, want %q", said, want)
	}
	err := d.Migrate(t.Context(), 7, []string{"EXIT=5"}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "exited with status 5, saying ") || !strings.Contains(err.Error(), "to-7") {
		t.Errorf("%v", err)
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"", "3..4", "4", "..", "4..3", "99999999999999999999..", "3..4\n", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			if len(err.Error()) > 600 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := ParseRange(r.String())
		if err != nil || again != r || r.From < 0 || r.To < r.From || !r.Has(r.From) || !r.Has(r.To) {
			t.Errorf("%q is %+v, which is written %q", text, r, r)
		}
	})
}
