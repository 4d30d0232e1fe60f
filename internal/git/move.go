package git

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bluegreen/internal/literal"
)

// A RefUpdate moves one ref from Old to New. A zero Old creates it, a zero New
// deletes it.
type RefUpdate struct {
	Name     string // any bytes
	Old, New OID
}

// writtenUpdate is a RefUpdate in JSON.
type writtenUpdate struct {
	Name     literal.String
	Old, New OID
}

// MarshalJSON implements json.Marshaler.
func (u RefUpdate) MarshalJSON() ([]byte, error) {
	return json.Marshal(writtenUpdate{literal.String(u.Name), u.Old, u.New})
}

// UnmarshalJSON implements json.Unmarshaler.
func (u *RefUpdate) UnmarshalJSON(data []byte) error {
	var w writtenUpdate
	err := json.Unmarshal(data, &w)
	*u = RefUpdate{string(w.Name), w.Old, w.New}
	return err
}

// UpdateRefs moves refs in one transaction, compare-and-swap: all of them, or
// none when one is no longer at its Old. The refs themselves are durable when
// it returns nil where the filesystem orders renames (ext4); the caller that
// must be sure everywhere syncs the filesystem after it.
//
// The common case, one branch that is there already, is done here; git does all
// others, and says what is wrong.
func (r *Repository) UpdateRefs(ctx context.Context, reason string, updates ...RefUpdate) error {
	if len(updates) == 1 && r.moveAlone(ctx, updates[0]) == nil {
		return nil
	}
	var in strings.Builder
	for _, u := range updates {
		switch {
		case u.New.IsZero():
			fmt.Fprintf(&in, "delete %s\x00%s\x00", u.Name, u.Old)
		case u.Old.IsZero():
			fmt.Fprintf(&in, "create %s\x00%s\x00", u.Name, u.New)
		default:
			fmt.Fprintf(&in, "update %s\x00%s\x00%s\x00", u.Name, u.New, u.Old)
		}
	}
	// core.fsync is git 2.36's; older versions ignore it.
	_, err := r.RunInput(ctx, nil, strings.NewReader(in.String()),
		"-c", "core.fsync=all", "update-ref", "-m", reason, "-z", "--stdin")
	return err
}

// moveAlone moves a branch as "git update-ref" does. It keeps to git's protocol
// for refs that are files: whoever has made REF.lock may read the ref, and
// replaces it by renaming the lock. So nobody else, "git pack-refs" included,
// moves or packs it meanwhile. An error tells that nothing has happened.
func (r *Repository) moveAlone(ctx context.Context, u RefUpdate) error {
	if err := r.mayMoveAlone(ctx, u); err != nil {
		return err
	}
	path := filepath.Join(r.Dir, u.Name)
	lock, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err // git waits for it a while
	}
	defer lock.Close()
	err = r.replaceLocked(path, lock, u)
	if err != nil {
		os.Remove(path + ".lock")
	}
	return err
}

func (r *Repository) replaceLocked(path string, lock *os.File, u RefUpdate) error {
	if target, err := r.SymbolicTarget(context.Background(), u.Name); err != nil || target != "" {
		return errNotPlain
	}
	if at, err := r.plainRef(u.Name); err != nil || at != u.Old {
		return errNotPlain
	}
	if _, err := lock.WriteString(u.New.String() + "\n"); err != nil {
		return err
	}
	// Before the rename: else the branch might be an empty file after a power cut.
	if err := lock.Sync(); err != nil {
		return err
	}
	if err := lock.Close(); err != nil {
		return err
	}
	return os.Rename(path+".lock", path)
}

// mayMoveAlone refuses what git does more for than to replace a file: it checks
// the names of new refs against others, writes logs of refs, asks a hook, sets
// permissions, and looks after the branches of other worktrees.
func (r *Repository) mayMoveAlone(ctx context.Context, u RefUpdate) error {
	cfg, err := r.Config(ctx)
	if err != nil {
		return err
	}
	hooks, err := r.HooksDir(ctx)
	if err != nil {
		return err
	}
	for _, kv := range r.env {
		if strings.HasPrefix(kv, "GIT_QUARANTINE_PATH=") {
			return errNotPlain // git refuses it, and must
		}
	}
	if !r.layout().files || !strings.HasPrefix(u.Name, "refs/heads/") || !filepath.IsLocal(u.Name) || filepath.Clean(u.Name) != u.Name || u.Old.IsZero() || u.New.IsZero() ||
		cfg.Bool("core.logallrefupdates") || cfg.HasHooks() || len(cfg["core.sharedrepository"]) > 0 {
		return errNotPlain
	}
	for _, path := range []string{filepath.Join(hooks, "reference-transaction"), r.relative("logs/HEAD"), r.relative("logs/" + u.Name),
		r.relative("worktrees"), r.relative("HEAD.lock")} {
		if exists(path) {
			return fmt.Errorf("%q: %w", path, errNotPlain)
		}
	}
	objects := r.Objects(ctx)
	defer objects.Close()
	kind, _, err := objects.Read(u.New)
	if err == nil && kind != "commit" {
		err = errNotPlain
	}
	return err
}

// RefLocked tells whether another git process goes on writing the ref for a
// second, or has died doing so.
func (r *Repository) RefLocked(name string) bool {
	path := filepath.Join(r.Dir, filepath.FromSlash(name)+".lock")
	for deadline := time.Now().Add(time.Second); exists(path); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return true
		}
	}
	return false
}

// How old a lock is before its writer must be dead: far above what git takes
// to write one ref, or to pack all of them.
const (
	staleRef    = 2 * time.Second
	stalePacked = 30 * time.Second
)

// RemoveStaleLocks removes the lock files that an UpdateRefs left behind when
// it was killed; git never does, and refuses to move the refs from then on.
// The caller knows that one was under way, and that it holds the lock that
// keeps out another one of ours.
func (r *Repository) RemoveStaleLocks(updates []RefUpdate) {
	names := []string{"HEAD"} // which is locked with the branch that it names
	for _, u := range updates {
		names = append(names, u.Name)
	}
	for _, name := range names {
		path := filepath.Join(r.Dir, filepath.FromSlash(name)+".lock")
		for deadline := time.Now().Add(2 * staleRef); exists(path) && !removeOlder(path, staleRef) && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond) // its writer may be alive yet
		}
	}
	removeOlder(filepath.Join(r.Dir, "packed-refs.lock"), stalePacked)
}

func removeOlder(path string, age time.Duration) bool {
	st, err := os.Lstat(path)
	return err == nil && time.Since(st.ModTime()) > age && os.Remove(path) == nil
}
