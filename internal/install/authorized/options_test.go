package authorized

import (
	"slices"
	"strings"
	"testing"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		line      string
		separator byte
		want      string // parts, joined by |
	}{
		{"", ',', ""},
		{"a,b", ',', "a|b"},
		{",a,,b,", ',', "a|b"},
		{`a="1,2",b`, ',', `a="1,2"|b`},
		{`a="1\",2",b`, ',', `a="1\",2"|b`},
		{`a="1\\",b`, ',', `a="1\\",b`}, // as in sshd, which knows no other escape
		{`a=\"1,b`, ',', `a=\"1|b`},
		{`a="1,b`, ',', `a="1,b`},
		{"a  b\tc ", ' ', "a|b|c"},
		{`a="1 2" b`, ' ', `a="1 2"|b`},
	} {
		if got := strings.Join(Split(test.line, test.separator), "|"); got != test.want {
			t.Errorf("%s at %q: %s, want %s", test.line, test.separator, got, test.want)
		}
	}
}

// TestOptions reads lines as sshd does.
func TestOptions(t *testing.T) {
	t.Parallel()
	const key = " ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ ann"
	for _, test := range []struct {
		options string
		command string
		forced  bool
		has     string // of the four below
	}{
		{"", "", false, ""},
		{"restrict", "", false, "restrict"},
		{`restrict,command="/usr/local/bin/bluegreen --repo /srv/app ssh ann"`, "/usr/local/bin/bluegreen --repo /srv/app ssh ann", true, "restrict"},
		{`Restrict,PTY,Port-Forwarding,Command="/bin/sh"`, "/bin/sh", true, "restrict pty port-forwarding"},
		{`from="10.0.0.0/8,pty",command="echo \"a,pty\" \""`, `echo "a,pty" "`, true, ""},
		{`environment="command=x"`, "", false, ""},
		{`no-pty,command=""`, "", true, ""},
	} {
		entries := Entries(test.options + key)
		if len(entries) != 1 {
			t.Errorf("%s: %+v", test.options, entries)
			continue
		}
		e := entries[0]
		command, forced := e.Command()
		has := slices.DeleteFunc([]string{"restrict", "pty", "port-forwarding", "command"}, func(o string) bool { return !e.Has(o) })
		if command != test.command || forced != test.forced || e.Forced() != forced || strings.Join(has, " ") != test.has || e.Key.Comment != "ann" {
			t.Errorf("%s: %q, %v, has %q, %+v", test.options, command, forced, has, e)
		}
	}
}

// TestIsOurs takes what Line writes, and nothing that a shell would make more of.
func TestIsOurs(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"/usr/local/bin/bluegreen --repo /home/deploy/sample_app ssh ann@example.com", "/opt/bluegreen --repo /r.git ssh a"} {
		if !IsOurs(command) {
			t.Errorf("%s is not", command)
		}
	}
	for _, command := range []string{"", "/bin/sh", "bluegreen --repo /r ssh a", "/usr/local/bin/bluegreen --repo /r ssh a; /bin/sh", "/usr/local/bin/bluegreen --repo /r ssh a\n/bin/sh",
		"/usr/local/bin/bluegreen --repo /r ssh $(id)", "/usr/local/bin/bluegreen --repo /r ssh", "/usr/local/bin/bluegreen --repo r ssh a", "/usr/local/bin/bluegreen --repo /r status", "/tmp/xbluegreen --repo /r ssh a"} {
		if IsOurs(command) {
			t.Errorf("%s is", command)
		}
	}
	line := Key{Type: "ssh-ed25519", Data: "AAAA", Comment: "ann"}.Line("/home/deploy/sample_app")
	if command, _ := Entries(line)[0].Command(); !IsOurs(command) {
		t.Errorf("%s is not", command)
	}
}
