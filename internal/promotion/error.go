package promotion

import (
	"errors"
	"fmt"
)

// An Outcome tells errors apart that must never be taken for each other.
type Outcome int

// The outcomes of a move that did not succeed.
const (
	Refused Outcome = iota // nothing was asked for
	Failed                 // it was asked for, and the traffic is known to be elsewhere
	Unknown                // nobody can tell where the traffic is, or goes
)

// An Error is why the traffic has not moved, or is not known to have.
type Error struct {
	Outcome Outcome
	Reason  string // one line that makes sense alone
	Hint    string // what to do next, may be empty
	Action  int    // the id of the action, 0 where none is known
	Err     error  // the cause, may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Reason
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// OutcomeOf tells what an error of this package means; one of another kind
// means that nothing was asked for.
func OutcomeOf(err error) Outcome {
	var e *Error
	if errors.As(err, &e) {
		return e.Outcome
	}
	return Refused
}
