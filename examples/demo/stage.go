package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"bluegreen/internal/simulator"
)

// A demo is the stage: the machines of the story, which are directories here,
// and the cloud that they are in. Once something has gone wrong, its methods do
// nothing more.
type demo struct {
	out         io.Writer
	colour      bool
	svg         string // where the picture goes, "" for nowhere
	dir         string // has a home for each machine
	blue, green *site
	cloud       *simulator.Cloud
	outside     *simulator.Forwarder // the floating IP
	stops       []func()             // of the cloud's servers
	api         string
	metadata    map[string]string // the URL for each environment
	visitors    []*visitor        // of production, blue and green
	events      []event
	err         error // the first one
}

const (
	laptop = "laptop"
	// The addresses and numbers are for documentation.
	floatingIP   = "203.0.113.10"
	blueDroplet  = 3164494
	greenDroplet = 3164495
	// token opens the simulated cloud and nothing else.
	token = "dop_v1_for_the_demo_only"
	// production is the name that the visitors know.
	production = "www.example.com"
)

// gitConfig is all of git's configuration above the repositories. Nothing may
// go on in the background when a command has ended.
const gitConfig = "[init]\n\tdefaultBranch = master\n[user]\n\tname = Ann\n\temail = ann@example.com\n" +
	"[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"

// open makes the homes, and starts the web servers and the cloud.
func (d *demo) open(bin string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(bin + "/bluegreen"); err != nil {
		return fmt.Errorf("%w: \"make demo\" builds the programs first", err)
	}
	if d.dir, err = os.MkdirTemp("", "bluegreen-"); err != nil {
		return err
	}
	for _, machine := range []string{laptop, "blue", "green"} {
		home := filepath.Join(d.dir, machine)
		err = errors.Join(err, os.MkdirAll(home+"/html", 0o755), os.Mkdir(home+"/sample_app", 0o755), os.Symlink(bin, home+"/bin"),
			os.WriteFile(home+"/.gitconfig", []byte(gitConfig), 0o644), os.WriteFile(home+"/token", []byte(token+"\n"), 0o600))
	}
	var noBlue, noGreen error
	d.blue, noBlue = newSite("blue", d.dir+"/blue/html")
	d.green, noGreen = newSite("green", d.dir+"/green/html")
	if err = errors.Join(err, noBlue, noGreen); err != nil {
		return err
	}
	return d.openCloud()
}

// openCloud starts the cloud, with a floating IP that nobody has yet.
func (d *demo) openCloud() error {
	d.cloud = simulator.New(simulator.Options{Token: token, Delay: 500 * time.Millisecond})
	d.cloud.AddDroplet(blueDroplet, "blue", "fra1")
	d.cloud.AddDroplet(greenDroplet, "green", "fra1")
	d.cloud.AddIP(floatingIP, "fra1", 0)
	api, stop, err := d.cloud.Start()
	if err != nil {
		return err
	}
	d.api, d.stops, d.metadata = api, append(d.stops, stop), map[string]string{}
	for droplet, s := range d.droplets() {
		url, stop, err := simulator.Serve(d.cloud.Metadata(droplet))
		if err != nil {
			return err
		}
		d.metadata[s.name], d.stops = url, append(d.stops, stop)
	}
	d.outside, err = d.cloud.Forward(floatingIP, map[int]string{blueDroplet: d.blue.address, greenDroplet: d.green.address})
	if err != nil {
		return err
	}
	d.visitors = []*visitor{
		newVisitor("production", d.outside.Addr(), production),
		newVisitor("blue", d.blue.address, ""),
		newVisitor("green", d.green.address, ""),
	}
	return nil
}

func (d *demo) sites() []*site { return []*site{d.blue, d.green} }

func (d *demo) droplets() map[int]*site {
	return map[int]*site{blueDroplet: d.blue, greenDroplet: d.green}
}

// live is the environment that has the floating IP, "" for none.
func (d *demo) live() string {
	if s := d.droplets()[d.cloud.Owner(floatingIP)]; s != nil {
		return s.name
	}
	return ""
}

// visitor is the one of "production", "blue" or "green".
func (d *demo) visitor(name string) *visitor {
	for _, v := range d.visitors {
		if v.name == name {
			return v
		}
	}
	panic("nobody visits " + name)
}

// event notes what was done at a time, for the timeline.
func (d *demo) event(at time.Time, refused bool, format string, args ...any) {
	if d.err == nil {
		d.events = append(d.events, event{at, fmt.Sprintf(format, args...), refused})
	}
}

// look lets the visitors see for a moment how things are.
func (d *demo) look(ctx context.Context) {
	for _, v := range d.visitors {
		if d.err == nil && v.stop != nil {
			err := v.look(ctx)
			d.check(err == nil, "visiting %s: %w", v.name, err)
		}
	}
}

// close ends the visitors, then the servers, and removes the directory.
func (d *demo) close() error {
	for _, v := range d.visitors {
		v.end()
	}
	if d.outside != nil {
		d.outside.Close()
	}
	for _, stop := range d.stops {
		stop()
	}
	for _, s := range d.sites() {
		s.close()
	}
	if d.dir == "" {
		return nil
	}
	return os.RemoveAll(d.dir)
}
