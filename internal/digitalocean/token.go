package digitalocean

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxToken is more than any token has, in bytes.
const maxToken = 4 << 10

// CheckToken returns s as a token: without the whitespace at its end. It
// refuses what no token looks like, in words that do not show it.
func CheckToken(s string) (string, error) {
	s = strings.TrimRight(s, " \t\r\n")
	switch {
	case s == "":
		return "", errors.New("the token is empty")
	case len(s) > maxToken:
		return "", fmt.Errorf("the token is longer than %d bytes", maxToken)
	}
	for _, c := range []byte(s) {
		switch {
		case c == ' ':
			return "", errors.New("the token has a space in it")
		case c < ' ' || c > '~':
			return "", errors.New("the token has a character in it that is not printable ASCII")
		}
	}
	return s, nil
}

// ReadToken reads a token from a file that its owner alone may read. Its errors
// say what to type.
func ReadToken(path string) (string, error) {
	// Not blocking, or a FIFO would be waited for.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return "", anew(path, fmt.Errorf("token file %q is a symlink", path))
	}
	if errors.Is(err, unix.ENOENT) {
		return "", anew(path, fmt.Errorf("opening token file %q: %w", path, err))
	}
	if err != nil {
		return "", fmt.Errorf("opening token file %q: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("looking at token file %q: %w", path, err)
	}
	if kind := info.Mode().Type(); kind != 0 {
		err := fmt.Errorf("token file %q is %s, not a regular file", path, kindName(kind))
		if kind == os.ModeNamedPipe {
			err = anew(path, err)
		}
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("token file %q may be read by others (mode %#o); run %q", path, mode, "chmod 600 "+path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("reading token file %q: %w", path, err)
	}
	switch {
	case len(content) == 0:
		return "", anew(path, fmt.Errorf("token file %q is empty", path))
	case len(content) > maxToken:
		return "", anew(path, fmt.Errorf("token file %q is longer than %d bytes", path, maxToken))
	}
	token, err := CheckToken(string(content))
	if err != nil {
		return "", anew(path, fmt.Errorf("token file %q: %w", path, err))
	}
	return token, nil
}

// anew says how to make a token file that is good.
func anew(path string, err error) error {
	return fmt.Errorf("%w; run %q and paste the token, then Ctrl-D", err, "install -m 600 /dev/stdin "+path)
}

func kindName(kind os.FileMode) string {
	switch {
	case kind&os.ModeDir != 0:
		return "a directory"
	case kind&os.ModeNamedPipe != 0:
		return "a FIFO"
	case kind&os.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}

// A token is asked for when it is first needed, and kept out of what is
// printed.
type token struct {
	ask func() (string, error)

	mu    sync.Mutex
	value string
	echo  *regexp.Regexp // finds value in texts; nil before there is one
}

// get returns the token.
func (t *token) get() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.value != "" {
		return t.value, nil
	}
	value, err := t.ask()
	if err != nil {
		return "", fmt.Errorf("looking for the token: %w", err)
	}
	if value, err = CheckToken(value); err != nil {
		return "", err
	}
	t.value, t.echo = value, echoOf(value)
	return value, nil
}

// echoOf finds a token in a text, also where some of it is url-encoded, once or
// more, or quoted.
func echoOf(token string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("(?i)")
	for i := range len(token) {
		fmt.Fprintf(&b, `(?:\\*%s|%%(?:25)*%02x)`, regexp.QuoteMeta(token[i:i+1]), token[i])
	}
	return regexp.MustCompile(b.String())
}

// clean makes a foreign text, or at most limit bytes of it, fit for a line,
// without the token. All foreign texts of the API's go through it.
func (t *token) clean(s string, limit int) string {
	t.mu.Lock()
	echo := t.echo
	t.mu.Unlock()
	if echo != nil {
		s = echo.ReplaceAllLiteralString(s, "[token]") // before a cut leaves a half of it
	}
	return printable(s, limit)
}

// quote is clean for a name in quotes.
func (t *token) quote(s string) string { return `"` + t.clean(s, maxMessage) + `"` }
