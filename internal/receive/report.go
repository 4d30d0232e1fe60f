package receive

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
)

// Levels of an outcome, from best to worst.
const (
	success = iota
	warning
	failure
)

// A report collects what became of the refs of a push. Its last line tells the
// worst of it.
type report struct {
	outcomes []outcome
}

type outcome struct {
	level int
	lines []string // details that come before
	hint  string
	text  string // one sentence
}

func (r *report) add(o outcome) { r.outcomes = append(r.outcomes, o) }

// warn adds a warning for each text.
func (r *report) warn(texts []string) {
	for _, text := range texts {
		r.add(outcome{level: warning, text: text})
	}
}

func (r *report) worst() int {
	level := success
	for _, o := range r.outcomes {
		level = max(level, o.level)
	}
	return level
}

// print writes the outcomes, the worst one last, and what is the same of several
// refs once.
func (r *report) print(c *console.Console) {
	said := map[string]bool{}
	for level := success; level <= failure; level++ {
		for _, o := range r.outcomes {
			if o.level != level || said[o.text] {
				continue
			}
			said[o.text] = true
			for _, line := range o.lines {
				c.Say("  %s", line)
			}
			if o.hint != "" {
				c.Hint("%s", o.hint)
			}
			switch level {
			case success:
				c.Success("%s", o.text)
			case warning:
				c.Warning("%s", o.text)
			case failure:
				c.Error("%s", o.text)
			}
		}
	}
}

// deployed tells of a deployment that succeeded.
func deployed(e *deploy.Environment, o *deploy.Outcome) outcome {
	changed := fmt.Sprintf("%s written, %d deleted", count(o.Files.Written, "file"), o.Files.Deleted)
	if o.Repairs > 0 {
		changed += fmt.Sprintf(", %d of them repaired", o.Repairs)
	}
	checked := "nothing was checked"
	if o.Checks > 0 {
		checked = count(o.Checks, "check") + " passed"
	}
	result := outcome{level: success, text: fmt.Sprintf("%s is deployed to %s on %s: %s, %s, in %s",
		o.Commit.Short(), e.Worktree.Dir, e.Name, changed, checked, o.Took)}
	if o.Unrecorded != "" {
		result.level = warning
		result.text += "; but not all of its records could be written: " + o.Unrecorded
		result.hint = "make room if the disk is full, then run \"bluegreen recover\" on the server"
	} else if o.Checks == 0 {
		result.hint = "add [[health]] checks to bluegreen.toml, so that a broken release is taken back"
	}
	return result
}

// promoted tells of a promotion that succeeded.
func promoted(done *deploy.Promoted) outcome {
	what := done.Commit.Short()
	switch {
	case done.Tag != "":
		what = fmt.Sprintf("%q (%s)", done.Tag, done.Commit.Short())
	case done.Commit.IsZero():
		what = done.To
	}
	way := fmt.Sprintf("%s moved from %s to %s", done.What, done.From, done.To)
	switch {
	case done.Already:
		way = fmt.Sprintf("%s was with %s already", done.What, done.To)
	case done.From == "":
		way = fmt.Sprintf("%s, which nobody had, moved to %s", done.What, done.To)
	}
	o := outcome{level: success}
	proof := "the outside was not asked"
	if done.Checks > 0 {
		proof = "seen from outside by " + count(done.Checks, "check")
	} else {
		o.hint = "add [[health]] checks with at = \"promoted\", so that a release that the outside does not see is taken back"
	}
	o.text = fmt.Sprintf("%s is live: %s, %s, in %s", what, way, proof, done.Took.Round(time.Millisecond))
	if done.Seen != "" {
		o.lines = append(o.lines, done.Seen)
	}
	if len(done.Warnings) > 0 {
		o.level = warning
		o.lines = append(o.lines, done.Warnings[1:]...)
		o.text += "; but " + done.Warnings[0]
	}
	return o
}

// ShowPromoted writes the outcome of a promotion that succeeded.
func ShowPromoted(c *console.Console, done *deploy.Promoted) {
	r := report{}
	r.add(promoted(done))
	r.print(c)
}

// Succeeded writes the outcome of a deployment that succeeded.
func Succeeded(c *console.Console, e *deploy.Environment, o *deploy.Outcome) {
	r := report{}
	r.add(deployed(e, o))
	for _, remark := range remarks(o) {
		r.add(remark)
	}
	r.print(c)
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Explain makes an outcome of a deployment's error: the sentence, what led to
// it, and what to do next. known is false when a person must look.
func Explain(err error) (text string, lines []string, hint string, known bool) {
	var fail *deploy.Failure
	var unknown *deploy.Unknown
	var busy *lock.Busy
	switch {
	case errors.As(err, &unknown):
		switch hint = unknown.Hint; {
		case hint != "":
		case errors.Is(err, journal.ErrDamaged):
			hint = "on the server: keep a copy of that record and remove it, then \"bluegreen deploy\" writes what differs from a commit, and \"bluegreen doctor\" says what else is wrong"
		default:
			hint = "look at the server: \"bluegreen recover\" goes on from here"
		}
		return unknown.Error(), nil, hint, false
	case errors.As(err, &fail):
		return fail.Reason, fail.Lines, fail.Hint, true
	case errors.As(err, &busy):
		return busy.Error(), nil, "push again later, or wait longer: git push -o wait=5m", true
	}
	return err.Error(), nil, "", true
}

func failed(err error) outcome {
	text, lines, hint, _ := Explain(err)
	return outcome{level: failure, text: text, lines: lines, hint: hint}
}

// reason makes the one line that git shows behind the ref.
func reason(err error) string {
	text, _, hint, known := Explain(err)
	if !known && strings.Contains(hint, `"bluegreen recover" goes on`) {
		text += "; run \"bluegreen recover\" on the server"
	}
	text = strings.TrimSpace(console.Escape(text))
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "") + "…"
	}
	return text
}
