package main

import (
	"fmt"
	"slices"
	"strings"
)

// The contestants, by the names that the options know. Each is another way to
// get a push into the web root.
const (
	plain    = "plain"    // no hook at all: what git itself takes
	script   = "script"   // the tutorial's kind of bash hook
	parallel = "parallel" // the same with checkout.workers=0
	synced   = "synced"   // the same with a sync at its end
	archive  = "archive"  // the way of Capistrano and Deployer
	verify   = "verify"   // bluegreen in place, as it comes
	trust    = "trust"    // bluegreen in place, verify = false
	releases = "releases" // bluegreen with whole releases, verify = false
	swept    = "swept"    // bluegreen with whole releases, as they come
	command  = "command"  // the same, by "bluegreen deploy" and not by a push
)

// A contestant is a name for tables and for the legend of the chart.
type contestant struct{ key, name string }

func contestants() []contestant {
	return []contestant{
		{plain, "no hook"},
		{script, "bash hook"},
		{parallel, "bash hook, `checkout.workers=0`"},
		{synced, "bash hook and `sync -f`"},
		{archive, "`git archive | tar` + link"},
		{verify, "bluegreen, in place"},
		{trust, "bluegreen, `verify = false`"},
		{releases, "bluegreen, `releases`, `verify = false`"},
		{swept, "bluegreen, `releases`"},
		{command, "`bluegreen deploy`, `releases`, `verify = false`"},
	}
}

// ours are the contestants that this repository has built.
func ours(key string) bool {
	return slices.Contains([]string{verify, trust, releases, swept, command}, key)
}

// nameOf is how tables call a contestant.
func nameOf(key string) string {
	for _, c := range contestants() {
		if c.key == key {
			return c.name
		}
	}
	return key
}

// A scenario is one kind of work, done by all contestants in turn.
type scenario struct {
	name, title string
	sites       []string
	contestants []string
	places      []string // empty: all
	metric      metric
	rounds      int
	warmups     int  // rounds before the first one that counts
	fresh       bool // each deployment is a server's first, into an empty web root
	memory      bool // what counts is memory: looking for it costs time
	moves       func(*site) []move
}

// A move is what is measured: the web root holds one commit, "" for nothing,
// and gets to another.
type move struct{ from, to string }

// chain moves along commits.
func chain(commits []string) []move {
	var moves []move
	for i := 1; i < len(commits); i++ {
		moves = append(moves, move{commits[i-1], commits[i]})
	}
	return moves
}

// scenarios are in the order in which they run. Those of one site follow each
// other, and go on with the same servers.
func scenarios() []scenario {
	inPlace := []string{script, verify, trust, swept, releases}
	all := []string{script, archive, verify, trust, swept, releases}
	cold := []string{script, parallel, synced, archive, verify, releases}
	base := func(s *site) []move { return []move{{"", s.base}} }
	return []scenario{
		{name: "tiny", title: "a tiny site, one file changed", sites: []string{"tiny"},
			contestants: []string{plain, script, verify, trust, releases}, metric: wholePush, rounds: 60, warmups: 3,
			moves: func(s *site) []move { return chain(s.steps) }},
		{name: "few", title: "10 files changed", sites: []string{"1k", "10k", "100k"},
			contestants: all, metric: inHooks, rounds: 7, warmups: 2,
			moves: func(s *site) []move { return chain(s.steps) }},
		{name: "nothing", title: "nothing changed, a commit with the same tree", sites: []string{"100k"},
			contestants: inPlace, metric: inHooks, rounds: 7, warmups: 2,
			moves: func(s *site) []move { return chain(s.same) }},
		{name: "back", title: "going back by one commit that changed 10 files", sites: []string{"100k"},
			contestants: []string{script, verify, trust, releases, command}, metric: inHooks, rounds: 7, warmups: 2,
			moves: func(s *site) []move { return []move{{s.steps[1], s.steps[0]}} }},
		{name: "far-back", title: "going back by one commit that changed a tenth of the files", sites: []string{"100k"}, places: []string{tmpfs},
			contestants: []string{script, verify, trust, releases, command}, metric: inHooks, rounds: 5, warmups: 1,
			moves: func(s *site) []move { return []move{{s.far, s.base}} }},
		{name: "scattered", title: "100 files changed", sites: []string{"scattered"},
			contestants: all, metric: inHooks, rounds: 9, warmups: 2,
			moves: func(s *site) []move { return chain(s.steps) }},
		{name: "history", title: "commit after commit of a real history", sites: []string{history}, places: []string{tmpfs},
			contestants: all, metric: inHooks, rounds: 18, warmups: 2,
			moves: func(s *site) []move { return chain(s.steps) }},
		{name: "cold", title: "cold, the whole site into an empty web root", sites: []string{"100k"},
			contestants: cold, metric: inHooks, rounds: 5, fresh: true, moves: base},
		{name: "blob", title: "cold, a site with one large file", sites: []string{"blob"}, places: []string{tmpfs},
			contestants: cold, metric: inHooks, rounds: 3, fresh: true, moves: base},
		{name: "memory", title: "peak memory of a cold deployment", sites: []string{"100k", "blob"}, places: []string{tmpfs},
			contestants: []string{script, verify, releases}, metric: ownMemory, rounds: 2, fresh: true, memory: true, moves: base},
	}
}

// scenarioNamed returns the scenario of that name.
func scenarioNamed(name string) (scenario, bool) {
	for _, s := range scenarios() {
		if s.name == name {
			return s, true
		}
	}
	return scenario{}, false
}

// heading names a scenario with its site and place.
func (s scenario) heading(site, place string) string {
	return fmt.Sprintf("%s: %s (%s)", siteTitle(site), s.title, place)
}

// choose keeps those of all that a comma-separated list names, all for "".
func choose(what, list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no %s %q: the choice is %s", what, name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return !slices.Contains(names, name) }), nil
}
