package doctor

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"bluegreen/internal/broker"
	"bluegreen/internal/command"
	"bluegreen/internal/install"
	"bluegreen/internal/install/sudoers"
)

// broker looks at root's program that promotions go through: whether it may be
// asked, and moves what the configuration says. Whether it answers, promotion
// looks.
func (x *exam) broker(ctx context.Context) []Finding {
	c := x.env.Config.Promotion
	line := install.BrokerLine(x.repo.Dir)
	switch {
	case len(c.Broker) == 0:
		return []Finding{warning(x.edit()+" && "+x.install(), "%s can read the API's token; to make it root's alone, add to [promotion] in %s: %s",
			x.account.Name, x.configFile(), line)}
	case !x.brokered():
		return []Finding{warning(x.edit(), "promotion.broker is not the one that install sets up, and is not examined: %s", line)}
	}
	found := x.brokerFile(install.BrokerPath(x.repo.Dir))
	if !x.stranger() {
		found = append(found, x.brokerRules(ctx)...)
	}
	return or(found, "the broker moves what [promotion] says, and %s may ask it", x.account.Name)
}

// brokered tells whether promotions go through the broker that install sets up.
func (x *exam) brokered() bool {
	return slices.Equal(x.env.Config.Promotion.Broker, install.Broker(x.repo.Dir))
}

// brokerFile looks whether the broker's file is root's, and what it says.
func (x *exam) brokerFile(path string) []Finding {
	file := x.Host.system(path)
	switch err := broker.Private(x.Host.system("/"), file, x.Host.root()); {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{broken(x.install(), "there is no %s: the broker can move nothing", path)}
	case err != nil:
		return []Finding{broken(x.asRoot("chown", "root:", path)+" && "+x.asRoot("chmod", "go-w", path), "the broker refuses its file: %v", err)}
	}
	want, err := install.BrokerText(x.env.Config)
	if err != nil {
		return []Finding{broken(x.edit(), "what the broker is to move cannot be told: %v", err)}
	}
	if text, err := readText(file); err != nil {
		return []Finding{broken(x.asRoot("chmod", "a+r", path), "the broker's file cannot be read: %v", err)}
	} else if text != want {
		return []Finding{broken(x.install(), "%s is not of the same [promotion] as %s: the broker moves what it says", path, x.configFile())}
	}
	return nil
}

// brokerRules looks whether sudo lets the account ask all that it may have to.
func (x *exam) brokerRules(ctx context.Context) []Finding {
	if !x.installed("sudo") {
		return []Finding{broken(x.asRoot("apt-get", "install", "sudo"), "sudo is not installed, and the broker is run by it")}
	}
	c := x.env.Config.Promotion
	for _, question := range broker.Questions(slices.Sorted(maps.Keys(c.Droplets))) {
		argv := slices.Concat(c.Broker, question)
		as, run, err := sudoers.Command(argv)
		if err == nil {
			listing := append([]string{"sudo", "-n", "-l", "-u", as, "--"}, run...)
			_, err = command.Read(ctx, command.Command{Argv: listing, Env: x.Host.Environ, Dir: "/", Timeout: 5 * time.Second})
		}
		if err != nil {
			return []Finding{broken(x.install(), "%s may not run %q without a password, it seems: %v", x.account.Name, command.Line(argv), err)}
		}
	}
	return nil
}

// brokersToken looks whether the broker alone has the token. What is in it, the
// account must not see.
func (x *exam) brokersToken() []Finding {
	path := cmp.Or(x.env.Config.Promotion.TokenFile, install.TokenPath)
	file := x.Host.system(path)
	switch err := broker.Private(x.Host.system("/"), file, x.Host.root()); {
	case errors.Is(err, fs.ErrNotExist):
		return []Finding{broken(x.pasteToken(path), "there is no token in %s", path)}
	case err != nil:
		return []Finding{broken(x.install(), "the token is not root's alone: %v", err)}
	}
	if st, err := os.Lstat(file); err != nil || st.Mode().Perm()&0o077 != 0 {
		return []Finding{broken(x.asRoot("chmod", "600", path), "the token file %s may be read by others than root", path)}
	}
	return nil
}

// MendToken takes the token that is root's from others, which only root can do.
// Where it is, install says and not the account's configuration.
func MendToken() []Mended {
	path := install.TokenPath
	if broker.Private("/", path, 0) != nil {
		return nil
	}
	if st, err := os.Lstat(path); err != nil || st.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return []Mended{{command.Line([]string{"chmod", "600", path}), os.Chmod(path, 0o600)}}
}
