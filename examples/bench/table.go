package main

import (
	"fmt"
	"strings"
)

// markdown writes everything as tables.
func (r *results) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Measured\n\nOn %s, in %.0f minutes, by `make bench`.\n\n", r.Started.Format("2 January 2006"), r.Minutes)
	for _, line := range r.Machine.text() {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	if r.Scale != 1 {
		fmt.Fprintf(&b, "- the sites have only %v times the files and bytes that tables and goals speak of\n", r.Scale)
	}
	for _, line := range r.LeftOut {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\nAll contestants take their turn in each round, in changing order, with the same\n" +
		"commits. A ratio is the middle of the rounds' ratios; half of them lie in the range\nin brackets.\n")
	r.goalTable(&b)
	for _, s := range scenarios() {
		for _, place := range r.places() {
			if measured := r.find(s.name, place); measured != nil {
				measured.table(&b, s)
			}
		}
	}
	return b.String()
}

// goalTable holds the results against what must be reached.
func (r *results) goalTable(b *strings.Builder) {
	outcomes := r.outcomes()
	if len(outcomes) == 0 {
		return
	}
	b.WriteString("\n## What must be reached\n\n| work | on | contestant | against | goal | measured | |\n| --- | --- | --- | --- | --- | --: | --- |\n")
	for _, o := range outcomes {
		met := "**no**"
		switch {
		case r.Scale != 1:
			met = "not judged"
		case o.met():
			met = "yes"
		}
		opponent := "itself"
		if o.opponent != "" {
			opponent = nameOf(o.opponent)
		} else if o.compare == megabyte {
			opponent = "–"
		}
		row(b, o.work, o.place, nameOf(o.subject), opponent, o.target(), o.measured(), met)
	}
}

// table writes one run: a row for each lane, and how many times faster it is
// than each opponent that is not ours.
func (r *run) table(b *strings.Builder, s scenario) {
	for _, site := range r.sites() {
		fmt.Fprintf(b, "\n## %s\n\n", s.heading(site, r.Place))
		var opponents []string
		for _, key := range s.contestants {
			if !ours(key) && r.lane(site, key) != nil && s.metric != ownMemory {
				opponents = append(opponents, key)
			}
		}
		if s.metric == ownMemory {
			r.memoryTable(b, site)
			continue
		}
		head := []string{"contestant", string(s.metric), "from–to"}
		if s.metric != wholePush {
			head = append(head, string(wholePush))
		}
		head = append(head, string(cpuTime))
		for _, key := range opponents {
			head = append(head, "faster than "+nameOf(key))
		}
		row(b, head...)
		row(b, append([]string{"---"}, strings.Split(strings.Repeat("--: ", len(head)-1), " ")[:len(head)-1]...)...)
		for _, l := range r.Lanes {
			if l.Site == site && len(l.Samples) > 0 {
				row(b, r.cells(l, s, opponents)...)
			}
		}
	}
}

// cells are one row of a table.
func (r *run) cells(l lane, s scenario, opponents []string) []string {
	own := spreadOf(l.series(s.metric))
	cells := []string{nameOf(l.Contestant), duration(own.Median), duration(own.Min) + "–" + duration(own.Max)}
	if s.metric != wholePush {
		cells = append(cells, duration(spreadOf(l.series(wholePush)).Median))
	}
	cells = append(cells, duration(spreadOf(l.series(cpuTime)).Median))
	for _, key := range opponents {
		if key == l.Contestant {
			cells = append(cells, "–")
			continue
		}
		ratio := spreadOf(quotients(r.lane(l.Site, key).series(s.metric), l.series(s.metric)))
		cells = append(cells, fmt.Sprintf("%s× (%s–%s)", significant(ratio.Median), significant(ratio.Lower), significant(ratio.Upper)))
	}
	return cells
}

// memoryTable has the highest values.
func (r *run) memoryTable(b *strings.Builder, site string) {
	row(b, "contestant", string(ownMemory), string(gitMemory))
	row(b, "---", "--:", "--:")
	for _, l := range r.Lanes {
		if l.Site != site || len(l.Samples) == 0 {
			continue
		}
		cells := []string{nameOf(l.Contestant)}
		for _, m := range []metric{ownMemory, gitMemory} {
			text := "–"
			if highest := spreadOf(l.series(m)).Max; highest > 0 {
				text = significant(highest/1e6) + " MB"
			}
			cells = append(cells, text)
		}
		row(b, cells...)
	}
	b.WriteString("\nThe largest process of each kind, at its worst. Of the packs, which git maps into\nits memory, those parts count that it has read.\n")
}

func row(b *strings.Builder, cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(cell, "|", "\\|")
	}
	fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
}
