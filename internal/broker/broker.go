// Package broker lets an account move the traffic without the API's token: what
// is asked goes to a program of root's, which has it, and one answer comes back.
// Both ends are here.
package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/promotion"
)

// The questions. "state" may stand alone, each other one goes with an environment.
const (
	state   = "state"
	fit     = "fit"
	assign  = "assign"
	address = "address"
)

// Questions returns all that may be asked, for environments in their order: the
// arguments after those that name the broker.
func Questions(environments []string) [][]string {
	all := [][]string{{state}}
	for _, environment := range environments {
		for _, question := range []string{state, fit, assign, address} {
			all = append(all, []string{question, environment})
		}
	}
	return all
}

// Deadline is how long the broker has for one answer: most of a move's time is
// for other readings, also after one that was lost.
func Deadline(timeout time.Duration) time.Duration { return min(30*time.Second, timeout/4) }

// A Provider is what a broker stands for.
type Provider interface {
	promotion.Provider
	// Address returns where an environment can be asked directly, "" where that
	// is not known.
	Address(ctx context.Context, environment string) (string, error)
}

// An answer is to one question, and has one thing beside it: what was asked for,
// or why there is no such thing.
type answer struct {
	Question string            `json:"question"`           // "assign blue"
	State    *promotion.State  `json:"state,omitempty"`    // to "state"
	Fits     bool              `json:"fits,omitempty"`     // to "fit"
	Misfit   *promotion.Misfit `json:"misfit,omitempty"`   // to "fit"
	Action   *int              `json:"action,omitempty"`   // to "assign"
	Rejected string            `json:"rejected,omitempty"` // to "assign": why nothing was done
	Address  *string           `json:"address,omitempty"`  // to "address"
	Error    string            `json:"error,omitempty"`    // to all
}

// A Server answers questions with what a provider says.
type Server struct {
	// Open makes the provider ready, and tells the environments that may be
	// asked about. Its error must not hold the token.
	Open func() (p Provider, environments []string, err error)
}

// Answer writes the answer to one question. The error is about the question
// itself, or the writing.
func (s *Server) Answer(ctx context.Context, question []string, w io.Writer) error {
	if !slices.ContainsFunc(Questions(question[min(1, len(question)):]), func(q []string) bool { return slices.Equal(q, question) }) {
		return fmt.Errorf("%q is no question: state [ENVIRONMENT], fit, assign or address ENVIRONMENT", strings.Join(question, " "))
	}
	a := &answer{Question: strings.Join(question, " ")}
	a.fill(ctx, s, question)
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

func (a *answer) fill(ctx context.Context, s *Server, question []string) {
	to := strings.Join(question[1:], "")
	p, environments, err := s.Open()
	if err == nil && len(question) > 1 && !slices.Contains(environments, to) {
		err = fmt.Errorf("%q is none of the broker's environments", to)
	}
	if err != nil && question[0] == assign {
		err = &promotion.Rejection{Err: err} // nobody was asked
	}
	if err == nil {
		err = a.ask(ctx, p, question[0], to)
	}
	var misfit *promotion.Misfit
	var rejection *promotion.Rejection
	switch {
	case err == nil:
	case question[0] == fit && errors.As(err, &misfit):
		a.Misfit = misfit
	case question[0] == assign && errors.As(err, &rejection):
		a.Rejected = rejection.Err.Error()
	default:
		a.Error = err.Error()
	}
}

// ask notes what a provider says.
func (a *answer) ask(ctx context.Context, p Provider, question, to string) error {
	switch question {
	case state:
		s, err := p.State(ctx, to)
		if err == nil {
			a.State = s
		}
		return err
	case fit:
		err := p.Fit(ctx, to)
		a.Fits = err == nil
		return err
	case assign:
		// Nobody is to wait for a process but for this one, which the other end knows.
		action, err := p.Assign(ctx, to, func(int) error { return nil })
		if err == nil {
			a.Action = &action
		}
		return err
	}
	where, err := p.Address(ctx, to)
	if err == nil {
		a.Address = &where
	}
	return err
}
