package operator

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"bluegreen/internal/broker"
	"bluegreen/internal/config"
	"bluegreen/internal/digitalocean"
)

// brokerCommand is for sudo, and not for people: it is hidden.
func (a *app) brokerCommand() *cobra.Command {
	file := ""
	c := &cobra.Command{
		Use:    "broker --config FILE QUESTION [ENVIRONMENT]",
		Short:  "ask DigitalOcean for who may not read the token",
		Hidden: true,
		Long: "broker is what the hooks run by sudo, with exact arguments, where promotion.broker\n" +
			"is set: it reads FILE and the token, which root alone may change, answers one\n" +
			"QUESTION, and changes nothing else. The questions are \"state\", alone or with an\n" +
			"ENVIRONMENT, \"fit\", \"assign\", which moves the traffic there, and \"address\".",
		Example: "  sudo bluegreen broker --config /etc/bluegreen/brokers/sample_app.toml state",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, question []string) error {
			if err := broker.Alone(); err != nil {
				return err
			}
			return a.broker(c.Context(), file, question)
		},
	}
	c.Flags().StringVar(&file, "config", "", "the broker's `file`")
	c.MarkFlagRequired("config")
	return c
}

// broker answers one question, within the time that the file leaves for it.
func (a *app) broker(ctx context.Context, file string, question []string) error {
	cfg, err := brokerSettings(file)
	s := &broker.Server{Open: func() (broker.Provider, []string, error) {
		if err != nil {
			return nil, nil, err
		}
		p := cfg.Promotion
		provider, err := digitalocean.New(digitalocean.Options{IP: p.IP, Droplets: p.Droplets, Self: cfg.Environment,
			APIURL: p.APIURL, Token: func() (string, error) { return digitalocean.ReadToken(p.TokenFile) }})
		return provider, slices.Sorted(maps.Keys(p.Droplets)), err
	}}
	if cfg != nil {
		limited, cancel := context.WithTimeout(ctx, broker.Deadline(cfg.Promotion.Timeout))
		defer cancel()
		ctx = limited
	}
	if err := s.Answer(ctx, question, a.Stdout); err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// brokerSettings reads a broker's file, and refuses one, and a token's, that
// others than root can change.
func brokerSettings(file string) (*config.Config, error) {
	if err := broker.Private("/", file, 0); err != nil {
		return nil, fmt.Errorf("the broker's file: %w", err)
	}
	c, err := parseBroker(file)
	if err != nil {
		return nil, err
	}
	if err := broker.Private("/", c.Promotion.TokenFile, 0); err != nil {
		return nil, fmt.Errorf("the token's file: %w", err)
	}
	return c, nil
}

// parseBroker reads an environment, and of a promotion the IP, the droplets and
// where the token is, as in bluegreen.toml.
func parseBroker(file string) (*config.Config, error) {
	c, err := config.Load(file, "")
	if err != nil {
		return nil, err
	}
	switch p := c.Promotion; {
	case p == nil || p.Provider != "digitalocean" || len(p.Broker) > 0:
		return nil, fmt.Errorf("the broker's file %q has no [promotion] by DigitalOcean itself", file)
	case p.TokenFile == "":
		return nil, fmt.Errorf("the broker's file %q does not say where the token is: promotion.token_file", file)
	}
	return c, nil
}
