package environment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bluegreen/internal/broker"
	"bluegreen/internal/config"
	"bluegreen/internal/deploy"
	"bluegreen/internal/digitalocean"
	"bluegreen/internal/git"
	"bluegreen/internal/promotion"
)

// promotionOf makes ready what [promotion] describes. Nobody is asked yet, and
// no token read.
func promotionOf(cfg *config.Config, e *deploy.Environment, environ []string) (*deploy.Promotion, error) {
	c := cfg.Promotion
	mover := &promotion.Mover{What: c.IP, Timeout: c.Timeout,
		Observe: func(text string) { e.Observe(deploy.Notice{Kind: deploy.Doing, Text: text}) }}
	p := &deploy.Promotion{Mover: mover, IP: c.IP, Checks: checks(cfg.Health, "promoted"), Bake: c.Bake}
	if c.Provider == "command" {
		mover.What = "the traffic"
		mover.Provider = &promotion.Commands{OwnerArgv: c.Owner, AssignArgv: c.Assign, Dir: e.Worktree.Dir,
			Env: e.Variables("", "", git.OID{}, git.OID{}), Valid: config.EnvironmentName,
			Line: func(line string) { e.Observe(deploy.Notice{Kind: deploy.Output, Text: line}) }}
		p.Lock = "promotion by " + strings.Join(c.Assign, " ")
		return p, nil
	}
	provider, err := digitalOcean(cfg, e, environ)
	if err != nil {
		return nil, err
	}
	metadata := digitalocean.Metadata{URL: c.MetadataURL}
	mover.Provider = provider
	p.Lock = "promotion of " + c.IP
	if c.APIURL != config.DefaultAPIURL {
		p.Lock += " through " + c.APIURL
	}
	p.Holds = func(ctx context.Context) (bool, error) { return metadata.Holds(ctx, c.IP) }
	p.Anchor = metadata.Anchor
	p.Address = provider.Address
	return p, nil
}

// digitalOcean asks the API: by the broker, where there is one, who alone has the
// token.
func digitalOcean(cfg *config.Config, e *deploy.Environment, environ []string) (broker.Provider, error) {
	c := cfg.Promotion
	if len(c.Broker) > 0 {
		return &broker.Client{Argv: c.Broker, Env: e.Environ, Environments: slices.Sorted(maps.Keys(c.Droplets)), Timeout: c.Timeout}, nil
	}
	return digitalocean.New(digitalocean.Options{IP: c.IP, Droplets: c.Droplets, Self: cfg.Environment,
		APIURL: c.APIURL, Token: func() (string, error) { return token(c, environ) }})
}

// token reads the API's token: from its file, or from the environment.
func token(c *config.Promotion, environ []string) (string, error) {
	if c.TokenFile != "" {
		return digitalocean.ReadToken(c.TokenFile)
	}
	for _, kv := range environ {
		if value, found := strings.CutPrefix(kv, "DIGITALOCEAN_TOKEN="); found {
			token, err := digitalocean.CheckToken(value)
			if err != nil {
				return "", fmt.Errorf("DIGITALOCEAN_TOKEN: %w", err)
			}
			return token, nil
		}
	}
	return "", errors.New("there is no token: set promotion.token_file, or DIGITALOCEAN_TOKEN in the environment")
}
