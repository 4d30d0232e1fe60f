// Package config reads bluegreen.toml: defaults, then the file, then a strict
// check. A caller gets values that are ready to use, or the first error with
// the line and the key it is about.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"time"
)

// maxSize is the largest configuration that is read, in bytes.
const maxSize = 1 << 20

// Config is one checked configuration.
type Config struct {
	Path        string            // as given to Load; the file need not exist
	Present     bool              // the file exists
	Environment string            // this environment's name; never empty
	Deploy      Deploy            // always filled in
	Health      []Health          // in the file's order
	Commands    []Command         // in the file's order
	Promotion   *Promotion        // nil without [promotion]
	Peers       map[string]string // each other environment's name and its marker's url; nil without [peers]
	Database    *Database         // nil without [database]
}

// Deploy says what is deployed, and where to.
type Deploy struct {
	Branch       string        // short name, as in "master"
	Directory    string        // what the web server serves; absolute and clean, not "/"
	Releases     string        // directory of whole releases, absolute and clean; "" deploys in place
	Keep         int           // releases kept, the live one included; 2 or more
	Shared       []string      // paths that outlive a release; relative, clean, none inside another
	Verify       bool          // also repair tracked files that changed on disk
	Marker       string        // file that tells what is deployed, relative to the web root; "" for none
	Subdirectory string        // the part of the tree that becomes the web root; "" for all of it
	ProtectLive  bool          // refuse to deploy where the traffic is
	LockWait     time.Duration // how long to wait for another deployment; 0 does not wait
	Symlinks     string        // "inside" (the tree), "any" or "none"
	MaxFiles     int64         // files that one commit may have; more than 0
	MaxBytes     int64         // bytes that one commit may unpack to; more than 0
}

// Health is one check. Exactly one of URL, TCP and Command is set.
type Health struct {
	Name       string            // never empty; made from the target where the file has none
	At         string            // "deployed" or "promoted"
	URL        string            // http or https
	TCP        string            // host:port
	Command    []string          // argv
	Host       string            // Host header; "" for the url's
	Headers    map[string]string // further request headers
	Status     []int             // statuses that are healthy; empty for any 2xx
	Body       string            // the body must contain it; placeholders are left as they are
	BodyRegexp *regexp.Regexp    // the body must match it; nil for none
	BodyFile   string            // the body must equal this file of the commit, relative; "" for none
	Timeout    time.Duration     // of one attempt; a default may be longer than Within
	Interval   time.Duration     // between attempts; more than 0
	Within     time.Duration     // for all attempts together; more than 0
	Successes  int               // healthy answers in a row; 1 or more
}

// Command is one program that runs at a point of a deployment or promotion.
type Command struct {
	At      string        // "staged", "deployed", "promoting", "promoted" or "rolled-back"
	Run     []string      // argv; Run[0] is not empty
	Timeout time.Duration // more than 0
}

// Where DigitalOcean's API is, and a droplet's metadata.
const (
	DefaultAPIURL      = "https://api.digitalocean.com"
	DefaultMetadataURL = "http://169.254.169.254"
)

// Promotion says how the traffic moves from one environment to another.
type Promotion struct {
	Tags        []string       // patterns for path.Match on a tag's short name; never empty
	Provider    string         // "digitalocean" or "command"
	IP          string         // the reserved IP; "" with "command"
	Droplets    map[string]int // environment to droplet id, this environment among them; nil with "command"
	TokenFile   string         // absolute; "" reads DIGITALOCEAN_TOKEN from the environment
	Broker      []string       // argv that asks DigitalOcean in our place; nil asks with the token itself
	Signers     string         // an SSH allowed-signers file, absolute; "" accepts unsigned tags
	Timeout     time.Duration  // for the move; more than 0
	Bake        time.Duration  // how long the promoted checks go on afterwards; 0 for once
	APIURL      string         // http or https
	MetadataURL string         // http or https
	Owner       []string       // argv that prints the live environment; set with "command" only
	Assign      []string       // argv that moves the traffic to "{to}"; set with "command" only
}

// Database says how the database that the environments share is migrated.
type Database struct {
	Manifest string        // file of the tree that says which versions a release works with; relative
	Version  []string      // argv that prints the database's version
	Migrate  []string      // argv that moves it to "{version}"
	Tags     []string      // patterns for path.Match on a tag's short name; never empty
	Timeout  time.Duration // of one program; more than 0
}

// Error is what is wrong with a configuration.
type Error struct {
	File string // as given to Load or Parse
	Line int    // from 1; 0 where the error is not about a line
	Key  string // dotted, as in "deploy.lock_wait"; "" where the error is not about a key
	Msg  string // lower case, no full stop, safe to print
}

// Error gives FILE:LINE: KEY: MSG, without the parts that are not known.
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
	}
	if e.Key != "" {
		s += ": " + e.Key
	}
	return s + ": " + e.Msg
}

// Load reads the configuration at path. A file that does not exist is all
// defaults; a path that exists and is not a readable file is an error. Without
// a key of its own, environment is this environment's name. Every error is an
// *Error.
func Load(path, environment string) (*Config, error) {
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{File: path, Msg: "cannot be read: " + reason(err)}
	}
	c, parseErr := Parse(path, data, environment)
	if parseErr != nil {
		return nil, parseErr
	}
	c.Present = err == nil
	return c, nil
}

// readFile gives the first maxSize+1 bytes of a regular file. The error is
// fs.ErrNotExist only where there is nothing at all: a symlink to nothing is a
// configuration that somebody meant to be there.
func readFile(path string) ([]byte, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("a symlink to nothing")
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a FIFO would wait for a writer
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSize+1))
}

// reason is err without the path that the *Error names already.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// Argvs returns all programs of the operator's that the configuration has run,
// with their arguments.
func (c *Config) Argvs() [][]string {
	var all [][]string
	for _, command := range c.Commands {
		all = append(all, command.Run)
	}
	for _, h := range c.Health {
		all = append(all, h.Command)
	}
	if c.Promotion != nil {
		all = append(all, c.Promotion.Owner, c.Promotion.Assign)
	}
	if c.Database != nil {
		all = append(all, c.Database.Version, c.Database.Migrate)
	}
	return slices.DeleteFunc(all, func(argv []string) bool { return len(argv) == 0 })
}

// Program names the first program that the configuration has run, "" where it has
// none run. Such a program may need rights that the hooks themselves do not.
func (c *Config) Program() string {
	switch {
	case len(c.Commands) > 0:
		return "a [[command]]"
	case slices.ContainsFunc(c.Health, func(h Health) bool { return len(h.Command) > 0 }):
		return "a command check"
	case c.Promotion != nil && c.Promotion.Provider == "command":
		return "a command of [promotion]"
	case c.Promotion != nil && len(c.Promotion.Broker) > 0:
		return "promotion.broker" // which sudo runs
	case c.Database != nil:
		return "a command of [database]"
	}
	return ""
}
