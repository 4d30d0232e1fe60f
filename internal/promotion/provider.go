// Package promotion moves the traffic from one environment to another: at most
// one request for each move, every doubtful answer settled by reading who has
// the traffic, and no claim without having read it back.
package promotion

import (
	"context"
	"fmt"
)

// A Provider can tell which environment has the traffic, and ask for it to
// move.
type Provider interface {
	// State reads who has the traffic, from where the truth is. to is the
	// environment that the traffic is to move to; "" only looks who the owner
	// is, as fast as possible, and leaves Occupied and Actions empty. An error
	// says nothing about the owner.
	State(ctx context.Context, to string) (*State, error)

	// Fit tells whether an environment could take the traffic. A *Misfit says
	// why it could not; any other error, that it cannot be told.
	Fit(ctx context.Context, to string) error

	// Assign asks, once, for the traffic to move to an environment, and
	// returns the id of the action, 0 where there is none, without waiting for
	// its end. running is told of a process that moves the traffic, and may go
	// on when we do not, before it begins; with an error it does not. It must not
	// be nil. A *Rejection proves that nothing was done; after any other error,
	// and after success without an action, it may have been.
	Assign(ctx context.Context, to string, running func(pid int) error) (action int, err error)
}

// A State is what one reading saw.
type State struct {
	// Owner is the environment that has the traffic; "" where nobody has it,
	// or where Foreign is set.
	Owner string
	// Foreign says, where the owner is none of the environments or cannot be
	// told, why the traffic must not be taken: `it belongs to droplet 42,
	// which is not in promotion.droplets`.
	Foreign string
	// Hidden tells that the owner cannot be told; Foreign says why.
	Hidden bool
	// Busy says why the traffic cannot be asked for at the moment, or is on its
	// way: "203.0.113.10 is locked", "action 42 on 203.0.113.10 is in progress".
	Busy string
	// Occupied says why the environment that it is to move to cannot take it at
	// the moment: "droplet 3164494 has a pending event".
	Occupied string
	// Actions are the last ones on the traffic, the newest first; empty where
	// the provider knows of none.
	Actions []Action
}

// An Action is an assignment on its way, or at its end.
type Action struct {
	ID     int
	Status string // "in-progress", "completed", "errored", or what the provider says
}

// A Misfit says why an environment cannot take the traffic.
type Misfit struct {
	Reason string // one line that makes sense alone
	Hint   string // what to do about it, may be empty
}

func (m *Misfit) Error() string { return m.Reason }

// A Rejection is an answer that proves that a request was not carried out.
type Rejection struct {
	Err error
}

func (r *Rejection) Error() string { return fmt.Sprintf("refused: %v", r.Err) }

func (r *Rejection) Unwrap() error { return r.Err }
