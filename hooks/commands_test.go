package hooks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// commands are what the scripts say beyond testscript's own words. The server
// of a script is $SRV, its web root $WWW, and "server" leaves the script in
// the developer's repository, whose remote is called srv.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"server":   scriptServer,
	"install":  scriptInstall,
	"config":   scriptConfig,
	"commit":   scriptCommit,
	"push":     scriptPush,
	"exits":    scriptExits,
	"holds":    scriptHolds,
	"ref":      scriptRef,
	"snapshot": scriptSnapshot,
	"same":     scriptSame,
	"events":   scriptEvents,
	"event":    scriptEvent,
	"field":    scriptField,
	"setrev":   scriptSetRev,
	"blob":     scriptBlob,
	"tree":     scriptTree,
	"refused":  scriptRefused,

	"readlink-base": scriptReadlinkBase,
	"same-mtime":    scriptSameMtime,
}

// usage ends the script when a command is not used as it is meant.
func usage(ts *testscript.TestScript, ok bool, line string) {
	if !ok {
		ts.Fatalf("usage: %s", line)
	}
}

func scriptEnv(ts *testscript.TestScript) []string {
	env := hermetic(ts.Getenv("HOME"))
	for i, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		env[i] = name + "=" + ts.Getenv(name)
	}
	return env
}

// readlink-base LINK NAME checks the last name of a symlink's target.
func scriptReadlinkBase(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "readlink-base LINK NAME")
	target, err := os.Readlink(args[0])
	ts.Check(err)
	if got := filepath.Base(target); got != args[1] {
		ts.Fatalf("%s leads to %q, want %q", args[0], got, args[1])
	}
}

// same-mtime FILE FILE checks that two files were modified at the same time.
func scriptSameMtime(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "same-mtime FILE FILE")
	one, err := os.Stat(args[0])
	ts.Check(err)
	other, err := os.Stat(args[1])
	ts.Check(err)
	if !one.ModTime().Equal(other.ModTime()) {
		ts.Fatalf("%s was modified at %s, and %s at %s", args[0], one.ModTime(), args[1], other.ModTime())
	}
}

// git runs git outside the script's own output.
func git(ts *testscript.TestScript, dir string, stdin []byte, args ...string) string {
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, scriptEnv(ts), bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

// server [-sha256] HOOK... makes $SRV with the hooks (which may be one word),
// $WWW and the developer's repository, and enters that. The configuration is bluegreen.toml of the
// script, or one that only says where the web root is.
func scriptServer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg, "server [-sha256] HOOK...")
	format := "--object-format=sha1"
	if len(args) > 0 && args[0] == "-sha256" {
		format, args = "--object-format=sha256", args[1:]
	}
	srv, dev := ts.Getenv("SRV"), ts.MkAbs("dev")
	git(ts, ts.MkAbs("."), nil, "init", "-q", "-b", "master", "--bare", format, srv)
	git(ts, ts.MkAbs("."), nil, "init", "-q", "-b", "master", format, dev)
	git(ts, dev, nil, "remote", "add", "srv", srv)
	ts.Check(os.MkdirAll(ts.Getenv("WWW"), 0o777))
	ts.Check(os.RemoveAll(filepath.Join(srv, "hooks")))
	ts.Check(os.Mkdir(filepath.Join(srv, "hooks"), 0o777))
	scriptInstall(ts, false, args)
	if _, err := os.Stat(ts.MkAbs("bluegreen.toml")); err == nil {
		scriptConfig(ts, false, []string{"bluegreen.toml"})
	} else {
		text := fmt.Sprintf("environment = \"blue\"\n[deploy]\ndirectory = %q\n", ts.Getenv("WWW"))
		ts.Check(os.WriteFile(filepath.Join(srv, "bluegreen.toml"), []byte(text), 0o666))
	}
	ts.Check(ts.Chdir(dev))
}

// install HOOK... puts hooks into $SRV, proc-receive with what it needs of
// git's configuration.
func scriptInstall(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg, "install HOOK...")
	hooks := strings.Fields(strings.Join(args, " "))
	ts.Check(installHooks(ts.Getenv("SRV"), ts.Getenv("PROGRAMS"), hooks...))
}

// installHooks installs the programs of the directory bin, or those that the
// test binary plays, as hooks.
func installHooks(srv, bin string, hooks ...string) error {
	for _, hook := range hooks {
		program := filepath.Join(bin, hook)
		if bin == "" {
			var err error
			if program, err = exec.LookPath(hook); err != nil {
				return err
			}
		}
		if err := os.Symlink(program, filepath.Join(srv, "hooks", hook)); err != nil {
			return err
		}
		if hook != "proc-receive" {
			continue
		}
		err := appendTo(filepath.Join(srv, "config"),
			"[receive]\n\tprocReceiveRefs = refs/heads/master\n\tprocReceiveRefs = refs/tags\n\tadvertisePushOptions = true\n")
		if err != nil {
			return err
		}
	}
	return nil
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// config FILE writes the server's configuration; ${NAME} in it is filled in.
func scriptConfig(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "config FILE")
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(filepath.Join(ts.Getenv("SRV"), "bluegreen.toml"), []byte(text), 0o666))
}

// commit [MESSAGE] commits all that is in the current directory.
func scriptCommit(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) <= 1, "commit [MESSAGE]")
	git(ts, ts.MkAbs("."), nil, "add", "-A")
	git(ts, ts.MkAbs("."), nil, "commit", "-q", "--allow-empty", "-m", strings.Join(append(args, "a change"), " "))
}

// linewise runs its arguments and makes lines of the progress that covers
// itself, so that "^" finds what comes after it.
const linewise = `"$@" 2>"$HOME/stderr"; status=$?; tr '\r' '\n' <"$HOME/stderr" >&2; exit $status`

// run runs a program, checks its exit status and that its output obeys the
// rules for a terminal.
func run(ts *testscript.TestScript, status string, argv ...string) (stderr string) {
	want, err := strconv.Atoi(status)
	ts.Check(err)
	got := 0
	if err := ts.Exec("sh", append([]string{"-c", linewise, "sh"}, argv...)...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", argv[0], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s exited with %d, want %d", argv[0], got, want)
	}
	stderr = ts.ReadFile("stderr")
	if wrong := rawControls(ts.ReadFile("stdout") + stderr); wrong != "" {
		ts.Fatalf("%s printed %s", argv[0], wrong)
	}
	return stderr
}

// rawControls finds what must not reach a terminal: control bytes but those
// that end lines, C1 and text that runs the other way.
func rawControls(text string) string {
	for line := range strings.Lines(text) {
		for i, r := range strings.TrimSuffix(line, "\n") {
			// Git's own lines name refs as they are; they hold no ASCII controls.
			ours := strings.HasPrefix(line, "remote:")
			if r < 0x20 && r != '\r' && r != '\t' || r == 0x7f ||
				ours && (r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfffd) {
				return fmt.Sprintf("%q at byte %d of %q", r, i, line)
			}
		}
	}
	if strings.Contains(text, "DATA RACE") || strings.Contains(text, "goroutine 1 [") {
		return "a race or a panic"
	}
	return ""
}

// exits STATUS PROGRAM ARG... runs a program that must exit with STATUS.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "exits STATUS PROGRAM ARG...")
	run(ts, args[0], args[1:]...)
}

// push STATUS WORD ARG... runs git push. The last line of the hooks must begin
// with WORD, "success:" for one; "-" when they say nothing at all.
func scriptPush(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "push STATUS WORD ARG...")
	stderr := run(ts, args[0], append([]string{"git", "push"}, args[2:]...)...)
	word := "-"
	if lines := remoteLines(stderr); len(lines) > 0 {
		word, _, _ = strings.Cut(lines[len(lines)-1], " ")
	}
	if word != args[1] {
		ts.Fatalf("the last line of the hooks begins with %q, want %q", word, args[1])
	}
}

// remoteLines returns what the hooks said, without git's padding and without
// what a later line covers on a terminal.
func remoteLines(stderr string) []string {
	var lines []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimSuffix(line, "\n")
		line = line[strings.LastIndexByte(line, '\r')+1:]
		text, found := strings.CutPrefix(line, "remote:")
		if text = strings.TrimSpace(text); found && text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// holds [-umask MASK] REV [UNTRACKED...] checks that the web root is what git
// would write for REV in a fresh directory, and the untracked files; that plain
// git agrees; and that nothing was left behind. REV may be "nothing".
func scriptHolds(ts *testscript.TestScript, neg bool, args []string) {
	umask := "022"
	if len(args) > 1 && args[0] == "-umask" {
		umask, args = args[1], args[2:]
	}
	usage(ts, !neg && len(args) >= 1, "holds [-umask MASK] REV [UNTRACKED...]")
	srv, www := ts.Getenv("SRV"), ts.Getenv("WWW")
	want := listing{}
	oid := ""
	if args[0] != "nothing" {
		oid = git(ts, ts.MkAbs("."), nil, "rev-parse", "--verify", args[0])
		var err error
		want, err = checkout(scriptEnv(ts), srv, oid, umask, ts.Getenv("HOME"))
		ts.Check(err)
	}
	got, err := list(www, false)
	ts.Check(err)
	for _, path := range args[1:] {
		if _, there := got[path]; !there {
			ts.Fatalf("%q is gone from the web root", path)
		}
	}
	if d := diff(want.without(args[1:]...), got.without(args[1:]...)); d != "" {
		ts.Fatalf("the web root is not %s:\n%s", args[0], d)
	}
	left, err := leftovers(srv, www)
	ts.Check(err)
	if len(left) > 0 {
		ts.Fatalf("left behind: %q", left)
	}
	if oid == "" {
		return
	}
	if changed := git(ts, www, nil, "--git-dir", srv, "--work-tree", www, "--no-optional-locks", "diff", "--name-status", oid, "--"); changed != "" {
		ts.Fatalf("git finds the web root changed:\n%s", changed)
	}
}

// ref REF REV checks where a ref of the server is; REV may be "none".
func scriptRef(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "ref REF REV")
	srv := ts.Getenv("SRV")
	got := git(ts, srv, nil, "for-each-ref", "--format=%(objectname)", args[0])
	want := ""
	if args[1] != "none" {
		want = git(ts, ts.MkAbs("."), nil, "rev-parse", "--verify", args[1])
	}
	if got != want {
		ts.Fatalf("%s is %q, want %q (%s)", args[0], got, want, args[1])
	}
}

// state is all that a refused push must leave alone: the web root with its
// inodes, the index, the refs and HEAD.
func state(ts *testscript.TestScript) listing {
	srv := ts.Getenv("SRV")
	all, err := list(ts.Getenv("WWW"), true)
	ts.Check(err)
	if all["index"], err = describe(filepath.Join(srv, "index"), true); err != nil && !errors.Is(err, os.ErrNotExist) {
		ts.Check(err)
	}
	all["deployed.json"], _ = describe(filepath.Join(srv, "bluegreen/deployed.json"), false)
	all["refs"] = git(ts, srv, nil, "for-each-ref", "--format=%(refname) %(objectname) %(symref)")
	head, err := os.ReadFile(filepath.Join(srv, "HEAD"))
	ts.Check(err)
	all["HEAD"] = string(head)
	left, err := leftovers(srv, ts.Getenv("WWW"))
	ts.Check(err)
	all["leftovers"] = strings.Join(left, " ")
	return all
}

// snapshot remembers the server as it is; same checks that it has not changed.
func scriptSnapshot(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "snapshot")
	data, err := json.Marshal(state(ts))
	ts.Check(err)
	ts.Setenv("SNAPSHOT", string(data))
}

func scriptSame(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 0, "same")
	var before listing
	ts.Check(json.Unmarshal([]byte(ts.Getenv("SNAPSHOT")), &before))
	if d := diff(before, state(ts)); d != "" {
		ts.Fatalf("the server has changed:\n%s", d)
	}
}

func scriptHistory(ts *testscript.TestScript) []map[string]any {
	events, err := readHistory(ts.Getenv("SRV"))
	ts.Check(err)
	return events
}

// readHistory reads the whole history of a repository, strictly.
func readHistory(srv string) ([]map[string]any, error) {
	data, err := os.ReadFile(filepath.Join(srv, "bluegreen/history.jsonl"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var events []map[string]any
	for line := range bytes.Lines(data) {
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, fmt.Errorf("history line %d: %w", len(events)+1, err)
		}
		events = append(events, event)
	}
	return events, nil
}

// events N checks how many events the history has.
func scriptEvents(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "events N")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if events := scriptHistory(ts); len(events) != want {
		ts.Fatalf("the history has %d events, want %d: %v", len(events), want, events)
	}
}

// event N FIELD=REGEXP... checks fields of the Nth event, from the end when N
// is negative; "files.written" names a field in a field. The expression must
// match all of the value.
func scriptEvent(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 2, "event N FIELD=REGEXP...")
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	events := scriptHistory(ts)
	if n < 0 {
		n += len(events) + 1
	}
	if n < 1 || n > len(events) {
		ts.Fatalf("the history has %d events", len(events))
	}
	for _, arg := range args[1:] {
		name, want, _ := strings.Cut(arg, "=")
		matchField(ts, events[n-1], name, want)
	}
}

// field FIELD REGEXP checks a field of the JSON that was printed last.
func scriptField(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "field FIELD REGEXP")
	var value any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &value); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	matchField(ts, value, args[0], args[1])
}

func matchField(ts *testscript.TestScript, value any, name, want string) {
	all := value
	for part := range strings.SplitSeq(name, ".") {
		switch v := value.(type) {
		case map[string]any:
			inner, there := v[part]
			if !there {
				ts.Fatalf("there is no %s in %v", name, all)
			}
			value = inner
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i >= len(v) {
				ts.Fatalf("there is no %s in %v", name, all)
			}
			value = v[i]
		default:
			ts.Fatalf("there is no %s in %v", name, all)
		}
	}
	text, isString := value.(string)
	if !isString {
		data, err := json.Marshal(value)
		ts.Check(err)
		text = string(data)
	}
	pattern, err := regexp.Compile("^(?s:" + want + ")$")
	ts.Check(err)
	if !pattern.MatchString(text) {
		ts.Fatalf("%s is %q, want %q", name, text, want)
	}
}

// setrev NAME REV sets a variable to the object name of REV.
func scriptSetRev(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "setrev NAME REV")
	ts.Setenv(args[0], git(ts, ts.MkAbs("."), nil, "rev-parse", "--verify", args[1]))
}

// blob NAME CONTENT writes a blob and sets a variable to its name; CONTENT is
// a Go string without its quotes.
func scriptBlob(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "blob NAME CONTENT")
	ts.Setenv(args[0], git(ts, ts.MkAbs("."), []byte(unquote(ts, args[1])), "hash-object", "-w", "--stdin"))
}

func unquote(ts *testscript.TestScript, s string) string {
	text, err := strconv.Unquote(`"` + s + `"`)
	ts.Check(err)
	return text
}

// tree NAME [MODE OID ENTRY]... writes a tree as it is told, whatever git
// thinks of it, commits it on master's first commit, and sets NAME to the
// commit and NAME_TREE to the tree. ENTRY is a Go string without its quotes.
func scriptTree(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args)%3 == 1, "tree NAME [MODE OID ENTRY]...")
	var data []byte
	for entry := range slices.Chunk(args[1:], 3) {
		data = fmt.Appendf(data, "%s %s\x00", entry[0], unquote(ts, entry[2]))
		var oid []byte
		if _, err := fmt.Sscanf(entry[1], "%x", &oid); err != nil {
			ts.Fatalf("%q is not an object name", entry[1])
		}
		data = append(data, oid...)
	}
	dir := ts.MkAbs(".")
	root := git(ts, dir, data, "hash-object", "-t", "tree", "--literally", "-w", "--stdin")
	ts.Setenv(args[0]+"_TREE", root)
	ts.Setenv(args[0], git(ts, dir, nil, "commit-tree", "-m", "by hand", "-p", "HEAD", root))
}

// refused REV [REGEXP] pushes REV to master by force. Where a hook runs before
// the ref moves, nothing may change; where only post-receive is there, all but
// the refs. The last line says error, and one line matches.
func scriptRefused(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) >= 1 && len(args) <= 2, "refused REV [REGEXP]")
	status := "1"
	if ts.Getenv("HOOKS") == "post-receive" {
		status = "0"
	}
	before := state(ts)
	scriptPush(ts, false, []string{status, "error:", "srv", "+" + args[0] + ":master"})
	if d := diff(before.exceptRefs(status == "0"), state(ts).exceptRefs(status == "0")); d != "" {
		ts.Fatalf("the server has changed:\n%s", d)
	}
	pattern, err := regexp.Compile(strings.Join(args[1:], ""))
	ts.Check(err)
	stderr := ts.ReadFile("stderr")
	if !pattern.MatchString(stderr) {
		ts.Fatalf("nothing in the output matches %q", pattern)
	}
}
