// Package literal writes any bytes as JSON, which has none: paths of the
// filesystem and names of refs need not be UTF-8.
package literal

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A String is any bytes. In JSON one that is not UTF-8 is written as a Go string
// literal.
type String string

// MarshalText implements encoding.TextMarshaler.
func (s String) MarshalText() ([]byte, error) {
	if utf8.ValidString(string(s)) && !strings.HasPrefix(string(s), `"`) {
		return []byte(s), nil
	}
	return strconv.AppendQuoteToASCII(nil, string(s)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *String) UnmarshalText(text []byte) error {
	if !bytes.HasPrefix(text, []byte(`"`)) {
		*s = String(text)
		return nil
	}
	plain, err := strconv.Unquote(string(text))
	*s = String(plain)
	return err
}
