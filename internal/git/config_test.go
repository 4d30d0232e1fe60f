package git

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// configurations are texts of configuration files, and whether they are read
// without git.
var configurations = map[string]bool{
	"":      true,
	"\n\n ": true,
	"[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n":                       true,
	"[receive]\n\tprocReceiveRefs = refs/heads/master\n\tprocReceiveRefs = !refs/tags\n\tdenydeletes": true,
	"# comment\n; another\n[a]\nb\n":                                                            true,
	"[A-b \"Some.Part\"]\n  KEY =  some words ":                                                 true,
	"[remote \"origin\"]\n\turl = /srv/a=b?c&d\n[branch \"feature/x\"]\nmerge = refs/heads/x\n": true,
	"[a]\nb=\n[a]\nb = 2\n[a \"\"]\nb=3":                                                        true,
	"[a]\nb = \"quoted\"\n":                                                                     false,
	"[a]\nb = 1 # comment\n":                                                                    false,
	"[a]\nb = x;y\n":                                                                            false,
	"[a]\nb = x\\\ny\n":                                                                         false,
	"[a]\nb = C:\\\\x\n":                                                                        false,
	"[a]\nb = x\ty\n":                                                                           false,
	"[a]\r\nb = x\r\n":                                                                          false,
	"\ufeff[a]\nb = x\n":                                                                        false,
	"[a] b = x\n":                                                                               false,
	"[a.b]\nc = x\n":                                                                            false,
	"[a \"b\\\"c\"]\nd = x\n":                                                                   false,
	"[a \"b]\"]\nd = x\n":                                                                       false,
	"[ a ]\nb = x\n":                                                                            false,
	"[a\nb = x\n":                                                                               false,
	"[a \"b]\nc = x\n":                                                                          false,
	"[a b]\nc = x\n":                                                                            false,
	"b = x\n":                                                                                   false,
	"[a]\nb_c = x\n":                                                                            false,
	"[a]\n= x\n":                                                                                false,
	"[a]\nb c = x\n":                                                                            false,
	"[]\nb = x\n":                                                                               false,
	"[include]\npath = other\n":                                                                 false,
	"[includeIf \"gitdir:/\"]\npath=x":                                                          false,
	"[a]\nb = x\x00y\n":                                                                         false,
}

// agree holds the text of a configuration, if it is read without git, against
// what git reads.
func agree(t *testing.T, text string) (plain bool) {
	t.Helper()
	got := Config{}
	if got.parse(text) != nil {
		return false
	}
	path := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := gittest.Try("/", nil, "", "config", "--file", path, "--list", "-z")
	if err != nil {
		return true // git works with no such repository
	}
	want := Config{}
	if out != "" {
		want = parseList(out)
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q is %q, git says %q", text, got, want)
	}
	return true
}

func TestPlainConfig(t *testing.T) {
	t.Parallel()
	for text, plain := range configurations {
		if got := agree(t, text); got != plain {
			t.Errorf("%q is read without git: %v", text, got)
		}
	}
}

func FuzzPlainConfig(f *testing.F) {
	for text := range configurations {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { agree(t, text) })
}

// TestConfigFiles: each of git's files counts as it does for git.
func TestConfigFiles(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	for path, text := range map[string]string{
		"home/.gitconfig": "[a]\nb = home\n", "home/.config/git/config": "[a]\nb = xdg home\n",
		"xdg/git/config": "[a]\nb = xdg\n", "global": "[a]\nb = global\n", "odd": "[a]\nb = \"odd\"\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o777); err != nil {
			t.Fatal(err)
		}
		appendTo(t, filepath.Join(dir, path), text)
	}
	repo := gittest.Bare(t)
	gittest.Git(t, repo, "config", "a.b", "own")
	for name, test := range map[string]struct {
		env   []string
		plain bool
	}{
		"nothing":         {[]string{"HOME=", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="}, true},
		"home":            {[]string{"HOME=" + dir + "/home", "GIT_CONFIG_NOSYSTEM=true"}, true},
		"home and system": {[]string{"HOME=" + dir + "/home"}, true},
		"XDG":             {[]string{"HOME=" + dir + "/home", "XDG_CONFIG_HOME=" + dir + "/xdg", "GIT_CONFIG_NOSYSTEM=1"}, true},
		"XDG alone":       {[]string{"XDG_CONFIG_HOME=" + dir + "/xdg", "GIT_CONFIG_NOSYSTEM=1"}, true},
		"global":          {[]string{"HOME=" + dir + "/home", "GIT_CONFIG_GLOBAL=" + dir + "/global", "GIT_CONFIG_NOSYSTEM=1"}, true},
		"global, missing": {[]string{"GIT_CONFIG_GLOBAL=" + dir + "/none", "GIT_CONFIG_NOSYSTEM=1"}, true},
		"odd":             {[]string{"GIT_CONFIG_GLOBAL=" + dir + "/odd", "GIT_CONFIG_NOSYSTEM=1"}, false},
		"system":          {[]string{"GIT_CONFIG_SYSTEM=" + dir + "/global"}, false},
		"perhaps system":  {[]string{"GIT_CONFIG_NOSYSTEM=maybe", "GIT_CONFIG_GLOBAL=" + dir + "/global"}, false},
		"git elsewhere":   {[]string{"PATH=" + elsewhere(t), "GIT_CONFIG_NOSYSTEM=1"}, false},
		"unreadable":      {[]string{"GIT_CONFIG_GLOBAL=" + dir, "GIT_CONFIG_NOSYSTEM=1"}, false},
	} {
		path := "PATH=/usr/bin:/bin"
		r, err := Open(repo, append([]string{path}, test.env...))
		if strings.HasPrefix(test.env[0], "PATH=") {
			r, err = Open(repo, test.env)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.plainConfig()
		if (err == nil) != test.plain {
			t.Errorf("%s: %v", name, err)
		}
		out, askErr := r.Run(t.Context(), "config", "--list", "-z")
		if err == nil && askErr == nil && !maps.EqualFunc(got, parseList(out), slices.Equal) {
			t.Errorf("%s: %q, git says %q", name, got, out)
		}
	}
}

// elsewhere is a directory with a git of one's own.
func elsewhere(t *testing.T) string {
	t.Helper()
	dir := gittest.Dir(t)
	gittest.Script(t, filepath.Join(dir, "git"), "#!/bin/sh\nexec /usr/bin/git \"$@\"\n")
	return dir
}
