package deploy

import (
	"context"
	"fmt"
	"time"

	"bluegreen/internal/git"
)

// Live says who has the traffic.
type Live struct {
	Here bool
	// Environment is who has it, "" where that is none of ours, nobody, or not
	// known beyond Here.
	Environment string
	// Unknown is why nobody can tell who else has it, where it is known only that
	// it is not here: any other environment may.
	Unknown error
}

const (
	// confirming is how long the API may take where the metadata has answered.
	confirming = 3 * time.Second
	// telling is how long it may take where nobody else can tell.
	telling = 10 * time.Second
)

// Live finds out who has the traffic. This machine's metadata answers fast and
// without a token, but may lag behind a move: the API, where it answers, is
// right. An error means that nobody can tell.
func (p *Promotion) Live(ctx context.Context, self string) (*Live, error) {
	var here *bool
	budget := telling
	if p.Holds != nil {
		if holds, err := p.Holds(ctx); err == nil {
			here, budget = &holds, confirming
		}
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	s, err := p.Mover.Provider.State(ctx, "")
	switch {
	case err == nil && s.Busy != "":
		return nil, fmt.Errorf("it may be on its way: %s", s.Busy)
	case err == nil && !s.Hidden:
		return &Live{Here: s.Owner == self, Environment: s.Owner}, nil
	case here != nil && *here:
		return &Live{Here: true, Environment: self}, nil
	}
	if err == nil {
		err = fmt.Errorf("who has %s: %s", p.Mover.What, s.Foreign)
	}
	if here != nil {
		return &Live{Unknown: err}, nil
	}
	return nil, err
}

// MayPromote tells what of the records forbids a promotion. It asks nobody.
func (e *Environment) MayPromote(ctx context.Context, req PromotionRequest) error {
	held, err := e.Held(ctx, git.OID{})
	if err != nil {
		return err
	}
	p := &promoting{Environment: e, request: req}
	if reason, hint := p.differs(held); reason != "" {
		return &Failure{Refused: true, Reason: reason, Hint: hint}
	}
	return nil
}
