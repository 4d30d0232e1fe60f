// Package sudoers writes sudoers lines that allow one command with exactly its
// arguments.
package sudoers

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// account is what an account may be called in a line.
const account = `^[a-z_][a-z0-9_-]*$`

// Uses tells whether argv asks sudo to run something.
func Uses(argv []string) bool { return len(argv) > 0 && path.Base(argv[0]) == "sudo" }

// Line returns the line that allows user to run argv, which Uses sudo, without
// a password and with no other argument. find looks a program up as sudo does,
// and returns "" for one that there is not.
func Line(user string, argv []string, find func(name string) string) (string, error) {
	as, argv, err := options(argv[1:])
	if err != nil {
		return "", err
	}
	program := argv[0]
	if !strings.Contains(program, "/") {
		if program = find(program); program == "" {
			return "", fmt.Errorf("there is no program %q", argv[0])
		}
	}
	if !filepath.IsAbs(program) || filepath.Clean(program) != program {
		return "", fmt.Errorf("the program %q is not an absolute path", program)
	}
	if strings.ContainsAny(program, `*?[]!`) {
		return "", fmt.Errorf("the program %q has a character that sudoers takes for a pattern", program)
	}
	words := []string{}
	for _, word := range append([]string{program}, argv[1:]...) {
		escaped, err := escape(word)
		if err != nil {
			return "", err
		}
		words = append(words, escaped)
	}
	if len(words) == 1 {
		words = append(words, `""`) // a line without arguments would allow all
	}
	return fmt.Sprintf("%s ALL=(%s) NOPASSWD: %s", user, as, strings.Join(words, " ")), nil
}

// options goes past those of sudo's own. Others than these change what would
// have to be allowed.
func options(argv []string) (as string, rest []string, err error) {
	as = "root"
	for len(argv) > 0 && strings.HasPrefix(argv[0], "-") {
		option := argv[0]
		argv = argv[1:]
		name, value, given := strings.Cut(option, "=")
		switch {
		case option == "--":
		case option == "-n" || option == "--non-interactive" || option == "-H" || option == "--set-home":
			continue
		case option == "-u" || option == "--user":
			if len(argv) == 0 {
				return "", nil, fmt.Errorf("sudo's option %q has no value", option)
			}
			as, argv = argv[0], argv[1:]
			continue
		case name == "--user" && given:
			as = value
			continue
		case strings.HasPrefix(option, "-u"):
			as = option[2:]
			continue
		default:
			return "", nil, fmt.Errorf("sudo's option %q is not one that this can write a line for", option)
		}
		break
	}
	switch {
	case !regexp.MustCompile(account).MatchString(as):
		return "", nil, fmt.Errorf("%q is not an account's name", as)
	case len(argv) == 0:
		return "", nil, errors.New("sudo has no command to run")
	case strings.Contains(argv[0], "="):
		return "", nil, fmt.Errorf("%q sets a variable, which sudo does not allow without SETENV", argv[0])
	}
	return as, argv, nil
}

// escape writes one word of a command. What separates words, or begins a
// regular expression in newer versions of sudo, cannot be written so that it
// allows only itself.
func escape(word string) (string, error) {
	if word == "" {
		return "", errors.New("an empty argument cannot be told from none")
	}
	if word[0] == '^' || word == "sudoedit" {
		return "", fmt.Errorf("argument %q has a meaning of its own in sudoers", word)
	}
	var b strings.Builder
	for _, c := range []byte(word) {
		switch {
		case c <= ' ' || c == 0x7f || c == '"' || c == '\\':
			return "", fmt.Errorf("argument %q has a character that sudoers cannot hold exactly", word)
		case strings.IndexByte(`,:=#*?[]!`, c) >= 0:
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}
