package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A bench measures: each scenario at each place, all contestants in turn.
type bench struct {
	options
	out     io.Writer
	shell   *shell
	dir     string           // for what is not at a place
	sites   map[string]*site // as they were made first
	results results
}

// measure runs what the options say. What was measured before something went
// wrong is in the results.
func (b *bench) measure(ctx context.Context) (err error) {
	b.sites = map[string]*site{}
	b.results.Started, b.results.Scale = time.Now().UTC().Truncate(time.Second), b.scale
	b.results.Machine = describeMachine(ctx, b.shell)
	defer func() { b.results.Minutes = time.Since(b.results.Started).Minutes() }()
	var places []*place
	defer func() {
		for _, p := range places {
			err = errors.Join(err, p.close())
		}
	}()
	for _, name := range b.places {
		p, err := openPlace(ctx, b.shell, name, b.image)
		if b.skipped(name, &err) {
			continue
		}
		if err != nil {
			return err
		}
		places = append(places, p)
		b.results.Machine.Places = append(b.results.Machine.Places, p.name+": "+p.about)
		if err := b.measureAt(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// measureAt runs the scenarios at one place.
func (b *bench) measureAt(ctx context.Context, p *place) error {
	for _, s := range scenarios() {
		if !slices.Contains(b.scenarios, s.name) || len(s.places) > 0 && !slices.Contains(s.places, p.name) {
			continue
		}
		if err := p.drop(s); err != nil {
			return err
		}
		err := b.measureScenario(ctx, p, s)
		if b.skipped(fmt.Sprintf("%s at %s", s.name, p.name), &err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s at %s: %w", s.name, p.name, err)
		}
	}
	return p.drop(scenario{})
}

// drop closes the servers that a scenario does not go on with.
func (p *place) drop(s scenario) error {
	var err error
	for key, v := range p.servers {
		if s.fresh || !slices.Contains(s.sites, v.site.name) {
			err = errors.Join(err, v.close())
			delete(p.servers, key)
		}
	}
	return err
}

// skipped tells, also in the results, what is left out. It takes the error
// away.
func (b *bench) skipped(what string, err *error) bool {
	var left leftOut
	if !errors.As(*err, &left) {
		return false
	}
	line := fmt.Sprintf("%s: left out: %s", what, left)
	if !slices.Contains(b.results.LeftOut, line) {
		b.results.LeftOut = append(b.results.LeftOut, line)
		fmt.Fprintln(b.out, line)
	}
	*err = nil
	return true
}

// A track is a lane with what is needed to go on in it.
type track struct {
	lane
	site   *site
	server *server // nil where each deployment has one of its own
	moves  []move
}

func (b *bench) measureScenario(ctx context.Context, p *place, s scenario) error {
	if b.rounds > 0 {
		s.rounds = b.rounds
	}
	tracks, err := b.tracks(ctx, p, s)
	if err != nil {
		return err
	}
	if len(tracks) == 0 {
		return nil
	}
	fmt.Fprintf(b.out, "%s: %s\n", p.name, s.title)
	rounds := s.rounds + s.warmups
	if n := len(tracks[0].moves); n > 1 {
		rounds = min(rounds, n)
	}
	if rounds <= s.warmups {
		return leftOut("there are too few commits")
	}
	for round := range rounds {
		for i := range tracks {
			// Nobody is always first.
			t := &tracks[(i+round)%len(tracks)]
			w := watch{trace: filepath.Join(b.dir, "trace"), memory: s.memory}
			switch {
			case b.profile != "":
				w = watch{profile: b.profileDir(p, s, t)}
			case s.metric == wholePush:
				w = watch{} // nothing may be in the way
			}
			one, err := b.measureOne(ctx, p, s, t, t.moves[round%len(t.moves)], w)
			if err != nil {
				return err
			}
			if round >= s.warmups {
				t.Samples = append(t.Samples, one)
			}
		}
	}
	if b.profile != "" {
		return b.examine(ctx, p, s, tracks, rounds)
	}
	measured := run{Scenario: s.name, Place: p.name}
	for _, t := range tracks {
		measured.Lanes = append(measured.Lanes, t.lane)
		fmt.Fprintf(b.out, "  %-36s %-34s %s%s\n", siteTitle(t.Site), strings.ReplaceAll(nameOf(t.Contestant), "`", ""), s.metric.text(t.lane), t.parts())
	}
	b.results.Runs = append(b.results.Runs, measured)
	return nil
}

// text is what a lane comes to: the worst of memory, the middle of times.
func (m metric) text(l lane) string {
	if m == ownMemory {
		return fmt.Sprintf("%s MB, and git %s MB", significant(spreadOf(l.series(m)).Max/1e6), significant(spreadOf(l.series(gitMemory)).Max/1e6))
	}
	return duration(spreadOf(l.series(m)).Median)
}

// parts tells how long each of several hooks took.
func (l lane) parts() string {
	var parts []string
	for _, name := range hookNames() {
		var series []float64
		for _, s := range l.Samples {
			if ms, ran := s.Hooks[name]; ran {
				series = append(series, ms)
			}
		}
		if len(series) > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", name, duration(spreadOf(series).Median)))
		}
	}
	if len(parts) < 2 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// tracks makes the sites and servers of a scenario.
func (b *bench) tracks(ctx context.Context, p *place, s scenario) ([]track, error) {
	var tracks []track
	for _, name := range s.sites {
		here, err := b.site(ctx, p, name)
		if b.skipped(name, &err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := p.fits(here, s); err != nil {
			return nil, err
		}
		for _, key := range s.contestants {
			if !slices.Contains(b.contestants, key) || key == synced && p.name == tmpfs || b.profile != "" && !ours(key) {
				continue
			}
			t := track{lane: lane{Site: name, Contestant: key}, site: here, moves: s.moves(here)}
			err := b.open(ctx, p, s, &t)
			if b.skipped(key, &err) {
				continue
			}
			if err != nil {
				return nil, err
			}
			tracks = append(tracks, t)
		}
	}
	return tracks, nil
}

// fits looks whether the web roots of a scenario have room.
func (p *place) fits(s *site, sc scenario) error {
	// Blocks are not full; in the worst case there are three releases.
	tree := int64(s.files)*(fileBytes+4096) + 2*s.large
	need := tree * int64(len(sc.contestants)+4)
	if sc.fresh {
		need = tree * 2
	}
	if free, err := p.room(); err != nil || free > need {
		return err
	}
	return leftOut(fmt.Sprintf("%s needs %s MB free", p.dir, thousands(int(need/1e6))))
}

// site makes a site, or takes it from where it was made first.
func (b *bench) site(ctx context.Context, p *place, name string) (*site, error) {
	if s := p.sites[name]; s != nil {
		return s, nil
	}
	dir := filepath.Join(p.dir, "site-"+name)
	first := b.sites[name]
	var err error
	switch at := slices.IndexFunc(plans(), func(one plan) bool { return one.name == name }); {
	case first != nil:
		p.sites[name], err = first.copyTo(dir)
	case name == history:
		p.sites[name], err = b.shell.takeSite(ctx, b.repository, 20, dir)
	default:
		p.sites[name], err = b.shell.makeSite(ctx, plans()[at].scaled(b.scale), dir)
	}
	if err != nil {
		delete(p.sites, name)
		return nil, err
	}
	if first == nil {
		b.sites[name] = p.sites[name]
	}
	return p.sites[name], nil
}

// open finds the server of a track, or makes it. A command works on the server
// that is pushed to.
func (b *bench) open(ctx context.Context, p *place, s scenario, t *track) error {
	contestant := t.Contestant
	if contestant == command {
		contestant = releases
	}
	key := t.Site + " " + contestant
	if t.server = p.servers[key]; t.server != nil {
		return nil
	}
	v, err := newServer(ctx, b.shell, p.fresh(contestant), t.site, contestant)
	if err != nil || s.fresh { // looked whether it can be one
		return errors.Join(err, v.close())
	}
	p.servers[key], t.server = v, v
	return v.bring(ctx, b.shell, t.site.base)
}

// measureOne makes one move and returns what it took.
func (b *bench) measureOne(ctx context.Context, p *place, s scenario, t *track, m move, w watch) (one sample, err error) {
	v := t.server
	if v == nil {
		if v, err = newServer(ctx, b.shell, p.fresh(t.Contestant), t.site, t.Contestant); err != nil {
			return one, err
		}
		defer func() { err = errors.Join(err, v.close()) }()
	} else if err := v.bring(ctx, b.shell, m.from); err != nil {
		return one, err
	}
	if err := errors.Join(v.tidy(), p.settle()); err != nil {
		return one, err
	}
	return v.deploy(ctx, b.shell, m.to, t.Contestant == command, w)
}
