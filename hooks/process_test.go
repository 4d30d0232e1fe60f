package hooks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

// A hookRun is one hook, run by hand as git runs it.
type hookRun struct {
	name  string
	stdin string
	shell string   // what sh runs, "$0" being the hook
	env   []string // instead of the server's, when it is not nil
	extra []string
}

func (s *server) hook(h hookRun) (status int, out string) {
	s.Helper()
	if h.shell == "" {
		h.shell = `exec "$0"`
	}
	cmd := s.command(s.git, "/bin/sh", "-c", h.shell, "hooks/"+h.name)
	cmd.Env = append(cmd.Env, "GIT_DIR=.")
	if h.env != nil {
		cmd.Env = h.env
	}
	cmd.Env = append(cmd.Env, h.extra...)
	cmd.Stdin = strings.NewReader(h.stdin)
	data, err := cmd.CombinedOutput()
	if wrong := rawControls(strings.ReplaceAll(string(data), "\x00", "")); wrong != "" {
		s.Errorf("%s printed %s", h.name, wrong)
	}
	return s.exitStatus(err), string(data)
}

const zeros = "0000000000000000000000000000000000000000"

// TestHookInput runs pre-receive and post-receive with what git never sends.
func TestHookInput(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "pre-receive", "post-receive")
	one := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	before := s.web(true)
	line := one + " " + one + " refs/heads/side"
	for name, c := range map[string]struct {
		stdin  string
		status int
		want   string // in the output
	}{
		"empty":                         {"", 0, ""},
		"an empty line":                 {"\n", 1, `error: reading what git hands over: line 1: "" is not "OLD NEW REF"`},
		"words":                         {"hello world\n", 1, `error: reading what git hands over: line 1: "hello world" is not "OLD NEW REF"`},
		"short names":                   {"1234 5678 refs/heads/master\n", 1, `"1234" is not an object name`},
		"capitals":                      {strings.ToUpper(line) + "\n", 1, "is not an object name"},
		"not a ref":                     {one + " " + one + " master\n", 1, `"master" is not a ref`},
		"a ref that climbs":             {one + " " + one + " refs/heads/../../config\n", 1, "is not a ref"},
		"an option for a ref":           {one + " " + one + " --upload-pack=x\n", 1, "is not a ref"},
		"escapes":                       {one + " " + one + " refs/heads/\x1b[31m\n", 1, `"refs/heads/\x1b[31m" is not a ref`},
		"NUL":                           {line + "\x00\n", 1, "is not a ref"},
		"carriage return":               {line + "\r\n", 1, "is not a ref"},
		"the same ref twice":            {line + "\n" + line + "\n", 1, `"refs/heads/side" is in the push twice`},
		"a megabyte":                    {strings.Repeat("x", 1<<20), 1, "error: reading what git hands over: line 1 is longer than 8192 bytes"},
		"a megabyte of ref":             {one + " " + one + " refs/heads/" + strings.Repeat("x", 1<<20) + "\n", 1, "line 1 is longer than 8192 bytes"},
		"a good line, then a bad one":   {line + "\nbad\n", 1, "line 2: "},
		"a line without its end":        {line, 0, ""},
		"half a line":                   {line[:60], 1, `is not "OLD NEW REF"`},
		"a delete of what is not there": {zeros + " " + zeros + " refs/heads/missing\n", 0, ""},
	} {
		for _, hook := range []string{"pre-receive", "post-receive"} {
			status, out := s.hook(hookRun{name: hook, stdin: c.stdin})
			if status != c.status || !strings.Contains(out, c.want) {
				t.Errorf("%s, %s: status %d, want %d and %q\n%s", hook, name, status, c.status, c.want, out)
			}
			if len(out) > 4<<10 {
				t.Errorf("%s, %s: %d bytes of output", hook, name, len(out))
			}
		}
	}
	if d := diff(before, s.web(true)); d != "" {
		t.Errorf("the web root has changed:\n%s", d)
	}
}

// TestHookOptions gives the hooks push options that the git client refuses to
// send, in the environment that git makes of them.
func TestHookOptions(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "pre-receive", "post-receive")
	one := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	line := one + " " + one + " refs/heads/side\n"
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{"GIT_PUSH_OPTION_COUNT=1", "GIT_PUSH_OPTION_0=plan\nlive"}, `push option "plan\nlive" is not known`},
		{[]string{"GIT_PUSH_OPTION_COUNT=2", "GIT_PUSH_OPTION_0=live", "GIT_PUSH_OPTION_1=live;plan"}, `push option "live;plan" is not known`},
		{[]string{"GIT_PUSH_OPTION_COUNT=1"}, `push option "" is not known`},
		{[]string{"GIT_PUSH_OPTION_COUNT=-1"}, `GIT_PUSH_OPTION_COUNT is "-1"`},
		{[]string{"GIT_PUSH_OPTION_COUNT=999999999999"}, `GIT_PUSH_OPTION_COUNT is "999999999999"`},
		{[]string{"GIT_PUSH_OPTION_COUNT=x\x1b[m"}, `GIT_PUSH_OPTION_COUNT is "x\x1b[m"`},
		{[]string{"GIT_PUSH_OPTION_COUNT=10000"}, "push options are too many"},
	} {
		for _, hook := range []string{"pre-receive", "post-receive"} {
			if status, out := s.hook(hookRun{name: hook, stdin: line, extra: c.env}); status != 1 || !strings.Contains(out, c.want) {
				t.Errorf("%s, %q: status %d, want 1 and %q\n%s", hook, c.env, status, c.want, out)
			}
		}
	}
}

// TestOddEnvironment deploys with an environment that leads astray whoever
// hands it on, or lacks what is usually there.
func TestOddEnvironment(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "[[command]]\nrun = [\"/bin/sh\", \"-c\", \"env >../variables\"]\n", "post-receive")
	old := s.commit(map[string]string{"page": "0"})
	s.pushed("master")
	decoy := filepath.Join(s.dir, "decoy")
	s.run(s.dir, "git", "init", "-q", decoy)
	s.run(s.dir, "git", "--git-dir", s.git, "symbolic-ref", "HEAD", "refs/heads/none")
	clean := []string{"PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	for i, c := range []struct {
		name string
		env  []string // nil for the server's
		add  []string
		sh   string
	}{
		{name: "GIT_DIR absolute", env: clean, add: []string{"GIT_DIR=" + s.git}},
		{name: "GIT_DIR with dots", env: clean, add: []string{"GIT_DIR=../srv.git/."}},
		{name: "no GIT_DIR", env: clean},
		{name: "GIT_INDEX_FILE and others", add: []string{
			"GIT_INDEX_FILE=" + s.dir + "/decoy/.git/index", "GIT_WORK_TREE=" + decoy, "GIT_COMMON_DIR=" + decoy,
			"GIT_NAMESPACE=elsewhere", "GIT_PREFIX=sub/", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=core.bare", "GIT_CONFIG_VALUE_0=maybe",
			"GIT_CONFIG_PARAMETERS='core.worktree'='/nowhere'", "GIT_LITERAL_PATHSPECS=1", "GIT_REPLACE_REF_BASE=refs/x", "GIT_SHALLOW_FILE=/nowhere",
			"GIT_CEILING_DIRECTORIES=/", "GIT_EXEC_PATH=/nowhere", "GIT_TRACE=1", "GIT_ICASE_PATHSPECS=1"}},
		{name: "nothing at all", env: []string{"GORACE=atexit_sleep_ms=0"}},
		{name: "no HOME", env: clean, add: []string{"GIT_DIR=."}},
		{name: "an empty PATH", env: []string{"PATH=", "GIT_DIR=.", "GORACE=atexit_sleep_ms=0"}},
		{name: "odd languages", add: []string{"LANG=xx_XX.nonsense", "LC_ALL=tr_TR.UTF-8", "LANGUAGE=de:tr"}},
		{name: "no descriptors", sh: `exec "$0" <&0 1>&- 2>&-`},
		{name: "descriptors of others", sh: `exec "$0" 7>&1 8<&0 9>&2`},
		{name: "full disk for the output", sh: `exec "$0" 2>/dev/full`},
	} {
		commit := s.commit(map[string]string{"page": fmt.Sprint(i + 1)})
		s.run(s.dev, "git", "push", "-q", s.git, "HEAD:refs/heads/side") // by another door: no branch that is deployed
		s.run(s.git, "git", "update-ref", "refs/heads/master", commit)
		status, out := s.hook(hookRun{name: "post-receive", stdin: old + " " + commit + " refs/heads/master\n", env: c.env, extra: c.add, shell: c.sh})
		if status != 0 {
			t.Errorf("%s: status %d\n%s", c.name, status, out)
		}
		s.holds(commit)
		for line := range strings.Lines(s.read("variables")) {
			if strings.HasPrefix(line, "GIT_") {
				t.Errorf("%s: a command saw %s", c.name, line)
			}
		}
		if entries, err := os.ReadDir(decoy); err != nil || len(entries) != 1 {
			t.Errorf("%s: the other repository has changed: %v %v", c.name, entries, err)
		}
		if t.Failed() {
			return
		}
		old = commit
	}
}

// TestNoStandardInput runs the hooks with descriptor 0 closed: there is nothing
// to do.
func TestNoStandardInput(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", allHooks...)
	for hook, want := range map[string]int{"pre-receive": 0, "post-receive": 0, "proc-receive": 1} {
		if status, out := s.hook(hookRun{name: hook, shell: `exec "$0" <&-`}); status != want {
			t.Errorf("%s: status %d, want %d\n%s", hook, status, want, out)
		}
		if status, out := s.hook(hookRun{name: hook, shell: `exec "$0" <&- >&- 2>&-`}); status != want {
			t.Errorf("%s, all closed: status %d, want %d\n%s", hook, status, want, out)
		}
	}
}

// TestManyRefs counts the processes that the gate starts for a push of many
// refs: their number must not follow the number of refs.
func TestManyRefs(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "pre-receive")
	one := s.commit(map[string]string{"page": "one"})
	s.push(nil, "master")
	real, err := exec.LookPath("git")
	s.must(err)
	bin := filepath.Join(s.dir, "bin")
	s.must(os.Mkdir(bin, 0o755))
	gittest.Script(s, filepath.Join(bin, "git"), fmt.Sprintf("#!/bin/sh\necho \"$1\" >>%s/calls\nexec %s \"$@\"\n", s.dir, real))
	var stdin strings.Builder
	for i := range 300 {
		fmt.Fprintf(&stdin, "%s %s refs/heads/n%d\n", zeros, one, i)
	}
	objects := filepath.Join(s.git, "objects") // what git says while the push is in quarantine
	status, out := s.hook(hookRun{name: "pre-receive", stdin: stdin.String(),
		extra: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "GIT_OBJECT_DIRECTORY=" + objects, "GIT_QUARANTINE_PATH=" + objects}})
	if status != 0 {
		t.Fatalf("status %d\n%s", status, out)
	}
	if calls := strings.Fields(s.read("calls")); len(calls) > 30 {
		t.Errorf("git was started %d times for 300 refs: %q", len(calls), calls[:30])
	}
}
