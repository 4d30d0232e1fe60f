package operator

import (
	"slices"
	"testing"
)

// TestOwnersEnvironment keeps from the owner what is root's, tokens for one, and
// hands on what says how to show and who asks.
func TestOwnersEnvironment(t *testing.T) {
	t.Parallel()
	kept := []string{"PATH=/usr/bin", "LANG=de_DE.UTF-8", "LC_ALL=C", "TZ=UTC", "TERM=xterm", "NO_COLOR=1", "BLUEGREEN_USER=ann"}
	dropped := []string{"HOME=/root", "USER=root", "LOGNAME=root", "DIGITALOCEAN_TOKEN=secret", "AWS_SECRET_ACCESS_KEY=x", "SSH_AUTH_SOCK=/x",
		"GIT_DIR=.", "GIT_CONFIG_GLOBAL=/x", "XDG_CONFIG_HOME=/root", "TMPDIR=/root", "LD_PRELOAD=/x", "nonsense"}
	got := ownersEnvironment(append(dropped, kept...), &account{name: "deploy", home: "/home/deploy"})
	if want := append([]string{"HOME=/home/deploy", "USER=deploy", "LOGNAME=deploy"}, kept...); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
