package deploy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/promotion"
)

const (
	// glance is how often the outside is asked while the traffic moves.
	glance = 100 * time.Millisecond
	// afterglow is how long the watch may take to see what the checks have seen.
	afterglow = 2 * time.Second
	// brief is how long another environment may take to answer: whoever goes
	// back is in a hurry.
	brief = 5 * time.Second
	// glimpse is how long it may take while production is broken.
	glimpse = 2 * time.Second
	// bakeInterval is the pause between the rounds of a bake.
	bakeInterval = time.Second
)

// outside watches what production serves, from before the move to its proof.
// The nil outside watches nothing.
type outside struct {
	timeline health.Timeline
	arrived  chan struct{} // closed when the release has been seen
	cancel   context.CancelFunc
	ended    chan struct{}
}

// watch begins to watch, if there is a check that can be asked that often.
func (p *promoting) watch(ctx context.Context) *outside {
	for _, c := range p.Promotion.Checks {
		if c.URL == "" || p.request.To != p.Name {
			continue
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		o := &outside{arrived: make(chan struct{}), cancel: cancel, ended: make(chan struct{})}
		seen := false
		go func() {
			defer close(o.ended)
			// A check that cannot be watched is asked all the same, and says why.
			_ = health.Watch(ctx, c, p.subject(), glance, func(s health.Sighting) {
				o.timeline.Add(s)
				if s.Kind == health.New && !seen {
					seen = true
					close(o.arrived)
				}
			})
		}()
		return o
	}
	return nil
}

// await waits until the watch has seen what the checks have seen.
func (o *outside) await(ctx context.Context) {
	if o == nil {
		return
	}
	select {
	case <-o.arrived:
	case <-o.ended:
	case <-ctx.Done():
	case <-time.After(afterglow):
	}
}

func (o *outside) stop() {
	if o != nil {
		o.cancel()
		<-o.ended
	}
}

// seen says what production served, "" where nobody watched.
func (p *promoting) seen() string {
	if p.blind {
		return ""
	}
	return p.outside.summary(p.move)
}

// summary says what was seen: "production served green until 14:02:07.1, blue
// from 14:02:07.4; 0 of 57 requests failed".
func (o *outside) summary(m *promotion.Move) string {
	if o == nil || m == nil {
		return ""
	}
	s := o.timeline.Summary()
	if s.Asked == 0 {
		return ""
	}
	const clock = "15:04:05.0"
	var parts []string
	if !s.LastOld.IsZero() {
		parts = append(parts, fmt.Sprintf("%s until %s", orNobody(m.From), s.LastOld.Local().Format(clock)))
	}
	if !s.FirstNew.IsZero() && !m.Already {
		parts = append(parts, fmt.Sprintf("%s from %s", m.To, s.FirstNew.Local().Format(clock)))
	}
	if m.From == "" && !s.FirstNew.IsZero() && s.LastFailed.Before(s.FirstNew) {
		return "production served " + strings.Join(parts, ", ") + "; nobody had it before"
	}
	text := fmt.Sprintf("%d of %d requests failed", s.Failed, s.Asked)
	if len(parts) > 0 {
		text = "production served " + strings.Join(parts, ", ") + "; " + text
	}
	if s.Failed > 0 {
		text += fmt.Sprintf(", from %s to %s: %s", s.FirstFailed.Local().Format(clock), s.LastFailed.Local().Format(clock), s.Failure)
	}
	return text
}

func orNobody(environment string) string {
	if environment == "" {
		return "nobody"
	}
	return environment
}

// subject is what the outside is asked about.
func (p *promoting) subject() health.Subject {
	s := health.Subject{Environment: p.request.To, Tag: p.request.Tag, Env: p.variables(), Dir: p.Worktree.Dir}
	if p.request.To == p.Name && p.deployed != nil {
		commit := p.deployed.Commit
		s.Commit, s.Short = commit.String(), commit.Short()
		s.File = func(ctx context.Context, path string, limit int) ([]byte, int64, error) {
			return p.Repo.File(ctx, commit, path, limit)
		}
	}
	return s
}

// prove asks the outside for the release, for as long as it has to bake, and
// reads at last who has the traffic.
func (p *promoting) prove(ctx context.Context) error {
	if err := p.askOutside(ctx); err != nil {
		return err
	}
	if err := p.bake(ctx); err != nil {
		return err
	}
	return p.readBack(ctx)
}

// bake keeps asking the outside.
func (p *promoting) bake(ctx context.Context) error {
	if len(p.Promotion.Checks) == 0 || p.Promotion.Bake == 0 || p.move.Already {
		return nil
	}
	p.enter("baking")
	p.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("the outside sees the release; asking for %s more", p.Promotion.Bake)})
	for end := time.Now().Add(p.Promotion.Bake); time.Now().Before(end); {
		if err := p.askOutside(ctx); err != nil {
			return err
		}
		select {
		case <-time.After(min(bakeInterval, max(0, time.Until(end)))):
		case <-ctx.Done():
		}
	}
	return nil
}

// askOutside asks the checks of the outside once, each up to its own time.
func (p *promoting) askOutside(ctx context.Context) error {
	checks := p.Promotion.Checks
	if p.request.To != p.Name {
		checks = neutral(checks, "", 0)
	}
	results := p.run(ctx, checks)
	p.tolerate(ctx, checks, results)
	err := verdict(results)
	if err != nil && ctx.Err() != nil {
		return &Failure{Reason: "stopped while the outside was asked"}
	}
	var failure *Failure
	if errors.As(err, &failure) {
		failure.Reason = "the outside does not see the release: " + failure.Reason
	}
	return err
}

func (p *promoting) run(ctx context.Context, checks []health.Check) []health.Result {
	return health.Run(ctx, checks, p.subject(), func(name string, attempt int, last string) {
		p.Observe(Notice{Kind: Progress, Text: fmt.Sprintf("asking %q: %s", name, last), Done: attempt})
	})
}

// tolerate asks again, where the traffic arrives on this machine, what could
// not be connected to: a droplet may be unable to reach its own reserved IP.
func (p *promoting) tolerate(ctx context.Context, checks []health.Check, results []health.Result) {
	if p.Promotion.Anchor == nil || p.request.To != p.Name {
		return
	}
	for i, r := range results {
		if r.Healthy || !r.Unreachable {
			continue
		}
		anchor, err := p.Promotion.Anchor(ctx)
		if err != nil {
			return
		}
		c := checks[i]
		c.Address = anchor
		if again := p.run(ctx, []health.Check{c}); again[0].Healthy {
			results[i], p.blind = again[0], true
			warning := fmt.Sprintf("%q cannot be reached from this droplet itself (%s); it was asked at %s, where its traffic arrives", r.Name, r.Last, anchor)
			if len(p.warnings) == 0 {
				p.warnings = append(p.warnings, warning)
			}
		}
	}
}

// readBack makes sure that the traffic is still where the checks were asked.
func (p *promoting) readBack(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	m := p.Promotion.Mover
	s, err := m.Find(ctx, p.request.To, time.Now().Add(m.Doubtful()), 0)
	if err != nil {
		return fromMover(err)
	}
	if s.Owner == p.request.To {
		return nil
	}
	truth := s.Foreign
	if truth == "" {
		truth = orNobody(s.Owner) + " has it now"
	}
	return &Failure{Reason: fmt.Sprintf("%s has been taken from %s in the meantime: %s", p.Promotion.Mover.What, p.request.To, truth)}
}

// neutral are the checks of the outside as another environment can be asked
// them, of whose release nothing is known: at its own address and up to
// within, or, with "", of the outside.
func neutral(checks []health.Check, address string, within time.Duration) []health.Check {
	var asked []health.Check
	for _, c := range checks {
		if address != "" && c.URL == "" {
			continue
		}
		for _, of := range []string{"{commit}", "{short}", "{tag}"} {
			if strings.Contains(c.Body, of) {
				c.Body = ""
			}
		}
		c.BodyFile, c.Address = "", address
		if address != "" {
			c.Within = min(c.Within, within)
		}
		asked = append(asked, c)
	}
	return asked
}

// askOther asks an environment whose release is not known here, at its own
// address, whether it answers.
func (p *promoting) askOther(ctx context.Context, other string, within time.Duration) error {
	address, results := p.answersOf(ctx, other, within)
	if address == "" {
		p.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("%s cannot be asked whether it is healthy: its address is not known here", other)})
		return nil
	}
	for i, r := range results {
		if !r.Healthy && !r.Answered {
			// It may well serve the traffic all the same, on another address or
			// behind a firewall. Only an answer can be wrong.
			p.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("%s cannot be asked whether it is healthy at %s: %s", other, address, r.Last)})
			results[i].Healthy = true
		}
	}
	err := verdict(results)
	var failure *Failure
	if errors.As(err, &failure) {
		failure.Refused = true
		failure.Reason = fmt.Sprintf("%s is not healthy, asked at %s: %s", other, address, failure.Reason)
		failure.Hint = "look at it; --unchecked moves the traffic there all the same"
	}
	return err
}

// answersOf asks an environment the checks of the outside at its own address, ""
// where that is not known.
func (p *promoting) answersOf(ctx context.Context, other string, within time.Duration) (address string, results []health.Result) {
	if p.Promotion.Address == nil {
		return "", nil
	}
	address, err := p.Promotion.Address(ctx, other)
	if err != nil || address == "" {
		return "", nil
	}
	return address, health.Run(ctx, neutral(p.Promotion.Checks, address, within), health.Subject{Environment: other,
		Env: p.variablesOf(other, "", "", git.OID{}, git.OID{}), Dir: p.Worktree.Dir}, nil)
}
