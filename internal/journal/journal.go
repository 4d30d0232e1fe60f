// Package journal keeps what must be remembered of deployments in the state
// directory: the one that is under way, the one that the web root holds, and
// the history of all of them.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"bluegreen/internal/durable"
	"bluegreen/internal/git"
	"bluegreen/internal/worktree"
)

// DirName is the state directory's name in the repository.
const DirName = "bluegreen"

// A Journal is a repository's state directory. Only the holder of its lock may
// write to it, but for the history, to which anybody may append, the notes that the
// hooks of a push leave each other (push-*.json), and directories that are in use
// for a moment (scratch-*).
type Journal struct {
	Dir string
}

// Open opens the state directory of the repository at repo. It need not be
// there: who only reads, perhaps from another account, must not make it.
func Open(repo string) (*Journal, error) {
	dir := filepath.Join(repo, DirName)
	if st, err := os.Lstat(dir); err == nil && !st.IsDir() {
		return nil, fmt.Errorf("opening the state directory: %q is not a directory", dir)
	}
	return &Journal{Dir: dir}, nil
}

// Make makes the state directory if it is not there, for its account alone.
func (j *Journal) Make() error {
	if err := os.Mkdir(j.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making the state directory: %w", err)
	}
	return nil
}

// A Phase says how far a transaction has got, as far as it matters to
// recovery.
type Phase string

// Transactions go from Activating to Committing, or to Undoing.
const (
	Activating Phase = "activating" // the web root may be changing; checks may be running
	Committing Phase = "committing" // the release is healthy, the ref may have moved
	Undoing    Phase = "undoing"    // the release is not wanted
)

// A Transaction is an interrupted deployment's intent: enough to finish or
// undo it.
type Transaction struct {
	ID      string    `json:"id"`
	Phase   Phase     `json:"phase"`
	Started time.Time `json:"started"`
	// Event is what the history will say; its result is not known yet.
	Event Event `json:"event"`
	// Refs are moved when the release is healthy.
	Refs []git.RefUpdate `json:"refs,omitempty"`
	// RefMoved tells that git moved the ref before the deployment began.
	RefMoved bool            `json:"ref_moved,omitempty"`
	Held     git.OID         `json:"held"`     // the tree that the web root held before
	Deployed Deployed        `json:"deployed"` // what holds when it succeeds
	Work     worktree.Record `json:"work"`
}

// A transaction that is being undone has another name: the change of names
// needs no room, on a disk that may be full.
const (
	transactionFile = "transaction.json"
	undoingFile     = "undoing.json"
)

// ErrDamaged is returned for a journal that cannot be understood. It is never
// overwritten: a person must look.
var ErrDamaged = errors.New("journal is damaged")

// Unfinished returns the transaction that a crash interrupted, nil when there
// is none. While a deployment runs, it returns that one.
func (j *Journal) Unfinished() (*Transaction, error) {
	var t Transaction
	found, err := j.read(undoingFile, &t)
	undoing := found
	if !found && err == nil {
		found, err = j.read(transactionFile, &t)
	}
	if !found || err != nil {
		return nil, err
	}
	if known := t.Phase == Activating || t.Phase == Committing || t.Phase == Undoing; t.ID == "" || !known || t.Work.Directory == "" {
		name := transactionFile
		if undoing {
			name = undoingFile
		}
		return nil, fmt.Errorf("%q: %w: it lacks what every transaction has", filepath.Join(j.Dir, name), ErrDamaged)
	}
	if undoing {
		t.Phase = Undoing
	}
	return &t, nil
}

// Begin records t, durably, before its first effect.
func (j *Journal) Begin(t *Transaction) error { return j.write(transactionFile, t) }

// Commit records that the release is healthy, durably.
func (j *Journal) Commit(t *Transaction) error {
	t.Phase = Committing
	return j.write(transactionFile, t)
}

// Undo records that the transaction is to be undone, durably. It can be
// repeated.
func (j *Journal) Undo() error {
	err := os.Rename(filepath.Join(j.Dir, transactionFile), filepath.Join(j.Dir, undoingFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return durable.SyncDir(j.Dir)
}

// End forgets the transaction: all its effects are complete, or undone. What
// was prepared for it and not used goes, too.
func (j *Journal) End() error {
	if err := os.Remove(filepath.Join(j.Dir, nextDeployedFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("ending the journal: %w", err)
	}
	if err := durable.Remove(filepath.Join(j.Dir, transactionFile)); err != nil {
		return err
	}
	return durable.Remove(filepath.Join(j.Dir, undoingFile))
}

// Deployed is what a web root holds, beside the index, which knows files but
// not commits.
type Deployed struct {
	Commit    git.OID   `json:"commit"`
	Tree      git.OID   `json:"tree"`
	Previous  git.OID   `json:"previous"`
	Directory string    `json:"directory"`
	At        time.Time `json:"at"`
	// Subdirectory is the part of the commit whose tree Tree is, "" for all of it.
	Subdirectory string `json:"subdirectory,omitempty"`
	// Conversions is what the conversions of contents depended on; "" where a
	// version deployed that had none.
	Conversions string `json:"conversions,omitempty"`
	// Accepted is what was found out of the tree when it was deployed.
	Accepted worktree.Accepted `json:"accepted,omitzero"`
	// Index is the mark of the index that was written with the deployment.
	Index worktree.Mark `json:"index,omitzero"`
	// Tag is the one that the release was promoted with last, short; "" for
	// none.
	Tag string `json:"tag,omitempty"`
	// WorksWith is the versions of the database that the release works with, ""
	// where nothing was asked of the database.
	WorksWith string `json:"works_with,omitempty"`
	// Marker is where in the directory the marker was written, "" for nowhere.
	Marker string `json:"marker,omitempty"`
	// Elsewhere maps other directories that were deployed to, before the
	// configuration named this one, to the tree that was left there.
	Elsewhere map[string]git.OID `json:"elsewhere,omitempty"`
	// Ref and From are the ref update that proc-receive carried out with this
	// deployment, empty otherwise.
	Ref  string  `json:"ref,omitempty"`
	From git.OID `json:"from"`
}

const (
	deployedFile     = "deployed.json"
	nextDeployedFile = "next-deployed.json"
)

// Deployed returns the last deployment that succeeded, nil when there was
// none.
func (j *Journal) Deployed() (*Deployed, error) {
	var d Deployed
	found, err := j.read(deployedFile, &d)
	if !found || err != nil {
		return nil, err
	}
	if d.Commit.IsZero() || d.Directory == "" {
		return nil, fmt.Errorf("%q: %w: it lacks what every deployment has", filepath.Join(j.Dir, deployedFile), ErrDamaged)
	}
	return &d, nil
}

// PrepareDeployed writes down what the web root is about to hold, durably.
// What is left to SwitchDeployed needs no room on the disk.
func (j *Journal) PrepareDeployed(d *Deployed) error { return j.write(nextDeployedFile, d) }

// SwitchDeployed makes what was prepared the record that holds, durably.
func (j *Journal) SwitchDeployed() error {
	if err := os.Rename(filepath.Join(j.Dir, nextDeployedFile), filepath.Join(j.Dir, deployedFile)); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return durable.SyncDir(j.Dir)
}

// CleanUp removes what a crash has left of records that were being written. The
// caller holds the lock of the deployments.
func (j *Journal) CleanUp() error {
	for _, name := range []string{transactionFile, undoingFile, nextDeployedFile, promotionFile, migrationFile} {
		if err := durable.CleanUp(filepath.Join(j.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func (j *Journal) read(name string, v any) (found bool, err error) {
	path := filepath.Join(j.Dir, name)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the journal: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%q: %w: %w", path, ErrDamaged, err)
	}
	return true, nil
}

func (j *Journal) write(name string, v any) error {
	return durable.WriteFile(filepath.Join(j.Dir, name), 0o600, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(v)
	})
}
