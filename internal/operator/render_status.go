package operator

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bluegreen/internal/environment"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
)

// details are what people like to know beyond the report. Of what cannot be
// found out nothing is said.
type details struct {
	subject, refSubject string    // first lines of the two commits' messages
	ahead, behind       int       // commits of the branch, and of the web root, that the other does not have
	related             bool      // ahead and behind are known
	by                  string    // who has deployed what the web root holds
	liveSince           time.Time // of the environment that has the traffic; zero where the history does not say
	events              []journal.Event
	eventsErr           error
}

// counting is how long counting commits may take: nobody waits for it longer.
const counting = 3 * time.Second

func lookCloser(ctx context.Context, e *environment.Environment, r *report) *details {
	d := &details{}
	d.events, d.eventsErr = e.Journal.Events(shownEvents)
	if r.Commit != nil {
		d.subject, d.by = subject(ctx, e, *r.Commit), deployer(e.Journal, r)
	}
	if r.RefCommit != nil && (r.Commit == nil || *r.Commit != *r.RefCommit) {
		d.refSubject = subject(ctx, e, *r.RefCommit)
	}
	if r.Commit != nil && r.RefCommit != nil && *r.Commit != *r.RefCommit {
		ctx, cancel := context.WithTimeout(ctx, counting)
		defer cancel()
		d.count(ctx, e, *r.RefCommit, *r.Commit)
	}
	if e.Promotion != nil && r.LiveEnvironment != nil {
		d.liveSince = liveSince(e.Journal, e.Promotion.IP, *r.LiveEnvironment)
	}
	return d
}

// subject is the first line of a commit's message, "" where it cannot be read.
func subject(ctx context.Context, e *environment.Environment, commit git.OID) string {
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	kind, data, err := objects.Read(commit)
	if err != nil || kind != "commit" {
		return ""
	}
	_, message, _ := bytes.Cut(data, []byte("\n\n"))
	line, _, _ := bytes.Cut(bytes.TrimLeft(message, "\n"), []byte("\n"))
	return string(bytes.TrimSpace(line))
}

// count finds out how far two commits are apart.
func (d *details) count(ctx context.Context, e *environment.Environment, branch, deployed git.OID) {
	out, err := e.Repo.Run(ctx, "rev-list", "--left-right", "--count", branch.String()+"..."+deployed.String())
	ahead, behind, found := strings.Cut(strings.TrimSpace(out), "\t")
	if err != nil || !found {
		return
	}
	var wrong [2]error
	d.ahead, wrong[0] = strconv.Atoi(ahead)
	d.behind, wrong[1] = strconv.Atoi(behind)
	d.related = wrong == [2]error{}
}

// deployer finds in the history who has deployed what the web root holds.
func deployer(history *journal.Journal, r *report) string {
	for e, err := range history.Backwards() {
		if err == nil && e.Event == journal.Deploy && e.Result == journal.Succeeded && e.Commit == *r.Commit {
			return e.Pusher
		}
	}
	return ""
}

// liveSince finds in the history when the traffic moved to an environment, if
// that was the last move: it may have been moved elsewhere since, and back.
func liveSince(history *journal.Journal, ip, live string) time.Time {
	for e, err := range history.Backwards() {
		if err != nil || e.Traffic == nil || e.Result != journal.Succeeded || e.Event == journal.Recover || e.From == e.To || e.IP != ip {
			continue
		}
		if e.To == live {
			return e.Time
		}
		break
	}
	return time.Time{}
}

// shownDrift and shownEvents bound the lists in status.
const (
	shownDrift  = 5
	shownEvents = 5
)

// status writes a report for people.
func (s *screen) status(e *environment.Environment, r *report, d *details, now time.Time) {
	rows := []row{say("environment", strong, "%s", r.Environment), say("directory", plain, "%s", r.Directory)}
	if r.Problem != "" {
		rows = append(rows, say("problem", bad, "%s", r.Problem))
	}
	if r.Live != nil || r.liveUnknown != "" {
		rows = append(rows, liveRow(e.Promotion.Mover.What, r, d, now))
	}
	rows = append(rows, deployedRows(r, d, now)...)
	rows = append(rows, branchRows(r, d)...)
	rows = append(rows, healthRows(e, r)...)
	rows = append(rows, schemaRows(r)...)
	if r.WayBack && r.Live != nil && *r.Live && len(r.peers) > 0 {
		rows = append(rows, say("way back", plain, "bluegreen rollback"))
	} else if r.WayBack {
		rows = append(rows, say("way back", plain, "bluegreen deploy %s", r.Previous.Short()))
	} else {
		rows = append(rows, say("way back", plain, "none: %s", r.WayBackReason))
	}
	if n := len(r.Drift); n > 0 {
		more := ""
		if n > shownDrift {
			more = fmt.Sprintf(" and %d more", n-shownDrift)
		}
		rows = append(rows, say("changed on disk", odd, "%s%s", strings.Join(r.Drift[:min(n, shownDrift)], ", "), more))
	}
	if r.Running != nil {
		rows = append(rows, say("running", strong, "%s", *r.Running))
	}
	if r.Unfinished != nil {
		rows = append(rows, unfinishedRow(r.Unfinished))
	}
	s.rows(append(rows, s.eventRows(d, nameWidth(rows), now)...))
}

// say is a row that is shown whole.
func say(name string, st style, format string, args ...any) row {
	return row{name: cell{name, faint}, value: cell{fmt.Sprintf(format, args...), st}, whole: true}
}

// since says when something began, "" where that is not known.
func since(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	return fmt.Sprintf(" since %s (%s)", stamp(t), ago(now.Sub(t)))
}

func liveRow(what string, r *report, d *details, now time.Time) row {
	switch {
	case r.Live == nil:
		return say("live", odd, "not known: %s", r.liveUnknown)
	case *r.Live:
		return say("live", good, "yes, %s is here%s", what, since(d.liveSince, now))
	case r.LiveEnvironment != nil:
		return say("live", plain, "no, %s is with %s%s", what, *r.LiveEnvironment, since(d.liveSince, now))
	}
	return say("live", plain, "no, %s is not here", what)
}

func deployedRows(r *report, d *details, now time.Time) []row {
	if r.Commit == nil {
		return []row{say("deployed", plain, "not known")}
	}
	text := r.Commit.Short()
	if r.DeployedAt != nil {
		text += since(*r.DeployedAt, now)
	}
	if d.by != "" {
		text += ", by " + d.by
	}
	if r.held != nil && r.held.Tag != "" {
		text += ", promoted as " + r.held.Tag
	}
	return withSubject(say("deployed", plain, "%s", text), d.subject)
}

func branchRows(r *report, d *details) []row {
	switch {
	case r.RefCommit == nil:
		return []row{say("branch", plain, "%s has not been pushed yet", r.Branch)}
	case r.Commit != nil && *r.Commit == *r.RefCommit:
		return []row{say("branch", plain, "%s is at the same commit", r.Branch)}
	}
	text := fmt.Sprintf("%s is at %s, which is not what is deployed", r.Branch, r.RefCommit.Short())
	switch {
	case !d.related:
	case d.behind == 0:
		text += fmt.Sprintf(": %d ahead of it", d.ahead)
	case d.ahead == 0:
		text += fmt.Sprintf(": %d behind it", d.behind)
	default:
		text += fmt.Sprintf(": %d ahead of it, %d behind", d.ahead, d.behind)
	}
	return withSubject(say("branch", odd, "%s", text), d.refSubject)
}

// withSubject shows a commit's subject below a row, cut to one line.
func withSubject(r row, subject string) []row {
	if subject == "" {
		return []row{r}
	}
	return []row{r, {value: cell{subject, faint}}}
}

func healthRows(e *environment.Environment, r *report) []row {
	switch {
	case r.Healthy == nil && len(e.Checks) > 0:
		return []row{say("healthy", plain, "not known: nothing has been deployed yet")}
	case r.Healthy == nil:
		return []row{say("healthy", plain, "nothing is checked")}
	}
	var rows []row
	for _, check := range r.checks {
		value := fmt.Sprintf("%q: %s", check.Name, check.Last)
		if check.Healthy {
			rows = append(rows, row{name: cell{"healthy", faint}, value: cell{value, good}})
		} else {
			rows = append(rows, row{name: cell{"NOT HEALTHY", bad}, value: cell{value, bad}, whole: true})
		}
	}
	return rows
}

// schemaRows say where the database is, and what the other environments serve.
func schemaRows(r *report) []row {
	var rows []row
	switch {
	case r.schemaError != nil:
		rows = append(rows, say("database", odd, "%v", r.schemaError))
	case r.Schema != nil && r.WorksWith != nil:
		rows = append(rows, say("database", plain, "at %d; what is deployed here works with %s", *r.Schema, *r.WorksWith))
	case r.Schema != nil:
		rows = append(rows, say("database", plain, "at %d", *r.Schema))
	}
	for _, s := range r.peers {
		st := plain
		if s.Err != nil {
			st = odd
		}
		rows = append(rows, say(s.Environment, st, "%s", s))
	}
	return rows
}

func unfinishedRow(u *unfinished) row {
	what := "the deployment of " + u.Commit.Short()
	switch {
	case u.Schema != nil:
		what = fmt.Sprintf("the migration to %d", *u.Schema)
	case u.To != "":
		what = "the promotion of " + u.To
		if u.Action != 0 {
			what += fmt.Sprintf(" (action %d)", u.Action)
		}
	}
	return say("unfinished", bad, "%s, interrupted at %s: run \"bluegreen recover\"", what, u.Started.Local().Format(time.TimeOnly))
}

// eventRows are the last events, aligned among themselves, behind names that take
// so many columns. Where there is no room beside the names for what became of
// them, they stand below.
func (s *screen) eventRows(d *details, names int, now time.Time) []row {
	name := cell{"last events", faint}
	names = max(names, textWidth(name.text)+2)
	if d.eventsErr != nil {
		return []row{{name: name, value: cell{d.eventsErr.Error(), odd}, whole: true}}
	}
	table := s.lastEvents(d.events, names, now)
	under := s.width > 0 && s.tableWidth(table) > s.room(names)
	if under {
		table = s.lastEvents(d.events, below, now)
	}
	var rows []row
	for i, line := range s.plainly().align(table) {
		st := plain
		if result := d.events[i].Result; result != journal.Succeeded {
			st = resultStyle(result)
		}
		rows = append(rows, row{name: name, value: cell{line, st}, below: under})
		name = cell{}
	}
	return rows
}

// lastEvents is the table of events behind an indent, without what it has no room
// for.
func (s *screen) lastEvents(events []journal.Event, indent int, now time.Time) [][]cell {
	limit := 0
	if s.width > 0 {
		limit = widest
	}
	var table [][]cell
	for _, e := range events {
		table = append(table, []cell{{text: ago(now.Sub(e.Time))}, {text: cut(e.Event, limit)}, {text: cut(what(e), limit)}, {text: shortCommit(e)},
			{text: cut(e.Result, limit)}, {text: cut(moved(e), 2*limit)}, {text: cut(e.Pusher, limit)}})
	}
	s.fit(table, s.room(indent), commitColumn, whoColumn, movedColumn, refColumn)
	return table
}
