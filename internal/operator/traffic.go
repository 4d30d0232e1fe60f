package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/journal"
	"bluegreen/internal/receive"
)

func (a *app) promoteCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "promote",
		Short: "move the traffic to this environment",
		Long: "promote moves the traffic to this environment, as pushing a tag does: if what is\n" +
			"deployed here is healthy, and the outside sees it afterwards.",
		Example: "  bluegreen promote --repo /home/deploy/sample_app",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := a.change()
			if err == nil {
				err = a.refuseUnsigned(e)
			}
			if err != nil {
				return err
			}
			return a.move(c, e, wait, func(context.Context) (deploy.PromotionRequest, error) {
				return deploy.PromotionRequest{Event: journal.Promote}, nil
			})
		},
	}
	waitFlag(c, &wait)
	return c
}

// refuseUnsigned refuses to promote for a key where only signed tags do: else the
// key could do by this command what it must not by an unsigned tag.
func (a *app) refuseUnsigned(e *environment.Environment) error {
	if !a.Key || e.Promotion == nil || e.Config.Promotion.Signers == "" {
		return nil
	}
	refused := &deploy.Failure{Refused: true, Reason: "only signed tags promote here", Hint: "push a tag that you have signed: git tag -s"}
	now := time.Now().UTC()
	event := journal.Event{ID: fmt.Sprintf("refused-%d", now.UnixNano()), Time: now, Event: journal.Promote, Environment: e.Name,
		Result: journal.Refused, Reason: refused.Reason, Pusher: receive.Pusher(a.getenv),
		Traffic: &journal.Traffic{IP: e.Promotion.IP, To: e.Name}}
	if held, err := e.Journal.Deployed(); err == nil && held != nil {
		event.Commit, event.Previous = held.Commit, held.Commit
	}
	if err := e.Journal.Append(event); err != nil {
		a.console.Warning("%v", err)
	}
	return a.fail(refused)
}

func (a *app) rollbackCommand() *cobra.Command {
	var wait time.Duration
	unchecked := false
	c := &cobra.Command{
		Use:   "rollback",
		Short: "move the traffic back to the environment that had it before",
		Long: "rollback moves the traffic back to the environment that had it before, by the\n" +
			"history here and what the provider says now. This one must be healthy by its own\n" +
			"checks. Another one is asked at its own address; where it cannot be asked, a line\n" +
			"says so.",
		Example: "  bluegreen rollback --repo /home/deploy/sample_app",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := a.change()
			if err != nil {
				return err
			}
			return a.move(c, e, wait, func(ctx context.Context) (deploy.PromotionRequest, error) {
				to, owner, err := before(ctx, e)
				return deploy.PromotionRequest{Event: journal.Rollback, To: to, OnlyFrom: owner, Unasked: unchecked}, err
			})
		},
	}
	waitFlag(c, &wait)
	c.Flags().BoolVar(&unchecked, "unchecked", false, "also to an environment that answers wrongly, or whose release does not work with the database")
	return c
}

func waitFlag(c *cobra.Command, wait *time.Duration) {
	c.Flags().DurationVar(wait, "wait", 0, "how long to wait for another deployment (default: deploy.lock_wait)")
}

// setWait is how long to wait for the lock where nobody has said it.
func setWait(c *cobra.Command, e *environment.Environment, wait *time.Duration) error {
	if !c.Flags().Changed("wait") {
		*wait = e.Config.Deploy.LockWait
	}
	if *wait < 0 {
		return fmt.Errorf("--wait: %q is not a duration such as \"90s\"", *wait)
	}
	return nil
}

// move carries out a promotion, which is decided on under the lock, after what a
// crash had interrupted has been recovered.
func (a *app) move(c *cobra.Command, e *environment.Environment, wait time.Duration,
	decide func(context.Context) (deploy.PromotionRequest, error)) error {
	if err := setWait(c, e, &wait); err != nil {
		return err
	}
	if err := e.Ready(); err != nil {
		return a.fail(err)
	}
	who := receive.Pusher(a.getenv)
	session, err := e.Begin(c.Context(), who, wait)
	if err != nil {
		return a.fail(err)
	}
	defer session.End()
	req, err := decide(c.Context())
	if err != nil {
		return a.fail(err)
	}
	req.Pusher, req.Wait = who, wait
	done, err := session.Promote(c.Context(), req)
	if err != nil {
		return a.fail(err)
	}
	receive.ShowPromoted(a.console, done)
	return nil
}

// before finds the environment that had the traffic before its owner, the one
// that has it now.
func before(ctx context.Context, e *environment.Environment) (to, owner string, err error) {
	if e.Promotion == nil {
		return "", "", &deploy.Failure{Refused: true, Reason: "promotion is not set up here", Hint: "add [promotion] to bluegreen.toml"}
	}
	state, err := e.Promotion.Mover.Look(ctx, "")
	if err != nil {
		return "", "", err
	}
	what := e.Promotion.Mover.What
	if state.Foreign != "" {
		return "", "", &deploy.Failure{Refused: true, Reason: what + " is not ours to move: " + state.Foreign}
	}
	impossible := func(format string, args ...any) (string, string, error) {
		return "", "", &deploy.Failure{Refused: true, Reason: "going back is impossible: " + fmt.Sprintf(format, args...),
			Hint: "\"bluegreen promote\" on the server that should have it moves the traffic there"}
	}
	if state.Owner == "" {
		return impossible("nobody has %s", what)
	}
	for event, err := range e.Journal.Backwards() {
		if err != nil {
			return "", "", err
		}
		if event.Traffic == nil || event.Result != journal.Succeeded || event.Event == journal.Recover || event.From == event.To {
			continue
		}
		switch {
		case event.To == state.Owner && event.From == "":
			return impossible("nobody had %s before %s", what, state.Owner)
		case event.To == state.Owner:
			return event.From, state.Owner, nil
		case event.To == e.Name && len(e.Config.Promotion.Droplets) <= 2:
			return e.Name, state.Owner, nil // it was moved away from here elsewhere
		}
		return impossible("the history here ends with %s, but %s has %s now", event.To, state.Owner, what)
	}
	return impossible("the history here does not say who had %s before %s", what, state.Owner)
}
