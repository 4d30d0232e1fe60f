package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// Ref returns the object that a full ref name ("refs/heads/master") points at,
// symbolic refs followed; the zero OID where there is no such ref.
func (r *Repository) Ref(ctx context.Context, name string) (OID, error) {
	if r.layout().plain {
		if oid, err := r.plainRef(name); err == nil {
			return oid, nil
		}
	}
	if !strings.HasPrefix(name, "refs/") { // HEAD
		out, err := r.Run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", name)
		if exitStatus(err) == 1 {
			return OID{}, nil
		}
		if err != nil {
			return OID{}, fmt.Errorf("reading ref %q: %w", name, err)
		}
		return ParseOID(strings.TrimSpace(out))
	}
	// Not rev-parse, which takes "refs/heads/a" for a short name where there is
	// a refs/heads/refs/heads/a.
	refs, err := r.listRefs(ctx, name)
	if err != nil {
		return OID{}, fmt.Errorf("reading ref %q: %w", name, err)
	}
	return refs[name], nil
}

func (r *Repository) plainRef(name string) (OID, error) {
	store := r.storage()
	defer store.Close()
	for range 5 { // git's own limit on symbolic refs
		ref, err := store.Reference(plumbing.ReferenceName(name))
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return OID{}, nil
		}
		if err != nil {
			return OID{}, err
		}
		if ref.Type() == plumbing.HashReference {
			hash := ref.Hash()
			return OIDFromBytes(hash[:]), nil
		}
		name = ref.Target().String()
	}
	return OID{}, fmt.Errorf("ref %q is symbolic too many times over", name)
}

// storage opens the repository with go-git. Each reader has a storage of its
// own: go-git's are not safe for concurrent use.
func (r *Repository) storage() *filesystem.Storage {
	return filesystem.NewStorage(osfs.New(r.Dir), cache.NewObjectLRUDefault())
}

// SymbolicTarget returns the ref that a symbolic ref points at, "" where name
// is not symbolic.
func (r *Repository) SymbolicTarget(ctx context.Context, name string) (string, error) {
	if r.layout().files {
		// Symbolic refs are never packed.
		data, err := os.ReadFile(filepath.Join(r.Dir, filepath.FromSlash(name)))
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && !errors.Is(err, syscall.EISDIR) {
			return "", fmt.Errorf("reading symbolic ref %q: %w", name, err)
		}
		target, _ := strings.CutPrefix(string(data), "ref:")
		if target == string(data) {
			return "", nil
		}
		return strings.TrimSpace(target), nil
	}
	out, err := r.Run(ctx, "symbolic-ref", "--quiet", name)
	if exitStatus(err) == 1 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading symbolic ref %q: %w", name, err)
	}
	return strings.TrimSpace(out), nil
}

// A RefUpdate moves one ref from Old to New. A zero Old creates it, a zero New
// deletes it.
type RefUpdate struct {
	Name     string
	Old, New OID
}

// UpdateRefs moves refs in one transaction, compare-and-swap: all of them, or
// none when one is no longer at its Old. The refs themselves are durable when
// it returns nil where the filesystem orders renames (ext4); the caller that
// must be sure everywhere syncs the filesystem after it.
func (r *Repository) UpdateRefs(ctx context.Context, reason string, updates ...RefUpdate) error {
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

// IsAncestor tells whether moving a ref from old to new is a fast-forward.
func (r *Repository) IsAncestor(ctx context.Context, old, new OID) (bool, error) {
	_, err := r.Run(ctx, "merge-base", "--is-ancestor", old.String(), new.String())
	if exitStatus(err) == 1 {
		return false, nil
	}
	return err == nil, err
}

// Resolve finds the commit that a revision of the operator's names.
func (r *Repository) Resolve(ctx context.Context, revision string) (OID, error) {
	out, err := r.Run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return OID{}, fmt.Errorf("%q is not a commit in %q: %w", revision, filepath.Base(r.Dir), err)
	}
	oid, err := ParseOID(strings.TrimSpace(out))
	if err != nil { // "^master" is all but a commit
		return OID{}, fmt.Errorf("%q is not a commit in %q", revision, filepath.Base(r.Dir))
	}
	return oid, nil
}

// Refs returns all refs and what they point at.
func (r *Repository) Refs(ctx context.Context) (map[string]OID, error) {
	return r.listRefs(ctx)
}

func (r *Repository) listRefs(ctx context.Context, patterns ...string) (map[string]OID, error) {
	out, err := r.Run(ctx, append([]string{"for-each-ref", "--format=%(objectname) %(refname)"}, patterns...)...)
	if err != nil {
		return nil, err
	}
	refs := map[string]OID{}
	for line := range strings.Lines(out) {
		name, ref, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if refs[ref], err = ParseOID(name); err != nil {
			return nil, err
		}
	}
	return refs, nil
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

// HooksDir returns where git looks for hooks.
func (r *Repository) HooksDir(ctx context.Context) (string, error) {
	out, err := r.Run(ctx, "rev-parse", "--git-path", "hooks")
	if err != nil {
		return "", err
	}
	dir := strings.TrimSuffix(out, "\n")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(r.Dir, dir)
	}
	return dir, nil
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
