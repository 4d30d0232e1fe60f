package receive

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/lock"
)

// TestLastLine has the worst outcome of a push come last, whatever the order.
func TestLastLine(t *testing.T) {
	t.Parallel()
	good := outcome{level: success, text: "deployed", hint: "add checks"}
	fair := outcome{level: warning, text: "stored"}
	bad := outcome{level: failure, text: "not healthy", lines: []string{"status 500"}, hint: "mend it"}
	for _, c := range []struct {
		outcomes []outcome
		want     string
	}{
		{nil, ""},
		{[]outcome{good}, "hint: add checks\nsuccess: deployed\n"},
		{[]outcome{fair, good}, "hint: add checks\nsuccess: deployed\nwarning: stored\n"},
		{[]outcome{bad, good, fair}, "hint: add checks\nsuccess: deployed\nwarning: stored\n  status 500\nhint: mend it\nerror: not healthy\n"},
		{[]outcome{bad, {level: failure, text: "and this"}}, "  status 500\nhint: mend it\nerror: not healthy\nerror: and this\n"},
	} {
		var out strings.Builder
		con := console.New(&out)
		r := report{outcomes: c.outcomes}
		r.print(con)
		con.Close(time.Minute)
		if out.String() != c.want {
			t.Errorf("got %q, want %q", out.String(), c.want)
		}
	}
}

// TestReason makes the line that git shows behind the ref.
func TestReason(t *testing.T) {
	t.Parallel()
	busy := &lock.Busy{Holder: &lock.Holder{Who: "ada", PID: 7, Phase: "checking", Since: time.Date(2014, 5, 6, 7, 8, 9, 0, time.UTC)}, Waited: 3 * time.Second}
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("plain"), "plain"},
		{fmt.Errorf("around: %w", &deploy.Failure{Reason: "not healthy"}), "not healthy"},
		{&deploy.Failure{Reason: "a\nb\x1b[31m"}, `a\nb\x1b[31m`},
		{&deploy.Unknown{Reason: "cannot go back", Err: errors.New("disk")}, `cannot go back: disk; run "bluegreen recover" on the server`},
		{busy, "another deployment is running: ada, since 07:08:09, now checking (process 7); waited 3s"},
	} {
		if got := reason(c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
	for _, long := range []string{strings.Repeat("x", 5000), strings.Repeat("é", 5000), strings.Repeat("\x1b", 5000)} {
		got := reason(errors.New(long))
		if len(got) > 600 || !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Errorf("%d bytes: %.40q", len(got), got)
		}
	}
}

func TestPusher(t *testing.T) {
	t.Parallel()
	account := AccountName(os.Geteuid())
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{nil, account},
		{[]string{"USER=mallory", "LOGNAME=mallory"}, account},
		{[]string{"BLUEGREEN_USER="}, account},
		{[]string{"BLUEGREEN_USER=ada"}, "ada"},
		{[]string{"GIT_PUSH_CERT_SIGNER=Grace", "GIT_PUSH_CERT_STATUS=G"}, "Grace"},
		{[]string{"GIT_PUSH_CERT_SIGNER=Grace", "GIT_PUSH_CERT_STATUS=B"}, account},
		{[]string{"GIT_PUSH_CERT_SIGNER=Grace"}, account},
		{[]string{"GIT_PUSH_CERT_SIGNER=Grace", "GIT_PUSH_CERT_STATUS=G", "BLUEGREEN_USER=ada"}, "ada"},
		{[]string{"BLUEGREEN_USERX=mallory", "XBLUEGREEN_USER=mallory"}, account},
	} {
		if got := Pusher(func(name string) string { return Getenv(c.environ, name) }); got != c.want {
			t.Errorf("%q: %q, want %q", c.environ, got, c.want)
		}
	}
	if got := Pusher(func(string) string { return strings.Repeat("x", 10_000) }); len(got) > 200 {
		t.Errorf("a pusher of %d bytes goes into the history", len(got))
	}
	if got := AccountName(1 << 30); got != "uid 1073741824" {
		t.Errorf("an account without a name is %q", got)
	}
}

func TestEnumerate(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{
		"a is":                   {"a"},
		"a, b are":               {"a", "b"},
		"a, b, c are":            {"a", "b", "c"},
		"a, b, c and 1 more are": {"a", "b", "c", "d"},
	} {
		if got := enumerate(names); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}
