// Package forced decides what a key may do whose authorized_keys line has a
// forced command: push to one repository and fetch from it, and run some of the
// operator's commands on it. It starts nothing itself, and no shell sees what
// the client has sent.
package forced

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Key is what sshd has let in.
type Key struct {
	Repo    string // the one repository, absolute
	Home    string // the account's home directory; "" where it is not known
	Account string // the account's name, "" where it is not known
}

// A Command is one that is allowed. One of the two is set.
type Command struct {
	Git      string   // git's subcommand for the repository: "receive-pack" or "upload-pack"
	Operator []string // arguments of the operator's command, --repo not among them
}

// Allow returns what is to be run for the command line that the client has sent:
// SSH_ORIGINAL_COMMAND, "" where it asked for a shell. Of that line no path goes
// into the Command: where it names a repository, that is the key's. The error
// says in one line what is allowed instead; it quotes what the client has sent.
func (k Key) Allow(line string) (*Command, error) {
	words, err := Split(line)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is refused, %w: %s", quote(line), err, k.allowed())
	case len(words) == 0:
		return nil, errors.New("there is no shell here: " + k.allowed())
	case words[0] == "bluegreen":
		return k.operator(words[1:])
	}
	if words[0] == "git" && len(words) > 1 { // as git itself takes it
		words = append([]string{"git-" + words[1]}, words[2:]...)
	}
	service, found := strings.CutPrefix(words[0], "git-")
	if !found || service != "receive-pack" && service != "upload-pack" || len(words) != 2 {
		return nil, fmt.Errorf("%s is refused: %s", quote(line), k.allowed())
	}
	if !k.names(words[1]) {
		return nil, fmt.Errorf("%s is refused: this key is for %s only", quote(words[1]), quote(k.Repo))
	}
	return &Command{Git: service}, nil
}

func (k Key) allowed() string {
	return fmt.Sprintf("this key may push to %s and fetch from it, and run bluegreen status, history, check, plan, promote and rollback", quote(k.Repo))
}

// names tells whether path leads to the repository, as git would look for it,
// and also where only one of the two ends in ".git".
func (k Key) names(path string) bool {
	repo, err := os.Stat(k.Repo)
	path, ok := k.locate(path)
	if err != nil || !ok {
		return false
	}
	for _, candidate := range []string{path, path + ".git", strings.TrimSuffix(path, ".git")} {
		if _, err := os.Stat(candidate + "/HEAD"); err != nil {
			continue // git would look further, too
		}
		st, err := os.Stat(candidate)
		return err == nil && os.SameFile(st, repo)
	}
	return false
}

// locate makes path absolute, as a login shell in the account's home would. It
// is not cleaned: what ".." means behind a symlink, the kernel says.
func (k Key) locate(path string) (string, bool) {
	name, rest, _ := strings.Cut(path, "/")
	switch {
	case path == "":
		return "", false
	case path[0] == '/':
		rest = path
	case !filepath.IsAbs(k.Home):
		return "", false
	case path[0] != '~':
		rest = k.Home + "/" + path
	case name == "~", name == "~"+k.Account && k.Account != "":
		rest = k.Home + "/" + rest
	default:
		return "", false // another account's
	}
	return strings.TrimRight(rest, "/"), true
}

// maxQuoted bounds what is shown of the client's text, in bytes.
const maxQuoted = 200

// quote shows text of the client's: %q leaves nothing that a terminal obeys.
func quote(text string) string {
	if len(text) > maxQuoted {
		return fmt.Sprintf("%q...", strings.ToValidUTF8(text[:maxQuoted], ""))
	}
	return fmt.Sprintf("%q", text)
}
