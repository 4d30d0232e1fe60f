package authorized

import (
	"regexp"
	"strings"
)

// Split splits a line at separators outside of double quotes, as sshd does: a
// quote behind a backslash is none. A space stands for a tab, too; empty parts
// are left out.
func Split(line string, separator byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i <= len(line); i++ {
		switch {
		case i == len(line) || !quoted && (line[i] == separator || separator == ' ' && line[i] == '\t'):
			if i > start {
				parts = append(parts, line[start:i])
			}
			start = i + 1
		case strings.HasPrefix(line[i:], `\"`):
			i++
		case line[i] == '"':
			quoted = !quoted
		}
	}
	return parts
}

// Has tells whether the line has an option, one without a value.
func (e Entry) Has(option string) bool {
	for _, o := range Split(e.Options, ',') {
		if strings.EqualFold(o, option) {
			return true
		}
	}
	return false
}

// Command returns what sshd runs whatever the client asks for, and whether there
// is such a command.
func (e Entry) Command() (command string, forced bool) {
	for _, o := range Split(e.Options, ',') {
		if name, value, found := strings.Cut(o, "="); found && strings.EqualFold(name, "command") {
			value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
			return strings.ReplaceAll(value, `\"`, `"`), true
		}
	}
	return "", false
}

// Forced tells whether sshd runs one command whatever the client asks for.
func (e Entry) Forced() bool {
	_, forced := e.Command()
	return forced
}

// IsOurs tells whether a command is that of Line, for whatever repository and
// wherever the program is, and nothing but that.
func IsOurs(command string) bool {
	return regexp.MustCompile(`^(/[A-Za-z0-9._+-]+)*/bluegreen --repo (/[A-Za-z0-9._+-]+)+ ssh [A-Za-z0-9._@-]+$`).MatchString(command)
}
