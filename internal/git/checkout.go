package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// checkoutTimeout ends a filter that hangs. One that fetches large files has to
// have time for it.
const checkoutTimeout = time.Hour

// A Conversion is what a checkout does to the contents of one path.
type Conversion struct {
	// How says it, "" for a path that is written as it is committed. Two trees
	// that give a path the same conversion, under the same rules and filters,
	// have it written in the same way.
	How string
	// LFS tells that the path is one of Git LFS's, which is not set up here.
	LFS bool
}

// A Checkout is what git is to think of the work tree: WorkTree is an empty
// directory, and Index an index file that lists the .gitattributes that count and
// what is to be written.
type Checkout struct {
	Index, WorkTree string
}

// attributeNames are those that a checkout looks at.
var attributeNames = []string{"text", "crlf", "eol", "ident", "filter", "working-tree-encoding"}

// Conversions asks git how a checkout converts the paths.
func (r *Rules) Conversions(ctx context.Context, c Checkout, paths []string) ([]Conversion, error) {
	if err := r.configure(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkoutTimeout)
	defer cancel()
	cmd := r.repo.checkoutCommand(ctx, c, append([]string{"check-attr", "--stdin", "-z"}, attributeNames...)...)
	cmd.Stdin = nulTerminated(paths)
	said := &firstBytes{}
	cmd.Stderr = said
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting git check-attr: %w", err)
	}
	conversions, err := r.readConversions(bufio.NewReaderSize(out, 1<<16), paths)
	if err != nil {
		cancel()
	}
	if waited := cmd.Wait(); waited != nil && !errors.Is(err, errUnexpected) {
		return nil, commandError(ctx, cmd.Args[1:], said.String(), waited)
	}
	return conversions, err
}

var errUnexpected = errors.New("unexpected answer of git check-attr")

// readConversions reads PATH, NAME and VALUE, each with a NUL at its end, for
// every attribute of every path.
func (r *Rules) readConversions(out *bufio.Reader, paths []string) ([]Conversion, error) {
	conversions := make([]Conversion, len(paths))
	known := map[string]Conversion{} // by all of the values
	var values []byte
	for i, path := range paths {
		values = values[:0]
		for _, name := range attributeNames {
			for _, want := range []string{path, name} {
				if got, err := out.ReadSlice(0); err != nil {
					return nil, cutShort(err)
				} else if string(got[:len(got)-1]) != want {
					return nil, fmt.Errorf("%w: %q instead of %q", errUnexpected, got, want)
				}
			}
			value, err := out.ReadSlice(0)
			if err != nil {
				return nil, cutShort(err)
			}
			values = append(values, value...)
		}
		c, found := known[string(values)]
		if !found {
			c = r.conversion(strings.Split(string(values), "\x00"))
			known[string(values)] = c
		}
		conversions[i] = c
	}
	return conversions, nil
}

// conversion follows convert_attrs of git's convert.c, with the values of the
// attributeNames as check-attr prints them. Where it is in doubt it says that
// there is a conversion: git then writes what is right.
func (r *Rules) conversion(values []string) Conversion {
	text, crlf, eol, ident, filter, encoding := values[0], values[1], values[2], values[3], values[4], values[5]
	var how []string
	if lines := r.lines(text, crlf, eol); lines != "" {
		how = append(how, lines)
	}
	if ident == "set" {
		how = append(how, "ident")
	}
	if encoding != "unspecified" && encoding != "" {
		how = append(how, "encoding "+encoding)
	}
	if r.filters(filter) {
		how = append(how, "filter "+filter)
	}
	return Conversion{How: strings.Join(how, ", "), LFS: filter == "lfs" && !r.filters("lfs")}
}

// lines tells whether lines that end in LF are made to end in CRLF: of every
// file, or of those that git takes for text.
func (r *Rules) lines(text, crlf, eol string) string {
	const every, guessed, none = "crlf", "crlf if text", ""
	action := text
	if action != "set" && action != "unset" && action != "input" && action != "auto" {
		action = crlf
	}
	switch {
	case action == "unset", action != "unset" && eol == "lf":
		return none
	case action == "auto" && (eol == "crlf" || r.crlf):
		return guessed
	case action == "auto":
		return none
	case eol == "crlf", action == "set" && r.crlf:
		return every
	case action == "set" || action == "input":
		return none
	case r.auto == "true":
		return guessed
	}
	return none
}

// CheckoutIndex has git write paths of the index c.Index below the directory
// into, as a checkout into an empty work tree writes them. said is what git and
// the filters had to say all the same.
func (r *Repository) CheckoutIndex(ctx context.Context, c Checkout, into *os.File, paths []string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkoutTimeout)
	defer cancel()
	// The descriptor is the very directory, whatever its path leads to by then.
	cmd := r.checkoutCommand(ctx, c, "checkout-index", "--force", "--stdin", "-z", "--prefix=/proc/self/fd/3/")
	cmd.ExtraFiles = []*os.File{into}
	cmd.Stdin = nulTerminated(paths)
	stderr := &firstBytes{}
	cmd.Stderr = stderr
	if err := cmd.Run(); err != nil {
		return "", commandError(ctx, cmd.Args[1:], stderr.String(), err)
	}
	return stderr.String(), nil
}

// checkoutCommand prepares a git command with a work tree. Settings that have
// git look at a work tree that is not there are switched off, and parallel
// checkout, which passes on the encodings of attributes in directories that it
// has left, and freed (seen in git 2.39). With git end the filters that it runs.
func (r *Repository) checkoutCommand(ctx context.Context, c Checkout, args ...string) *exec.Cmd {
	args = append([]string{"-c", "core.sparseCheckout=false", "-c", "core.fsmonitor=false", "-c", "checkout.workers=1"}, args...)
	cmd := r.command(ctx, []string{"GIT_INDEX_FILE=" + c.Index, "GIT_WORK_TREE=" + c.WorkTree}, args...)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

func nulTerminated(paths []string) io.Reader {
	return strings.NewReader(strings.Join(paths, "\x00") + "\x00")
}

// firstBytes keeps the beginning of what is written to it.
type firstBytes struct{ kept bytes.Buffer }

func (b *firstBytes) Write(p []byte) (int, error) {
	const enough = 16 << 10
	b.kept.Write(p[:min(len(p), max(0, enough-b.kept.Len()))])
	return len(p), nil
}

func (b *firstBytes) String() string { return b.kept.String() }
