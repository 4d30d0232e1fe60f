package forced

import (
	"fmt"
	"strings"
)

// CheckName tells what is wrong with the name that a forced command gives to its
// key: it goes into the history, and into authorized_keys.
func CheckName(name string) error {
	if name == "" || len(name) > 100 || !only(name, "._@-") {
		return fmt.Errorf("%s is no name for a key: letters, digits and \"._@-\", 100 at most", quote(name))
	}
	return nil
}

// Environ returns what the command gets of the environment that sshd has made,
// with name as BLUEGREEN_USER. It is a list of what to keep: depending on sshd's
// AcceptEnv the client may have set anything else, a token or one of git's
// variables for one.
func Environ(environ []string, name string) []string {
	kept := []string{"BLUEGREEN_USER=" + name}
	path := false
	for _, kv := range environ {
		variable, value, _ := strings.Cut(kv, "=")
		keep := false
		switch {
		case variable == "PATH":
			keep = value != ""
			path = path || keep
		case variable == "HOME", variable == "USER", variable == "LOGNAME":
			keep = true
		case variable == "TZ", variable == "LANG", strings.HasPrefix(variable, "LC_") && only(variable, "_"):
			// Names of files, below directories of the system's.
			keep = len(value) <= 64 && only(value, "._@/+,-") && !strings.HasPrefix(value, "/") && !strings.Contains(value, "..")
		case variable == "GIT_PROTOCOL": // "version=2"
			keep = value != "" && len(value) <= 64 && only(value, "=:") && value == strings.ToLower(value)
		}
		if keep {
			kept = append(kept, kv)
		}
	}
	if !path {
		kept = append(kept, "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	return kept
}

// only tells whether text has nothing but ASCII letters, digits and what is in
// others.
func only(text, others string) bool {
	for i := range len(text) {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
