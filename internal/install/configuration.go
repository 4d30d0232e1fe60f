package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	templates "bluegreen/install"
	"bluegreen/internal/config"
	"bluegreen/internal/install/host"
)

// configPath is where the configuration is.
func (i *Installation) configPath() string { return path.Join(i.o.Repo, "bluegreen.toml") }

// configure reads the configuration, or makes the one that will be written. It
// is checked in either case.
func (i *Installation) configure() error {
	e, text, err := i.host.LookInto(i.configPath())
	switch {
	case err != nil:
		return err
	case e == nil:
		o := i.o
		i.trusted = true
		return i.render(&templates.Site{
			Environment: cmp.Or(o.Environment, o.HostName), Branch: cmp.Or(o.Branch, "master"),
			Directory: cmp.Or(o.Directory, "/var/www/html"), Releases: o.Releases, Server: service(o.Web),
		})
	case !e.Mode.IsRegular():
		return refuse("put the file itself there", "%s is there, and is not a regular file", i.configPath())
	}
	i.trusted = i.trusts(e)
	if err := i.parse(text); err != nil {
		return err
	}
	if err := i.contradiction(); err != nil {
		return err
	}
	site := untouched(text, i.cfg)
	if i.o.promotes() {
		if site != nil && site.IP == "" {
			return i.render(site)
		}
		if err := i.promotionContradiction(); err != nil {
			return err
		}
	}
	if site == nil || site.IP == "" || len(site.Broker) > 0 || !i.trusted {
		return nil
	}
	return i.compose(site) // before there were brokers
}

// service is the unit of a web server, "" for none.
func service(web string) string {
	switch web {
	case "apache":
		return "apache2"
	case "none":
		return ""
	}
	return web
}

// promotes tells whether any of the options is about promotions.
func (o *Options) promotes() bool {
	return o.IP != "" || len(o.Droplets) > 0 || o.TokenFile != "" || o.APIURL != "" || o.MetadataURL != ""
}

// untouched returns the values that install has made a configuration from; nil
// for any other one, or one that somebody has edited since.
func untouched(text []byte, c *config.Config) *templates.Site {
	for _, web := range []string{"apache", "nginx", "none"} {
		site := &templates.Site{Environment: c.Environment, Branch: c.Deploy.Branch, Directory: c.Deploy.Directory,
			Releases: c.Deploy.Releases, Server: service(web)}
		if p := c.Promotion; p != nil {
			site.IP, site.Droplets, site.TokenFile, site.Broker = p.IP, p.Droplets, p.TokenFile, p.Broker
			if p.APIURL != config.DefaultAPIURL {
				site.APIURL = p.APIURL
			}
			if p.MetadataURL != config.DefaultMetadataURL {
				site.MetadataURL = p.MetadataURL
			}
		}
		if made, err := templates.Render(templates.Configuration, site); err == nil && bytes.Equal(made, text) {
			return site
		}
	}
	return nil
}

// render makes the configuration, with the promotion that was asked for.
func (i *Installation) render(site *templates.Site) error {
	o := i.o
	if o.IP == "" && o.promotes() {
		return wrongOption("--droplet, --token-file, --api-url and --metadata-url go with --ip, the floating IP")
	}
	if o.IP != "" && o.Droplets[site.Environment] == 0 {
		return wrongOption("--ip needs --droplet %s=ID, the droplet of this environment, and one for each other", site.Environment)
	}
	if o.IP != "" && len(o.Droplets) == 1 {
		return wrongOption("--ip needs one more --droplet NAME=ID for each other environment: traffic that is nowhere else cannot move here")
	}
	site.IP, site.Droplets, site.TokenFile, site.APIURL, site.MetadataURL = o.IP, o.Droplets, TokenPath, o.APIURL, o.MetadataURL
	return i.compose(site)
}

// compose makes the configuration. A promotion goes through the broker, unless the
// token is another repository's, too, whose account reads it.
func (i *Installation) compose(site *templates.Site) error {
	if overlap(site.Directory, i.o.Repo) { // a configuration cannot have that
		return i.checkPlace(site.Directory, "a web root", "--directory")
	}
	if site.IP != "" {
		other, _, err := i.tokenOf(site.TokenFile, true)
		if err != nil {
			return err
		}
		if other == nil {
			site.Broker = Broker(i.o.Repo)
		}
	}
	text, err := templates.Render(templates.Configuration, site)
	if err != nil {
		return err
	}
	i.text = string(text)
	err = i.parse(text)
	if wrong := (*config.Error)(nil); errors.As(err, &wrong) { // of a file that is not there yet
		return wrongOption("%s: %s", optionFor(wrong.Key), wrong.Msg)
	}
	return err
}

// optionFor names the option that gives a key its value.
func optionFor(key string) string {
	switch name := key[strings.LastIndexByte(key, '.')+1:]; name {
	case "environment", "branch", "directory", "ip":
		return "--" + name
	case "droplets":
		return "--droplet"
	case "api_url", "metadata_url":
		return "--" + strings.ReplaceAll(name, "_", "-")
	}
	return key
}

func (i *Installation) parse(text []byte) error {
	var err error
	i.cfg, err = config.Parse(i.configPath(), text, i.o.HostName)
	return err
}

// contradiction compares a configuration that is there with the options that
// were given. The file is the operator's: it is not changed.
func (i *Installation) contradiction() error {
	o, c := i.o, i.cfg
	switch {
	case o.Environment != "" && o.Environment != c.Environment:
		return i.differs("environment", c.Environment, "--environment", o.Environment)
	case o.Directory != "" && o.Directory != c.Deploy.Directory:
		return i.differs("deploy.directory", c.Deploy.Directory, "--directory", o.Directory)
	case o.Releases != "" && o.Releases != c.Deploy.Releases:
		return i.differs("deploy.releases", c.Deploy.Releases, "--releases", o.Releases)
	case o.Branch != "" && o.Branch != c.Deploy.Branch:
		return i.differs("deploy.branch", c.Deploy.Branch, "--branch", o.Branch)
	}
	return nil
}

// promotionContradiction is contradiction for options about promotions.
func (i *Installation) promotionContradiction() error {
	o, p := i.o, i.cfg.Promotion
	switch {
	case p == nil || p.Provider != "digitalocean":
		return refuse("add it to the file, as the comments in it or the README show",
			"%s is there already, without a [promotion] that the options could be compared with", i.configPath())
	case o.IP != "" && o.IP != p.IP:
		return i.differs("promotion.ip", p.IP, "--ip", o.IP)
	case len(o.Droplets) > 0 && !maps.Equal(o.Droplets, p.Droplets):
		return i.differs("promotion.droplets", fmt.Sprint(p.Droplets), "--droplet", fmt.Sprint(o.Droplets))
	case o.APIURL != "" && o.APIURL != p.APIURL:
		return i.differs("promotion.api_url", p.APIURL, "--api-url", o.APIURL)
	case o.MetadataURL != "" && o.MetadataURL != p.MetadataURL:
		return i.differs("promotion.metadata_url", p.MetadataURL, "--metadata-url", o.MetadataURL)
	}
	return nil
}

func (i *Installation) differs(key, has, option, wanted string) error {
	return refuse("change the file, or leave the option out",
		"%s has %s = %q, and %s asks for %q", i.configPath(), key, has, option, wanted)
}

func (i *Installation) planConfiguration(context.Context) ([]Change, error) {
	file := i.configPath()
	e, before, err := i.host.LookInto(file)
	if err != nil {
		return nil, err
	}
	if e != nil && i.trusts(e) != i.trusted {
		return nil, refuse("look at it, then run this again", "somebody has just put another %s there", file)
	}
	if !i.trusted {
		i.warn("%s was the account's own: the web root, the token and the commands by sudo that it names are left as they are; "+
			"look at it now, then run this again", file)
	}
	if e == nil {
		return []Change{{fmt.Sprintf("write %s (root, 0644)", file), func(context.Context) error {
			if err := i.rememberMade(file); err != nil {
				return err
			}
			return i.writeFile(file, i.text, host.Superuser(), 0o644)
		}}}, nil
	}
	if i.text == "" || string(before) == i.text {
		return i.take(file, e, 0o644)
	}
	with := "the promotion"
	if was, err := config.Parse(file, before, i.o.HostName); err == nil && was.Promotion != nil {
		with = "the broker"
	}
	what := fmt.Sprintf("write %s (root, 0644), with %s; nobody has edited it", file, with)
	return []Change{{what, func(context.Context) error {
		if !e.Is(host.Superuser(), 0o644) {
			if err := i.rememberOwner(file, e); err != nil {
				return err
			}
		}
		return i.writeFile(file, i.text, host.Superuser(), 0o644)
	}}}, nil
}
