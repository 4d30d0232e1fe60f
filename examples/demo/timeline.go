package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An answer is what came back: the page's text or the status where that is not
// 200, and the environment that it came from, "" where nobody said.
type answer struct{ text, from string }

// The kinds of answers.
type kind int

const (
	page   kind = iota // of one of the versions
	other              // a page that is no version's
	broken             // an error of the server's
	unanswered
)

var version = regexp.MustCompile(`^App v([0-9]+)\b`)

func (a answer) kind() kind {
	switch {
	case strings.HasPrefix(a.text, noAnswer):
		return unanswered
	case strings.HasPrefix(a.text, "status "):
		return broken
	case version.MatchString(a.text):
		return page
	}
	return other
}

// glyph is the answer in one column.
func (a answer) glyph() byte {
	switch a.kind() {
	case page:
		number := version.FindStringSubmatch(a.text)[1]
		return number[len(number)-1]
	case other:
		return '?'
	case broken:
		return '!'
	}
	return 'X'
}

// label is the answer in a few characters.
func (a answer) label() string {
	switch a.kind() {
	case page:
		return "v" + version.FindStringSubmatch(a.text)[1]
	case other:
		return "?"
	case broken:
		return strings.TrimPrefix(a.text, "status ")
	}
	return "none"
}

// A span is a time in which all answers were the same: since the first one,
// until the last one.
type span struct {
	answer
	since, until time.Time
	times        int
}

// A row is what one address answered, in the order of time.
type row struct {
	name  string
	spans []span
}

// ends is when the answer of a span was last valid as far as anybody knows: at
// the next one, which is a request later.
func (r row) ends(i int) time.Time {
	if i+1 < len(r.spans) {
		return r.spans[i+1].since
	}
	return r.spans[i].until
}

// An event is something that was done.
type event struct {
	at      time.Time
	text    string
	refused bool // or failed, or taken back
}

// A timeline is what was done and what was seen of it. The first row is the one
// that matters.
type timeline struct {
	rows   []row
	events []event // in the order of time
	total  string  // how many requests there were, in a sentence
}

// bounds are the times of the first and the last thing in the timeline.
func (t timeline) bounds() (from, to time.Time) {
	see := func(at time.Time) {
		if from.IsZero() || at.Before(from) {
			from = at
		}
		if at.After(to) {
			to = at
		}
	}
	for _, r := range t.rows {
		for _, s := range r.spans {
			see(s.since)
			see(s.until)
		}
	}
	for _, e := range t.events {
		see(e.at)
	}
	return from, to
}

// A scale maps the times of a timeline to a width.
type scale struct {
	from  time.Time
	total time.Duration
	width float64
}

func (t timeline) scale(width float64) scale {
	from, to := t.bounds()
	return scale{from, max(to.Sub(from), time.Millisecond), width}
}

func (s scale) x(at time.Time) float64 {
	return s.width * float64(at.Sub(s.from)) / float64(s.total)
}

func (s scale) column(at time.Time) int { return min(int(s.x(at)), int(s.width)-1) }

// seconds is a time on the axis.
func (s scale) seconds(at time.Time) string { return fmt.Sprintf("%.1f s", at.Sub(s.from).Seconds()) }

// ticks are the round times of the axis, ten or fewer.
func (s scale) ticks() (ticks []time.Time) {
	step := time.Second
	for _, factor := range []time.Duration{2, 5, 10, 30, 60, 300} {
		if s.total/step < 10 {
			break
		}
		step = factor * time.Second
	}
	for at := time.Duration(0); at <= s.total; at += step {
		ticks = append(ticks, s.from.Add(at))
	}
	return ticks
}

// stack puts marks that would overlap on levels above each other: each mark
// begins at its place and takes its size. Places are in ascending order.
func stack(places, sizes []float64) (levels []int) {
	var ends []float64 // of each level
	for i, place := range places {
		level := slices.IndexFunc(ends, func(end float64) bool { return end <= place })
		if level < 0 {
			level, ends = len(ends), append(ends, 0)
		}
		ends[level] = place + sizes[i]
		levels = append(levels, level)
	}
	return levels
}

const (
	textWidth = 80
	textNames = 12 // columns for the rows' names
)

// write draws the timeline in lines of plain ASCII of up to 80 columns.
func (t timeline) write(w io.Writer) error {
	s := t.scale(textWidth - textNames)
	lines := t.marks(s)
	for i, r := range t.rows {
		versions, sources := r.draw(s)
		lines = append(lines, named(r.name, versions))
		if i == 0 {
			lines = append(lines, named("  from", sources), "")
		}
	}
	lines = append(lines, axis(s), "",
		"1, 2 ...  the version that was served      !  the server's error",
		"b, g      blue, green                       X  no answer        ?  another page", "")
	for i, e := range t.events {
		lines = append(lines, fmt.Sprintf("%3d %7s  %s", i+1, s.seconds(e.at), e.text))
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

func named(name, columns string) string {
	return strings.TrimRight(fmt.Sprintf("%-*s%s", textNames, name, columns), " ")
}

// marks are the numbers of the events, the first line uppermost.
func (t timeline) marks(s scale) (lines []string) {
	var places, sizes []float64
	for i, e := range t.events {
		number := fmt.Sprint(i + 1)
		places = append(places, float64(min(s.column(e.at), int(s.width)-len(number))))
		sizes = append(sizes, float64(len(number)+1))
	}
	var levels [][]byte
	for i, level := range stack(places, sizes) {
		if level == len(levels) {
			levels = append(levels, blank(s))
		}
		copy(levels[level][int(places[i]):], fmt.Sprint(i+1))
	}
	for _, level := range slices.Backward(levels) {
		lines = append(lines, named("", string(level)))
	}
	return lines
}

// draw makes a column of each moment: what was answered, and by whom. What went
// wrong, however shortly, is seen.
func (r row) draw(s scale) (versions, sources string) {
	v, from := blank(s), blank(s)
	for _, good := range []bool{true, false} {
		for i, span := range r.spans {
			if good != (span.kind() == page) {
				continue
			}
			for c := s.column(span.since); c <= s.column(r.ends(i)); c++ {
				v[c], from[c] = span.glyph(), append([]byte(span.from), '-')[0]
			}
		}
	}
	return string(v), string(from)
}

func axis(s scale) string {
	line := blank(s)
	for _, tick := range s.ticks() {
		c := s.column(tick)
		text := fmt.Sprintf("|%.0f s", tick.Sub(s.from).Seconds())
		if c+len(text) <= len(line) {
			copy(line[c:], text)
		}
	}
	return named("", string(line))
}

func blank(s scale) []byte { return []byte(strings.Repeat(" ", int(s.width))) }
