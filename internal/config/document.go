package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/BurntSushi/toml"
)

// bareKey are the characters of a key that needs no quotes.
const bareKey = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// document is one file: where its keys are and what reading it has found.
type document struct {
	file  string
	lines map[string]int // of each path, such as `health[1].url`
	errs  []*Error
}

// decode gives what data holds, and takes note of where. It refuses text that
// is not TOML or too long.
func (d *document) decode(data []byte) (map[string]any, error) {
	if len(data) > maxSize {
		return nil, &Error{File: d.file, Msg: fmt.Sprintf("is larger than %d bytes", maxSize)}
	}
	var values map[string]any
	_, err := toml.Decode(string(data), &values)
	if parseErr, ok := errors.AsType[toml.ParseError](err); ok {
		// Line, the library's older field, is not always one.
		line := max(1, parseErr.Position.Line)
		return nil, &Error{File: d.file, Line: line, Key: printable(parseErr.LastKey), Msg: printable(plain(parseErr.Message))}
	}
	if err != nil {
		return nil, &Error{File: d.file, Msg: printable(err.Error())}
	}
	d.lines = locate(string(data))
	return values, nil
}

// plain is a message of the library in this package's style.
func plain(msg string) string {
	if !strings.HasPrefix(msg, "TOML") && msg != "" {
		msg = strings.ToLower(msg[:1]) + msg[1:]
	}
	return strings.TrimSuffix(msg, ".")
}

// printable is s, quoted where it would not print as it is.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// fail notes an error about what is at path and is called key.
func (d *document) fail(path, key, msg string) {
	d.errs = append(d.errs, &Error{File: d.file, Line: d.line(path), Key: key, Msg: msg})
}

// first gives the error on the lowest line, or nil.
func (d *document) first() error {
	if len(d.errs) == 0 {
		return nil
	}
	return slices.MinFunc(d.errs, func(a, b *Error) int { return cmp.Compare(a.Line, b.Line) })
}

// line gives the line of path, or of the nearest thing around it that has one:
// what is inside an inline table, or missing, is where its table is.
func (d *document) line(path string) int {
	for path != "" {
		if n, ok := d.lines[path]; ok {
			return n
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return 1
}

// table is one table of a document.
type table struct {
	doc     *document
	path    string         // where it is, such as "health[1]"; "" for the file itself
	key     string         // what it is called in messages, such as "health"
	values  map[string]any // nil where the file does not have the table
	known   []string       // the keys that were asked for
	changed []string       // those that say something else than the default
}

// join appends one key to a dotted one, quoted where it needs to be.
func join(parent, key string) string {
	if key == "" || strings.Trim(key, bareKey) != "" {
		key = strconv.Quote(key)
	}
	if parent == "" {
		return key
	}
	return parent + "." + key
}

// fail notes an error about key.
func (t *table) fail(key, format string, args ...any) {
	t.doc.fail(join(t.path, key), join(t.key, key), fmt.Sprintf(format, args...))
}

// given reports whether the file has key.
func (t *table) given(key string) bool {
	_, ok := t.values[key]
	return ok
}

// require fails for each key that the file does not have.
func (t *table) require(keys ...string) {
	for _, key := range keys {
		if !t.given(key) {
			t.fail(key, "is missing")
		}
	}
}

// refuse fails for each key that says something else than its default.
func (t *table) refuse(msg string, keys ...string) {
	for _, key := range keys {
		if slices.Contains(t.changed, key) {
			t.fail(key, "%s", msg)
		}
	}
}

// read sets *to, which holds the default, where the file has key.
func read[T any](t *table, key string, to *T, convert func(any) (T, error)) {
	t.known = append(t.known, key)
	if !t.given(key) {
		return
	}
	value, err := convert(t.values[key])
	if err != nil {
		t.fail(key, "%v", err)
		return
	}
	if !reflect.DeepEqual(value, *to) {
		t.changed = append(t.changed, key)
	}
	*to = value
}

// readMap sets *to where the file has the table key, whose keys name accepts
// and whose values convert accepts. It gives that table.
func readMap[T any](t *table, key string, to *map[string]T, name func(string) error, convert func(any) (T, error)) *table {
	sub := t.table(key)
	for _, k := range slices.Sorted(maps.Keys(sub.values)) {
		if err := name(k); err != nil {
			sub.fail(k, "%v", err)
			continue
		}
		var one T
		read(sub, k, &one, convert)
		if *to == nil {
			*to = make(map[string]T)
		}
		(*to)[k] = one
	}
	return sub
}

// table gives the table called key; without values where the file has none.
func (t *table) table(key string) *table {
	t.known = append(t.known, key)
	sub := &table{doc: t.doc, path: join(t.path, key), key: join(t.key, key)}
	if !t.given(key) {
		return sub
	}
	values, ok := t.values[key].(map[string]any)
	if !ok {
		t.fail(key, "%v", wrongType(t.values[key], "a table"))
		return sub
	}
	sub.values = values
	t.changed = append(t.changed, key)
	return sub
}

// tables gives the elements of the array of tables called key.
func (t *table) tables(key string) []*table {
	t.known = append(t.known, key)
	if !t.given(key) {
		return nil
	}
	want := fmt.Sprintf("an array of tables, [[%s]]", key)
	var elements []map[string]any
	switch v := t.values[key].(type) {
	case []map[string]any:
		elements = v
	case []any: // key = [{…}, {…}]
		for _, element := range v {
			values, ok := element.(map[string]any)
			if !ok {
				t.fail(key, "%v", wrongType(element, want))
				return nil
			}
			elements = append(elements, values)
		}
	default:
		t.fail(key, "%v", wrongType(v, want))
	}
	var all []*table
	for i, values := range elements {
		all = append(all, &table{doc: t.doc, path: fmt.Sprintf("%s[%d]", join(t.path, key), i), key: join(t.key, key), values: values})
	}
	return all
}

// unknown fails for each key of the file that was not asked for.
func (t *table) unknown() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if slices.Contains(t.known, key) {
			continue
		}
		if near := nearest(key, t.known); near != "" {
			t.fail(key, "unknown key; did you mean %q?", near)
		} else {
			t.fail(key, "unknown key")
		}
	}
}

// nearest gives the one of known that key is probably meant to be, or "".
func nearest(key string, known []string) string {
	best, least := "", 3 // two slips
	if len(key) <= 4 {
		least = 2
	}
	for _, k := range known {
		if n := distance(key, k); n < least {
			best, least = k, n
		}
	}
	return best
}

// distance counts the bytes to insert, delete or replace to get from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
