package journal

import (
	"fmt"
	"path/filepath"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/git"
)

// A Migration is the intent to move the database to another version: enough for a
// recovery to find out what became of it. It is never repeated, nor undone.
type Migration struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"`
	// Process is the program that moves the database, which may outlive us. Start
	// identifies it beyond its id.
	Process int    `json:"process,omitempty"`
	Start   string `json:"start,omitempty"`
	// Event is what the history will say; its result is not known yet.
	Event Event `json:"event"`
	// Refs are moved when the database is found at the version.
	Refs []git.RefUpdate `json:"refs,omitempty"`
}

const migrationFile = "migration.json"

// Migration returns the migration that a crash interrupted, nil when there is
// none. While one runs, it returns that one.
func (j *Journal) Migration() (*Migration, error) {
	var m Migration
	found, err := j.read(migrationFile, &m)
	if !found || err != nil {
		return nil, err
	}
	if m.ID == "" || m.Event.Schema == nil {
		return nil, fmt.Errorf("%q: %w: it lacks what every migration has", filepath.Join(j.Dir, migrationFile), ErrDamaged)
	}
	return &m, nil
}

// RecordMigration writes m down, durably: before the program is started, and when
// its process is known.
func (j *Journal) RecordMigration(m *Migration) error { return j.write(migrationFile, m) }

// EndMigration forgets the migration: the database is where the history says.
func (j *Journal) EndMigration() error {
	return durable.Remove(filepath.Join(j.Dir, migrationFile))
}
