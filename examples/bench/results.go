package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Results is all that was measured, as it is in results.json. Tables and chart
// are made of nothing else.
type results struct {
	Machine machine   `json:"machine"`
	Started time.Time `json:"started"`
	Minutes float64   `json:"minutes"`
	Scale   float64   `json:"scale"` // of the sites; the goals are for 1
	LeftOut []string  `json:"left_out,omitempty"`
	Runs    []run     `json:"runs"`
}

// A run is one scenario at one place.
type run struct {
	Scenario string `json:"scenario"`
	Place    string `json:"place"`
	Lanes    []lane `json:"lanes"`
}

// A lane is one contestant with one site. Each round has taken all lanes of a
// run once, so that samples of the same index belong together.
type lane struct {
	Site       string   `json:"site"`
	Contestant string   `json:"contestant"`
	Samples    []sample `json:"samples"`
}

// A sample is one measured deployment.
type sample struct {
	Whole   float64            `json:"whole_ms"` // git push, as the client sees it, or the command
	CPU     float64            `json:"cpu_ms"`   // of all processors, for all of it
	Hooks   map[string]float64 `json:"hooks_ms,omitempty"`
	OwnPeak int64              `json:"own_peak_bytes,omitempty"` // memory of our programs at the worst moment
	GitPeak int64              `json:"git_peak_bytes,omitempty"` // of the git commands that a hook starts
}

// hooks is the time that all hooks took. Git runs one after the other. A
// command that is no push has no hooks, and counts whole.
func (s sample) hooks() float64 {
	if len(s.Hooks) == 0 {
		return s.Whole
	}
	sum := 0.0
	for _, ms := range s.Hooks {
		sum += ms
	}
	return sum
}

// A metric is what of a sample is compared.
type metric string

const (
	wholePush metric = "whole push"
	inHooks   metric = "time in the hooks"
	cpuTime   metric = "CPU, whole push"
	ownMemory metric = "peak memory of our programs"
	gitMemory metric = "peak memory of git in the hook"
)

func (m metric) of(s sample) float64 {
	switch m {
	case wholePush:
		return s.Whole
	case cpuTime:
		return s.CPU
	case ownMemory:
		return float64(s.OwnPeak)
	case gitMemory:
		return float64(s.GitPeak)
	}
	return s.hooks()
}

// series lists one number of each round.
func (l lane) series(m metric) []float64 {
	var series []float64
	for _, s := range l.Samples {
		series = append(series, m.of(s))
	}
	return series
}

// find returns a run, nil where it has not been measured.
func (r *results) find(scenario, place string) *run {
	for i := range r.Runs {
		if r.Runs[i].Scenario == scenario && r.Runs[i].Place == place {
			return &r.Runs[i]
		}
	}
	return nil
}

// lane returns what a contestant did with a site, nil where it was left out.
func (r *run) lane(site, contestant string) *lane {
	for i := range r.Lanes {
		if r.Lanes[i].Site == site && r.Lanes[i].Contestant == contestant && len(r.Lanes[i].Samples) > 0 {
			return &r.Lanes[i]
		}
	}
	return nil
}

// sites lists the sites of a run in order.
func (r *run) sites() []string {
	var sites []string
	for _, l := range r.Lanes {
		if !slices.Contains(sites, l.Site) {
			sites = append(sites, l.Site)
		}
	}
	return sites
}

// places lists where scenarios ran, in order.
func (r *results) places() []string {
	var places []string
	for _, one := range r.Runs {
		if !slices.Contains(places, one.Place) {
			places = append(places, one.Place)
		}
	}
	return places
}

// The files that a measurement makes.
const (
	resultsFile = "results.json"
	tablesFile  = "results.md"
	chartFile   = "chart.svg"
)

// save writes the numbers, the tables and the chart.
func (r *results) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	lines := strings.NewReplacer(`{"scenario":`, "\n{\"scenario\":", `{"site":`, "\n{\"site\":") // a lane each
	for name, text := range map[string]string{
		resultsFile: lines.Replace(string(data)) + "\n", tablesFile: r.markdown(), chartFile: r.chart(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// load reads results.json again.
func load(path string) (*results, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("reading %q: %w", path, err)
	}
	return r, nil
}
