package forced

import (
	"errors"
	"fmt"
	"strings"
)

// maxLine bounds a command line, in bytes: far above any path that git sends.
const maxLine = 8 << 10

// Split takes a command line apart into words as a shell would, without being
// one: words, single quotes, double quotes and backslashes. Whatever a shell
// would act upon – ; & | < > ( ) $ ` and patterns, where they are not quoted –
// is an error, and so are control characters anywhere.
func Split(line string) ([]string, error) {
	if len(line) > maxLine {
		return nil, fmt.Errorf("a command of %d bytes is too long", len(line))
	}
	for i := range len(line) {
		if c := line[i]; c < ' ' && c != '\t' || c == 0x7f {
			return nil, errors.New("there is a control character in it")
		}
	}
	var words []string
	for rest := strings.TrimLeft(line, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		word, after, err := cutWord(rest)
		if err != nil {
			return nil, err
		}
		words, rest = append(words, word), after
	}
	return words, nil
}

// cutWord takes the first word off line, which does not begin with a space.
func cutWord(line string) (word, rest string, err error) {
	if line[0] == '#' {
		return "", "", errors.New("there is a '#' in it that a shell would act upon")
	}
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t':
			return b.String(), line[i:], nil
		case '\\':
			if i++; i == len(line) {
				return "", "", errors.New("it ends in a backslash")
			}
			b.WriteByte(line[i])
		case '\'', '"':
			quoted, n, err := cutQuoted(line[i:])
			if err != nil {
				return "", "", err
			}
			b.WriteString(quoted)
			i += n - 1
		case ';', '&', '|', '<', '>', '(', ')', '$', '`', '*', '?', '[':
			return "", "", fmt.Errorf("there is a %q in it that a shell would act upon", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// cutQuoted returns what the quotes hold that line begins with, and how many
// bytes they take.
func cutQuoted(line string) (text string, n int, err error) {
	var b strings.Builder
	quote := line[0]
	for i := 1; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			return b.String(), i + 1, nil
		case quote == '"' && (c == '$' || c == '`'):
			return "", 0, fmt.Errorf("there is a %q in it that a shell would act upon", c)
		case quote == '"' && c == '\\' && i+1 < len(line) && strings.IndexByte("\"\\$`", line[i+1]) >= 0:
			i++
			c = line[i]
		}
		b.WriteByte(c)
	}
	return "", 0, fmt.Errorf("a %c is not closed", quote)
}
