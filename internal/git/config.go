package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Config is git's configuration as it holds for this repository, all files and
// includes taken together. Keys are as git prints them: section and name in
// lower case.
type Config map[string][]string

// Config reads the configuration.
func (r *Repository) Config(ctx context.Context) (Config, error) {
	if c, err := r.plainConfig(); err == nil {
		return c, nil
	}
	out, err := r.Run(ctx, "config", "--list", "-z")
	if err != nil {
		return nil, err
	}
	return parseList(out), nil
}

// parseList reads what "git config --list -z" prints.
func parseList(out string) Config {
	c := Config{}
	for _, item := range strings.Split(strings.TrimSuffix(out, "\x00"), "\x00") {
		key, value, given := strings.Cut(item, "\n")
		if !given {
			value = "true" // "[section] key" without "=" is git's short form of true
		}
		c[key] = append(c[key], value)
	}
	return c
}

// Bool returns a boolean key; the last value counts, as in git.
func (c Config) Bool(key string) bool {
	values := c[key]
	if len(values) == 0 {
		return false
	}
	switch strings.ToLower(values[len(values)-1]) {
	case "", "false", "no", "off", "0":
		return false
	}
	return true
}

// Last returns the value that counts of a key that is given several times, ""
// where it is not given.
func (c Config) Last(key string) string {
	values := c[key]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// plainConfig reads the configuration without git, where it is as git itself
// and installers write it. An error tells that git is to be asked.
func (r *Repository) plainConfig() (Config, error) {
	files, err := r.plainConfigFiles()
	if err != nil {
		return nil, err
	}
	c := Config{}
	for _, file := range append(files, filepath.Join(r.Dir, "config")) {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := c.parse(string(data)); err != nil {
			return nil, fmt.Errorf("%q: %w", file, err)
		}
	}
	if len(c["extensions.worktreeconfig"]) > 0 {
		return nil, errNotPlain
	}
	return c, nil
}

// plainConfigFiles returns where the configuration of the system and of the account
// is, in git's order. Where git's makers have put the former is known of a git
// that is installed below /usr: "make prefix=/usr" gives /etc.
func (r *Repository) plainConfigFiles() (files []string, err error) {
	env := map[string]string{}
	for _, kv := range r.env {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	switch filepath.Dir(r.gitPath()) {
	case "/usr/bin", "/bin", "/usr/lib/git-core", "/usr/libexec/git-core":
	default:
		return nil, errNotPlain
	}
	switch skip := env["GIT_CONFIG_NOSYSTEM"]; {
	case env["GIT_CONFIG_SYSTEM"] != "":
		return nil, errNotPlain
	case skip == "":
		files = append(files, "/etc/gitconfig")
	case skip != "1" && skip != "true":
		return nil, errNotPlain
	}
	home, xdg := env["HOME"], env["XDG_CONFIG_HOME"]
	if global := env["GIT_CONFIG_GLOBAL"]; global != "" {
		return append(files, r.relative(global)), nil
	}
	if xdg == "" && home != "" {
		xdg = filepath.Join(home, ".config")
	}
	if xdg != "" {
		files = append(files, r.relative(filepath.Join(xdg, "git/config")))
	}
	if home != "" {
		files = append(files, r.relative(filepath.Join(home, ".gitconfig")))
	}
	return files, nil
}

// HasHooks tells whether the configuration has hooks of its own, which git knows
// from 2.54 on: it runs them beside those in the hooks' directory.
func (c Config) HasHooks() bool {
	for key := range c {
		if strings.HasPrefix(key, "hook.") {
			return true
		}
	}
	return false
}

// parse adds the keys of a configuration file: sections and "key = value", one
// a line, without quotes, escapes, comments behind them, or files to include.
func (c Config) parse(text string) error {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.Trim(line, " \t\n")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case strings.ContainsAny(line, "\\\r\x00\ufeff#;") || strings.ContainsAny(line, "\t\v\f"):
			return errNotPlain
		case line[0] == '[':
			var err error
			if section, err = sectionName(line); err != nil {
				return err
			}
		default:
			key, value, given := strings.Cut(line, "=")
			key, value = strings.TrimRight(key, " "), strings.TrimLeft(value, " ")
			if section == "" || !isWord(key) || strings.Contains(value, `"`) {
				return errNotPlain
			}
			if !given {
				value = "true"
			}
			key = section + "." + strings.ToLower(key)
			c[key] = append(c[key], value)
		}
	}
	return nil
}

// sectionName reads "[section]" or "[section \"part\"]".
func sectionName(line string) (string, error) {
	name, closed := strings.CutSuffix(line[1:], "]")
	name, part, parted := strings.Cut(name, ` "`)
	part, quoted := strings.CutSuffix(part, `"`)
	name = strings.ToLower(name)
	if !closed || !isWord(name) || parted != quoted || strings.ContainsAny(part, `"]`) || name == "include" || name == "includeif" {
		return "", errNotPlain
	}
	if parted {
		return name + "." + part, nil
	}
	return name, nil
}

// isWord tells whether a name has only the characters that git allows in it.
func isWord(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}
