package promotion

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bluegreen/internal/command"
)

func TestMain(m *testing.M) {
	command.Become(os.Args[1:])
	os.Exit(m.Run())
}

// A script is a provider that gives its states in turn, the last one for ever.
// A nil state is a reading that fails.
type script struct {
	t       *testing.T
	states  []*State
	fit     error
	action  int
	answer  error
	asked   []string
	looked  int
	onReads map[int]func()
}

var errUnread = errors.New("no answer")

func (s *script) State(_ context.Context, _ string) (*State, error) {
	if f := s.onReads[s.looked]; f != nil {
		f()
	}
	state := s.states[min(s.looked, len(s.states)-1)]
	s.looked++
	if state == nil {
		return nil, errUnread
	}
	return state, nil
}

func (s *script) Fit(context.Context, string) error { return s.fit }

func (s *script) Assign(_ context.Context, to string, _ func(int) error) (int, error) {
	s.asked = append(s.asked, to)
	return s.action, s.answer
}

// book is a Log that remembers what it was told.
type book struct {
	lines []string
	full  bool
}

func (b *book) Intend(from string) error {
	if b.full {
		return errors.New("no space left on device")
	}
	b.lines = append(b.lines, "from "+from)
	return nil
}

func (b *book) Asked(action int) error {
	b.lines = append(b.lines, fmt.Sprintf("action %d", action))
	return nil
}

func green(actions ...Action) *State { return &State{Owner: "green", Actions: actions} }
func blue(actions ...Action) *State  { return &State{Owner: "blue", Actions: actions} }
func busy(s *State) *State           { s.Busy = "203.0.113.10 is locked"; return s }
func hidden() *State                 { return &State{Foreign: "the token may not see droplets", Hidden: true} }

// times is a state that is read again and again: six times outlast Doubt.
func times(n int, s *State) []*State { return slices.Repeat([]*State{s}, n) }

func (b *book) Running(int) error { return nil }

// TestMove has one row for every way that a move can go. The states are what
// is read: the first ones before the request, as many as lead to it.
func TestMove(t *testing.T) {
	t.Parallel()
	done, ended, odd, going := Action{7, "completed"}, Action{7, "errored"}, Action{7, "on-strike"}, Action{7, "in-progress"}
	old := Action{5, "completed"}
	lost := errors.New("connection reset")
	no := &Rejection{errors.New("403: forbidden")}
	for _, c := range []struct {
		name    string
		states  []*State
		fit     error
		action  int
		answer  error
		only    string
		want    string // "moved", or a part of the error
		outcome Outcome
		asks    int
		id      int // of the action that is told
	}{
		{name: "it moves", states: []*State{green(old), busy(green(going, old)), blue(done, old)}, action: 7, want: "moved", asks: 1, id: 7},
		{name: "at once", states: []*State{green(), blue(done)}, action: 7, want: "moved", asks: 1, id: 7},
		{name: "there already", states: []*State{blue()}, want: "moved"},
		{name: "nobody has it", states: []*State{{}, blue()}, want: "moved", asks: 1},
		{name: "busy at first", states: []*State{busy(green()), busy(green()), green(), blue()}, want: "moved", asks: 1},
		{name: "busy at first, then there", states: []*State{busy(green()), blue()}, want: "moved"},
		{name: "busy at first, then foreign", states: []*State{busy(green()), {Foreign: "it belongs to droplet 42"}}, want: "droplet 42"},
		{name: "busy for ever", states: []*State{busy(green())}, want: "cannot be moved now: 203.0.113.10 is locked"},
		{name: "the target is occupied", states: []*State{{Owner: "green", Occupied: "droplet 1 has a pending event"}}, want: "blue cannot take 203.0.113.10 now: droplet 1"},
		{name: "foreign", states: []*State{{Foreign: "it belongs to droplet 42"}}, want: "not ours to move: it belongs to droplet 42"},
		{name: "hidden", states: []*State{hidden()}, want: "not ours to move: the token may not see droplets"},
		{name: "busy at first, then hidden", states: []*State{busy(green()), hidden()}, want: "not ours to move: the token may not see droplets"},
		{name: "another has it", states: []*State{{Owner: "red"}}, only: "green", want: "red has 203.0.113.10, and not green"},
		{name: "misfit", states: []*State{green()}, fit: &Misfit{Reason: "another region"}, want: "another region"},
		{name: "nobody can tell the fit", states: []*State{green()}, fit: errUnread, want: "whether blue could take"},
		{name: "unread", states: []*State{nil}, want: "it cannot be told who has 203.0.113.10: no answer"},

		{name: "no answer, done", states: []*State{green(old), nil, busy(blue(going, old)), blue(done, old)}, answer: lost, want: "moved", asks: 1, id: 7},
		{name: "no answer, done late", states: []*State{green(), green(), green(), blue()}, answer: lost, want: "moved", asks: 1},
		{name: "no answer, not done", states: []*State{green(old)}, answer: lost, want: "connection reset; green has 203.0.113.10", outcome: Failed, asks: 1},
		{name: "no answer, then nobody can tell", states: []*State{green(), nil}, answer: lost, want: "nobody can tell where 203.0.113.10 is", outcome: Unknown, asks: 1},
		{name: "empty answer, done", states: []*State{green(), blue(done)}, want: "moved", asks: 1, id: 7},
		{name: "empty answer, not done", states: []*State{green()}, want: "green has 203.0.113.10", outcome: Failed, asks: 1},
		{name: "rejected", states: []*State{green()}, answer: no, want: "403: forbidden; green has", outcome: Failed, asks: 1},
		{name: "rejected, but done", states: []*State{green(), blue()}, answer: no, want: "moved", asks: 1},
		{name: "rejected, and nobody can tell", states: []*State{green(), nil}, answer: no, want: "nothing was done", outcome: Failed, asks: 1},
		{name: "errored", states: []*State{green(), green(ended)}, action: 7, want: `action 7 is "errored"; green has`, outcome: Failed, asks: 1, id: 7},
		{name: "errored, but moved", states: []*State{green(), blue(ended)}, action: 7, want: "moved", asks: 1, id: 7},
		{name: "completed, but not moved", states: []*State{green(), green(done)}, action: 7, want: `"completed"; green has`, outcome: Failed, asks: 1, id: 7},
		{name: "completed, moved later", states: []*State{green(), green(done), green(done), blue(done)}, action: 7, want: "moved", asks: 1, id: 7},
		{name: "unheard of, moved", states: []*State{green(), blue(odd)}, action: 7, want: "moved", asks: 1, id: 7},
		{name: "unheard of, not moved", states: []*State{green(), green(odd)}, action: 7, want: `"on-strike"`, outcome: Failed, asks: 1, id: 7},
		{name: "the action is gone, moved", states: []*State{green(), blue()}, action: 7, want: "moved", asks: 1, id: 7},
		{name: "somebody else has it", states: []*State{green(), {Owner: "red"}}, action: 7, want: "red has 203.0.113.10", outcome: Failed, asks: 1, id: 7},
		{name: "a stranger has it", states: []*State{green(), {Foreign: "it belongs to droplet 42"}}, action: 7, want: "droplet 42", outcome: Failed, asks: 1, id: 7},
		{name: "hidden, then moved", states: slices.Concat(times(1, green()), times(6, hidden()), times(1, blue(done))), action: 7, want: "moved", asks: 1, id: 7},
		{name: "hidden between two readings, then moved", states: slices.Concat(times(2, green()), times(6, hidden()), []*State{green(), blue()}), action: 7, want: "moved", asks: 1, id: 7},
		{name: "hidden for ever", states: []*State{green(), hidden()}, action: 7, want: "(action 7): the token may not see droplets", outcome: Unknown, asks: 1, id: 7},
		{name: "rejected, and hidden", states: []*State{green(), hidden()}, answer: no, want: "403: forbidden; nothing was done", outcome: Failed, asks: 1},
		{name: "busy between two readings, then moved", states: slices.Concat(times(2, green()), times(6, busy(green(going))), []*State{green(), blue()}), action: 7, want: "moved", asks: 1, id: 7},
		{name: "locked for ever", states: []*State{green(), busy(green(going))}, action: 7, want: "(action 7)", outcome: Unknown, asks: 1, id: 7},
		{name: "locked for ever, owner right", states: []*State{green(), busy(blue(going))}, action: 7, want: "(action 7)", outcome: Unknown, asks: 1, id: 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := &script{t: t, states: c.states, fit: c.fit, action: c.action, answer: c.answer}
			m := &Mover{Provider: p, What: "203.0.113.10", Timeout: 400 * time.Millisecond, Patience: 100 * time.Millisecond,
				Doubt: 60 * time.Millisecond, Pace: []time.Duration{time.Millisecond, 20 * time.Millisecond}}
			log := &book{}
			move, err := m.Move(t.Context(), Request{To: "blue", OnlyFrom: c.only}, log)
			if c.want == "moved" {
				if err != nil || move.To != "blue" || move.Already != (c.asks == 0) || move.Action != c.id {
					t.Errorf("%+v, %v", move, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) || OutcomeOf(err) != c.outcome {
				t.Errorf("error %v (outcome %d), want %q (%d)", err, OutcomeOf(err), c.want, c.outcome)
			} else if e := (*Error)(nil); !errors.As(err, &e) || e.Action != c.id {
				t.Errorf("%+v, want action %d", e, c.id)
			}
			if len(p.asked) != c.asks {
				t.Errorf("asked %q", p.asked)
			}
			if (len(log.lines) > 0) != (c.asks > 0) || c.id != 0 && log.lines[len(log.lines)-1] != "action 7" {
				t.Errorf("the log has %q", log.lines)
			}
		})
	}
}

// TestUnrecorded: what cannot be recorded is not asked for.
func TestUnrecorded(t *testing.T) {
	t.Parallel()
	p := &script{t: t, states: []*State{green()}}
	m := &Mover{Provider: p, What: "x", Timeout: time.Minute}
	if _, err := m.Move(t.Context(), Request{To: "blue"}, &book{full: true}); err == nil || OutcomeOf(err) != Failed || len(p.asked) != 0 {
		t.Errorf("%v, asked %q", err, p.asked)
	}
}

// TestCancelled: before the request a move can be stopped; after it, it is
// followed to its end.
func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := &script{t: t, states: []*State{green()}, onReads: map[int]func(){0: cancel}}
	m := &Mover{Provider: p, What: "x", Timeout: time.Minute, Pace: []time.Duration{time.Millisecond}}
	if _, err := m.Move(ctx, Request{To: "blue"}, &book{}); err == nil || OutcomeOf(err) != Refused || len(p.asked) != 0 {
		t.Errorf("%v, asked %q", err, p.asked)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	p = &script{t: t, states: []*State{green(), busy(green()), busy(green()), blue()}, onReads: map[int]func(){1: cancel}}
	m.Provider = p
	if move, err := m.Move(ctx, Request{To: "blue"}, &book{}); err != nil || move.From != "green" || len(p.asked) != 1 {
		t.Errorf("%+v, %v, asked %q", move, err, p.asked)
	}
}

// TestLook waits for what is on its way, and says when it does not arrive.
func TestLook(t *testing.T) {
	t.Parallel()
	m := &Mover{What: "x", Timeout: time.Minute, Patience: 50 * time.Millisecond, Pace: []time.Duration{5 * time.Millisecond}}
	m.Provider = &script{t: t, states: []*State{busy(green()), busy(blue()), blue()}}
	if s, err := m.Look(t.Context(), "blue"); err != nil || s.Owner != "blue" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, states := range [][]*State{{busy(green(Action{9, "in-progress"}))}, {nil}, {hidden()}} {
		m.Provider = &script{t: t, states: states}
		if _, err := m.Look(t.Context(), "blue"); OutcomeOf(err) != Unknown {
			t.Errorf("%v", err)
		}
	}
}

// TestFind looks again for as long as a request may be carried out late, by this
// process's own clock, and not when the action is over. What it could not look for
// to the end, it does not tell.
func TestFind(t *testing.T) {
	t.Parallel()
	const doubt = 200 * time.Millisecond
	ended, going := Action{7, "errored"}, Action{7, "in-progress"}
	for _, c := range []struct {
		name   string
		states []*State
		until  time.Duration // from now
		stop   int           // the reading at which it is told to end, 0 for none
		owner  string        // "" for nobody can tell
		looks  int           // 0 for more than one
	}{
		{name: "there", states: []*State{blue()}, until: doubt, owner: "blue", looks: 1},
		{name: "late", states: []*State{green(), green(going), blue()}, until: doubt, owner: "blue", looks: 3},
		{name: "elsewhere", states: []*State{green()}, until: doubt, owner: "green"},
		{name: "long ago", states: []*State{green(), blue()}, until: -time.Hour, owner: "green", looks: 1},
		{name: "the action has ended", states: []*State{green(going), green(ended), blue()}, until: doubt, owner: "green", looks: 2},
		{name: "the clock was ahead", states: []*State{green()}, until: time.Hour, owner: "green"},
		{name: "hidden", states: []*State{green(), hidden(), blue()}, until: doubt, looks: 2},
		{name: "stopped", states: []*State{green(), green(), blue()}, until: doubt, stop: 2, looks: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			p := &script{t: t, states: c.states, onReads: map[int]func(){c.stop - 1: cancel}}
			m := &Mover{Provider: p, What: "x", Timeout: time.Minute, Doubt: doubt, Pace: []time.Duration{time.Millisecond}}
			s, err := m.Find(ctx, "blue", time.Now().Add(c.until), 7)
			if c.owner == "" {
				if err == nil || OutcomeOf(err) != Unknown {
					t.Errorf("%+v, %v", s, err)
				}
			} else if err != nil || s.Owner != c.owner {
				t.Errorf("%+v, %v, want %s", s, err, c.owner)
			}
			if p.looked != c.looks && (c.looks != 0 || p.looked < 2) {
				t.Errorf("it was read %d times, want %d", p.looked, c.looks)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	valid := func(name string) error {
		if strings.Contains(name, " ") {
			return errors.New("a space")
		}
		return nil
	}
	dir := t.TempDir()
	sh := func(script string) []string { return []string{"/bin/sh", "-c", script, "sh", "{to}"} }
	c := &Commands{AssignArgv: sh(`echo "$1" >owner; echo moving`), OwnerArgv: sh("cat owner"), Dir: dir, Env: []string{"PATH=/usr/bin:/bin"}, Valid: valid}
	if _, err := c.State(t.Context(), ""); err == nil {
		t.Error("an owner command that fails is believed")
	}
	if action, err := c.Assign(t.Context(), "blue", noted); action != 0 || err != nil {
		t.Errorf("%d, %v", action, err)
	}
	if s, err := c.State(t.Context(), "blue"); err != nil || s.Owner != "blue" {
		t.Errorf("%+v, %v", s, err)
	}
	c.OwnerArgv = sh("echo two words")
	if s, err := c.State(t.Context(), ""); err == nil {
		t.Errorf("%+v", s)
	}
	c.OwnerArgv = sh("echo; exit 0")
	if s, err := c.State(t.Context(), ""); err != nil || s.Owner+s.Foreign+s.Busy != "" {
		t.Errorf("%+v, %v", s, err)
	}
	c.AssignArgv = sh("echo no >&2; exit 3")
	if _, err := c.Assign(t.Context(), "blue", noted); err == nil || !strings.Contains(err.Error(), `status 3, saying "no"`) {
		t.Errorf("%v", err)
	}
}

func noted(int) error { return nil }
