package health

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxExcerpt = 200 // of a foreign text that is shown, in bytes
	maxError   = 500 // of an error's text: Go's may hold a header line of the server's
)

// excerpt quotes the beginning of a foreign text.
func excerpt(b []byte) string {
	if len(b) <= maxExcerpt {
		return strconv.Quote(string(b))
	}
	return strconv.Quote(cut(string(b[:maxExcerpt+1]), maxExcerpt)) + "..."
}

// printable escapes what would not print as it is, and cuts what is too long.
func printable(s string) string {
	quoted := strconv.Quote(cut(s, maxError))
	text := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(quoted[1 : len(quoted)-1])
	if len(s) > maxError {
		text += "..."
	}
	return text
}

// cut returns at most n bytes of s, and no half of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := n; i > n-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:n]
}
