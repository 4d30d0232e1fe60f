package forced

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A form is how one of the operator's commands may be called.
type form struct {
	usage    string
	flags    map[string]func(value string) bool // nil for a flag without a value
	revision bool                               // it takes one
}

// formOf returns how a command may be called, false where it may not.
func formOf(command string) (form, bool) {
	switch command {
	case "status", "check":
		return form{usage: "[--json]", flags: map[string]func(string) bool{"--json": nil}}, true
	case "history":
		return form{usage: "[-n N] [--json]", flags: map[string]func(string) bool{"--number": isNumber, "--json": nil}}, true
	case "plan":
		return form{usage: "[REV] [--json]", flags: map[string]func(string) bool{"--json": nil}, revision: true}, true
	case "promote":
		return form{usage: "[--wait DURATION]", flags: map[string]func(string) bool{"--wait": isDuration}}, true
	case "rollback":
		return form{usage: "[--wait DURATION] [--unchecked]", flags: map[string]func(string) bool{"--wait": isDuration, "--unchecked": nil}}, true
	}
	return form{}, false
}

func isNumber(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n > 0 && n <= 1_000_000
}

func isDuration(value string) bool {
	d, err := time.ParseDuration(value)
	return err == nil && d >= 0
}

// maxRevision bounds a revision, in bytes.
const maxRevision = 1 << 10

// operator checks the words behind "bluegreen". What it returns is spelled anew,
// each value in one word with its flag, a revision last and behind "--".
func (k Key) operator(words []string) (*Command, error) {
	if len(words) == 0 {
		return nil, fmt.Errorf("bluegreen alone does nothing: %s", k.allowed())
	}
	f, known := formOf(words[0])
	if !known {
		return nil, fmt.Errorf("bluegreen %s is refused: %s", quote(words[0]), k.allowed())
	}
	refuse := func(word string) (*Command, error) {
		if word == "--repo" || strings.HasPrefix(word, "--repo=") {
			return nil, fmt.Errorf("--repo is refused: this key is for %s only", quote(k.Repo))
		}
		return nil, fmt.Errorf("%s is refused: allowed is bluegreen %s %s", quote(word), words[0], f.usage)
	}
	args, revision := words[:1:1], ""
	for rest := words[1:]; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		name, value, joined := strings.Cut(word, "=")
		if name == "-n" {
			name = "--number"
		}
		valid, known := f.flags[name]
		switch {
		case known && valid == nil && !joined:
			args = append(args, name)
		case known && valid != nil:
			if !joined && len(rest) > 0 {
				value, rest = rest[0], rest[1:]
				word += " " + value
			}
			if !valid(value) {
				return refuse(word)
			}
			args = append(args, name+"="+value)
		case f.revision && revision == "" && word != "" && word[0] != '-' && len(word) <= maxRevision:
			revision = word
		default:
			return refuse(word)
		}
	}
	if revision != "" {
		args = append(args, "--", revision)
	}
	return &Command{Operator: args}, nil
}
