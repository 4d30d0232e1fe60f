package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"bluegreen/internal/command"
	"bluegreen/internal/promotion"
)

const (
	// maxText is what is taken of each text of an answer, in bytes.
	maxText = 1000
	// margin is what sudo may take beyond the broker's own deadline.
	margin = 5 * time.Second
)

// A Client is a promotion.Provider that asks a broker. It believes an answer
// only as far as it can be one.
type Client struct {
	Argv         []string      // the broker; the question follows
	Env          []string      // the complete environment
	Environments []string      // that may have the traffic
	Timeout      time.Duration // of a whole move
}

var _ Provider = (*Client)(nil)

// An Unanswered is a broker that gave no answer, or none that can be one.
type Unanswered struct{ Err error }

func (u *Unanswered) Error() string { return fmt.Sprintf("the broker gave no answer: %v", u.Err) }

func (u *Unanswered) Unwrap() error { return u.Err }

// State implements promotion.Provider.
func (c *Client) State(ctx context.Context, to string) (*promotion.State, error) {
	question := []string{state, to}
	if to == "" {
		question = question[:1]
	}
	a, err := c.ask(ctx, nil, question...)
	if err != nil {
		return nil, err
	}
	s := a.State
	if s.Owner != "" && (!slices.Contains(c.Environments, s.Owner) || s.Foreign != "") {
		return nil, &Unanswered{fmt.Errorf("it says that %q has the traffic", clean(s.Owner))}
	}
	s.Foreign, s.Busy, s.Occupied = clean(s.Foreign), clean(s.Busy), clean(s.Occupied)
	for i := range s.Actions {
		s.Actions[i].Status = clean(s.Actions[i].Status)
	}
	return s, nil
}

// Fit implements promotion.Provider.
func (c *Client) Fit(ctx context.Context, to string) error {
	a, err := c.ask(ctx, nil, fit, to)
	if err == nil && a.Misfit != nil {
		err = &promotion.Misfit{Reason: clean(a.Misfit.Reason), Hint: clean(a.Misfit.Hint)}
	}
	return err
}

// Assign implements promotion.Provider. That nothing was done is proved by a
// broker that was never started, or that says so itself: sudo refuses with the
// status of a program that has failed.
func (c *Client) Assign(ctx context.Context, to string, running func(pid int) error) (int, error) {
	a, err := c.ask(ctx, running, assign, to)
	var unstarted *command.NotStarted
	switch {
	case errors.As(err, &unstarted):
		return 0, &promotion.Rejection{Err: err}
	case err != nil:
		return 0, err
	case a.Rejected != "":
		return 0, &promotion.Rejection{Err: errors.New(clean(a.Rejected))}
	}
	return *a.Action, nil
}

// Address implements Provider.
func (c *Client) Address(ctx context.Context, environment string) (string, error) {
	a, err := c.ask(ctx, nil, address, environment)
	if err != nil || *a.Address == "" {
		return "", err
	}
	ip, err := netip.ParseAddr(*a.Address)
	if err != nil {
		return "", &Unanswered{fmt.Errorf("%q is no address", clean(*a.Address))}
	}
	return ip.String(), nil
}

// ask asks one question. An answer that says why there is none is an error.
func (c *Client) ask(ctx context.Context, started func(pid int) error, question ...string) (*answer, error) {
	if len(question) > 1 && !slices.Contains(c.Environments, question[1]) {
		return nil, &command.NotStarted{Err: fmt.Errorf("%q is not in promotion.droplets", question[1])}
	}
	text, err := command.Read(ctx, command.Command{
		Argv: append(slices.Clone(c.Argv), question...), Env: c.Env, Dir: "/",
		Timeout: Deadline(c.Timeout) + margin, Started: started,
	})
	if err != nil {
		return nil, &Unanswered{err}
	}
	a, err := decode(text, question)
	if err != nil {
		return nil, &Unanswered{err}
	}
	if a.Error != "" {
		return nil, errors.New(clean(a.Error))
	}
	return a, nil
}

// decode reads the answer to a question: one object, with one of the things that
// can be said to it.
func decode(text string, question []string) (*answer, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	a := new(answer)
	if err := d.Decode(a); err != nil {
		return nil, fmt.Errorf("%q is none: %s", excerpt(text), clean(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%q is more than one", excerpt(text))
	}
	said := map[string]bool{state: a.State != nil, fit: a.Fits || a.Misfit != nil, assign: a.Action != nil || a.Rejected != "",
		address: a.Address != nil}
	things := 0
	for _, there := range []bool{a.State != nil, a.Fits, a.Misfit != nil, a.Action != nil, a.Rejected != "", a.Address != nil, a.Error != ""} {
		if there {
			things++
		}
	}
	if a.Question != strings.Join(question, " ") || things != 1 || !said[question[0]] && a.Error == "" || a.Action != nil && *a.Action < 0 {
		return nil, fmt.Errorf("%q is none to %q", excerpt(text), strings.Join(question, " "))
	}
	return a, nil
}

// excerpt is the beginning of what is no answer.
func excerpt(text string) string {
	text = strings.TrimSpace(text)
	return strings.ToValidUTF8(text[:min(len(text), 200)], "?")
}

// clean makes a text of the broker's fit for a line.
func clean(s string) string {
	if len(s) > maxText {
		n := maxText
		for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "..."
	}
	quoted := strconv.Quote(s)
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(quoted[1 : len(quoted)-1])
}
