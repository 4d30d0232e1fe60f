package policy

import (
	"fmt"
	"strings"
	"time"
)

// Options are the options of a push (git push -o).
type Options struct {
	Plan bool // say what would change, change nothing
	Live bool // deploy although production is served from here
	// Promote moves the traffic here after a healthy deployment.
	Promote bool
	// NoWayBack allows what makes going back impossible.
	NoWayBack bool
	Wait      time.Duration // for the lock; negative when it is not given
	Raw       []string      // as they came, for the history, but not without bounds
}

// maxOptions is far above what anybody types.
const maxOptions = 32

// known lists the options for people.
const known = "plan, live, no-way-back, promote, wait=DURATION"

// ParseOptions reads the options of a push. An option that is not known is an
// error that lists those that are.
func ParseOptions(raw []string) (Options, error) {
	o := Options{Wait: -1, Raw: abridged(raw)}
	if len(raw) > maxOptions {
		return o, fmt.Errorf("%d push options are too many; known are: %s", len(raw), known)
	}
	for _, option := range raw {
		name, value, given := strings.Cut(option, "=")
		switch {
		case option == "plan":
			o.Plan = true
		case option == "live":
			o.Live = true
		case name == "wait" && given:
			wait, err := time.ParseDuration(value)
			if err != nil || wait < 0 || wait > 24*time.Hour {
				return o, fmt.Errorf("push option %q: %q is not a duration such as \"90s\"", "wait", shorten(value))
			}
			o.Wait = wait
		case option == "promote":
			o.Promote = true
		case option == "no-way-back":
			o.NoWayBack = true
		default:
			return o, fmt.Errorf("push option %q is not known; known are: %s", shorten(option), known)
		}
	}
	return o, nil
}

func shorten(s string) string { return s[:min(len(s), 100)] }

// abridged keeps options that nobody means from filling the disk.
func abridged(raw []string) []string {
	kept := make([]string, min(len(raw), maxOptions))
	for i := range kept {
		kept[i] = raw[i][:min(len(raw[i]), 200)]
	}
	return kept
}
