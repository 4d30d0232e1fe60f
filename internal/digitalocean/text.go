package digitalocean

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxMessage = 200 // of a text of the server's, in bytes
	maxError   = 500 // of an error's text: Go's may hold a header line of the server's
)

// printable escapes what would not print as it is, and shows at most limit
// bytes of s.
func printable(s string, limit int) string {
	more := ""
	if len(s) > limit {
		s, more = cut(s, limit), "..."
	}
	quoted := strconv.Quote(s)
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(quoted[1:len(quoted)-1]) + more
}

// excerpt quotes the beginning of a foreign text.
func excerpt(s string) string { return `"` + printable(s, maxMessage) + `"` }

// cut returns at most n bytes of s, which is longer, and no half of a
// character.
func cut(s string, n int) string {
	for i := n; i > n-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:n]
}
