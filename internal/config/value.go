package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The functions here turn one TOML value into a Go value, or check one string.
// Their errors name the value and leave the key and the line to the caller.

// text takes a string that check accepts.
func text(check func(string) error) func(any) (string, error) {
	return func(value any) (string, error) {
		s, ok := value.(string)
		if !ok {
			return "", wrongType(value, "a string")
		}
		return s, check(s)
	}
}

func boolean(value any) (bool, error) {
	b, ok := value.(bool)
	if !ok {
		return false, wrongType(value, "true or false")
	}
	return b, nil
}

// number takes an integer from least to most.
func number[T int | int64](least, most int64) func(any) (T, error) {
	return func(value any) (T, error) {
		n, ok := value.(int64)
		switch {
		case !ok:
			return 0, wrongType(value, "an integer")
		case n < least:
			return 0, fmt.Errorf("%d is less than %d", n, least)
		case n > most:
			return 0, fmt.Errorf("%d is more than %d", n, most)
		}
		return T(n), nil
	}
}

// duration takes a string such as "30s" that is not negative.
func duration(value any) (time.Duration, error) {
	s, ok := value.(string)
	if !ok {
		return 0, wrongType(value, `a duration such as "30s"`)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as %q", s, "30s")
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative", s)
	}
	return d, nil
}

// positiveDuration takes a duration that is more than zero.
func positiveDuration(value any) (time.Duration, error) {
	d, err := duration(value)
	if err == nil && d == 0 {
		return 0, fmt.Errorf("%q is not more than zero", value)
	}
	return d, err
}

// list takes an array whose elements each accepts. An empty one is nil.
func list[T any](each func(any) (T, error)) func(any) ([]T, error) {
	return func(value any) ([]T, error) {
		elements, ok := value.([]any)
		if !ok {
			return nil, wrongType(value, "an array")
		}
		var all []T
		for _, element := range elements {
			one, err := each(element)
			if err != nil {
				return nil, err
			}
			all = append(all, one)
		}
		return all, nil
	}
}

// argv takes a program and its arguments.
func argv(value any) ([]string, error) {
	words, err := list(text(noNUL))(value)
	switch {
	case err != nil:
		return nil, err
	case len(words) == 0:
		return nil, errors.New("is empty, want a program and its arguments")
	case words[0] == "":
		return nil, errors.New("the program's name is empty")
	}
	return words, nil
}

// tagPatterns takes at least one pattern for short tag names.
func tagPatterns(value any) ([]string, error) {
	patterns, err := list(text(tagPattern))(value)
	if err == nil && len(patterns) == 0 {
		return nil, errors.New("is empty, want a pattern")
	}
	return patterns, err
}

// expression takes a regular expression; the empty one is nil.
func expression(value any) (*regexp.Regexp, error) {
	s, ok := value.(string)
	if !ok {
		return nil, wrongType(value, "a string")
	}
	if s == "" {
		return nil, nil
	}
	re, err := regexp.Compile(s)
	if syntaxErr, ok := errors.AsType[*syntax.Error](err); ok {
		return nil, fmt.Errorf("%q is not a regular expression: %s", s, syntaxErr.Code)
	}
	return re, err
}

// wrongType says what value is; of the short ones also which.
func wrongType(value any, want string) error {
	is := ""
	switch v := value.(type) {
	case string:
		is = fmt.Sprintf("%q is a string", v)
	case int64:
		is = fmt.Sprintf("%d is an integer", v)
	case bool:
		is = fmt.Sprintf("%t is a boolean", v)
	case float64:
		is = "is a float"
	case time.Time:
		is = "is a date or time"
	case map[string]any:
		is = "is a table"
	case []map[string]any:
		is = "is an array of tables"
	default:
		is = "is an array"
	}
	return fmt.Errorf("%s, want %s", is, want)
}

func anything(string) error { return nil }

// orEmpty accepts the empty string besides what check accepts.
func orEmpty(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func oneOf(choices ...string) func(string) error {
	return func(s string) error {
		quoted := make([]string, len(choices))
		for i, choice := range choices {
			if s == choice {
				return nil
			}
			quoted[i] = strconv.Quote(choice)
		}
		return fmt.Errorf("%q is not one of %s", s, strings.Join(quoted, ", "))
	}
}

// noNUL refuses what cannot be an argument of a program.
func noNUL(s string) error {
	if strings.ContainsRune(s, 0) {
		return fmt.Errorf("%q contains a NUL", s)
	}
	return nil
}

func absolutePath(s string) error {
	switch {
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("%q contains a control character", s)
	case !filepath.IsAbs(s):
		return fmt.Errorf("%q is not an absolute path", s)
	case s != filepath.Clean(s):
		return fmt.Errorf("%q is not a clean path, write %q", s, filepath.Clean(s))
	case s == "/":
		return fmt.Errorf("%q is the root directory", s)
	}
	return nil
}

// relativePath accepts clean paths that stay inside what they are relative to.
func relativePath(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%q contains a control character", s)
	}
	if !fs.ValidPath(s) || s == "." {
		return fmt.Errorf("%q is not a clean relative path such as %q", s, "a/b")
	}
	return nil
}

// EnvironmentName tells what is wrong with a name for an environment: names can
// stand in a line of output unquoted.
func EnvironmentName(s string) error {
	if s == "" {
		return errors.New("an environment's name is empty")
	}
	if strings.ContainsFunc(s, unprintable) {
		return fmt.Errorf("%q contains a space or a character that does not print", s)
	}
	if strings.HasPrefix(s, "-") { // it is an argument of promotion.assign
		return fmt.Errorf("%q begins with a dash", s)
	}
	return nil
}

// branchName follows git check-ref-format --branch, for short names only.
func branchName(s string) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(` ~^:?*[\`, r) }
	ok := s != "HEAD" && !strings.HasPrefix(s, "-") && !strings.HasSuffix(s, ".") &&
		!strings.Contains(s, "..") && !strings.Contains(s, "@{") && !strings.ContainsFunc(s, bad)
	for component := range strings.SplitSeq(s, "/") {
		ok = ok && component != "" && !strings.HasPrefix(component, ".") && !strings.HasSuffix(component, ".lock")
	}
	if !ok {
		return fmt.Errorf("%q is not a branch name", s)
	}
	if strings.HasPrefix(s, "refs/") {
		return fmt.Errorf("%q is a full ref name, write the branch's short name", s)
	}
	return nil
}

func tagPattern(s string) error {
	if _, err := path.Match(s, ""); err != nil || s == "" {
		return fmt.Errorf("%q is not a tag pattern", s)
	}
	if strings.HasPrefix(s, "refs/") {
		return fmt.Errorf("%q matches full ref names, write a pattern for short tag names", s)
	}
	return nil
}

func webURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a url", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%q is not an http or https url", s)
	case u.User != nil: // before the host, and redacted: a password goes into no message
		return fmt.Errorf("%q carries a user name", u.Redacted())
	case u.Hostname() == "":
		return fmt.Errorf("%q has no host", s)
	case u.Port() != "" && !validPort(u.Port()):
		return fmt.Errorf("%q has no valid port", s)
	}
	return nil
}

func hostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || !validPort(port) || strings.ContainsFunc(host, unprintable) {
		return fmt.Errorf("%q is not host:port", s)
	}
	return nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// hostName accepts what can stand in a Host header, with or without a port.
func hostName(s string) error {
	if u, err := url.Parse("http://" + s + "/"); err != nil || u.Host != s || strings.ContainsFunc(s, unprintable) {
		return fmt.Errorf("%q is not a host name", s)
	}
	return nil
}

// unprintable is true for spaces and for what invalid UTF-8 decodes to, too.
func unprintable(r rune) bool {
	return !unicode.IsPrint(r) || r == ' ' || r == unicode.ReplacementChar
}

func headerName(s string) error {
	other := func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
	if s == "" || strings.ContainsFunc(s, other) {
		return fmt.Errorf("%q is not a header's name", s)
	}
	if strings.EqualFold(s, "host") {
		return errors.New("write it as host, beside url")
	}
	return nil
}

func headerValue(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%q contains a control character", s)
	}
	return nil
}

func ipAddress(s string) error {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || addr.Zone() != "":
		return fmt.Errorf("%q is not an IP address", s)
	case !addr.Is4():
		return fmt.Errorf("%q is not an IPv4 address, as reserved IPs are", s)
	}
	return nil
}

// baseURL is a url that paths are put behind.
func baseURL(s string) error {
	if err := webURL(s); err != nil {
		return err
	}
	if u, err := url.Parse(s); err != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("%q goes on after its path", s)
	}
	return nil
}
