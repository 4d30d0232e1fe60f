package operator

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"bluegreen/internal/console"
)

// A style is how a terminal shows text: the parameters of an SGR sequence, ""
// for as it is.
type style string

const (
	plain  style = ""
	strong style = "1"
	faint  style = "2"
	bad    style = "1;31" // red
	good   style = "32"   // green
	odd    style = "33"   // yellow
)

// A cell is text to show, as it came: it is escaped when it is written.
type cell struct {
	text  string
	style style
}

// A screen writes lines for people. All text is escaped.
type screen struct {
	w      io.Writer
	width  int // columns of the terminal; 0 where there is none, and nothing is cut
	colour bool
}

// newScreen finds out what w is.
func newScreen(w io.Writer, getenv func(string) string) *screen {
	s := &screen{w: w}
	f, ok := w.(*os.File)
	if !ok {
		return s
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return s
	}
	s.width = int(size.Col)
	if s.width == 0 { // a terminal that does not know
		s.width = 80
	}
	s.colour = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && getenv("TERM") != ""
	return s
}

func (s *screen) paint(c cell) string {
	text := console.Escape(c.text)
	if !s.colour || c.style == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c.style) + "m" + text + "\x1b[0m"
}

// A row is a name and what there is to say about it. A row without a name goes
// on with the one before.
type row struct {
	name  cell
	value cell
	// whole tells that the value is wrapped where it is too long, and not cut:
	// there is something in it to be typed, or to be read to its end.
	whole bool
	// below tells that the value has lines of its own, below the name.
	below bool
}

// below is how far values are indented that stand below their names.
const below = 2

// rows writes rows with their values below each other.
func (s *screen) rows(rows []row) {
	names := nameWidth(rows)
	for _, r := range rows {
		name, indent := s.paint(r.name), names
		if r.below {
			if r.name.text != "" {
				fmt.Fprintln(s.w, name)
			}
			name, indent = strings.Repeat(" ", below), below
		} else {
			name += strings.Repeat(" ", indent-textWidth(r.name.text))
		}
		lines := []string{cut(r.value.text, s.room(indent))}
		if r.whole {
			lines = wrap(r.value.text, s.room(indent))
		}
		for _, line := range lines {
			fmt.Fprintf(s.w, "%s%s\n", name, s.paint(cell{line, r.value.style}))
			name = strings.Repeat(" ", indent)
		}
	}
}

// nameWidth is how many columns the names of rows take, with the space after
// them.
func nameWidth(rows []row) int {
	width := 0
	for _, r := range rows {
		width = max(width, textWidth(r.name.text)+2)
	}
	return width
}

// room is how many columns there are behind an indent; 0 is no limit.
func (s *screen) room(indent int) int {
	if s.width == 0 {
		return 0
	}
	return max(s.width-indent, 20)
}

// align pads the cells of each column to the same width, and returns a line for
// each row. Columns are two spaces apart; one in which all cells are empty is
// left out.
func (s *screen) align(table [][]cell) []string {
	var widths []int
	for _, cells := range table {
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], textWidth(c.text))
		}
	}
	lines := make([]string, len(table))
	for i, cells := range table {
		var b strings.Builder
		padding := 0
		for j, c := range cells {
			if widths[j] == 0 {
				continue
			}
			if c.text != "" { // nothing ends in spaces
				b.WriteString(strings.Repeat(" ", padding) + s.paint(c))
				padding = 0
			}
			padding += widths[j] - textWidth(c.text) + 2
		}
		lines[i] = b.String()
	}
	return lines
}

// tableWidth is how many columns align needs.
func (s *screen) tableWidth(table [][]cell) int {
	n := 0
	for _, line := range s.plainly().align(table) {
		n = max(n, textWidth(line))
	}
	return n
}

// fit takes columns out of a table, in the order in which they can be done
// without, until it is at most room wide. It returns what was taken out, by row;
// a room of 0 is no limit.
func (s *screen) fit(table [][]cell, room int, columns ...int) (taken [][]string) {
	taken = make([][]string, len(table))
	for _, column := range columns {
		if room == 0 || s.tableWidth(table) <= room {
			break
		}
		for i, cells := range table {
			taken[i] = append([]string{cells[column].text}, taken[i]...)
			cells[column].text = ""
		}
	}
	return taken
}

// plainly is s without colours.
func (s *screen) plainly() *screen { return &screen{w: s.w, width: s.width} }

// textWidth is how many columns text takes, once it is escaped.
func textWidth(text string) int {
	n := 0
	for _, r := range console.Escape(text) {
		n += runeWidth(r)
	}
	return n
}

// runeWidth knows what terminals agree on: East Asian characters and pictures
// take two columns, accents none.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana),
		r >= 0x3000 && r <= 0x303f, r >= 0xff01 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff:
		return 2
	}
	return 1
}

// cut escapes text and ends what is wider than width with an ellipsis; a width
// of 0 is no limit.
func cut(text string, width int) string {
	text = console.Escape(text)
	if width == 0 || textWidth(text) <= width {
		return text
	}
	n := 0
	for i, r := range text {
		if n += runeWidth(r); n > width-1 {
			return text[:i] + "…"
		}
	}
	return text
}

// wrap escapes text and breaks it at spaces into lines of at most width; a word
// that is wider stays whole, so that it can be copied.
func wrap(text string, width int) []string {
	text = console.Escape(text)
	if width == 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && textWidth(line)+1+textWidth(word) > width {
			lines = append(lines, line)
			line = word
			continue
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// ago says how long ago something was, as people do.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second: // also what a wrong clock says is to come
		return "just now"
	case d < time.Minute:
		return fmt.Sprintf("%d s ago", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/day)
}

// lasted says how long something took.
func lasted(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// stamp is a moment in local time.
func stamp(t time.Time) string { return t.Local().Format(time.DateTime) }
