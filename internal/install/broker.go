package install

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	templates "bluegreen/install"
	"bluegreen/internal/broker"
	"bluegreen/internal/config"
	"bluegreen/internal/install/host"
)

// brokersDir is where the brokers' files are: what the account's configuration
// says root's program does not read.
const brokersDir = "/etc/bluegreen/brokers"

// BrokerPath returns where the file of a repository's broker is.
func BrokerPath(repo string) string { return path.Join(brokersDir, path.Base(repo)+".toml") }

// Broker returns what promotion.broker of a repository has to be.
func Broker(repo string) []string {
	return []string{"sudo", "-n", CommandPath, "broker", "--config", BrokerPath(repo)}
}

// BrokerLine is Broker as a line of the configuration.
func BrokerLine(repo string) string {
	var words []string
	for _, word := range Broker(repo) {
		words = append(words, fmt.Sprintf("%q", word))
	}
	return "broker = [" + strings.Join(words, ", ") + "]"
}

// BrokerText is what the file of a broker has to say.
func BrokerText(c *config.Config) (string, error) {
	p := c.Promotion
	text, err := templates.Render(templates.Broker, &templates.Site{Environment: c.Environment, IP: p.IP, Droplets: p.Droplets,
		TokenFile: cmp.Or(p.TokenFile, TokenPath), APIURL: p.APIURL, Timeout: p.Timeout.String()})
	return string(text), err
}

// brokered tells whether promotions go through the broker that is set up here.
func (i *Installation) brokered() bool {
	p := i.cfg.Promotion
	return p != nil && slices.Equal(p.Broker, Broker(i.o.Repo))
}

// brokerCommands are all that the hooks may ask the broker.
func (i *Installation) brokerCommands() [][]string {
	var all [][]string
	if i.brokered() {
		for _, question := range broker.Questions(slices.Sorted(maps.Keys(i.cfg.Promotion.Droplets))) {
			all = append(all, slices.Concat(i.cfg.Promotion.Broker, question))
		}
	}
	return all
}

func (i *Installation) planBroker(context.Context) ([]Change, error) {
	p, file := i.cfg.Promotion, BrokerPath(i.o.Repo)
	switch {
	case !i.trusted:
		return nil, nil
	case p != nil && len(p.Broker) > 0 && !i.brokered():
		i.warn("promotion.broker of %s is one of your own: nothing is set up for it, and the token stays as it is; the one that is set up here is %s",
			i.configPath(), BrokerLine(i.o.Repo))
		return nil, nil
	case !i.brokered():
		return i.removeBroker(i.o.Repo)
	}
	if err := i.rootsAlone(file, "%s, the broker's file"); err != nil {
		return nil, err
	}
	text, err := BrokerText(i.cfg)
	if err != nil {
		return nil, err
	}
	return i.file(file, text, host.Superuser(), 0o644)
}

// removeBroker plans that the file of a broker goes.
func (w *Work) removeBroker(repo string) ([]Change, error) {
	file := BrokerPath(repo)
	e, err := w.host.Look(file)
	if err != nil || e == nil {
		return nil, err
	}
	return []Change{{"remove " + file + ", and its directories if they are empty", func(context.Context) error {
		if err := w.host.Remove(file); err != nil {
			return err
		}
		if err := w.removeIfEmpty(brokersDir); err != nil {
			return err
		}
		return w.removeIfEmpty(path.Dir(brokersDir))
	}}}, nil
}

// rootsAlone refuses a place where others than root could put something else.
func (i *Installation) rootsAlone(file, what string) error {
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		e, err := i.host.Look(dir)
		if err != nil {
			return err
		}
		if e != nil && (!e.Mode.IsDir() || !isRoot(e)) {
			return refuse(fmt.Sprintf("make it root's alone (chown root: %s && chmod go-w %s), or name a file in another place", dir, dir),
				what+", would not be root's alone there: others may change %s", file, dir)
		}
		if dir == "/" {
			return nil
		}
	}
}

// tokenOf tells whose token is in a file, too, and cannot be in the same file:
// one that a broker has is root's, and each other one an account's. nil is for
// nobody's.
func (i *Installation) tokenOf(file string, brokered bool) (other *Record, theirs bool, err error) {
	others, err := otherRecords(i.host, i.o.Repo)
	if err != nil {
		return nil, false, err
	}
	for _, other := range others {
		if _, shared := other.Tokens[file]; !shared {
			continue
		}
		e, err := i.host.Look(BrokerPath(other.Repo))
		if err != nil {
			return nil, false, err
		}
		if theirs := e != nil; theirs != brokered || !brokered && other.User != i.o.User {
			return other, theirs, nil
		}
	}
	return nil, false, nil
}

// adviseBroker tells how the token becomes root's where it is the account's.
func (i *Installation) adviseBroker() {
	again := "bluegreen install --repo " + i.o.Repo
	if i.o.User != "deploy" {
		again += " --user " + i.o.User
	}
	i.warn("%s can read the API's token; to make it root's alone, add to [promotion] in %s: %s; then run: %s",
		i.o.User, i.configPath(), BrokerLine(i.o.Repo), again)
}
