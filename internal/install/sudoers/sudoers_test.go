package sudoers

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// find knows one program.
func find(name string) string {
	if name == "systemctl" {
		return "/usr/bin/systemctl"
	}
	return ""
}

func TestUses(t *testing.T) {
	t.Parallel()
	for argv, want := range map[string]bool{"sudo x": true, "/usr/bin/sudo x": true, "sudoedit x": false, "echo sudo": false, "": false} {
		if got := Uses(strings.Fields(argv)); got != want {
			t.Errorf("%q: %t", argv, got)
		}
	}
}

// A rule is a command, and the line that allows it and nothing else.
type rule struct {
	argv []string
	line string
}

func rules() []rule {
	return []rule{
		{[]string{"sudo", "/bin/systemctl", "reload", "apache2"}, "(root) NOPASSWD: /bin/systemctl reload apache2"},
		{[]string{"/usr/bin/sudo", "systemctl", "reload", "apache2"}, "(root) NOPASSWD: /usr/bin/systemctl reload apache2"},
		{[]string{"sudo", "/bin/sync"}, `(root) NOPASSWD: /bin/sync ""`},
		{[]string{"sudo", "-n", "-H", "--", "/bin/sync"}, `(root) NOPASSWD: /bin/sync ""`},
		{[]string{"sudo", "--non-interactive", "--set-home", "-u", "www-data", "/bin/sync", "-x"}, "(www-data) NOPASSWD: /bin/sync -x"},
		{[]string{"sudo", "-uwww-data", "/bin/sync", "-u", "root"}, "(www-data) NOPASSWD: /bin/sync -u root"},
		{[]string{"sudo", "--user=www-data", "/bin/sync", "--"}, "(www-data) NOPASSWD: /bin/sync --"},
		{[]string{"sudo", "--user", "www-data", "/bin/sync", "a=b"}, `(www-data) NOPASSWD: /bin/sync a\=b`},
		{[]string{"sudo", "/bin/x", "*", "?", "[a]", "!", "[!a]"}, `(root) NOPASSWD: /bin/x \* \? \[a\] \! \[\!a\]`},
		{[]string{"sudo", "/bin/x", "a,b", "c:d", "e=f", "#g", "#1"}, `(root) NOPASSWD: /bin/x a\,b c\:d e\=f \#g \#1`},
		{[]string{"sudo", "/bin/x", "~", "(", ")", "%a", "@b", "+c", "a'b", "a^b", "$d", "`e`", ";", "|", "&", "ä"}, "(root) NOPASSWD: /bin/x ~ ( ) %a @b +c a'b a^b $d `e` ; | & ä"},
		{[]string{"sudo", "/bin/a,b:c#d", "x"}, `(root) NOPASSWD: /bin/a\,b\:c\#d x`},
		{[]string{"sudo", "/bin/x", "NOPASSWD:", "ALL", "list"}, `(root) NOPASSWD: /bin/x NOPASSWD\: ALL list`},
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	for _, r := range rules() {
		got, err := Line("deploy", r.argv, find)
		if want := "deploy ALL=" + r.line; err != nil || got != want {
			t.Errorf("%q: got %s, %v, want %s", r.argv, got, err, want)
		}
	}
}

// TestNoLine writes none that would allow something else, too.
func TestNoLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		argv []string
		want string
	}{
		{[]string{"sudo"}, "sudo has no command to run"},
		{[]string{"sudo", "--"}, "sudo has no command to run"},
		{[]string{"sudo", "-u"}, `sudo's option "-u" has no value`},
		{[]string{"sudo", "-E", "/bin/x"}, `sudo's option "-E" is not one`},
		{[]string{"sudo", "-g", "adm", "/bin/x"}, `sudo's option "-g" is not one`},
		{[]string{"sudo", "-i"}, `sudo's option "-i" is not one`},
		{[]string{"sudo", "-nu", "a", "/bin/x"}, `sudo's option "-nu" is not one`},
		{[]string{"sudo", "-u", "#0", "/bin/x"}, `"#0" is not an account's name`},
		{[]string{"sudo", "-u", "a,b", "/bin/x"}, `"a,b" is not an account's name`},
		{[]string{"sudo", "-u", "ALL", "/bin/x"}, `"ALL" is not an account's name`},
		{[]string{"sudo", "PATH=/tmp", "/bin/x"}, `"PATH=/tmp" sets a variable`},
		{[]string{"sudo", "smoke"}, `there is no program "smoke"`},
		{[]string{"sudo", "bin/x"}, `the program "bin/x" is not an absolute path`},
		{[]string{"sudo", "/bin/../tmp/x"}, `is not an absolute path`},
		{[]string{"sudo", "/bin/"}, `is not an absolute path`},
		{[]string{"sudo", "/bin/*"}, `the program "/bin/*" has a character that sudoers takes for a pattern`},
		{[]string{"sudo", "/bin/[a]"}, `has a character that sudoers takes for a pattern`},
		{[]string{"sudo", "/bin/x", ""}, "an empty argument cannot be told from none"},
		{[]string{"sudo", "/bin/x", "a b"}, `argument "a b" has a character that sudoers cannot hold exactly`},
		{[]string{"sudo", "/bin/x", "a\nroot ALL=ALL"}, "cannot hold exactly"},
		{[]string{"sudo", "/bin/x", `a\b`}, "cannot hold exactly"},
		{[]string{"sudo", "/bin/x", `"`}, "cannot hold exactly"},
		{[]string{"sudo", "/bin/x", "^.*$"}, `argument "^.*$" has a meaning of its own in sudoers`},
		{[]string{"sudo", "sudoedit", "/etc/passwd"}, "there is no program"},
		{[]string{"sudo", "/bin/x", "sudoedit"}, "has a meaning of its own in sudoers"},
	} {
		if got, err := Line("deploy", c.argv, find); err == nil || !strings.Contains(err.Error(), c.want) || got != "" {
			t.Errorf("%q: got %q, %v, want %q", c.argv, got, err, c.want)
		}
	}
}

// TestVisudo has the real one read each line.
func TestVisudo(t *testing.T) {
	t.Parallel()
	visudo := look(t, "visudo")
	file := filepath.Join(t.TempDir(), "rules")
	for _, r := range rules() {
		line, err := Line("deploy", r.argv, find)
		if err != nil {
			t.Error(err)
			continue
		}
		if err := os.WriteFile(file, []byte(line+"\n"), 0o440); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(visudo, "-c", "-f", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		os.Remove(file)
	}
}

// look finds a program of root's.
func look(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	t.Skipf("there is no %s here: apt-get install sudo", name)
	return ""
}

// TestSudo has the real one decide: it allows what a line was written for, and
// nothing else.
func TestSudo(t *testing.T) {
	t.Parallel()
	look(t, "sudo")
	if os.Geteuid() != 0 {
		t.Skip("this needs root, to give sudo other rules in a namespace of its own")
	}
	if out, err := exec.Command("unshare", "-m", "sh", "-c", "mount --bind /etc/passwd /etc/sudoers").CombinedOutput(); err != nil {
		t.Skipf("sudo cannot be given other rules here: %v: %s", err, out)
	}
	const program = "/bin/echo"
	for args, others := range map[string][]string{
		"":                   {"x", "*"},
		"reload apache2":     {"reload", "reload apache2 x", "reload nginx", "", "reload apache"},
		"*":                  {"x", "", "**", "* *"},
		"a?b [a-z] !":        {"axb [a-z] !", "a?b b !", "a?b [a-z] x"},
		"[!a] x":             {"b x", "[!a] a"},
		"a,b c:d e=f #g":     {"a c:d e=f #g", "a,b c:d e=f"},
		"~ ( ) %a @b $d ; &": {"~ ( ) %a @b $d ;"},
		"ALL list NOEXEC:":   {"ALL list", "x"},
	} {
		line, err := Line("nobody", append([]string{"sudo", program}, strings.Fields(args)...), find)
		if err != nil {
			t.Error(err)
			continue
		}
		if !allows(t, line, program, args) {
			t.Errorf("%s does not allow %q", line, args)
		}
		for _, other := range others {
			if allows(t, line, program, other) {
				t.Errorf("%s allows %q", line, other)
			}
		}
		if allows(t, line, "/bin/cat", args) {
			t.Errorf("%s allows another program", line)
		}
	}
}

// allows tells whether a line lets nobody run a program as root.
func allows(t *testing.T, line, program, args string) bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(line+"\n"), 0o440); err != nil {
		t.Fatal(err)
	}
	argv := append([]string{"-m", "sh", "-c", `mount --bind "$0" /etc/sudoers && exec sudo -n -l -U nobody -- "$@"`, file, program}, strings.Fields(args)...)
	out, err := exec.Command("unshare", argv...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1 || len(out) > 0) {
		t.Fatalf("sudo: %v: %s", err, out)
	}
	return err == nil
}
