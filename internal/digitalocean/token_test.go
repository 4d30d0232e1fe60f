package digitalocean

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func quoteJSON(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCheckToken(t *testing.T) {
	t.Parallel()
	for _, s := range []string{canary, canary + "\n", canary + "\r\n", canary + " \t\n\n", strings.Repeat("x", 4096)} {
		if got, err := CheckToken(s); got != strings.TrimRight(s, " \t\r\n") || err != nil {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"":                         "the token is empty",
		" \n":                      "the token is empty",
		" " + canary:               "the token has a space in it",
		canary + " x":              "the token has a space in it",
		canary + "\n" + canary:     "the token has a character in it that is not printable ASCII",
		"\ufeff" + canary:          "the token has a character in it that is not printable ASCII",
		canary + "\x00":            "the token has a character in it that is not printable ASCII",
		canary + "\x7f":            "the token has a character in it that is not printable ASCII",
		strings.Repeat("x", 4097):  "the token is longer than 4096 bytes",
		"Bearer\t" + canary:        "the token has a character in it that is not printable ASCII",
		"DIGITALOCEAN_TOKEN = tok": "the token has a space in it",
	} {
		got, err := CheckToken(s)
		wantError(t, err, want)
		if got != "" {
			t.Errorf("%q", got)
		}
	}
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("good", canary+"\n", 0o600)
	write("strict", canary, 0o400)
	for _, name := range []string{"good", "strict"} {
		if got, err := ReadToken(path(name)); got != canary || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	write("empty", "", 0o600)
	write("blank", "\n", 0o600)
	write("others", canary, 0o644)
	write("group", canary, 0o620)
	write("long", canary+strings.Repeat(" ", 4096)+"x", 0o600)
	write("two", canary+"\n"+canary+"\n", 0o600)
	write("odd\x1b", canary, 0o640)
	for _, err := range []error{
		os.Mkdir(path("directory"), 0o700), unix.Mkfifo(path("fifo"), 0o600), os.Symlink("good", path("symlink")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const anew = `; run "install -m 600 /dev/stdin PATH" and paste the token, then Ctrl-D`
	for name, want := range map[string]string{
		"empty":       `token file %q is empty` + anew,
		"blank":       `token file %q: the token is empty` + anew,
		"others":      `token file %q may be read by others (mode 0644); run "chmod 600 PATH"`,
		"group":       `token file %q may be read by others (mode 0620); run "chmod 600 PATH"`,
		"odd\x1b":     `token file %q may be read by others (mode 0640); run "chmod 600 PATH"`,
		"long":        `token file %q is longer than 4096 bytes` + anew,
		"two":         `token file %q: the token has a character in it that is not printable ASCII` + anew,
		"directory":   `token file %q is a directory, not a regular file`,
		"fifo":        `token file %q is a FIFO, not a regular file` + anew,
		"symlink":     `token file %q is a symlink` + anew,
		"missing":     `opening token file %q: no such file or directory` + anew,
		"good/inside": `opening token file %q: not a directory`,
	} {
		quoted := fmt.Sprintf("%q", path(name))
		want = strings.ReplaceAll(fmt.Sprintf(want, path(name)), "PATH", quoted[1:len(quoted)-1])
		got, err := ReadToken(path(name))
		wantError(t, err, want)
		if got != "" {
			t.Errorf("%q", got)
		}
	}
	_, err := ReadToken("/dev/null")
	wantError(t, err, `token file "/dev/null" is a device, not a regular file`)
	if _, err := ReadToken(path("missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%#v", err)
	}
}

// The token is asked for when it is needed, until there is one, and then kept.
func TestTokenIsAskedForOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	a := healthy(t)
	p := provider(t, a.url, func(o *Options) {
		o.Token = func() (string, error) {
			switch asked.Add(1) {
			case 1:
				return "", errors.New("not yet")
			case 2:
				return "two words", nil
			}
			return canary + "\n", nil
		}
	})
	if asked.Load() != 0 {
		t.Error("asked before it was needed")
	}
	_, err := p.State(t.Context(), "")
	wantError(t, err, asking+"looking for the token: not yet")
	_, err = p.State(t.Context(), "")
	wantError(t, err, asking+"the token has a space in it")
	if n := len(a.requests()); n != 0 {
		t.Errorf("%d requests without a token", n)
	}
	state(t, p, "green")
	state(t, p, "green")
	if asked.Load() != 3 || a.withToken() != 6 {
		t.Errorf("asked %d times for it, sent it %d times", asked.Load(), a.withToken())
	}
}
