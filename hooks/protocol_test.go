package hooks_test

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

// packets makes pkt-lines; "" is a flush.
func packets(lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		if line == "" {
			b.WriteString("0000")
		} else {
			fmt.Fprintf(&b, "%04x%s", len(line)+4, line)
		}
	}
	return b.String()
}

// parsePackets is its inverse.
func parsePackets(data string) ([]string, error) {
	var lines []string
	for len(data) > 0 {
		n, err := strconv.ParseUint(data[:min(4, len(data))], 16, 16)
		switch {
		case err != nil || n > 0 && n < 4 || int(n) > len(data):
			return lines, fmt.Errorf("not a packet: %q", data)
		case n == 0:
			lines, data = append(lines, ""), data[4:]
		default:
			lines, data = append(lines, strings.TrimSuffix(data[4:n], "\n")), data[n:]
		}
	}
	return lines, nil
}

// procReceive runs proc-receive by hand and returns what it answers.
func (s *server) procReceive(stdin io.Reader) (status int, answers []string, stderr string) {
	s.Helper()
	cmd := s.command(s.git, "hooks/proc-receive")
	cmd.Env = append(cmd.Env, "GIT_DIR=.")
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	err := cmd.Run()
	answers, bad := parsePackets(out.String())
	if bad != nil {
		s.Errorf("proc-receive answers %v", bad)
	}
	if wrong := rawControls(errs.String()); wrong != "" {
		s.Errorf("proc-receive printed %s", wrong)
	}
	return s.exitStatus(err), answers, errs.String()
}

// TestProcReceiveProtocol speaks to proc-receive as git does, and as it should
// not.
func TestProcReceiveProtocol(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "proc-receive")
	one := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	two := s.commit(map[string]string{"page": "two"})
	s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	before := s.web(true)

	hello := packets("version=1\x00push-options", "")
	forward := one + " " + two + " refs/heads/master"
	sha256 := strings.Repeat("12", 32)
	for name, c := range map[string]struct {
		stdin  string
		status int
		want   []string // the answers after the greeting
		stderr string
	}{
		"nothing":                       {"", 1, nil, "error: reading a packet: EOF"},
		"half a length":                 {"00", 1, nil, "error: reading a packet: unexpected EOF"},
		"no length":                     {"hello", 1, nil, `"hell" is not a length`},
		"a sign in the length":          {"+01fversion=1", 1, nil, "is not a length"},
		"a length below its own":        {"0003", 1, nil, "is not a length"},
		"a length above the limit":      {"fff1" + strings.Repeat("x", 0xfff1), 1, nil, "is not a length"},
		"cut off":                       {packets("version=1\x00")[:9], 1, nil, "unexpected EOF"},
		"another version":               {packets("version=2\x00push-options", ""), 1, nil, `git speaks "version=2"`},
		"an escape for a version":       {packets("\x1b[31mversion", ""), 1, nil, `git speaks "\x1b[31mversion"`},
		"no greeting":                   {packets(""), 1, nil, "error: git sends proc-receive no greeting\n"},
		"a greeting that goes on":       {packets("version=1\x00", "more", ""), 1, nil, "does not end"},
		"only a greeting":               {hello, 1, []string{}, "EOF"},
		"cut off in the commands":       {hello + packets(forward)[:30], 1, []string{}, "unexpected EOF"},
		"commands without an end":       {hello + packets(forward), 1, []string{}, "EOF"},
		"options without an end":        {hello + packets(forward, "", "live"), 1, []string{}, "EOF"},
		"no options where there are":    {hello + packets(forward, ""), 1, []string{}, "EOF"},
		"a command that is none":        {hello + packets("hello", "", ""), 1, []string{}, `"hello" is not "OLD NEW REF"`},
		"an empty command":              {hello + "0004" + packets("", ""), 1, []string{}, `"" is not "OLD NEW REF"`},
		"a ref twice":                   {hello + packets(forward, forward, "", ""), 1, []string{}, "is in the push twice"},
		"a ref that climbs":             {hello + packets(one+" "+two+" refs/heads/../../HEAD", "", ""), 1, []string{}, "is not a ref"},
		"no commands":                   {hello + packets("", ""), 0, []string{""}, ""},
		"no commands and no options":    {packets("version=1\x00", "", ""), 0, []string{""}, ""},
		"a version without more":        {packets("version=1", "", ""), 0, []string{""}, ""},
		"another ref":                   {hello + packets(one+" "+two+" refs/tags/x", "", ""), 0, []string{"ok refs/tags/x", "option fall-through", ""}, ""},
		"a delete":                      {hello + packets(one+" "+zeros+" refs/heads/master", "", ""), 0, []string{`ng refs/heads/master "master" is what is deployed here, and cannot be deleted`, ""}, "error: "},
		"a delete of nothing":           {hello + packets(zeros+" "+zeros+" refs/heads/master", "", ""), 0, []string{`ng refs/heads/master "master" is what is deployed here, and cannot be deleted`, ""}, "error: "},
		"an object that is not there":   {hello + packets(one+" "+strings.Repeat("1", 40)+" refs/heads/master", "", ""), 0, []string{"ng refs/heads/master object 1111111111111111111111111111111111111111: object not found", ""}, "error: "},
		"a stale old object":            {hello + packets(two+" "+one+" refs/heads/master", "", ""), 0, []string{fmt.Sprintf(`ng refs/heads/master "refs/heads/master" is at %s now, and not at %s: fetch first`, one[:7], two[:7]), ""}, "error: "},
		"created, and it is there":      {hello + packets(zeros+" "+two+" refs/heads/master", "", ""), 0, []string{fmt.Sprintf(`ng refs/heads/master "refs/heads/master" is at %s now, and not at none: fetch first`, one[:7]), ""}, "error: "},
		"SHA-256 in a SHA-1 repository": {hello + packets(sha256+" "+sha256+" refs/heads/master", "", ""), 0, []string{fmt.Sprintf(`ng refs/heads/master "refs/heads/master" is at %s now, and not at 1212121: fetch first`, one[:7]), ""}, "error: "},
		"an option with a newline":      {hello + packets(forward, "", "plan\nlive\nwait=1s", ""), 0, []string{`ng refs/heads/master push option "plan\nlive\nwait=1s" is not known; known are: plan, live, no-way-back, promote, wait=DURATION`, ""}, "error: "},
		"a plan":                        {hello + packets(forward, "", "plan", ""), 0, []string{"ng refs/heads/master plan only", ""}, "warning: plan only"},
		"all or nothing": {packets("version=1\x00atomic", "", forward, one+" "+two+" refs/tags/x", ""), 0, []string{
			`ng refs/heads/master atomic push: "refs/tags/x" is at none now, and not at ` + one[:7] + ": fetch first",
			`ng refs/tags/x atomic push: "refs/tags/x" is at none now, and not at ` + one[:7] + ": fetch first", ""}, "error: "},
	} {
		status, answers, stderr := s.procReceive(strings.NewReader(c.stdin))
		if status != c.status || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%s: status %d, want %d and %q\n%s", name, status, c.status, c.stderr, stderr)
		}
		if c.want == nil && len(answers) > 0 {
			t.Errorf("%s: answers %q", name, answers)
			continue
		} else if c.want == nil {
			continue
		}
		if len(answers) < 2 || !strings.HasPrefix(answers[0], "version=1") || answers[1] != "" {
			t.Errorf("%s: greets with %q", name, answers)
			continue
		}
		if got, want := strings.Join(answers[2:], "|"), strings.Join(c.want, "|"); got != want {
			t.Errorf("%s: answers %q, want %q", name, got, want)
		}
	}
	if d := diff(before, s.web(true)); d != "" {
		t.Errorf("the web root has changed:\n%s", d)
	}
	s.holds(one)

	// What it offers is what was offered to it.
	for offered, want := range map[string]string{
		"version=1\x00push-options atomic":           "version=1\x00push-options atomic",
		"version=1\x00atomic something-else agent=x": "version=1\x00atomic",
		"version=1\x00": "version=1\x00",
	} {
		_, answers, _ := s.procReceive(strings.NewReader(packets(offered, "")))
		if len(answers) == 0 || answers[0] != want {
			t.Errorf("offered %q, greets with %q, want %q", offered, answers, want)
		}
	}

	// And the good one, packet by packet, byte by byte.
	status, answers, stderr := s.procReceive(byByte{strings.NewReader(hello + packets(forward+"\n", "", "live\n", ""))})
	if want := "ok refs/heads/master|"; status != 0 || len(answers) < 2 || strings.Join(answers[2:], "|") != want {
		t.Errorf("a good push: status %d, answers %q\n%s", status, answers, stderr)
	}
	s.holds(two)
	if at := s.ref("refs/heads/master"); at != two {
		t.Errorf("master is at %s, want %s", at, two)
	}
	if options := fmt.Sprint(s.last()["options"]); options != "[live]" {
		t.Errorf("the history says options %s", options)
	}
}

// byByte hands on one byte at a time.
type byByte struct{ r io.Reader }

func (b byByte) Read(p []byte) (int, error) { return b.r.Read(p[:min(1, len(p))]) }

// TestGitGone runs proc-receive for a git that is gone when the answer comes:
// the work is done all the same.
func TestGitGone(t *testing.T) {
	t.Parallel()
	s := newServer(t, "", "", "proc-receive")
	one := s.commit(map[string]string{"page": "one"})
	s.pushed("master")
	two := s.commit(map[string]string{"page": "two"})
	s.run(s.dev, "git", "push", "-q", "srv", "HEAD:refs/heads/side")
	request := packets("version=1\x00", "", one+" "+two+" refs/heads/master", "")
	// The pipe's other end closes after the greeting has been read.
	cmd := s.command(s.git, "/bin/sh", "-c", `hooks/proc-receive 2>&1 | head -c 20 >/dev/null`)
	cmd.Env = append(cmd.Env, "GIT_DIR=.")
	cmd.Stdin = strings.NewReader(request)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.waitFree()
	s.holds(two)
	if at := s.ref("refs/heads/master"); at != two {
		t.Errorf("master is at %s, want %s", at, two)
	}
}
