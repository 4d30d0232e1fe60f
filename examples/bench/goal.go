package main

import (
	"fmt"
	"slices"
)

// A comparison says how a goal holds a contestant against others.
type comparison int

const (
	faster   comparison = iota // others' time in units of its own, at least the limit
	longer                     // its time in units of others', at most the limit
	growing                    // its time with the large site in units of that with the small one, at most
	megabyte                   // its memory, at most
)

// A goal is what must be reached, in a scenario and with a site.
type goal struct {
	work     string // as a table calls it
	scenario string
	site     string
	place    string   // "" for every place
	subjects []string // each of them has to reach it
	against  []string // the best of them counts
	compare  comparison
	limit    float64
}

func goals() []goal {
	const changed = "100,000 files, 10 changed"
	inPlace := []string{trust, releases}
	git := []string{script, parallel}
	return []goal{
		{"a tiny site, whole `git push`", "tiny", "tiny", tmpfs, []string{verify}, []string{script}, longer, 1.15},
		{changed, "few", "100k", "", []string{verify}, []string{script}, faster, 3},
		{changed, "few", "100k", "", inPlace, []string{script}, faster, 10},
		{"100,000 files, nothing changed", "nothing", "100k", "", []string{verify, trust, releases}, []string{script}, faster, 3},
		{"100,000 files, cold", "cold", "100k", tmpfs, []string{verify}, git, faster, 1.2},
		{"100,000 files, cold", "cold", "100k", ext4, []string{verify}, git, faster, 1},
		{"100,000 files, cold", "cold", "100k", "", []string{releases}, []string{archive}, faster, 1.5},
		{"going back by 10 files of 100,000", "back", "100k", "", []string{releases, command}, []string{script}, faster, 50},
		{"going back by 10,000 files of 100,000", "far-back", "100k", "", []string{releases, command}, []string{script}, faster, 50},
		{"peak memory, 100,000 files, cold", "memory", "100k", "", []string{verify, releases}, nil, megabyte, 100},
		{"peak memory, one file of 1 GB", "memory", "blob", "", []string{verify, releases}, nil, megabyte, 64},
		{"10 changed, from 1,000 to 100,000 files", "few", "100k", "", inPlace, nil, growing, 2},
	}
}

// An outcome is how far one contestant got at one place.
type outcome struct {
	goal
	place    string
	subject  string
	opponent string // "" where it is held against itself or a number
	value    spread
}

// met tells whether the middle of what was measured reaches the goal.
func (o outcome) met() bool {
	if o.compare == faster {
		return o.value.Median >= o.limit
	}
	return o.value.Median <= o.limit
}

// measured is the outcome in words, with its spread.
func (o outcome) measured() string {
	if o.compare == megabyte {
		return fmt.Sprintf("%s MB", significant(o.value.Median))
	}
	return fmt.Sprintf("%s× (%s–%s)", significant(o.value.Median), significant(o.value.Lower), significant(o.value.Upper))
}

// target is the goal in words.
func (g goal) target() string {
	switch limit := fmt.Sprint(g.limit); g.compare {
	case faster:
		return "at least " + limit + "× faster"
	case longer:
		return "at most " + limit + "× the time"
	case growing:
		return "grows at most " + limit + "×"
	default:
		return "under " + limit + " MB"
	}
}

// outcomes holds what was measured against the goals. What was left out has
// none.
func (r *results) outcomes() []outcome {
	var out []outcome
	for _, g := range goals() {
		for _, place := range r.places() {
			measured := r.find(g.scenario, place)
			if measured == nil || g.place != "" && g.place != place {
				continue
			}
			for _, subject := range g.subjects {
				if o := (outcome{goal: g, place: place, subject: subject}); o.judge(measured) {
					out = append(out, o)
				}
			}
		}
	}
	return out
}

// judge fills in the value; it is false where something has not been measured.
func (o *outcome) judge(r *run) bool {
	subject := r.lane(o.site, o.subject)
	if subject == nil {
		return false
	}
	s, known := scenarioNamed(o.scenario)
	if !known {
		return false
	}
	own := subject.series(s.metric)
	switch o.compare {
	case megabyte:
		o.value = spreadOf(quotients(own, slices.Repeat([]float64{1e6}, len(own))))
		o.value.Median = o.value.Max // the worst counts
	case growing:
		small := r.lane(s.sites[0], o.subject)
		if small == nil {
			return false
		}
		o.value = spreadOf(quotients(own, small.series(s.metric)))
	default:
		best := r.best(o.site, o.against, s.metric)
		if best == nil {
			return false
		}
		o.opponent = best.Contestant
		if o.compare == faster {
			o.value = spreadOf(quotients(best.series(s.metric), own))
		} else {
			o.value = spreadOf(quotients(own, best.series(s.metric)))
		}
	}
	return o.value.Values > 0
}

// best is the one with the smallest middle.
func (r *run) best(site string, contestants []string, m metric) *lane {
	var best *lane
	for _, key := range contestants {
		l := r.lane(site, key)
		if l != nil && (best == nil || spreadOf(l.series(m)).Median < spreadOf(best.series(m)).Median) {
			best = l
		}
	}
	return best
}
