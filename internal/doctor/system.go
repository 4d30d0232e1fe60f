package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/install"
	"bluegreen/internal/install/authorized"
	"bluegreen/internal/install/sudoers"
)

// boot looks whether a crash is recovered from when the machine starts.
func (x *exam) boot(context.Context) []Finding {
	path := x.Host.system(install.UnitPath(x.repo.Dir))
	unit := filepath.Base(path)
	text, err := readText(path)
	if err != nil {
		return []Finding{warning(x.install(), "nothing recovers at boot: there is no %s; after a crash the web root stays as it is until the next push", path)}
	}
	if !mentions(text, x.repo.Dir) {
		return []Finding{warning(x.install(), "%s is not about %s", path, x.repo.Dir)}
	}
	if _, err := os.Lstat(x.Host.system(install.WantsPath(x.repo.Dir))); err != nil {
		return []Finding{warning(x.asRoot("systemctl", "enable", unit), "%s is not enabled: nothing recovers at boot", unit)}
	}
	return ok("%s recovers at boot", unit)
}

// mentions tells whether a unit's command has a word.
func mentions(unit, word string) bool {
	for line := range strings.Lines(unit) {
		if command, found := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); found {
			for _, field := range strings.Fields(command) {
				if strings.Trim(strings.TrimPrefix(field, "--repo="), `"'`) == word {
					return true
				}
			}
		}
	}
	return false
}

// keys looks what the keys of the account give to their holders.
func (x *exam) keys(context.Context) []Finding {
	if x.account.Home == "" {
		return ok("%s has no home, and so no keys", x.account.Name)
	}
	var found []Finding
	keys := 0
	for _, name := range []string{"authorized_keys", "authorized_keys2"} {
		path := filepath.Join(x.account.Home, ".ssh", name)
		text, err := readText(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			found = append(found, warning(x.asRoot("cat", path), "the keys of %s cannot be read: %v", x.account.Name, err))
			continue
		}
		bound := false
		for _, key := range authorized.Entries(text) {
			keys++
			bound = bound || key.Forced()
			if more := beyond(key); more != "" {
				found = append(found, warning(x.asRoot("editor", fmt.Sprintf("+%d", key.Number), path),
					"%s:%d: the key of %.60q %s", path, key.Number, key.Key.Comment, more))
			}
		}
		if bound {
			found = append(found, x.unbinding(path)...)
		}
	}
	if keys == 0 {
		return or(found, "%s has no keys for ssh", x.account.Name)
	}
	if shell := x.account.Shell; !install.RunsCommands(shell) {
		found = append(found, broken(x.asRoot("usermod", "--shell", "/bin/sh", x.account.Name),
			"the shell of %s, %s, runs no command for sshd: no push comes in over ssh", x.account.Name, shell))
	}
	if keys == 1 {
		return or(found, "the one key of %s is bound to one command", x.account.Name)
	}
	return or(found, "all %d keys of %s are bound to one command", keys, x.account.Name)
}

// beyond says what a key gives to its holder beyond pushing here, fetching and
// looking; "" for nothing.
func beyond(key authorized.Entry) string {
	runs, forced := key.Command()
	given := slices.DeleteFunc([]string{"port-forwarding", "agent-forwarding", "X11-forwarding", "pty", "user-rc"},
		func(option string) bool { return !key.Has(option) })
	switch {
	case !forced:
		return "gives a shell: it has no command=\"… ssh NAME\" before it"
	case !key.Has("restrict"):
		return "may forward ports: it has no restrict before it"
	case len(given) > 0:
		return "gets back what restrict has taken: " + strings.Join(given, ", ")
	case !authorized.IsOurs(runs):
		return fmt.Sprintf("runs %.60q: what that gives to its holder is not known here", runs)
	}
	return ""
}

// unbinding looks whether the account could let in keys that are bound to
// nothing, by its file of keys or in its place.
func (x *exam) unbinding(file string) []Finding {
	dir := filepath.Dir(file)
	if x.owner == 0 || !x.Host.Writable(dir) && !x.Host.Writable(file) {
		return nil
	}
	// sshd reads them as the account.
	return []Finding{warning(x.asRoot("chown", "root:", dir, file)+" && "+x.asRoot("chmod", "a+rX", dir, file),
		"%s may let in other keys: it may write to %s", x.account.Name, dir)}
}

// sudo looks whether the commands that begin with sudo may be run without a
// password. It asks sudo itself, which is about this process's account.
func (x *exam) sudo(ctx context.Context) []Finding {
	commands := x.sudoCommands()
	if len(commands) == 0 {
		return nil
	}
	if !x.installed("sudo") {
		return []Finding{broken(x.asRoot("apt-get", "install", "sudo"), "sudo is not installed, and the configuration runs %q", command.Line(commands[0]))}
	}
	var found []Finding
	unasked := ""
	for _, argv := range commands {
		mend := x.install()
		for i, arg := range argv {
			if filled := strings.NewReplacer("{to}", x.env.Name, "{version}", "1").Replace(arg); filled != arg {
				argv[i] = filled
				mend = x.asRoot("visudo", "-f", "/etc/sudoers.d/bluegreen-promotion") // install allows no pattern
			}
		}
		as, run, err := sudoers.Command(argv)
		if err != nil { // for one, an option that sudo does not take together with -l
			unasked = fmt.Sprintf(", but that was not asked of %q", command.Line(argv))
			continue
		}
		listing := append([]string{"sudo", "-n", "-l", "-u", as, "--"}, run...)
		if _, err := command.Read(ctx, command.Command{Argv: listing, Env: x.Host.Environ, Dir: "/", Timeout: 5 * time.Second}); err != nil {
			found = append(found, warning(mend, "%s may not run %q without a password, it seems: %v", x.account.Name, command.Line(argv), err))
		}
	}
	return or(found, "%s may run the configuration's commands with sudo%s", x.account.Name, unasked)
}

// sudoCommands are the configuration's commands that begin with sudo.
func (x *exam) sudoCommands() [][]string {
	var sudo [][]string
	for _, argv := range x.env.Config.Argvs() {
		if sudoers.Uses(argv) {
			sudo = append(sudo, slices.Clone(argv))
		}
	}
	return sudo
}

// confinement tells what a deployment could write to, were it led astray.
func (x *exam) confinement(ctx context.Context) []Finding {
	dirs, links, free := x.env.Confinement(ctx)
	if free != "" {
		return or(nil, "deployments are not confined: %s", free)
	}
	if len(links) > 0 {
		return or(nil, "the kernel keeps deployments to %s, and to links in %s", strings.Join(dirs, ", "), strings.Join(links, ", "))
	}
	return or(nil, "the kernel keeps deployments to %s", strings.Join(dirs, ", "))
}
