package operator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/journal"
)

const (
	widest      = 20 // columns of foreign text in the table, on a terminal
	narrow      = 11 // the same where the table would not fit into 80 columns otherwise
	leastReason = 24 // columns that are worth having for the reason
)

// history writes a table of events, one line each. On a terminal that is too
// narrow for that, where the traffic went and the reason have a line of their
// own, and what the table then has no room for has another one.
func (s *screen) history(events []journal.Event) {
	if s.width == 0 {
		s.wideHistory(events, 0, time.DateTime)
		return
	}
	const minutes = "2006-01-02 15:04"
	room := s.width - s.tableWidth(eventTable(events, widest, minutes)) - 2
	if room >= leastReason {
		s.wideHistory(events, room, minutes)
		return
	}
	table := eventTable(events, narrow, minutes)
	for _, cells := range table {
		cells[movedColumn].text = ""
	}
	taken := s.fit(table, s.width, tookColumn, whoColumn, commitColumn, refColumn)
	for i, line := range s.align(table) {
		fmt.Fprintln(s.w, line)
		if i == 0 {
			continue
		}
		s.detail("  ", taken[i]...)
		s.detail(": ", moved(events[i-1]), events[i-1].Reason)
	}
}

// detail writes a line below one of a table, if there is anything to say.
func (s *screen) detail(separator string, parts ...string) {
	const indent = "    "
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "" })
	if len(parts) > 0 {
		fmt.Fprintln(s.w, indent+cut(strings.Join(parts, separator), s.room(len(indent))))
	}
}

// wideHistory has the reasons behind the rest, cut to room.
func (s *screen) wideHistory(events []journal.Event, room int, layout string) {
	limit := 0
	if s.width > 0 {
		limit = widest
	}
	table := eventTable(events, limit, layout)
	table[0] = append(table[0], cell{"REASON", faint})
	for i, e := range events {
		table[i+1] = append(table[i+1], cell{text: cut(e.Reason, room)})
	}
	for _, line := range s.align(table) {
		fmt.Fprintln(s.w, line)
	}
}

// The columns that a narrow terminal may have no room for.
const (
	refColumn    = 2
	commitColumn = 3
	movedColumn  = 5 // where the traffic went
	whoColumn    = 6
	tookColumn   = 7
)

// eventTable has a heading, and all of the events but their reasons. Foreign
// text is cut to limit, if that is not 0.
func eventTable(events []journal.Event, limit int, layout string) [][]cell {
	var table [][]cell
	var heading []cell
	for _, name := range []string{"TIME", "EVENT", "REF", "COMMIT", "RESULT", "MOVED", "WHO", "TOOK"} {
		heading = append(heading, cell{name, faint})
	}
	table = append(table, heading)
	moves := false
	for _, e := range events {
		moves = moves || moved(e) != ""
		table = append(table, []cell{
			{e.Time.Local().Format(layout), faint}, {text: cut(e.Event, limit)}, {text: cut(what(e), limit)}, {text: shortCommit(e)},
			{cut(e.Result, limit), resultStyle(e.Result)}, {text: cut(moved(e), 2*limit)}, {text: cut(e.Pusher, limit)},
			{text: lasted(time.Duration(e.DurationMS) * time.Millisecond)},
		})
	}
	if !moves {
		heading[movedColumn].text = ""
	}
	return table
}

// what is the branch or the tag that an event is about.
func what(e journal.Event) string {
	if e.Ref == "" && e.Traffic != nil && e.Tag != "" {
		return e.Tag
	}
	return shortRef(e.Ref)
}

// shortCommit is the commit that an event is about, "-" for none.
func shortCommit(e journal.Event) string {
	if e.Commit.IsZero() {
		return "-"
	}
	return e.Commit.Short()
}

// moved says from where to where the traffic, or the database, moved, or should
// have; "" for an event without either, or that was refused.
func moved(e journal.Event) string {
	if e.Result == journal.Refused {
		return ""
	}
	if e.Schema != nil {
		return fmt.Sprintf("%d -> %d", e.SchemaFrom, e.SchemaTo)
	}
	if e.Traffic == nil || e.To == "" {
		return ""
	}
	return strings.TrimSpace(e.From + " -> " + e.To)
}

func resultStyle(result string) style {
	switch result {
	case journal.Succeeded:
		return good
	case journal.Failed:
		return bad
	}
	return odd
}
