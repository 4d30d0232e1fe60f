// Package receive is what the three hooks do between git and the deployment:
// it reads what git hands them, decides, has the work done, and tells git and
// the pusher what became of it.
package receive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"bluegreen/internal/git"
	"bluegreen/internal/policy"
)

// maxLine bounds one line of a hook's input. The longest ref that a
// filesystem stores has 4,096 bytes.
const maxLine = 8 << 10

// maxUpdates bounds the refs of one push.
const maxUpdates = 100_000

// readUpdates reads the lines "OLD NEW REF" that git gives to pre-receive and
// post-receive.
func readUpdates(r io.Reader) ([]policy.Update, error) {
	in := bufio.NewReaderSize(r, maxLine)
	var updates []policy.Update
	for {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return updates, unique(updates)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("reading what git hands over: line %d is longer than %d bytes", len(updates)+1, maxLine)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading what git hands over: line %d: %w", len(updates)+1, err)
		}
		if len(updates) == maxUpdates {
			return nil, fmt.Errorf("more than %d refs in one push", maxUpdates)
		}
		u, err := parseUpdate(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			return nil, fmt.Errorf("reading what git hands over: line %d: %w", len(updates)+1, err)
		}
		updates = append(updates, u)
	}
}

// unique refuses two updates of one ref. The git client never sends them.
func unique(updates []policy.Update) error {
	seen := make(map[string]bool, len(updates))
	for _, u := range updates {
		if seen[u.Ref] {
			return fmt.Errorf("%q is in the push twice", u.Ref)
		}
		seen[u.Ref] = true
	}
	return nil
}

// parseUpdate reads "OLD NEW REF".
func parseUpdate(line string) (policy.Update, error) {
	fields := strings.SplitN(line, " ", 3)
	if len(fields) != 3 {
		return policy.Update{}, fmt.Errorf("%q is not \"OLD NEW REF\"", shorten(line))
	}
	old, err := git.ParseOID(fields[0])
	if err != nil {
		return policy.Update{}, err
	}
	new, err := git.ParseOID(fields[1])
	if err != nil {
		return policy.Update{}, err
	}
	if !validRef(fields[2]) {
		return policy.Update{}, fmt.Errorf("%q is not a ref", shorten(fields[2]))
	}
	return policy.Update{Old: old, New: new, Ref: fields[2]}, nil
}

func shorten(s string) string {
	if len(s) > 100 {
		return s[:100] + "…"
	}
	return s
}

// validRef holds a name against the rules of git check-ref-format. Git has
// done so for what it hands over; a name is checked again where it enters,
// since it goes on to git's command line.
func validRef(name string) bool {
	if !strings.HasPrefix(name, "refs/") || strings.HasSuffix(name, "/") || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || len(name) > 4096 {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c == 0x7f || strings.IndexByte("~^:?*[\\", c) >= 0 {
			return false
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return true
}
