package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/promotion"
)

// hostile is text as nobody should see it on a terminal.
const hostile = "\x1b[31mred\x07\u009b2J\u202etxt\r\n"

func oid(t *testing.T, digits string) git.OID {
	t.Helper()
	o, err := git.ParseOID(strings.Repeat(digits, 40/len(digits)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 5, ""}, {"12345", 5, "12345"}, {"123456", 5, "1234…"}, {"123456", 0, "123456"}, {"12", 1, "…"},
		{"größe", 5, "größe"}, {"größer", 5, "größ…"},
		{"日本語", 6, "日本語"}, {"日本語", 5, "日本…"}, {"日本語", 4, "日…"},
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"a\x1bb", 6, `a\x1bb`}, {"a\x1bb", 5, `a\x1…`}, {"\xff\xff", 8, `\xff\xff`},
	} {
		if got := cut(test.text, test.width); got != test.want || test.width > 0 && textWidth(got) > test.width {
			t.Errorf("cut(%q, %d) is %q, %d columns; want %q", test.text, test.width, got, textWidth(got), test.want)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 5, []string{""}}, {"one two", 0, []string{"one two"}}, {"one two", 7, []string{"one two"}}, {"one two", 6, []string{"one", "two"}},
		{"one two three", 7, []string{"one two", "three"}}, {"a-word-that-is-wide b", 5, []string{"a-word-that-is-wide", "b"}},
		{"a\nb c", 5, []string{`a\nb`, "c"}},
	} {
		if got := wrap(test.text, test.width); !slices.Equal(got, test.want) {
			t.Errorf("wrap(%q, %d) is %q, want %q", test.text, test.width, got, test.want)
		}
	}
}

func TestAgo(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Hour: "just now", 0: "just now", 59 * time.Second: "59 s ago", time.Minute: "1 min ago", 3*time.Minute + 59*time.Second: "3 min ago",
		time.Hour: "1 h ago", 47 * time.Hour: "47 h ago", 48 * time.Hour: "2 days ago", 1000 * time.Hour: "41 days ago",
	} {
		if got := ago(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 20 * time.Millisecond: "20ms", 4832 * time.Millisecond: "4.8s", 83*time.Second + 400*time.Millisecond: "1m23s"} {
		if got := lasted(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

// TestAlign has columns of all kinds; an empty one is left out.
func TestAlign(t *testing.T) {
	t.Parallel()
	table := [][]cell{{{text: "A"}, {}, {text: "BB", style: good}, {text: "C"}}, {{text: "日本"}, {}, {text: "\x1b"}}, {{}, {}, {}, {text: "c"}}}
	s := &screen{}
	if got, want := s.align(table), []string{"A     BB    C", `日本  \x1b`, "            c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.colour = true
	if got, want := s.align(table)[0], "A     \x1b[32mBB\x1b[0m    C"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// terminal opens a terminal of a width, and returns what it is shown.
func terminal(t *testing.T, width uint16) (f *os.File, shown func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width})
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	text := make(chan string, 1)
	go func() {
		data, _ := io.ReadAll(master) // ends in an error when the other side is closed
		text <- string(data)
	}()
	return f, func() string {
		f.Close()
		return strings.ReplaceAll(<-text, "\r\n", "\n")
	}
}

func env(kv ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				return kv[i+1]
			}
		}
		return ""
	}
}

// TestScreen asks a real terminal, and what is none.
func TestScreen(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env    []string
		width  uint16
		want   int
		colour bool
	}{
		{[]string{"TERM", "xterm"}, 132, 132, true},
		{[]string{"TERM", "xterm"}, 0, 80, true},
		{[]string{"TERM", "xterm", "NO_COLOR", "1"}, 100, 100, false},
		{[]string{"TERM", "dumb"}, 100, 100, false},
		{nil, 100, 100, false},
	} {
		f, shown := terminal(t, test.width)
		s := newScreen(f, env(test.env...))
		if s.width != test.want || s.colour != test.colour {
			t.Errorf("%q, %d columns: %d, colours: %v", test.env, test.width, s.width, s.colour)
		}
		s.rows([]row{{name: cell{"name", plain}, value: cell{"value", bad}}})
		want := "name  value\n"
		if test.colour {
			want = "name  \x1b[1;31mvalue\x1b[0m\n"
		}
		if got := shown(); got != want {
			t.Errorf("%q: shown is %q, want %q", test.env, got, want)
		}
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, w := range []io.Writer{file, &bytes.Buffer{}} {
		if s := newScreen(w, env("TERM", "xterm")); s.width != 0 || s.colour {
			t.Errorf("%T is taken for a terminal: %+v", w, s)
		}
	}
}

// sample is a history of all kinds.
func sample(t *testing.T) []journal.Event {
	t.Helper()
	at := time.Date(2025, 11, 23, 14, 0, 0, 0, time.Local)
	one, two := oid(t, "1a"), oid(t, "2b")
	return []journal.Event{
		{Time: at, Event: journal.Deploy, Ref: "refs/heads/master", Commit: one, Result: journal.Succeeded, Pusher: "ann", DurationMS: 20},
		{Time: at.Add(time.Minute), Event: journal.Promote, Ref: "refs/tags/release-7", Commit: one, Result: journal.Succeeded, Pusher: "ann", DurationMS: 4832,
			Traffic: &journal.Traffic{IP: "203.0.113.10", From: "green", To: "blue", Tag: "release-7"}},
		{Time: at.Add(2 * time.Minute), Event: journal.Deploy, Commit: two, Result: journal.Failed, Pusher: "bob", DurationMS: 83400,
			Reason: `"home page" is not healthy: status 500, body "it broke, and it broke badly"`},
		{Time: at.Add(3 * time.Minute), Event: journal.Rollback, Result: journal.Refused, Pusher: hostile, Reason: hostile,
			Traffic: &journal.Traffic{To: "green", Tag: hostile}},
	}
}

const escaped = `\x1b[31mred\x07\u009b2J\u202etxt\r\n`

func TestHistory(t *testing.T) {
	t.Parallel()
	events := sample(t)
	var out bytes.Buffer
	(&screen{w: &out}).history(events)
	want := `TIME                 EVENT     REF                                   COMMIT   RESULT     MOVED          WHO                                   TOOK   REASON
2025-11-23 14:00:00  deploy    master                                1a1a1a1  succeeded                 ann                                   20ms
2025-11-23 14:01:00  promote   release-7                             1a1a1a1  succeeded  green -> blue  ann                                   4.8s
2025-11-23 14:02:00  deploy    -                                     2b2b2b2  failed                    bob                                   1m23s  "home page" is not healthy: status 500, body "it broke, and it broke badly"
2025-11-23 14:03:00  rollback  ` + escaped + `  -        refused                   ` + escaped + `  0s     ` + escaped + "\n"
	if got := out.String(); got != want {
		t.Errorf("into a file:\n%s\nwant\n%s", got, want)
	}

	out.Reset()
	(&screen{w: &out, width: 80}).history(events)
	want = `TIME              EVENT     REF          COMMIT   RESULT     WHO          TOOK
2025-11-23 14:00  deploy    master       1a1a1a1  succeeded  ann          20ms
2025-11-23 14:01  promote   release-7    1a1a1a1  succeeded  ann          4.8s
    green -> blue
2025-11-23 14:02  deploy    -            2b2b2b2  failed     bob          1m23s
    "home page" is not healthy: status 500, body "it broke, and it broke badly"
2025-11-23 14:03  rollback  \x1b[31mre…  -        refused    \x1b[31mre…  0s
    ` + escaped + "\n"
	if got := out.String(); got != want {
		t.Errorf("80 columns:\n%s\nwant\n%s", got, want)
	}

	out.Reset()
	(&screen{w: &out, width: 40}).history(events[:3])
	want = `TIME              EVENT    RESULT
2025-11-23 14:00  deploy   succeeded
    master  1a1a1a1  ann  20ms
2025-11-23 14:01  promote  succeeded
    release-7  1a1a1a1  ann  4.8s
    green -> blue
2025-11-23 14:02  deploy   failed
    -  2b2b2b2  bob  1m23s
    "home page" is not healthy: status …
`
	if got := out.String(); got != want {
		t.Errorf("40 columns:\n%s\nwant\n%s", got, want)
	}

	out.Reset()
	(&screen{w: &out, width: 80}).history(events[:1])
	want = "TIME              EVENT   REF     COMMIT   RESULT     WHO  TOOK\n2025-11-23 14:00  deploy  master  1a1a1a1  succeeded  ann  20ms\n"
	if got := out.String(); got != want {
		t.Errorf("without promotions:\n%s\nwant\n%s", got, want)
	}

	out.Reset()
	(&screen{w: &out}).history(nil)
	if got := out.String(); got != "TIME  EVENT  REF  COMMIT  RESULT  WHO  TOOK  REASON\n" {
		t.Errorf("nothing:\n%s", got)
	}
}

// TestHistoryFits shows it on terminals of many widths: no line is wider, and
// nothing is shown that a terminal obeys but colours.
func TestHistoryFits(t *testing.T) {
	t.Parallel()
	colours := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for width := 40; width < 260; width++ {
		var out bytes.Buffer
		(&screen{w: &out, width: width, colour: true}).history(sample(t))
		if !colours.MatchString(out.String()) {
			t.Error("there are no colours")
		}
		for line := range strings.Lines(colours.ReplaceAllString(out.String(), "")) {
			if line = strings.TrimSuffix(line, "\n"); len([]rune(line)) > width || strings.ContainsAny(line, hostile) && strings.ContainsAny(line, "\x1b\x07\u009b\u202e\r") {
				t.Errorf("%d columns: %q", width, line)
			}
		}
	}
}

// TestStatus shows a report on which there is much to say.
func TestStatus(t *testing.T) {
	t.Parallel()
	one, two := oid(t, "1a"), oid(t, "2b")
	events := sample(t)
	now := events[3].Time.Add(30 * time.Second)
	at, green, yes, no := events[0].Time, "green", true, false
	e := &environment.Environment{Environment: &deploy.Environment{Promotion: &deploy.Promotion{Mover: &promotion.Mover{What: "203.0.113.10"}, IP: "203.0.113.10"}}}
	r := &report{Environment: "blue", Directory: "/var/www/html", Commit: &one, Branch: "master", RefCommit: &two, DeployedAt: &at, Healthy: &no,
		Live: &no, LiveEnvironment: &green, Previous: &two, WayBack: true, Drift: []string{"a", "b", "c", "d", hostile, "f", "g"},
		checks:     []health.Result{{Name: "home page", Healthy: true, Last: "status 200"}, {Name: "db", Last: hostile}},
		held:       &journal.Deployed{Tag: "release-7"},
		Unfinished: &unfinished{To: "blue", Action: 36804636, Started: at}}
	d := &details{subject: hostile + strings.Repeat("long ", 20), refSubject: "Mend it", ahead: 2, behind: 1, related: true, by: "ann", events: events,
		liveSince: now.Add(-3 * time.Hour)}
	var out bytes.Buffer
	(&screen{w: &out}).status(e, r, d, now)
	want := `environment      blue
directory        /var/www/html
live             no, 203.0.113.10 is with green since 2025-11-23 11:03:30 (3 h ago)
deployed         1a1a1a1 since 2025-11-23 14:00:00 (3 min ago), by ann, promoted as release-7
                 ` + escaped + strings.Repeat("long ", 20) + `
branch           master is at 2b2b2b2, which is not what is deployed: 2 ahead of it, 1 behind
                 Mend it
healthy          "home page": status 200
NOT HEALTHY      "db": ` + escaped + `
way back         bluegreen deploy 2b2b2b2
changed on disk  a, b, c, d, ` + escaped + ` and 2 more
unfinished       the promotion of blue (action 36804636), interrupted at 14:00:00: run "bluegreen recover"
last events      3 min ago  deploy    master                                1a1a1a1  succeeded                 ann
                 2 min ago  promote   release-7                             1a1a1a1  succeeded  green -> blue  ann
                 1 min ago  deploy    -                                     2b2b2b2  failed                    bob
                 30 s ago   rollback  ` + escaped + `  -        refused                   ` + escaped + "\n"
	if got := out.String(); got != want {
		t.Errorf("into a file:\n%s\nwant\n%s", got, want)
	}

	out.Reset()
	(&screen{w: &out, width: 80}).status(e, r, d, now)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if flat := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(flat, `interrupted at 14:00:00: run "bluegreen recover"`) || !strings.Contains(flat, "bluegreen deploy 2b2b2b2") {
		t.Errorf("80 columns, and what to type is gone:\n%s", out.String())
	}

	// And the other ends of it.
	*r = report{Environment: "blue", Directory: "/var/www/html", Branch: "master", WayBackReason: "nothing has been deployed yet", liveUnknown: "401", Drift: []string{}}
	out.Reset()
	(&screen{w: &out}).status(e, r, &details{eventsErr: io.ErrUnexpectedEOF}, now)
	want = `environment  blue
directory    /var/www/html
live         not known: 401
deployed     not known
branch       master has not been pushed yet
healthy      nothing is checked
way back     none: nothing has been deployed yet
last events  unexpected EOF
`
	if got := out.String(); got != want {
		t.Errorf("before the first push:\n%s\nwant\n%s", got, want)
	}
	e.Checks = []health.Check{{Name: "home page"}}
	out.Reset()
	(&screen{w: &out}).status(e, r, &details{}, now)
	if want := "healthy      not known: nothing has been deployed yet\n"; !strings.Contains(out.String(), want) {
		t.Errorf("with a check:\n%s\nwant\n%s", out.String(), want)
	}
	r.Live, r.liveUnknown, r.Commit, r.RefCommit = &yes, "", &one, &one
	out.Reset()
	(&screen{w: &out, colour: true, width: 80}).status(e, r, &details{}, now)
	for _, line := range []string{"\x1b[32myes, 203.0.113.10 is here\x1b[0m\n", "1a1a1a1\n", "master is at the same commit\n"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("there is no %q:\n%s", line, out.String())
		}
	}
}

// TestStatusFits shows what became of the last events on terminals of many
// widths.
func TestStatusFits(t *testing.T) {
	t.Parallel()
	events := sample(t)
	now := events[3].Time.Add(30 * time.Second)
	e := &environment.Environment{Environment: &deploy.Environment{}}
	r := &report{Environment: "blue", Directory: "/var/www/html", Branch: "master", WayBackReason: "none", Drift: []string{"a"}}
	for width := 40; width < 200; width++ {
		var out bytes.Buffer
		(&screen{w: &out, width: width}).status(e, r, &details{events: events}, now)
		_, last, _ := strings.Cut(out.String(), "last events")
		var results []string
		for line := range strings.Lines(last) {
			line = strings.TrimSuffix(line, "\n")
			if textWidth(line) > width {
				t.Errorf("%d columns: %q", width, line)
			}
			for _, result := range []string{"succeeded", "failed", "refused"} {
				if strings.Contains(line, " "+result) {
					results = append(results, result)
				}
			}
		}
		if !slices.Equal(results, []string{"succeeded", "succeeded", "failed", "refused"}) {
			t.Errorf("%d columns: %q\n%s", width, results, out.String())
		}
	}
	var out bytes.Buffer
	(&screen{w: &out, width: 40}).status(e, r, &details{events: events[:3]}, now)
	want := `last events
  3 min ago  deploy   succeeded
  2 min ago  promote  succeeded
  1 min ago  deploy   failed
`
	if _, got, _ := strings.Cut(out.String(), "a\n"); got != want {
		t.Errorf("40 columns:\n%s\nwant\n%s", got, want)
	}
}

// TestLiveSince believes the history only as far as it goes.
func TestLiveSince(t *testing.T) {
	t.Parallel()
	const ip = "203.0.113.10"
	at := time.Date(2025, 11, 23, 14, 0, 0, 0, time.UTC)
	move := func(minute int, event, result, ip, from, to string) journal.Event {
		return journal.Event{Time: at.Add(time.Duration(minute) * time.Minute), Event: event, Result: result, Traffic: &journal.Traffic{IP: ip, From: from, To: to}}
	}
	history := &journal.Journal{Dir: t.TempDir()}
	if got := liveSince(history, ip, "blue"); !got.IsZero() {
		t.Errorf("no history says %s", got)
	}
	for _, e := range []journal.Event{
		move(1, journal.Promote, journal.Succeeded, ip, "blue", "green"),
		move(2, journal.Promote, journal.Succeeded, ip, "green", "blue"),
		move(3, journal.Promote, journal.Failed, ip, "blue", "green"),
		move(4, journal.Promote, journal.Succeeded, ip, "blue", "blue"),
		move(5, journal.Recover, journal.Succeeded, ip, "blue", "green"),
		move(6, journal.Promote, journal.Succeeded, "203.0.113.99", "blue", "green"),
		{Time: at, Event: journal.Deploy, Result: journal.Succeeded},
	} {
		if err := history.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	if got := liveSince(history, ip, "blue"); !got.Equal(at.Add(2 * time.Minute)) {
		t.Errorf("blue is live since %s", got)
	}
	for _, other := range []string{"green", "red"} {
		if got := liveSince(history, ip, other); !got.IsZero() {
			t.Errorf("%s is live since %s, says a history that ends with blue", other, got)
		}
	}
}

// TestPrintJSON: what others have written, such as a reason in the history, does
// nothing to the terminal, and stays what it is.
func TestPrintJSON(t *testing.T) {
	t.Parallel()
	const reason = "\u009b31m \u202egpj\x7f \U000e0041 caf\u00e9"
	var out strings.Builder
	a := &app{Program: Program{Stdout: &out}, console: console.New(io.Discard)}
	if err := a.printJSON([]journal.Event{{Reason: reason}}); err != nil {
		t.Fatal(err)
	}
	if want := `"reason": "\u009b31m \u202egpj\u007f \udb40\udc41 café",`; !strings.Contains(out.String(), want) {
		t.Errorf("%q has no %s", out.String(), want)
	}
	var events []journal.Event
	if err := json.Unmarshal([]byte(out.String()), &events); err != nil || len(events) != 1 || events[0].Reason != reason {
		t.Errorf("%+v, %v", events, err)
	}
}
