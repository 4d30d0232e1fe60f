package promotion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bluegreen/internal/command"
)

// Commands is a Provider made of two commands of the operator's: for
// keepalived, a load balancer, or another cloud.
type Commands struct {
	// OwnerArgv prints the environment that has the traffic, or nothing where
	// nobody has it.
	OwnerArgv []string
	// AssignArgv moves the traffic to the environment that takes the place of
	// "{to}". It may return before the move has ended.
	AssignArgv []string
	Env        []string // the complete environment of both
	Dir        string   // their working directory
	// Valid tells whether a name can be an environment's.
	Valid func(name string) error
	// Line is told what AssignArgv prints; may be nil.
	Line func(line string)
}

// commandTimeout bounds one run of OwnerArgv. AssignArgv has what is left of the move.
const commandTimeout = 30 * time.Second

// State asks OwnerArgv.
func (c *Commands) State(ctx context.Context, _ string) (*State, error) {
	text, err := command.Read(ctx, command.Command{Argv: c.OwnerArgv, Env: c.Env, Dir: c.Dir, Timeout: commandTimeout})
	if err != nil {
		return nil, fmt.Errorf("asking who has the traffic: %w", err)
	}
	owner := strings.TrimSpace(text)
	if owner == "" {
		return &State{}, nil
	}
	if err := c.Valid(owner); err != nil {
		return nil, fmt.Errorf("asking who has the traffic: %q printed no environment's name: %w", c.OwnerArgv[0], err)
	}
	return &State{Owner: owner}, nil
}

// Fit accepts every environment: the command knows best.
func (c *Commands) Fit(context.Context, string) error { return nil }

// Assign runs the command. Its exit status says little: the owner is read
// again.
func (c *Commands) Assign(ctx context.Context, to string, running func(pid int) error) (int, error) {
	argv := make([]string, len(c.AssignArgv))
	for i, arg := range c.AssignArgv {
		argv[i] = strings.ReplaceAll(arg, "{to}", to)
	}
	out, err := command.Run(ctx, command.Command{Argv: argv, Env: c.Env, Dir: c.Dir, Started: running}, c.Line)
	var unstarted *command.NotStarted
	switch last := out.Last(); {
	case errors.As(err, &unstarted):
		return 0, &Rejection{Err: err}
	case err != nil && last != "":
		return 0, fmt.Errorf("asking for the traffic: %w, saying %q", err, last)
	case err != nil:
		return 0, fmt.Errorf("asking for the traffic: %w", err)
	}
	return 0, nil
}
