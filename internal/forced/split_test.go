package forced

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// shellQuote spells words as git does for a remote shell.
func shellQuote(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(word) + "'"
	}
	return strings.Join(quoted, " ")
}

var accepted = []struct {
	line string
	want []string
}{
	{"", nil},
	{" \t ", nil},
	{"git-receive-pack 'sample_app'", []string{"git-receive-pack", "sample_app"}},
	{"git upload-pack  '/srv/a b'", []string{"git", "upload-pack", "/srv/a b"}},
	{`git-upload-pack 'it'\''s'\!''`, []string{"git-upload-pack", "it's!"}},
	{`a"b c"'d e'f\ g`, []string{"ab cd ef g"}},
	{`"a\"b\\c\d"`, []string{`a"b\c\d`}},
	{`"\$HOME\` + "`\"", []string{"$HOME`"}},
	{`'$(id);|&<>*?[#'`, []string{"$(id);|&<>*?[#"}},
	{`"';|&<>()*?[#"`, []string{"';|&<>()*?[#"}},
	{`\;\&\$\(\)\<\>\*\#`, []string{";&$()<>*#"}},
	{`'' ""`, []string{"", ""}},
	{"a#b x=y {a} HEAD^{commit} @{1} !", []string{"a#b", "x=y", "{a}", "HEAD^{commit}", "@{1}", "!"}},
	{"\tbluegreen\tstatus\t", []string{"bluegreen", "status"}},
	{"größe '\xff'", []string{"größe", "\xff"}},
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, test := range accepted {
		got, err := Split(test.line)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%q: %q, %v; want %q", test.line, got, err, test.want)
		}
		// A shell is of the same opinion.
		out, err := exec.Command("/bin/sh", "-c", `for word in `+test.line+`; do printf '%s\n' "$word"; done`).Output()
		if want := strings.Join(append(slices.Clone(test.want), ""), "\n"); err != nil || string(out) != want {
			t.Errorf("%q: a shell makes %q of it, %v; want %q", test.line, out, err, want)
		}
	}
}

func TestSplitRefuses(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"a;b": "';'", "a ; b": "';'", "a&b": "'&'", "a && b": "'&'", "a|b": "'|'", "a || b": "'|'",
		"a <b": "'<'", "a >b": "'>'", "a 2>&1": "'>'", "(a)": "'('", "a )": "')'", "a $(b)": "'$'", "a `b`": "'`'", "$HOME": "'$'",
		`"$HOME"`: "'$'", `"$(id)"`: "'$'", "\"`id`\"": "'`'", `"${IFS}"`: "'$'",
		"a *": "'*'", "a ?": "'?'", "a [b]": "'['", "#a": "'#'", "a #b": "'#'",
		"a\nb": "control character", "'a\nb'": "control character", "a\rb": "control character", "a\\\nb": "control character",
		"a\x00b": "control character", "a\x1b[31mb": "control character", "a\x7f": "control character",
		`a\`: "backslash", "'a": "a ' is not closed", `"a`: `a " is not closed`, `"a\"`: "not closed", `'a\'b'`: "not closed",
		strings.Repeat("a", maxLine+1): "too long",
	} {
		if got, err := Split(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %q, %v; want an error about %q", line, got, err, want)
		}
	}
}

// FuzzSplit spells what is accepted anew, and finds the same words in it.
func FuzzSplit(f *testing.F) {
	for _, test := range accepted {
		f.Add(test.line)
	}
	f.Add(`"\`)
	f.Add(`a'b"c'd"e'f"`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		again := shellQuote(words)
		if len(again) > maxLine {
			return
		}
		if got, err := Split(again); err != nil || !slices.Equal(got, words) {
			t.Errorf("%q is %q, which is spelled %s, which is %q, %v", line, words, again, got, err)
		}
	})
}
