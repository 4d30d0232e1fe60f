package receive

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bluegreen/internal/git"
	"bluegreen/internal/policy"
)

// foresee tells which updates git would refuse, by the rules of git
// receive-pack, with a line for each. Git applies them after proc-receive, and
// not at all to the refs that proc-receive moves.
func foresee(ctx context.Context, repo *git.Repository, updates []policy.Update) ([]string, error) {
	cfg, err := repo.Config(ctx)
	if err != nil {
		return nil, err
	}
	f := &foresight{repo: repo, cfg: cfg, objects: repo.Objects(ctx), several: len(updates) > 1}
	defer f.objects.Close()
	if f.refs, err = refsFor(ctx, repo, updates); err != nil {
		return nil, err
	}
	if f.head, err = repo.SymbolicTarget(ctx, "HEAD"); err != nil {
		return nil, err
	}
	var refused []string
	for _, u := range updates {
		why, err := f.refuses(ctx, u)
		if err != nil {
			return nil, err
		}
		if why != "" {
			refused = append(refused, why)
		}
	}
	return append(refused, f.conflicts(updates)...), nil
}

// refsFor reads the refs that the updates may meet: all of them, but for the
// common push of one branch that is there.
func refsFor(ctx context.Context, repo *git.Repository, updates []policy.Update) (map[string]git.OID, error) {
	if len(updates) != 1 || updates[0].Old.IsZero() {
		return repo.Refs(ctx)
	}
	at, err := repo.Ref(ctx, updates[0].Ref)
	return map[string]git.OID{updates[0].Ref: at}, err
}

type foresight struct {
	repo    *git.Repository
	cfg     git.Config
	objects *git.Objects
	refs    map[string]git.OID
	head    string // the current branch, "" where HEAD is detached
	several bool   // refs are in the push: what happens to one matters to another
}

// refuses returns why git would refuse u, "" if it would not.
func (f *foresight) refuses(ctx context.Context, u policy.Update) (string, error) {
	at := f.refs[u.Ref]
	if f.several && f.repo.RefLocked(u.Ref) {
		return locked(u.Ref), nil
	}
	isBranch := strings.HasPrefix(u.Ref, "refs/heads/")
	switch {
	case at != u.Old:
		return fmt.Sprintf("%q is at %s now, and not at %s: fetch first", u.Ref, at.Short(), u.Old.Short()), nil
	case u.New.IsZero() && isBranch && f.cfg.Bool("receive.denydeletes"):
		return fmt.Sprintf("%q cannot be deleted: receive.denyDeletes", u.Ref), nil
	case u.New.IsZero() && u.Ref == f.head && f.deniesDeleteCurrent():
		return fmt.Sprintf("%q cannot be deleted: it is the current branch", u.Ref), nil
	case u.New.IsZero() || !isBranch:
		return "", nil
	}
	kind, _, err := f.objects.Read(u.New)
	if err != nil {
		return "", err
	}
	if kind != "commit" {
		return fmt.Sprintf("%q cannot point at a %s", u.Ref, kind), nil
	}
	if u.Old.IsZero() || !f.cfg.Bool("receive.denynonfastforwards") {
		return "", nil
	}
	forward, err := f.repo.IsAncestor(ctx, u.Old, u.New)
	if err != nil || forward {
		return "", err
	}
	return fmt.Sprintf("%q would not move forward: receive.denyNonFastForwards", u.Ref), nil
}

func locked(ref string) string {
	return fmt.Sprintf("%q is locked by another git process; if none is running, remove \"%s.lock\" on the server", ref, ref)
}

func (f *foresight) deniesDeleteCurrent() bool {
	switch strings.ToLower(f.cfg.Last("receive.denydeletecurrent")) {
	case "ignore", "warn", "false", "no", "off", "0":
		return false
	}
	return true
}

// conflicts finds new refs whose name is a directory of another ref, or the
// other way round: git stores no "a" beside "a/b", and takes neither out of the
// other's way in one push.
func (f *foresight) conflicts(updates []policy.Update) []string {
	created, taken := map[string]bool{}, map[string]bool{}
	for _, u := range updates {
		if !u.New.IsZero() && u.Old.IsZero() {
			created[u.Ref] = true
			taken[u.Ref] = true
		}
	}
	if len(created) == 0 {
		return nil
	}
	for name := range f.refs {
		taken[name] = true
	}
	var refused []string
	for name := range taken {
		for i, c := range name {
			if c == '/' && taken[name[:i]] && (created[name] || created[name[:i]]) {
				refused = append(refused, fmt.Sprintf("%q and %q cannot both be refs", name[:i], name))
			}
		}
	}
	slices.Sort(refused)
	return refused
}
