package config

import (
	"cmp"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Parse reads and checks data, the text of the configuration called name. Of
// several errors it gives the one on the first line; keys that contradict each
// other are looked at only once every key is right by itself. Every error is
// an *Error. Without a key of its own, environment is this environment's name.
func Parse(name string, data []byte, environment string) (*Config, error) {
	doc := &document{file: name}
	values, err := doc.decode(data)
	if err != nil {
		return nil, err
	}
	top := &table{doc: doc, values: values}
	c := &Config{Path: name, Present: true, Environment: environment}
	s := readAll(top, c)
	if err := doc.first(); err != nil {
		return nil, err
	}
	s.check(c)
	if err := doc.first(); err != nil {
		return nil, err
	}
	return c, nil
}

// Manifest reads what a release says of the database in the file that
// database.manifest names: the versions that it works with, such as "3..4". name
// is what errors call the file; every error is an *Error.
func Manifest(name string, data []byte) (worksWith string, err error) {
	doc := &document{file: name}
	values, err := doc.decode(data)
	if err != nil {
		return "", err
	}
	top := &table{doc: doc, values: values}
	read(top, "works_with", &worksWith, text(noNUL))
	top.require("works_with")
	top.unknown()
	return worksWith, doc.first()
}

// sections are the tables of one file, kept for the checks across keys.
type sections struct {
	deploy, promotion, peers, database *table
	health, commands                   []*table // as many as Config has of each
}

// readAll fills c from the tables under top.
func readAll(top *table, c *Config) *sections {
	s := &sections{}
	read(top, "environment", &c.Environment, text(EnvironmentName))
	if err := EnvironmentName(c.Environment); err != nil && !top.given("environment") {
		// There is no line of the file to point at.
		msg := "not set, and the host's name will not do: " + err.Error()
		top.doc.errs = append(top.doc.errs, &Error{File: top.doc.file, Key: "environment", Msg: msg})
	}
	s.deploy = top.table("deploy")
	c.Deploy = readDeploy(s.deploy)
	s.health = top.tables("health")
	for _, t := range s.health {
		c.Health = append(c.Health, readHealth(t))
	}
	s.commands = top.tables("command")
	for _, t := range s.commands {
		c.Commands = append(c.Commands, readCommand(t))
	}
	if s.promotion = top.table("promotion"); s.promotion.values != nil {
		c.Promotion = readPromotion(s.promotion)
	}
	s.peers = readMap(top, "peers", &c.Peers, EnvironmentName, text(webURL))
	if s.database = top.table("database"); s.database.values != nil {
		c.Database = readDatabase(s.database)
	}
	top.unknown()
	return s
}

func readDeploy(t *table) Deploy {
	d := Deploy{
		Branch:      "master",
		Directory:   "/var/www/html",
		Keep:        3,
		Verify:      true,
		ProtectLive: true,
		LockWait:    30 * time.Second,
		Symlinks:    "inside",
		MaxFiles:    1_000_000,
		MaxBytes:    20_000_000_000,
	}
	read(t, "branch", &d.Branch, text(branchName))
	read(t, "directory", &d.Directory, text(absolutePath))
	read(t, "releases", &d.Releases, text(orEmpty(absolutePath)))
	read(t, "keep", &d.Keep, number[int](2, math.MaxInt32))
	read(t, "shared", &d.Shared, list(text(relativePath)))
	read(t, "verify", &d.Verify, boolean)
	read(t, "marker", &d.Marker, text(orEmpty(relativePath)))
	read(t, "subdirectory", &d.Subdirectory, text(orEmpty(relativePath)))
	read(t, "protect_live", &d.ProtectLive, boolean)
	read(t, "lock_wait", &d.LockWait, duration)
	read(t, "symlinks", &d.Symlinks, text(oneOf("inside", "any", "none")))
	read(t, "max_files", &d.MaxFiles, number[int64](1, math.MaxInt64))
	read(t, "max_bytes", &d.MaxBytes, number[int64](1, math.MaxInt64))
	t.unknown()
	return d
}

func readHealth(t *table) Health {
	h := Health{
		At:        "deployed",
		Timeout:   5 * time.Second,
		Interval:  time.Second,
		Within:    30 * time.Second,
		Successes: 1,
	}
	read(t, "name", &h.Name, text(anything))
	read(t, "at", &h.At, text(oneOf("deployed", "promoted")))
	read(t, "url", &h.URL, text(webURL))
	read(t, "tcp", &h.TCP, text(hostPort))
	read(t, "command", &h.Command, argv)
	read(t, "host", &h.Host, text(orEmpty(hostName)))
	readMap(t, "headers", &h.Headers, headerName, text(headerValue))
	read(t, "status", &h.Status, list(number[int](100, 599)))
	read(t, "body", &h.Body, text(anything))
	read(t, "body_regexp", &h.BodyRegexp, expression)
	read(t, "body_file", &h.BodyFile, text(orEmpty(relativePath)))
	read(t, "timeout", &h.Timeout, positiveDuration)
	read(t, "interval", &h.Interval, positiveDuration)
	read(t, "within", &h.Within, positiveDuration)
	read(t, "successes", &h.Successes, number[int](1, math.MaxInt32))
	t.unknown()
	h.Name = cmp.Or(h.Name, h.URL, h.TCP, strings.Join(h.Command, " "))
	return h
}

func readCommand(t *table) Command {
	c := Command{At: "deployed", Timeout: time.Minute}
	read(t, "at", &c.At, text(oneOf("staged", "deployed", "promoting", "promoted", "rolled-back")))
	read(t, "run", &c.Run, argv)
	read(t, "timeout", &c.Timeout, positiveDuration)
	t.unknown()
	return c
}

func readPromotion(t *table) *Promotion {
	p := &Promotion{
		Tags:        []string{"release-*"},
		Provider:    "digitalocean",
		Timeout:     3 * time.Minute,
		APIURL:      DefaultAPIURL,
		MetadataURL: DefaultMetadataURL,
	}
	read(t, "tags", &p.Tags, tagPatterns)
	read(t, "provider", &p.Provider, text(oneOf("digitalocean", "command")))
	read(t, "ip", &p.IP, text(ipAddress))
	readMap(t, "droplets", &p.Droplets, EnvironmentName, number[int](1, math.MaxInt))
	read(t, "token_file", &p.TokenFile, text(orEmpty(absolutePath)))
	read(t, "broker", &p.Broker, argv)
	read(t, "signers", &p.Signers, text(orEmpty(absolutePath)))
	read(t, "timeout", &p.Timeout, positiveDuration)
	read(t, "bake", &p.Bake, duration)
	read(t, "api_url", &p.APIURL, text(baseURL))
	read(t, "metadata_url", &p.MetadataURL, text(baseURL))
	read(t, "owner", &p.Owner, argv)
	read(t, "assign", &p.Assign, argv)
	t.unknown()
	return p
}

func readDatabase(t *table) *Database {
	d := &Database{Tags: []string{"schema-*"}, Timeout: 10 * time.Minute}
	read(t, "manifest", &d.Manifest, text(relativePath))
	read(t, "version", &d.Version, argv)
	read(t, "migrate", &d.Migrate, argv)
	read(t, "tags", &d.Tags, tagPatterns)
	read(t, "timeout", &d.Timeout, positiveDuration)
	t.unknown()
	return d
}

// check looks for keys that contradict each other.
func (s *sections) check(c *Config) {
	checkDeploy(s.deploy, &c.Deploy, filepath.Dir(c.Path))
	for i, t := range s.health {
		checkHealth(t, &c.Health[i])
		if c.Health[i].At == "promoted" && c.Promotion == nil {
			t.fail("at", "%q needs [promotion]", "promoted")
		}
	}
	for i, t := range s.commands {
		t.require("run")
		switch at := c.Commands[i].At; {
		case at == "staged" && c.Deploy.Releases == "":
			t.fail("at", "%q needs deploy.releases", at)
		case (at == "promoting" || at == "promoted") && c.Promotion == nil:
			t.fail("at", "%q needs [promotion]", at)
		}
	}
	if c.Promotion != nil {
		checkPromotion(s.promotion, c.Promotion, c.Environment)
	}
	if _, ok := c.Peers[c.Environment]; ok {
		s.peers.fail(c.Environment, "is this environment; peers are the others")
	}
	if c.Database != nil {
		checkDatabase(s.database, c.Database, c.Promotion)
	}
}

func checkDeploy(t *table, d *Deploy, repo string) {
	if filepath.IsAbs(repo) && overlap(d.Directory, repo) {
		t.fail("directory", "%q and the repository %q must not lie in each other", d.Directory, repo)
		return
	}
	switch {
	case d.Releases == "":
		t.refuse("needs releases", "keep", "shared")
	case overlap(d.Directory, d.Releases):
		t.fail("releases", "%q and directory %q must not be inside each other", d.Releases, d.Directory)
	}
	for i, path := range d.Shared {
		if j := slices.IndexFunc(d.Shared[:i], func(other string) bool { return overlap(path, other) }); j >= 0 {
			t.fail("shared", "%q and %q overlap", d.Shared[j], path)
			return
		}
		if d.Marker != "" && overlap(path, d.Marker) {
			t.fail("marker", "%q must change with the release, and shared has %q", d.Marker, path)
		}
	}
}

func checkHealth(t *table, h *Health) {
	targets := 0
	for _, key := range []string{"url", "tcp", "command"} {
		if t.given(key) {
			targets++
		}
	}
	if targets != 1 {
		t.doc.fail(t.path, t.key, "needs exactly one of url, tcp and command")
	} else if h.URL == "" {
		t.refuse("goes only with url", "host", "headers", "status", "body", "body_regexp", "body_file")
	}
	// A default never contradicts a short within: the attempt just ends earlier.
	if t.given("timeout") && h.Timeout > h.Within {
		t.fail("timeout", "%q is longer than within, %q", h.Timeout, h.Within)
	}
	if t.given("interval") && h.Interval > h.Within {
		t.fail("interval", "%q is longer than within, %q", h.Interval, h.Within)
	}
	if int64(h.Successes-1) > int64(h.Within/h.Interval) {
		t.fail("successes", "%d, %q apart, do not fit in within, %q", h.Successes, h.Interval, h.Within)
	}
}

func checkPromotion(t *table, p *Promotion, environment string) {
	if p.Provider == "command" {
		t.refuse(`goes only with provider = "digitalocean"`, "ip", "droplets", "token_file", "broker", "api_url", "metadata_url")
		t.require("owner", "assign")
		if p.Assign != nil && !mentions(p.Assign, "{to}") {
			t.fail("assign", "has no {to}, the environment to move to")
		}
		return
	}
	t.refuse(`goes only with provider = "command"`, "owner", "assign")
	t.require("ip", "droplets")
	if _, ok := p.Droplets[environment]; !ok && t.given("droplets") {
		t.fail("droplets", "has no entry for this environment, %q", environment)
	}
	names := make(map[int]string, len(p.Droplets))
	for _, name := range slices.Sorted(maps.Keys(p.Droplets)) {
		id := p.Droplets[name]
		if other, ok := names[id]; ok {
			t.fail("droplets", "%q and %q are both %d", other, name, id)
		}
		names[id] = name
	}
}

func checkDatabase(t *table, d *Database, p *Promotion) {
	t.require("manifest", "version", "migrate")
	if t.given("migrate") && !mentions(d.Migrate, "{version}") {
		t.fail("migrate", "has no {version}, the version to move to")
	}
	for _, tag := range d.Tags {
		if p != nil && slices.Contains(p.Tags, tag) {
			t.fail("tags", "%q is among promotion.tags too", tag)
		}
	}
}

// overlap reports whether two clean paths are equal or one is inside the other.
func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// mentions reports whether placeholder is part of one of args.
func mentions(args []string, placeholder string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, placeholder) })
}
