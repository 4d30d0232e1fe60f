package command

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLine has a shell read what is written for it.
func TestLine(t *testing.T) {
	t.Parallel()
	argv := []string{"printf", `%s\0`, "", "plain", "two words", "it's", `$HOME "x" \n`, "*", "a;b", "~", "!", "#", "ü", "-", "a=b", "\n", "50%"}
	line := Line(argv)
	out, err := exec.Command("/bin/sh", "-c", line).Output()
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); err != nil || !slices.Equal(got, argv[2:]) {
		t.Errorf("%s: %q, %v", line, got, err)
	}
	if got, want := Line([]string{"sudo", "-u", "deploy", "git", "-C", "/home/deploy/sample_app", "config", "core.fsync", "all"}),
		"sudo -u deploy git -C /home/deploy/sample_app config core.fsync all"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
