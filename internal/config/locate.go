package config

import (
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// locator walks a TOML text that the library has accepted, for what the
// library does not tell: the line of each key.
type locator struct {
	text    string
	pos     int
	counted int            // newlines before this offset are in line
	line    int            // of counted
	table   string         // path of the table that keys go to
	arrays  map[string]int // how many [[path]] there were so far
	lines   map[string]int // the first line of each path
}

// locate gives the line of each table and key, by path: keys joined as join
// does, the elements of an array of tables numbered, as in "health[1].url".
// What is inside an inline table has no line of its own.
func locate(text string) map[string]int {
	l := &locator{
		text:   strings.TrimPrefix(text, "\ufeff"),
		line:   1,
		arrays: make(map[string]int),
		lines:  make(map[string]int),
	}
	for l.next() {
		switch {
		case strings.HasPrefix(l.text[l.pos:], "[["):
			l.pos += 2
			l.table = l.path("", l.key(), true)
			l.pos += 2
		case l.text[l.pos] == '[':
			l.pos++
			l.table = l.path("", l.key(), false)
			l.pos++
		default:
			l.path(l.table, l.key(), false)
			l.value()
		}
	}
	return l.lines
}

// next goes to the next statement, past space and comments.
func (l *locator) next() bool {
	for ; l.pos < len(l.text); l.pos++ {
		switch l.text[l.pos] {
		case ' ', '\t', '\r', '\n':
		case '#':
			l.comment()
		default:
			l.line += strings.Count(l.text[l.counted:l.pos], "\n")
			l.counted = l.pos
			return true
		}
	}
	return false
}

// comment goes to the last character before the line's end.
func (l *locator) comment() {
	if n := strings.IndexByte(l.text[l.pos:], '\n'); n >= 0 {
		l.pos += n - 1
	} else {
		l.pos = len(l.text)
	}
}

// key reads a dotted key and stops at what follows it.
func (l *locator) key() []string {
	var parts []string
	for l.pos < len(l.text) {
		switch c := l.text[l.pos]; {
		case c == ' ' || c == '\t' || c == '.':
			l.pos++
		case c == '"' || c == '\'':
			end := l.pos + stringLen(l.text[l.pos:])
			parts = append(parts, unquote(l.text[l.pos:end]))
			l.pos = end
		case strings.IndexByte(bareKey, c) >= 0:
			rest := strings.TrimLeft(l.text[l.pos:], bareKey)
			parts = append(parts, l.text[l.pos:len(l.text)-len(rest)])
			l.pos = len(l.text) - len(rest)
		default:
			return parts
		}
	}
	return parts
}

// path gives the path of the key called parts under table, and notes the line
// of it and of the tables it implies. With element, it is one more [[…]].
func (l *locator) path(table string, parts []string, element bool) string {
	path := table
	for i, part := range parts {
		path = join(path, part)
		l.note(path)
		if element && i == len(parts)-1 {
			l.arrays[path]++
		}
		if n := l.arrays[path]; n > 0 {
			path = fmt.Sprintf("%s[%d]", path, n-1)
			l.note(path)
		}
	}
	return path
}

func (l *locator) note(path string) {
	if _, ok := l.lines[path]; !ok {
		l.lines[path] = l.line
	}
}

// value goes past a value, to the end of the line that it ends on.
func (l *locator) value() {
	depth := 0
	for l.pos < len(l.text) {
		switch l.text[l.pos] {
		case '"', '\'':
			l.pos += stringLen(l.text[l.pos:])
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '#':
			l.comment()
		case '\n':
			if depth == 0 {
				return
			}
		}
		l.pos++
	}
}

// stringLen gives the length of the string, quotes included, that s begins with.
func stringLen(s string) int {
	quote := s[:1]
	if strings.HasPrefix(s, strings.Repeat(quote, 3)) {
		quote = s[:3]
	}
	n := len(quote)
	for n < len(s) && !strings.HasPrefix(s[n:], quote) {
		if s[n] == '\\' && quote[0] == '"' {
			n++
		}
		n++
	}
	n += len(quote)
	for len(quote) == 3 && n < len(s) && s[n] == quote[0] { // """a"" ends with up to five
		n++
	}
	return min(n, len(s))
}

// unquote gives what a quoted key stands for.
func unquote(quoted string) string {
	var v struct{ Key string }
	if _, err := toml.Decode("Key = "+quoted, &v); err != nil {
		return quoted // cannot be: the library has read it before
	}
	return v.Key
}
