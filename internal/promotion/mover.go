package promotion

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bluegreen/internal/fault"
)

// A Mover moves the traffic. It keeps nothing between calls: what must be
// remembered goes through a Log.
type Mover struct {
	Provider Provider
	What     string        // what moves, as people call it: "203.0.113.10"
	Timeout  time.Duration // for one move, from the first reading to the last

	// Patience is how long traffic that is locked, or has a pending event, is
	// waited for; 0 is 2 minutes.
	Patience time.Duration
	// Doubt is for how long the owner is read again after an answer that does
	// not tell whether the request was carried out; 0 is 6 seconds. An action
	// that exists by then is followed to its end.
	Doubt time.Duration
	// Pace are the pauses between readings, the last one for ever; nil is
	// 1, 2, 3 and 5 seconds.
	Pace []time.Duration

	Observe func(text string) // told what is waited for; must not block
}

// A Log makes durable what a recovery must know. An error of Intend stops the
// move before anything is asked for.
type Log interface {
	Intend(from string) error
	Asked(action int) error
	// Running notes a process; where it cannot, that is not let loose.
	Running(pid int) error
}

// A Request asks for one move.
type Request struct {
	To string
	// OnlyFrom is the environment that must have the traffic; "" allows any,
	// and nobody.
	OnlyFrom string
}

// A Move is traffic that was read back where it was asked for.
type Move struct {
	From    string // who had it before, "" for nobody; To where it was there already
	To      string
	Action  int // 0 where the provider numbers none, and where nothing was asked for
	Already bool
}

// Look reads who has the traffic, and waits while it is on its way. The error
// of traffic that cannot be read, does not settle, or whose owner is hidden, is
// an Unknown one.
func (m *Mover) Look(ctx context.Context, to string) (*State, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	s, err := m.settled(ctx, to, false)
	if err != nil {
		return nil, m.untold(err)
	}
	if s.Busy != "" {
		return nil, &Error{Outcome: Unknown, Reason: fmt.Sprintf("it cannot be told who gets %s: %s", m.What, s.Busy), Action: newest(s)}
	}
	if s.Hidden {
		return nil, m.untold(errors.New(s.Foreign))
	}
	return s, nil
}

// untold is the error of a reading that does not tell who has the traffic.
func (m *Mover) untold(why error) error {
	return &Error{Outcome: Unknown, Reason: "it cannot be told who has " + m.What, Err: why}
}

// Find looks whether an environment has the traffic. Where it has not, it looks
// again until a moment that the caller names, or until the action, if it is not
// 0, is seen to have ended: a request of a moment ago may be carried out late,
// and a reading be stale. The moment may be from a clock that has been set back
// since: it is never waited for longer than an answer is in doubt.
func (m *Mover) Find(ctx context.Context, to string, until time.Time, action int) (*State, error) {
	if latest := time.Now().Add(m.Doubtful()); until.After(latest) {
		until = latest
	}
	for n := 0; ; n++ {
		s, err := m.Look(ctx, to)
		if err != nil || s.Owner == to || !time.Now().Before(until) || s.ended(action) {
			return s, err
		}
		if !m.pause(ctx, n) {
			return nil, m.untold(ctx.Err()) // it may still get it
		}
	}
}

// Doubtful is how long an answer that was not read back is in doubt, which
// leaves the most of Timeout to other readings.
func (m *Mover) Doubtful() time.Duration { return min(or(m.Doubt, 6*time.Second), m.Timeout/4) }

// settled reads the state until nothing is pending, up to Patience; then it
// returns the state as it is. If the traffic is to be moved, pending events of
// who gets it count, too.
func (m *Mover) settled(ctx context.Context, to string, moving bool) (*State, error) {
	patience := time.Now().Add(or(m.Patience, 2*time.Minute))
	told := false
	for n := 0; ; n++ {
		s, err := m.Provider.State(ctx, to)
		if err != nil {
			return nil, err
		}
		pending := s.Busy
		if pending == "" && moving && s.Owner != to {
			pending = s.Occupied
		}
		if pending == "" || time.Now().After(patience) {
			return s, nil
		}
		if !told && m.Observe != nil {
			m.Observe("waiting: " + pending)
			told = true
		}
		if !m.pause(ctx, n) {
			return s, nil
		}
	}
}

// Check tells whether the traffic could move to an environment now, and who has
// it. It asks for nothing.
func (m *Mover) Check(ctx context.Context, r Request) (*Move, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	_, move, err := m.check(ctx, r)
	return move, err
}

func (m *Mover) check(ctx context.Context, r Request) (*State, *Move, error) {
	s, err := m.settled(ctx, r.To, true)
	if err != nil {
		return nil, nil, &Error{Reason: "it cannot be told who has " + m.What, Err: err,
			Hint: "nothing has been asked for: try again when that is mended"}
	}
	move := &Move{From: s.Owner, To: r.To, Already: s.Owner == r.To}
	switch {
	case s.Foreign != "":
		return nil, nil, &Error{Reason: m.What + " is not ours to move: " + s.Foreign,
			Hint: "look at the control panel who should have it; \"bluegreen status\" shows what is seen here"}
	case s.Busy != "":
		return nil, nil, &Error{Reason: fmt.Sprintf("%s cannot be moved now: %s", m.What, s.Busy), Hint: "try again when that has ended"}
	case r.OnlyFrom != "" && s.Owner != r.OnlyFrom:
		return nil, nil, &Error{Reason: fmt.Sprintf("%s, and not %s", m.has(s.Owner), r.OnlyFrom)}
	case move.Already:
		return s, move, nil
	case s.Occupied != "":
		return nil, nil, &Error{Reason: fmt.Sprintf("%s cannot take %s now: %s", r.To, m.What, s.Occupied), Hint: "try again when that has ended"}
	}
	if err := m.Provider.Fit(ctx, r.To); err != nil {
		var misfit *Misfit
		if errors.As(err, &misfit) {
			return nil, nil, &Error{Reason: misfit.Reason, Hint: misfit.Hint}
		}
		return nil, nil, &Error{Reason: fmt.Sprintf("it cannot be told whether %s could take %s", r.To, m.What), Err: err}
	}
	return s, move, nil
}

// Move brings the traffic to an environment. It asks at most once, never takes
// the traffic from anybody without giving it to r.To, and succeeds only when
// it has read back that r.To has it. Once it has asked, it follows what
// becomes of it to the end of Timeout, also when ctx ends.
func (m *Mover) Move(ctx context.Context, r Request, log Log) (*Move, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Timeout)
	defer cancel()
	before, move, err := m.check(ctx, r)
	if err != nil || move.Already {
		return move, err
	}
	if err := log.Intend(move.From); err != nil {
		return nil, &Error{Outcome: Failed, Reason: "the move could not be recorded, and was not begun", Err: err}
	}
	fault.Step("promotion: intent recorded")
	if err := ctx.Err(); err != nil {
		return nil, &Error{Reason: "stopped before the move", Err: err}
	}
	deadline, _ := ctx.Deadline()
	ctx, cancel = context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	f := &following{Mover: m, log: log, move: move, newest: newest(before)}
	action, err := m.Provider.Assign(ctx, r.To, log.Running)
	fault.Step("promotion: asked")
	f.answer = err
	f.adopt(action)
	return move, f.follow(ctx)
}

// following is a request on its way.
type following struct {
	*Mover
	log    Log
	move   *Move
	newest int   // the newest action from before the request
	answer error // to the request
	last   string
	quiet  time.Time // since when nothing is pending, and the traffic is elsewhere
}

// adopt notes which action is ours.
func (f *following) adopt(action int) {
	if action == 0 || f.move.Action != 0 {
		return
	}
	f.move.Action = action
	if err := f.log.Asked(action); err != nil && f.Observe != nil {
		f.Observe(fmt.Sprintf("action %d could not be recorded: %v", action, err)) // the owner decides all the same
	}
	fault.Step("promotion: action recorded")
}

// follow reads until the traffic is where it should be, or known to stay where
// it is, or until time is over.
func (f *following) follow(ctx context.Context) error {
	var unread error
	for n := 0; ; n++ {
		s, err := f.Provider.State(ctx, f.move.To)
		if err == nil {
			var done bool
			if done, err = f.judge(s); done {
				return err
			}
		}
		unread = err
		var rejection *Rejection
		if err != nil && errors.As(f.answer, &rejection) {
			return f.failed("nothing was done") // the answer itself proves it
		}
		if !f.pause(ctx, n) {
			return f.unknown(unread)
		}
	}
}

// judge decides by the owner. What an action says of itself is only a reason
// to go on reading. Where nothing is decided, the error is why the owner cannot
// be told.
func (f *following) judge(s *State) (done bool, err error) {
	if f.answer != nil || f.move.Action == 0 {
		for _, a := range s.Actions {
			if a.ID > f.newest {
				f.adopt(a.ID)
			}
		}
	}
	f.last = ""
	for _, a := range s.Actions {
		if a.ID == f.move.Action {
			f.last = fmt.Sprintf("action %d is %q", a.ID, a.Status)
		}
	}
	if s.Busy != "" {
		f.quiet = time.Time{}
		return false, nil
	}
	if s.Hidden {
		f.quiet = time.Time{}
		return false, errors.New(s.Foreign)
	}
	if s.Owner == f.move.To {
		return true, nil
	}
	if f.quiet.IsZero() {
		f.quiet = time.Now()
	}
	var rejection *Rejection
	if time.Since(f.quiet) < f.Doubtful() && !errors.As(f.answer, &rejection) {
		return false, nil
	}
	if s.Foreign != "" {
		return true, f.failed(s.Foreign)
	}
	return true, f.failed(f.has(s.Owner))
}

func (f *following) failed(truth string) error {
	reason := fmt.Sprintf("%s did not move to %s", f.What, f.move.To)
	if f.answer != nil {
		reason += ": " + f.answer.Error()
	} else if f.last != "" {
		reason += ": " + f.last
	} else {
		reason += ", although the request was accepted"
	}
	return &Error{Outcome: Failed, Reason: reason + "; " + truth, Action: f.move.Action}
}

// unknown is for time that is over. The last reading's own deadline says
// nothing; what came before does.
func (f *following) unknown(unread error) error {
	e := &Error{Outcome: Unknown, Action: f.move.Action, Reason: fmt.Sprintf("nobody can tell where %s is", f.What)}
	if e.Action != 0 {
		e.Reason += fmt.Sprintf(" (action %d)", e.Action)
	}
	switch {
	case f.answer != nil:
		e.Err = f.answer
	case unread != nil:
		e.Err = unread
	case f.last != "":
		e.Err = fmt.Errorf("%s after %s", f.last, f.Timeout)
	default:
		e.Err = fmt.Errorf("it has not settled after %s", f.Timeout)
	}
	return e
}

// has says who has the traffic.
func (m *Mover) has(owner string) string {
	if owner == "" {
		return "nobody has " + m.What
	}
	return owner + " has " + m.What
}

// pause waits before the reading after the nth, and tells whether there is time
// for one.
func (m *Mover) pause(ctx context.Context, n int) bool {
	pace := m.Pace
	if len(pace) == 0 {
		pace = []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second}
	}
	select {
	case <-time.After(pace[min(n, len(pace)-1)]):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// ended tells whether an action is known to have ended.
func (s *State) ended(action int) bool {
	for _, a := range s.Actions {
		if a.ID == action {
			return a.Status != "in-progress"
		}
	}
	return false
}

// newest is the id of the newest action, 0 where there is none.
func newest(s *State) int {
	id := 0
	for _, a := range s.Actions {
		id = max(id, a.ID)
	}
	return id
}

func or(d, fallback time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return fallback
}
