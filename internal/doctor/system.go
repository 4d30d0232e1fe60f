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
	"bluegreen/internal/install/authorized"
)

// boot looks whether a crash is recovered from when the machine starts.
func (x *exam) boot(context.Context) []Finding {
	unit := "bluegreen-recover-" + filepath.Base(x.repo.Dir) + ".service"
	path := x.Host.system(filepath.Join("/etc/systemd/system", unit))
	text, err := readText(path)
	if err != nil {
		return []Finding{warning(x.install(), "nothing recovers at boot: there is no %s; after a crash the web root stays as it is until the next push", path)}
	}
	if !mentions(text, x.repo.Dir) {
		return []Finding{warning(x.install(), "%s is not about %s", path, x.repo.Dir)}
	}
	if _, err := os.Lstat(x.Host.system(filepath.Join("/etc/systemd/system/multi-user.target.wants", unit))); err != nil {
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
		for _, key := range authorized.Entries(text) {
			keys++
			wrong := ""
			switch options := splitQuoted(key.Options, ','); {
			case !key.Forced():
				wrong = "gives a shell: it has no command=\"… ssh NAME\" before it"
			case !slices.ContainsFunc(options, func(o string) bool { return strings.EqualFold(o, "restrict") }):
				wrong = "may forward ports: it has no restrict before it"
			default:
				continue
			}
			found = append(found, warning(x.asRoot("editor", fmt.Sprintf("+%d", key.Number), path),
				"%s:%d: the key of %.60q %s", path, key.Number, key.Key.Comment, wrong))
		}
	}
	switch keys {
	case 0:
		return or(found, "%s has no keys for ssh", x.account.Name)
	case 1:
		return or(found, "the one key of %s is bound to one command", x.account.Name)
	}
	return or(found, "all %d keys of %s are bound to one command", keys, x.account.Name)
}

// sudo looks whether the commands that begin with sudo may be run without a
// password. It asks sudo itself, which is about this process's account.
func (x *exam) sudo(ctx context.Context) []Finding {
	var found []Finding
	commands := x.sudoCommands()
	if len(commands) == 0 {
		return nil
	}
	if !x.installed("sudo") {
		return []Finding{broken(x.asRoot("apt-get", "install", "sudo"), "sudo is not installed, and the configuration runs %q", shell(commands[0]))}
	}
	for _, argv := range commands {
		listing := append([]string{"sudo", "-n", "-l", "--"}, afterFlags(argv[1:])...)
		_, err := command.Read(ctx, command.Command{Argv: listing, Env: x.Host.Environ, Dir: "/", Timeout: 5 * time.Second})
		if err != nil {
			found = append(found, warning(x.install(), "%s may not run %q without a password, it seems: %v", x.account.Name, shell(argv), err))
		}
	}
	return or(found, "%s may run the configuration's commands with sudo", x.account.Name)
}

// sudoCommands are the configuration's commands that begin with sudo.
func (x *exam) sudoCommands() [][]string {
	c := x.env.Config
	var all [][]string
	for _, command := range c.Commands {
		all = append(all, command.Run)
	}
	for _, check := range c.Health {
		all = append(all, check.Command)
	}
	if c.Promotion != nil {
		assign := make([]string, len(c.Promotion.Assign))
		for i, arg := range c.Promotion.Assign {
			assign[i] = strings.ReplaceAll(arg, "{to}", c.Environment)
		}
		all = append(all, c.Promotion.Owner, assign)
	}
	var sudo [][]string
	for _, argv := range all {
		if len(argv) > 1 && filepath.Base(argv[0]) == "sudo" {
			sudo = append(sudo, argv)
		}
	}
	return sudo
}

// afterFlags leaves out sudo's own flags that take no value.
func afterFlags(argv []string) []string {
	for len(argv) > 1 && (argv[0] == "-n" || argv[0] == "--non-interactive" || argv[0] == "--") {
		argv = argv[1:]
	}
	return argv
}
