package install

import (
	"context"
	"path"
	"slices"
	"strings"

	templates "bluegreen/install"
	"bluegreen/internal/install/host"
	"bluegreen/internal/install/sudoers"
)

// sudoersPath is where the rules are. sudo reads no file with a dot in its
// name, and no repository has a comma.
func (i *Installation) sudoersPath() string { return sudoersFor(i.o.Repo) }

func sudoersFor(repo string) string {
	return "/etc/sudoers.d/bluegreen-" + strings.ReplaceAll(path.Base(repo), ".", ",")
}

// sudoCommands are all that the configuration runs by sudo.
func (i *Installation) sudoCommands() [][]string {
	all := append(i.cfg.Argvs(), i.brokerCommands()...)
	return slices.DeleteFunc(all, func(argv []string) bool { return !sudoers.Uses(argv) })
}

// sudoersText is the file, "" where no command asks for sudo.
func (i *Installation) sudoersText() (string, error) {
	rules := &templates.Rules{Repo: i.o.Repo}
	for _, argv := range i.sudoCommands() {
		if what := filledIn(argv); what != "" {
			i.warn("sudoers: %q is run with any %s; allow each in a file of your own in /etc/sudoers.d", strings.Join(argv, " "), what)
			continue
		}
		line, err := sudoers.Line(i.o.User, argv, i.host.Program)
		if err != nil {
			i.warn("sudoers: %q: %v; allow it in a file of your own in /etc/sudoers.d", strings.Join(argv, " "), err)
			continue
		}
		if !slices.Contains(rules.Lines, line) {
			rules.Lines = append(rules.Lines, line)
		}
	}
	if len(rules.Lines) == 0 {
		return "", nil
	}
	text, err := templates.Render(templates.Sudoers, rules)
	return string(text), err
}

// filledIn tells what a command is run with that is not known yet, "" for nothing.
func filledIn(argv []string) string {
	for placeholder, what := range map[string]string{"{to}": "environment's name", "{version}": "version"} {
		if slices.ContainsFunc(argv, func(arg string) bool { return strings.Contains(arg, placeholder) }) {
			return what
		}
	}
	return ""
}

func (i *Installation) planSudoers(context.Context) ([]Change, error) {
	file := i.sudoersPath()
	text, err := i.sudoersText()
	if err != nil || !i.trusted {
		return nil, err
	}
	if text == "" {
		return i.removal(file)
	}
	changes, err := i.file(file, text, host.Superuser(), 0o440)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	changes[0].What += ", checked by visudo -c first"
	changes[0].do = func(ctx context.Context) error {
		dir := path.Dir(file)
		if e, err := i.host.Follow(dir); err != nil {
			return err
		} else if e == nil {
			if err := i.host.Mkdir(dir, host.Superuser(), 0o750); err != nil {
				return err
			}
		}
		temp, err := i.host.Stage(file, strings.NewReader(text), host.Superuser(), 0o440)
		if err != nil {
			return err
		}
		// One line that sudo does not understand takes sudo from everybody.
		if err := i.host.Run(ctx, nil, quick, "visudo", "-c", "-q", "-f", temp); err != nil {
			i.host.Remove(temp)
			return err
		}
		return i.host.Rename(temp, file)
	}
	return changes, nil
}
