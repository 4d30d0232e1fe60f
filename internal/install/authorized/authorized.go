// Package authorized reads and changes authorized_keys files: lines that allow
// one key to push to one repository, and nothing else.
package authorized

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// A Key is a public key.
type Key struct {
	Type    string // such as "ssh-ed25519"
	Data    string // base64
	Comment string // as in the file; any bytes but newlines
}

// types are the keys that OpenSSH takes. Certificates and DSA are left out.
func types() []string {
	return []string{"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
		"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"}
}

// ParsePublic reads the lines of a public key file. Its errors do not show the
// text, which may be a private key.
func ParsePublic(text string) ([]Key, error) {
	if strings.Contains(text, "PRIVATE KEY") {
		return nil, errors.New("it is a private key; the public one is in the file whose name ends with .pub")
	}
	var keys []Key
	for n, line := range lines(text) {
		if blank(line) {
			continue
		}
		key, ok := parseKey(strings.TrimSpace(line))
		if !ok {
			return nil, fmt.Errorf("line %d is not a public key: it should begin with one of %s", n+1, strings.Join(types(), ", "))
		}
		if err := key.check(); err != nil {
			return nil, fmt.Errorf("line %d is not a public key: %w", n+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key")
	}
	return keys, nil
}

// lines cuts a text into lines.
func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

func blank(line string) bool {
	line = strings.TrimSpace(line)
	return line == "" || line[0] == '#'
}

// parseKey reads a key without options.
func parseKey(text string) (Key, bool) {
	kind, rest, _ := strings.Cut(strings.ReplaceAll(text, "\t", " "), " ")
	data, comment, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	return Key{Type: kind, Data: data, Comment: strings.TrimSpace(comment)}, slices.Contains(types(), kind) && data != ""
}

// check looks at what the key has inside: its type, then its numbers, each with
// its length.
func (k Key) check() error {
	blob, err := base64.StdEncoding.DecodeString(k.Data)
	if err != nil {
		return errors.New("its second word is not base64; perhaps it was cut")
	}
	cut := fmt.Errorf("its second word is not a key of type %s; perhaps it was cut", k.Type)
	var parts []string
	for len(blob) > 0 {
		if len(blob) < 4 || uint64(len(blob)-4) < uint64(binary.BigEndian.Uint32(blob)) {
			return cut
		}
		end := 4 + int(binary.BigEndian.Uint32(blob))
		parts, blob = append(parts, string(blob[4:end])), blob[end:]
	}
	if len(parts) < 2 || parts[0] != k.Type {
		return cut
	}
	return nil
}

// Fingerprint returns what ssh-keygen -l shows.
func (k Key) Fingerprint() string {
	blob, _ := base64.StdEncoding.DecodeString(k.Data)
	sum := sha256.Sum256(blob)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// Name makes the comment fit to name a pusher: letters, digits and ._@- alone,
// at most 64, the first one no dash. A key without a comment is named by its
// fingerprint.
func (k Key) Name() string {
	name := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("._@-", r) {
			return r
		}
		return '-'
	}, k.Comment)
	name = strings.TrimLeft(name, "-.")
	if name == "" {
		sum := sha256.Sum256([]byte(k.Data))
		return fmt.Sprintf("key-%x", sum[:4])
	}
	return name[:min(len(name), 64)]
}

// command begins the forced command of all keys of one repository.
func command(repo string) string { return "/usr/local/bin/bluegreen --repo " + repo + " ssh " }

// Line is the line that allows the key to push to repo, a path without
// characters that a shell would interpret, and to do nothing else.
func (k Key) Line(repo string) string {
	return fmt.Sprintf("restrict,command=\"%s%s\" %s %s %s", command(repo), k.Name(), k.Type, k.Data, k.Name())
}

// An Entry is a line of an authorized_keys file that has a key.
type Entry struct {
	Number  int    // from 1
	Options string // "" where the key may do everything
	Key     Key
}

// Entries returns the keys of an authorized_keys file. What sshd would not
// understand it leaves out.
func Entries(file string) []Entry {
	var entries []Entry
	for n, line := range lines(file) {
		if blank(line) {
			continue
		}
		text := strings.TrimSpace(line)
		options, rest := "", text
		key, ok := parseKey(text)
		if !ok {
			options, rest = cutOptions(text)
			key, ok = parseKey(rest)
		}
		if ok {
			entries = append(entries, Entry{Number: n + 1, Options: options, Key: key})
		}
	}
	return entries
}

// cutOptions cuts a line at the first space outside quotes.
func cutOptions(line string) (options, rest string) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch {
		case strings.HasPrefix(line[i:], `\"`):
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted && (line[i] == ' ' || line[i] == '\t'):
			return line[:i], strings.TrimSpace(line[i:])
		}
	}
	return line, ""
}

// IsFor tells whether the line is one of Line's for repo.
func (e Entry) IsFor(repo string) bool {
	return strings.HasPrefix(e.Options, `restrict,command="`+command(repo))
}

// Forced tells whether sshd runs one command whatever the client asks for.
func (e Entry) Forced() bool {
	quoted, start := false, 0
	for i := 0; i <= len(e.Options); i++ {
		switch {
		case i == len(e.Options) || e.Options[i] == ',' && !quoted:
			if name, _, found := strings.Cut(e.Options[start:i], "="); found && strings.EqualFold(name, "command") {
				return true
			}
			start = i + 1
		case strings.HasPrefix(e.Options[i:], `\"`):
			i++
		case e.Options[i] == '"':
			quoted = !quoted
		}
	}
	return false
}

// same tells whether two keys are one, whatever their comments.
func (k Key) same(other Key) bool { return k.Type == other.Type && k.Data == other.Data }

// Add returns file with the line for one key, and the line that it stands in
// the place of, "" for none: sshd takes the first line of a key that it finds.
// A key that has a forced command already, another one, is refused.
func Add(file string, key Key, repo string) (changed, replaced string, err error) {
	var before []Entry
	for _, e := range Entries(file) {
		if e.Key.same(key) {
			before = append(before, e)
		}
	}
	line := key.Line(repo)
	if len(before) == 0 {
		if file != "" && !strings.HasSuffix(file, "\n") {
			file += "\n"
		}
		return file + line + "\n", "", nil
	}
	all := lines(file)
	for i, e := range before {
		if e.Forced() && !e.IsFor(repo) {
			return "", "", fmt.Errorf("key %s is bound to another command already, in line %d; use another key, or another account", key.Fingerprint(), e.Number)
		}
		if i > 0 {
			return "", "", fmt.Errorf("key %s is there twice, in lines %d and %d; remove one", key.Fingerprint(), before[0].Number, e.Number)
		}
	}
	if at := before[0].Number - 1; all[at] != line {
		if !before[0].IsFor(repo) {
			replaced = all[at]
		}
		all[at] = line
		return strings.Join(all, "\n") + "\n", replaced, nil
	}
	return file, "", nil
}

// Remove returns file without the lines for repo. former has, by fingerprint,
// the lines that they stand in the place of.
func Remove(file, repo string, former map[string]string) string {
	ours := map[int]Key{}
	for _, e := range Entries(file) {
		if e.IsFor(repo) {
			ours[e.Number] = e.Key
		}
	}
	var kept []string
	for n, line := range lines(file) {
		key, remove := ours[n+1]
		before, replaced := former[key.Fingerprint()]
		switch {
		case !remove:
			kept = append(kept, line)
		case replaced:
			kept = append(kept, before)
		}
	}
	if len(kept) == 0 || len(kept) == 1 && kept[0] == "" {
		return ""
	}
	return strings.Join(kept, "\n") + "\n"
}
