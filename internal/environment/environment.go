// Package environment puts an environment together from what lies in its
// repository: the configuration, the journal, and git's own files.
package environment

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bluegreen/internal/config"
	"bluegreen/internal/deploy"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/peer"
	"bluegreen/internal/policy"
	"bluegreen/internal/release"
	"bluegreen/internal/schema"
	"bluegreen/internal/worktree"
)

// ConfigFile is the name of the configuration in the repository.
const ConfigFile = "bluegreen.toml"

// An Environment is a repository, its configuration and its state.
type Environment struct {
	*deploy.Environment
	Config   *config.Config
	confined bool // this process is
}

// Open reads the configuration of the repository at dir. environ is the
// caller's environment; observe is told what deployments do.
func Open(dir string, environ []string, observe func(deploy.Notice)) (*Environment, error) {
	repo, err := git.Open(dir, environ)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("looking for the host's name: %w", err)
	}
	cfg, err := config.Load(filepath.Join(repo.Dir, ConfigFile), host)
	if err != nil {
		return nil, err
	}
	if cfg.Promotion != nil && cfg.Promotion.Signers != "" {
		repo.IgnoreReplacements() // what is signed is a commit's name
	}
	state, err := journal.Open(repo.Dir)
	if err != nil {
		return nil, err
	}
	e := &deploy.Environment{
		Name: cfg.Environment, Repo: repo, Journal: state, Observe: observe,
		Environ: commandEnvironment(environ), Marker: cfg.Deploy.Marker,
		Worktree: &worktree.Worktree{
			Repo: repo, StateDir: state.Dir, Dir: cfg.Deploy.Directory, Verify: cfg.Deploy.Verify,
			Subdirectory: cfg.Deploy.Subdirectory,
			Symlinks:     cfg.Deploy.Symlinks, MaxFiles: cfg.Deploy.MaxFiles, MaxBytes: cfg.Deploy.MaxBytes,
		},
	}
	if cfg.Deploy.Releases != "" {
		e.Releases = &release.Releases{Dir: cfg.Deploy.Releases, Link: cfg.Deploy.Directory, Keep: cfg.Deploy.Keep,
			Shared: cfg.Deploy.Shared, Marker: cfg.Deploy.Marker, Site: *e.Worktree}
		e.FindLive()
	}
	e.Checks = checks(cfg.Health, "deployed")
	for _, c := range cfg.Commands {
		e.Commands = append(e.Commands, deploy.Command{At: c.At, Run: c.Run, Timeout: c.Timeout})
	}
	if cfg.Database != nil {
		e.Database = databaseOf(cfg.Database, e.Worktree.Dir)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Peers)) {
		e.Peers = append(e.Peers, &peer.Peer{Name: name, URL: cfg.Peers[name]})
	}
	if cfg.Promotion != nil {
		for name := range cfg.Promotion.Droplets {
			if name != e.Name {
				e.Others = append(e.Others, name)
			}
		}
		if e.Promotion, err = promotionOf(cfg, e, environ); err != nil {
			return nil, err
		}
	}
	env := &Environment{Environment: e, Config: cfg}
	e.Confine = env.confine
	return env, nil
}

// databaseOf makes ready what [database] describes. Nobody is asked yet.
func databaseOf(c *config.Database, dir string) *deploy.Database {
	return &deploy.Database{
		Database: schema.Database{VersionArgv: c.Version, MigrateArgv: c.Migrate, Dir: dir, Timeout: c.Timeout},
		Manifest: c.Manifest, Lock: "migration by " + strings.Join(c.Migrate, " "),
		Parse: func(name string, data []byte) (schema.Range, error) {
			text, err := config.Manifest(name, data)
			if err != nil {
				return schema.Range{}, err
			}
			r, err := schema.ParseRange(text)
			if err != nil {
				return r, fmt.Errorf("%s: works_with: %w", name, err)
			}
			return r, nil
		},
	}
}

// checks are the health checks for one moment.
func checks(configured []config.Health, at string) []health.Check {
	var checks []health.Check
	for _, h := range configured {
		if h.At != at {
			continue
		}
		checks = append(checks, health.Check{
			Name: h.Name, URL: h.URL, TCP: h.TCP, Command: h.Command, Host: h.Host, Headers: h.Headers,
			Status: h.Status, Body: h.Body, BodyRegexp: h.BodyRegexp, BodyFile: h.BodyFile,
			Timeout: h.Timeout, Interval: h.Interval, Within: h.Within, Successes: h.Successes,
		})
	}
	return checks
}

// Rules are the rules for ref updates.
func (e *Environment) Rules() policy.Rules {
	rules := policy.Rules{Branch: e.Config.Deploy.Branch}
	if e.Config.Promotion != nil {
		rules.Tags = e.Config.Promotion.Tags
	}
	if e.Config.Database != nil {
		rules.SchemaTags = e.Config.Database.Tags
	}
	return rules
}

// commandEnvironment is what the operator's commands get of ours. It is a list
// of what to keep: git's variables would turn a "git" in a command against the
// repository, and secrets have no place in it.
func commandEnvironment(environ []string) []string {
	var kept []string
	path := false
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
			"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS":
			kept = append(kept, kv)
		case "PATH":
			path = value != ""
			if path {
				kept = append(kept, kv)
			}
		default:
			if strings.HasPrefix(name, "LC_") {
				kept = append(kept, kv)
			}
		}
	}
	if !path {
		kept = append(kept, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return kept
}
