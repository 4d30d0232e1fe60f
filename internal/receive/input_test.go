package receive

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-git/go-git/v5/plumbing"

	"bluegreen/internal/git"
	"bluegreen/internal/policy"
)

const (
	zero40 = "0000000000000000000000000000000000000000"
	ones   = "1111111111111111111111111111111111111111"
	twos   = "2222222222222222222222222222222222222222"
)

var sha256Name = strings.Repeat("ab", 32)

// inputs are what pre-receive and post-receive may find on standard input.
var inputs = []struct {
	name, in string
	want     []string // refs
	err      string
}{
	{"nothing", "", nil, ""},
	{"created", zero40 + " " + ones + " refs/heads/master\n", []string{"refs/heads/master"}, ""},
	{"several", zero40 + " " + ones + " refs/heads/a\n" + ones + " " + zero40 + " refs/tags/b\n", []string{"refs/heads/a", "refs/tags/b"}, ""},
	{"SHA-256", sha256Name + " " + strings.Repeat("0", 64) + " refs/heads/master\n", []string{"refs/heads/master"}, ""},
	{"no newline", zero40 + " " + ones + " refs/heads/master", []string{"refs/heads/master"}, ""},
	{"not ASCII", zero40 + " " + ones + " refs/heads/größe\n", []string{"refs/heads/größe"}, ""},
	{"not UTF-8", zero40 + " " + ones + " refs/heads/\xff\n", []string{"refs/heads/\xff"}, ""},
	{"what a shell would run", zero40 + " " + ones + " refs/heads/$(id)`id`;&|\n", []string{"refs/heads/$(id)`id`;&|"}, ""},
	{"an empty line", "\n", nil, "line 1"},
	{"an empty line in between", zero40 + " " + ones + " refs/heads/a\n\n", nil, "line 2"},
	{"two words", zero40 + " " + ones + "\n", nil, "line 1"},
	{"a word that is no name", "x " + ones + " refs/heads/a\n", nil, `"x" is not an object name`},
	{"39 digits", zero40[1:] + " " + ones + " refs/heads/a\n", nil, "is not an object name"},
	{"a long word that is no name", strings.Repeat("\x1b", 5000) + " " + ones + " refs/heads/a\n", nil, "is not an object name"},
	{"two spaces", zero40 + "  " + ones + " refs/heads/a\n", nil, "is not an object name"},
	{"a tab", zero40 + "\t" + ones + "\trefs/heads/a\n", nil, "is not"},
	{"no refs/", zero40 + " " + ones + " HEAD\n", nil, `"HEAD" is not a ref`},
	{"a space in the ref", zero40 + " " + ones + " refs/heads/a b\n", nil, "is not a ref"},
	{"two dots", zero40 + " " + ones + " refs/heads/a..b\n", nil, "is not a ref"},
	{"a lock", zero40 + " " + ones + " refs/heads/a.lock\n", nil, "is not a ref"},
	{"a lock in between", zero40 + " " + ones + " refs/heads/a.lock/b\n", nil, "is not a ref"},
	{"hidden", zero40 + " " + ones + " refs/heads/.a\n", nil, "is not a ref"},
	{"a revision", zero40 + " " + ones + " refs/heads/a@{1}\n", nil, "is not a ref"},
	{"a pattern", zero40 + " " + ones + " refs/heads/*\n", nil, "is not a ref"},
	{"an empty part", zero40 + " " + ones + " refs//a\n", nil, "is not a ref"},
	{"ends in a slash", zero40 + " " + ones + " refs/heads/a/\n", nil, "is not a ref"},
	{"a control character", zero40 + " " + ones + " refs/heads/a\x1b\n", nil, "is not a ref"},
	{"carriage return", zero40 + " " + ones + " refs/heads/a\r\n", nil, "is not a ref"},
	{"NUL", zero40 + " " + ones + " refs/heads/a\x00\n", nil, "is not a ref"},
	{"twice", zero40 + " " + ones + " refs/heads/a\n" + ones + " " + twos + " refs/heads/a\n", nil, `"refs/heads/a" is in the push twice`},
	{"a ref of 4 KiB", zero40 + " " + ones + " refs/heads/" + strings.Repeat("a", 4096) + "\n", nil, "is not a ref"},
	{"a line of 1 MiB", strings.Repeat("a", 1<<20), nil, "line 1 is longer than 8192 bytes"},
}

func refsOf(updates []policy.Update) []string {
	var refs []string
	for _, u := range updates {
		refs = append(refs, u.Ref)
	}
	return refs
}

func TestReadUpdates(t *testing.T) {
	t.Parallel()
	for _, c := range inputs {
		for reader, in := range map[string]io.Reader{
			"whole": strings.NewReader(c.in), "byte by byte": iotest.OneByteReader(strings.NewReader(c.in)), "data with EOF": iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			updates, err := readUpdates(in)
			if c.err == "" && (err != nil || !slices.Equal(refsOf(updates), c.want)) {
				t.Errorf("%s, %s: %q, %v; want %q", c.name, reader, refsOf(updates), err, c.want)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s, %s: %v, want %q", c.name, reader, err, c.err)
			}
			if err != nil && len(err.Error()) > 600 {
				t.Errorf("%s: an error of %d bytes", c.name, len(err.Error()))
			}
		}
	}
	first, err := readUpdates(strings.NewReader(zero40 + " " + ones + " refs/heads/a\n"))
	if err != nil || !first[0].Old.IsZero() || first[0].New.String() != ones {
		t.Errorf("%+v, %v", first, err)
	}
	if _, err := readUpdates(io.MultiReader(strings.NewReader(zero40+" "+ones+" refs/heads/a\n"), iotest.ErrReader(errors.New("broken")))); err == nil {
		t.Error("a broken pipe is taken for the end")
	}
}

// TestTooManyUpdates bounds what a push may bring.
func TestTooManyUpdates(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	for i := range maxUpdates {
		fmt.Fprintf(&in, "%s %s refs/heads/%d\n", zero40, ones, i)
	}
	if updates, err := readUpdates(strings.NewReader(in.String())); err != nil || len(updates) != maxUpdates {
		t.Errorf("%d updates, %v", len(updates), err)
	}
	fmt.Fprintf(&in, "%s %s refs/heads/more\n", zero40, ones)
	if _, err := readUpdates(strings.NewReader(in.String())); err == nil || !strings.Contains(err.Error(), "more than 100000 refs") {
		t.Errorf("one more: %v", err)
	}
}

func FuzzReadUpdates(f *testing.F) {
	for _, c := range inputs {
		if len(c.in) < 10_000 {
			f.Add(c.in)
		}
	}
	f.Fuzz(func(t *testing.T, in string) {
		updates, err := readUpdates(strings.NewReader(in))
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		// What is taken is what was there, and nothing else.
		lines := strings.Split(strings.TrimSuffix(in, "\n"), "\n")
		if in == "" {
			lines = nil
		}
		if len(lines) != len(updates) {
			t.Fatalf("%q is read as %d updates", in, len(updates))
		}
		for i, u := range updates {
			same := func(oid git.OID, digits string) bool {
				return oid.String() == digits || oid.IsZero() && digits == strings.Repeat("0", 64)
			}
			if f := strings.SplitN(lines[i], " ", 3); !same(u.Old, f[0]) || !same(u.New, f[1]) || u.Ref != f[2] {
				t.Errorf("%q is read as %+v", lines[i], u)
			}
			if !strings.HasPrefix(u.Ref, "refs/") || strings.ContainsAny(u.Ref, " \x00\n\x1b~^:?*[\\") || strings.Contains(u.Ref, "..") {
				t.Errorf("%q is taken for a ref", u.Ref)
			}
		}
	})
}

func TestPackets(t *testing.T) {
	t.Parallel()
	contents := []string{"", "a", "ends in a newline\n", "two\n\n", "NUL\x00inside", strings.Repeat("x", maxPacket-4)}
	var wire strings.Builder
	for _, content := range contents {
		if err := writePacket(&wire, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFlush(&wire); err != nil {
		t.Fatal(err)
	}
	in := strings.NewReader(wire.String())
	for _, content := range contents {
		got, err := readPacket(iotest.OneByteReader(in))
		if err != nil || got != strings.TrimSuffix(content, "\n") {
			t.Errorf("%.30q comes back as %.30q, %v", content, got, err)
		}
	}
	if _, err := readPacket(in); !errors.Is(err, errFlush) {
		t.Errorf("a flush is %v", err)
	}
	if _, err := readPacket(in); !errors.Is(err, io.EOF) {
		t.Errorf("the end is %v", err)
	}
	if err := writePacket(io.Discard, strings.Repeat("x", maxPacket-3)); err == nil {
		t.Error("a packet that is too long is written")
	}
	for wire, want := range map[string]string{
		"": "EOF", "0": "unexpected EOF", "000": "unexpected EOF", "0005": "EOF", "0006a": "unexpected EOF",
		"0001": "is not a length", "0002": "is not a length", "0003": "is not a length",
		"zzzz": `"zzzz" is not a length`, "-001": "is not a length", "0x10": "is not a length", "1_00": "is not a length", "\x1b[1m": "is not a length", "ffff": "65535 is not a length", "fff1": "65521 is not a length",
	} {
		if _, err := readPacket(strings.NewReader(wire)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", wire, err, want)
		}
	}
	if _, err := readPacket(strings.NewReader("0006ab")); err != nil {
		t.Errorf("digits: %v", err)
	}
	if got, err := readPacket(strings.NewReader("000Aabcdef")); err != nil || got != "abcdef" {
		t.Errorf("a capital digit: %q, %v", got, err) // git takes both
	}
}

func FuzzReadPacket(f *testing.F) {
	f.Add([]byte("0000"))
	f.Add([]byte("000eversion=1\x000000"))
	f.Add([]byte("fff0" + strings.Repeat("x", 100)))
	f.Add([]byte("0004000500060007"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		in := strings.NewReader(string(wire))
		for {
			before := in.Len()
			content, err := readPacket(in)
			if in.Len() == before && before > 0 {
				t.Fatalf("no progress at %q", wire[len(wire)-before:])
			}
			if errors.Is(err, errFlush) {
				continue
			}
			if err != nil {
				return
			}
			var again strings.Builder
			if err := writePacket(&again, content); err != nil {
				t.Fatalf("%q was read and cannot be written: %v", content, err)
			}
			if back, err := readPacket(strings.NewReader(again.String())); err != nil || back != strings.TrimSuffix(content, "\n") {
				t.Fatalf("%q comes back as %q, %v", content, back, err)
			}
		}
	})
}

// FuzzRef: what is taken for a ref, go-git takes for one, too, but for parts that are
// "@" alone or begin with "-", which git allows.
func FuzzRef(f *testing.F) {
	for _, name := range []string{"refs/heads/master", "refs/tags/v1.0", "refs/heads/a.lock", "refs/heads/@{1}", "refs//a", "refs/heads/\u202ea", "refs/@", "refs/-a"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		parts := strings.Split(name, "/")
		for i, part := range parts {
			if part == "@" || strings.HasPrefix(part, "-") {
				parts[i] = "a" + part[1:]
			}
		}
		if err := plumbing.ReferenceName(strings.Join(parts, "/")).Validate(); err != nil && validRef(name) {
			t.Errorf("%q is taken for a ref; go-git: %v", name, err)
		}
	})
}

// FuzzProcessor reads what git sends to proc-receive.
func FuzzProcessor(f *testing.F) {
	for _, lines := range [][]string{
		{"version=1\x00push-options atomic", "", zero40 + " " + ones + " refs/heads/master", "", "live", ""},
		{"version=1\x00", "", ""},
		{"version=1", "", zero40 + " " + ones + " refs/heads/a", zero40 + " " + ones + " refs/heads/a", ""},
		{"version=2\x00", ""},
	} {
		var wire strings.Builder
		for _, line := range lines {
			if line == "" {
				writeFlush(&wire)
			} else {
				writePacket(&wire, line)
			}
		}
		f.Add([]byte(wire.String()))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var out strings.Builder
		r := &processor{push: push{process: &Process{Stdin: strings.NewReader(string(wire)), Stdout: &out}}, answers: map[string]answer{}}
		err := r.read()
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		if err == nil && !strings.HasPrefix(string(wire[4:]), "version=1") {
			t.Errorf("%q is taken for git's greeting", wire)
		}
		seen := map[string]bool{}
		for _, u := range r.updates {
			if err == nil && (seen[u.Ref] || !validRef(u.Ref)) {
				t.Errorf("%q is taken for a ref", u.Ref)
			}
			seen[u.Ref] = true
		}
		// The greeting is a packet and a flush, or nothing.
		if out.Len() > 0 {
			in := strings.NewReader(out.String())
			if hello, err := readPacket(in); err != nil || !strings.HasPrefix(hello, "version=1\x00") {
				t.Errorf("greets with %q, %v", hello, err)
			}
			if _, err := readPacket(in); !errors.Is(err, errFlush) || in.Len() > 0 {
				t.Errorf("the greeting %q does not end", out.String())
			}
		}
	})
}
