package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Ref returns the object that a full ref name ("refs/heads/master") points at,
// symbolic refs followed; the zero OID where there is no such ref.
func (r *Repository) Ref(ctx context.Context, name string) (OID, error) {
	if r.layout().files {
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

// plainRef reads a ref that is a file of its own, or packed.
func (r *Repository) plainRef(name string) (OID, error) {
	for range 5 { // git's own limit on symbolic refs
		if !filepath.IsLocal(name) || filepath.Clean(name) != name {
			return OID{}, errNotPlain
		}
		data, err := os.ReadFile(filepath.Join(r.Dir, name))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) {
			return r.packedRef(name) // git writes it there before it removes the file
		}
		if err != nil {
			return OID{}, err
		}
		text := strings.TrimRight(string(data), " \t\n")
		target, symbolic := strings.CutPrefix(text, "ref:")
		if !symbolic {
			return r.parseOwn(text)
		}
		name = strings.TrimSpace(target)
	}
	return OID{}, fmt.Errorf("ref %q is symbolic too many times over", name)
}

// parseOwn reads the name of an object of this repository.
func (r *Repository) parseOwn(text string) (OID, error) {
	oid, err := ParseOID(text)
	if err == nil && len(oid.Bytes()) != r.HashSize() {
		err = errNotPlain
	}
	return oid, err
}

// packedRef looks a ref up in packed-refs: lines of "OBJECT NAME", sorted or
// not. The zero OID is for one that is not there.
func (r *Repository) packedRef(name string) (OID, error) {
	packed, err := os.ReadFile(filepath.Join(r.Dir, "packed-refs"))
	if errors.Is(err, os.ErrNotExist) {
		return OID{}, nil
	}
	if err != nil {
		return OID{}, err
	}
	digits := 2 * r.HashSize()
	line := []byte(" " + name + "\n")
	for from := 0; ; {
		at := bytes.Index(packed[from:], line)
		if at < 0 {
			return OID{}, nil
		}
		if at += from; at == digits || at > digits && packed[at-digits-1] == '\n' {
			return r.parseOwn(string(packed[at-digits : at]))
		}
		from = at + 1
	}
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
	if exitStatus(err) == 1 {
		return OID{}, fmt.Errorf("%q is not a commit in %q", revision, filepath.Base(r.Dir))
	}
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

// HooksDir returns where git looks for hooks.
func (r *Repository) HooksDir(ctx context.Context) (string, error) {
	cfg, err := r.Config(ctx)
	if err != nil {
		return "", err
	}
	if len(cfg["core.hookspath"]) == 0 {
		return filepath.Join(r.Dir, "hooks"), nil
	}
	// "~" and "%(prefix)" are git's to resolve.
	if dir := cfg.Last("core.hookspath"); dir != "" && dir[0] != '~' && dir[0] != '%' {
		return r.relative(dir), nil
	}
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
