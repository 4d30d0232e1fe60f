//go:build e2e

package e2e_test

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A typed line is one of the README's walk-through, as it stands there.
type typed struct {
	prompt string // "blue#", "green#" or "$"
	line   string // of shell; may go on over several
}

// readWalkThrough reads the consoles at the beginning of the README's chapter on
// installing. Nothing but lines to type may stand in them: two that install, and
// at most four of git's.
func readWalkThrough(t testing.TB) (lines []typed) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	must(t, err)
	_, chapter, found := strings.Cut(string(readme), "\n## Install\n")
	if !found {
		t.Fatal("README.md has no chapter on installing")
	}
	chapter, _, _ = strings.Cut(chapter, "\n#")
	inside, goesOn := false, false
	for line := range strings.Lines(chapter) {
		if strings.HasPrefix(line, "```") {
			inside = line == "```console\n"
			continue
		}
		if !inside {
			continue
		}
		if goesOn {
			lines[len(lines)-1].line += line
		} else {
			prompt, command, _ := strings.Cut(line, " ")
			lines = append(lines, typed{prompt, command})
		}
		goesOn = strings.HasSuffix(line, "\\\n")
	}
	count := make(map[string]int)
	for i, l := range lines {
		lines[i].line = strings.TrimSuffix(l.line, "\n")
		program := map[string]string{"blue#": "./bluegreen install ", "green#": "./bluegreen install ", "$": "git "}[l.prompt]
		if program == "" || !strings.HasPrefix(l.line, program) {
			t.Fatalf("README.md: %q %q is no line of the walk-through", l.prompt, l.line)
		}
		count[l.prompt]++
	}
	if count["blue#"] != 1 || count["green#"] != 1 || count["$"] > 4 {
		t.Fatalf("README.md: the walk-through is longer than two lines that install and four of git's: %v", count)
	}
	return lines
}

// walkThrough does what the README says, from bare servers to production.
func (s *story) walkThrough() {
	s.Helper()
	s.production = visit(s, s.dev, "production", reservedIP)
	var took, git time.Duration
	var last time.Time
	var said string
	for _, l := range readWalkThrough(s) {
		switch l.prompt {
		case "blue#":
			took += s.rehearsed(s.blue, l.line)
		case "green#":
			took += s.installs(s.green, l.line)
		default:
			last = time.Now()
			said, git = s.gits(l.line)
			took += git
		}
	}
	if !strings.Contains(said, "production served green from ") || strings.Contains(said, "failed") {
		s.Error("that nobody had the IP before is no failure")
	}
	served := s.production.first("version-1", last)
	if owner := s.owner(); owner != "green" {
		s.Errorf("%q has the IP after the walk-through", owner)
	}
	from := "bare servers"
	if s.full != nil {
		from = "servers WITH PACKAGES"
	}
	s.figures.add("from "+from+" to production, all lines of the walk-through", took-git+served.Sub(last), nil)
	s.wholly(s.blue, "version-1")
	s.wholly(s.green, "version-1")
	s.undisturbed("from the first tag to production, and since", served.Sub(last), served)
}

// gits runs a line as ann in her work tree, and returns what was said and how
// long it took.
func (s *story) gits(line string) (out string, took time.Duration) {
	s.Helper()
	began := time.Now()
	status, out := s.dev.run(ann, "env", "--chdir=sample_app", "bash", "-c", line)
	took = time.Since(began)
	s.hidden(out)
	s.Logf("ann@dev$ %s    # %.2f s\n%s", line, took.Seconds(), indent(out))
	if status != 0 {
		s.Fatalf("%q: status %d", line, status)
	}
	s.succeeded(out, strings.Count(line, "git push"))
	return out, took
}
