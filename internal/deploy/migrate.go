package deploy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/durable"
	"bluegreen/internal/fault"
	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/lock"
)

// A MigrationRequest asks for the database to be moved to another version.
type MigrationRequest struct {
	Ref    string // "refs/tags/schema-4"
	Tag    string // short
	To     int
	Commit git.OID // must be the one that is deployed here
	// Refs are moved, together, when the database is found at the version.
	Refs []git.RefUpdate
	// Deploying tells that Commit comes with the same push, and will be deployed.
	Deploying bool
	// NoWayBack allows what another environment's release does not work with,
	// as long as that is not live.
	NoWayBack bool
	Wait      time.Duration // for another migration on this machine
	Pusher    string
	Options   []string
}

// Migrated is a migration that succeeded: the version was read back.
type Migrated struct {
	Commit   git.OID
	Tag      string
	From, To int
	Already  bool // the database was there before
	Warnings []string
	Took     time.Duration
}

// migrating is one migration on its way.
type migrating struct {
	*Environment
	progress
	request  MigrationRequest
	named    *lock.Named
	record   journal.Migration
	intended bool // it is in the journal
	warnings []string
}

// Migrate moves the database to another version. When it returns an error the
// refs are where they were, and the error says where the database is, unless it
// was refused, and nothing was tried.
func (s *Session) Migrate(ctx context.Context, req MigrationRequest) (*Migrated, error) {
	m := &migrating{Environment: s.env, request: req, progress: s.begin(journal.Event{Event: journal.Migrate,
		Ref: req.Ref, Commit: req.Commit, Pusher: req.Pusher, Options: req.Options})}
	defer m.end()
	done, err := m.run(ctx)
	if err != nil {
		return nil, m.fail(err)
	}
	done.Warnings, done.Took = m.warnings, m.took()
	return done, nil
}

func (m *migrating) end() {
	if m.named != nil {
		m.named.Release()
	}
}

func (m *migrating) run(ctx context.Context) (*Migrated, error) {
	m.enter("asking the environments")
	err := m.refsAreAt(ctx, m.request.Refs, func(u git.RefUpdate) git.OID { return u.Old })
	if err != nil {
		return nil, err
	}
	m.named, err = lock.AcquireName(ctx, m.Database.Lock, m.request.Wait, func(b *lock.Busy) {
		m.Observe(Notice{Kind: Doing, Text: "waiting: " + b.Describe()})
	})
	if err != nil {
		return nil, err
	}
	from, err := m.MayMigrate(ctx, m.request)
	if from != nil {
		m.event.Schema = &journal.Schema{SchemaFrom: *from, SchemaTo: m.request.To, Found: from}
	}
	if err != nil {
		return nil, err
	}
	m.event.Previous = m.request.Commit
	if *from != m.request.To {
		if err := m.move(ctx, *from); err != nil {
			return nil, err
		}
		m.overtaken(context.WithoutCancel(ctx))
	}
	done := &Migrated{Commit: m.request.Commit, Tag: m.request.Tag, From: *from, To: m.request.To, Already: *from == m.request.To}
	return done, m.finish(ctx)
}

// MayMigrate tells what forbids a migration, and asks all environments for that.
// It returns the version that the database is at, nil where that is not known.
func (e *Environment) MayMigrate(ctx context.Context, req MigrationRequest) (from *int, err error) {
	if !req.Deploying {
		held, err := e.Held(ctx, git.OID{})
		if err != nil {
			return nil, &Unknown{Reason: "the records of this server are damaged", Err: err}
		}
		p := &promoting{Environment: e, request: PromotionRequest{Tag: req.Tag, Commit: req.Commit}}
		if reason, hint := p.differs(held); reason != "" {
			return nil, &Failure{Refused: true, Reason: reason, Hint: hint}
		}
	}
	works, err := e.WorksWith(ctx, req.Commit)
	if err != nil {
		return nil, &Failure{Refused: true, Reason: fmt.Sprintf("which versions of the database %s works with is not known: %s", req.Commit.Short(), oneLine(err))}
	}
	version, err := e.Version(ctx)
	if err != nil {
		return nil, &Failure{Refused: true, Reason: oneLine(err), Hint: "look at what database.version says on the server, then push the tag again"}
	}
	if version == req.To {
		return &version, nil // nothing moves
	}
	if !works.Has(req.To) {
		return &version, &Failure{Refused: true, Hint: fmt.Sprintf("deploy a release that works with %d first, then push the tag on that", req.To),
			Reason: fmt.Sprintf("the database must not move from %d to %d: %s", version, req.To, Standing{Environment: e.Name, Commit: req.Commit, WorksWith: &works})}
	}
	return &version, e.othersFit(ctx, version, req)
}

// othersFit refuses a version that the release of another environment does not
// work with: the live one must, whatever is asked for, and the others so that
// going back stays possible.
func (e *Environment) othersFit(ctx context.Context, from int, req MigrationRequest) error {
	live, wrong := e.unfit(ctx, req.To)
	if len(wrong) == 0 {
		return nil
	}
	var reasons, hints []string
	for _, s := range wrong {
		why, hint := s.objection(req, live)
		if why != "" {
			reasons, hints = append(reasons, why), append(hints, hint)
		} else {
			e.Observe(Notice{Kind: Doing, Text: "there will be no way back: " + s.String()})
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return &Failure{Refused: true, Hint: strings.Join(hints, "; "),
		Reason: fmt.Sprintf("the database must not move from %d to %d: %s", from, req.To, strings.Join(reasons, "; "))}
}

// unfit are the environments whose release is not known to work with a version. live
// is who has the traffic, asked no later than they are.
func (e *Environment) unfit(ctx context.Context, version int) (live *Live, wrong []Standing) {
	live, standings := e.live(ctx), e.Standings(ctx)
	standings = append(standings, e.unasked(live, standings)...)
	for _, s := range standings {
		if s.Err != nil || s.WorksWith == nil || !s.WorksWith.Has(version) {
			wrong = append(wrong, s)
		}
	}
	return live, wrong
}

// overtaken warns where the traffic has moved, while the database was on its way, to
// a release that does not work with it now: no lock keeps two servers apart. A
// promotion asks for the version after it has moved the traffic, so one of the two
// sees the other.
func (m *migrating) overtaken(ctx context.Context) {
	live, wrong := m.unfit(ctx, m.request.To)
	for _, s := range wrong {
		if s.Environment == live.Environment {
			m.warnings = append(m.warnings, fmt.Sprintf("%s, and is live: \"bluegreen promote\" on %s brings the traffic here", s, m.Name))
		}
	}
}

// live finds out who has the traffic, as far as that can be told.
func (e *Environment) live(ctx context.Context) *Live {
	if e.Promotion == nil {
		return &Live{Unknown: "there is no [promotion]"}
	}
	live, err := e.Promotion.Live(ctx, e.Name)
	if err != nil {
		return &Live{Unknown: err.Error()}
	}
	return live
}

// unasked are the environments that must be there and that nobody has asked: the
// one that has the traffic, and the one that it could come from.
func (e *Environment) unasked(live *Live, asked []Standing) []Standing {
	has := func(name string) bool {
		return name == e.Name || slices.ContainsFunc(asked, func(s Standing) bool { return s.Environment == name })
	}
	switch {
	case live.Environment != "" && !has(live.Environment):
		return []Standing{{Environment: live.Environment, Err: errNoURL}}
	case e.Promotion != nil && len(asked) == 0:
		return []Standing{{Environment: "the other environment", Err: errors.New("[peers] names none")}}
	}
	return nil
}

// objection is what another environment has against a version that it is not known
// to work with, "" where the pusher may have it all the same: only where somebody
// else is known to be live, or nobody.
func (s Standing) objection(req MigrationRequest, live *Live) (why, hint string) {
	first := fmt.Sprintf("deploy a release that works with %d to %s first", req.To, s.Environment)
	if s.Err != nil {
		first = fmt.Sprintf("see to it that %s can be asked", s.Environment)
	}
	switch {
	case s.Environment == live.Environment:
		return s.String() + ", and is live", first
	case !req.NoWayBack:
		return s.String(), first + "; or, if nobody needs to go back there: git push -o no-way-back"
	case live.Environment == "" && live.Unknown != "":
		return fmt.Sprintf("%s, and may be live: %s", s, live.Unknown), first
	}
	return "", ""
}

// move has the database moved, and reads back where it is.
func (m *migrating) move(ctx context.Context, from int) error {
	m.record = journal.Migration{ID: m.event.ID, Started: m.started.UTC(), Event: m.event, Refs: m.request.Refs}
	m.record.Event.Found = nil
	if err := m.Journal.RecordMigration(&m.record); err != nil {
		return &Failure{Reason: oneLine(err)}
	}
	m.intended = true
	fault.Step("migration: intended")
	m.enter("migrating")
	m.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("moving the database from %d to %d", from, m.request.To)})
	broken := m.Database.Migrate(ctx, m.request.To, m.variables(), m.running,
		func(line string) { m.Observe(Notice{Kind: Output, Text: line}) })
	fault.Step("migration: run")
	m.enter("reading back")
	version, err := m.Version(context.WithoutCancel(ctx))
	if err != nil {
		u := &Unknown{Reason: "nobody can tell which version the database is at", Err: err,
			Hint: "\"bluegreen recover\" on this server asks again and says what holds"}
		if broken != nil {
			u.Err = fmt.Errorf("%s; and %w", oneLine(broken), err)
		}
		return u
	}
	m.event.Found = &version
	switch {
	case broken != nil:
		hint := "mend what it says, then push the tag again"
		if version == m.request.To {
			hint = "the version is what was asked for: look whether the rest of the migration is complete, then push the tag again"
		}
		return &Failure{Reason: fmt.Sprintf("the migration failed, and the database is at %d: %s", version, oneLine(broken)), Hint: hint}
	case version != m.request.To:
		return &Failure{Reason: fmt.Sprintf("the migration to %d ended without an error, but the database is at %d", m.request.To, version),
			Hint: "look at what database.migrate does on the server"}
	}
	return nil
}

// running notes the process that moves the database, before it begins: a recovery
// waits for it.
func (m *migrating) running(pid int) error {
	fault.Step("migration: process there")
	m.record.Process, m.record.Start = pid, command.Stat(pid, 22)
	return m.Journal.RecordMigration(&m.record)
}

func (m *migrating) variables() []string {
	return m.Variables(m.request.Ref, m.request.Tag, m.request.Commit, m.request.Commit)
}

// finish moves the refs and records the migration, which nothing takes back.
func (m *migrating) finish(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	m.enter("recording")
	if len(m.request.Refs) > 0 {
		err := durable.SyncFilesystem(m.Repo.Dir)
		if err == nil {
			err = m.moveRefs(ctx, "push: migrated on "+m.Name, m.request.Refs)
		}
		if err != nil {
			return &Failure{Reason: fmt.Sprintf("the database is at %d, but the ref could not move: %s", m.request.To, oneLine(err)),
				Hint: "push the tag again"}
		}
		fault.Step("migration: ref moved")
		if err := durable.SyncFilesystem(m.Repo.Dir); err != nil {
			m.warnings = append(m.warnings, oneLine(err))
		}
	}
	if err := m.close(journal.Succeeded, ""); err != nil {
		m.warnings = append(m.warnings, "not all records could be written: "+oneLine(err))
	}
	return nil
}

// close writes the migration into the history and ends its record.
func (m *migrating) close(result, reason string) error {
	m.took()
	m.event.Result, m.event.Reason = result, reason
	if err := m.Journal.Append(m.event); err != nil {
		return err
	}
	fault.Step("migration: history written")
	if !m.intended {
		return nil
	}
	m.intended = false
	return m.Journal.EndMigration()
}

// fail records a migration that did not succeed. One whose outcome is unknown is
// recorded by the recovery that finds it out.
func (m *migrating) fail(cause error) error {
	if isUnknown(cause) && m.intended {
		return cause
	}
	if m.event.Schema == nil {
		m.event.Schema = &journal.Schema{SchemaTo: m.request.To}
	}
	if err := m.close(resultOf(cause), cause.Error()); err != nil {
		m.Observe(Notice{Kind: Warning, Text: oneLine(err)})
	}
	return cause
}

// recoverMigration finds out what became of a migration that a crash interrupted:
// what is said of it is the version that the database really has. It is neither
// repeated nor undone.
func (s *Session) recoverMigration(ctx context.Context) error {
	rec, err := s.env.Journal.Migration()
	if rec == nil && err == nil {
		return nil
	}
	unknown := func(err error) error {
		return &Unknown{Reason: "an interrupted migration could not be settled", Err: err,
			Hint: "\"bluegreen recover\" on this server asks again and says what holds"}
	}
	if err != nil {
		return unknown(err)
	}
	if s.env.Database == nil {
		return unknown(fmt.Errorf("there is no [database] in the configuration any more; put it back, then run \"bluegreen recover\""))
	}
	s.lock.Phase("recovering")
	if err := awaitProcess(ctx, rec.Process, rec.Start, s.env.Database.Timeout); err != nil {
		return unknown(err)
	}
	version, err := s.env.Version(ctx)
	if err != nil {
		return unknown(err)
	}
	event := rec.Event
	event.Found = &version
	result, reason := journal.Failed, fmt.Sprintf("interrupted; the database is at %d", version)
	if version == event.SchemaTo {
		result = journal.Succeeded
		s.env.Repo.RemoveStaleLocks(rec.Refs)
		if err := s.env.moveRefs(context.WithoutCancel(ctx), "recover: migrated on "+s.env.Name, rec.Refs); err != nil {
			reason += "; but " + oneLine(err)
		}
		if err := durable.SyncFilesystem(s.env.Repo.Dir); err != nil {
			return unknown(err)
		}
	}
	event.Result, event.Reason = result, reason
	settled := event
	settled.ID, settled.Event, settled.Time, settled.Result = rec.ID+"-recovery", journal.Recover, time.Now().UTC(), journal.Succeeded
	for _, e := range []journal.Event{event, settled} {
		if err := s.env.appendOnce(e); err != nil {
			return unknown(err)
		}
	}
	fault.Step("recovery: migration settled")
	if err := s.env.Journal.EndMigration(); err != nil {
		return unknown(err)
	}
	s.recovered = append(s.recovered, Recovery{Completed: result == journal.Succeeded,
		Text: fmt.Sprintf("the migration to %d that was interrupted at %s: the database is at %d",
			event.SchemaTo, rec.Started.Local().Format("15:04:05"), version)})
	return nil
}
