package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/lock"
)

// staleIndex is how old a lock of git's must be before its writer is taken for
// dead.
const staleIndex = 10 * time.Minute

// state looks at what deployments have left in the repository.
func (x *exam) state(ctx context.Context) []Finding {
	found := x.indexLock()
	if _, err := x.env.Journal.Events(1); err != nil {
		found = append(found, broken(x.asRoot("chown", "-R", x.account.Name+":", x.env.Journal.Dir), "%v", err))
	}
	unfinished := x.unfinished()
	if busy := lock.Held(x.env.Journal.Dir); busy != nil {
		// What is under way looks like what was interrupted.
		return append(found, warning(x.asAccount("bluegreen", "--repo", x.repo.Dir, "status"), "%s: ask again when it has ended", busy.Describe()))
	}
	found = append(found, unfinished...)
	if len(unfinished) > 0 || x.env.Ready() != nil {
		return or(found, "nothing is unfinished")
	}
	return or(append(found, x.drift(ctx)...), "nothing is unfinished, and the web root is as it was deployed")
}

// unfinished looks for what a crash interrupted.
func (x *exam) unfinished() []Finding {
	mend := x.asAccount("bluegreen", "--repo", x.repo.Dir, "recover")
	interrupted := func(format string, args ...any) []Finding {
		f := broken(mend, format, args...)
		if x.Recover != nil {
			f = f.by(x.recover)
		}
		return []Finding{f}
	}
	const clock = "2006-01-02 15:04:05"
	t, err := x.env.Journal.Unfinished()
	if err != nil {
		return []Finding{broken(mend, "%v", err)}
	}
	p, err := x.env.Journal.Promotion()
	if err != nil {
		return []Finding{broken(mend, "%v", err)}
	}
	m, err := x.env.Journal.Migration()
	if err != nil {
		return []Finding{broken(mend, "%v", err)}
	}
	switch {
	case m != nil:
		return interrupted("the migration to %d was interrupted at %s", m.Event.SchemaTo, m.Started.Local().Format(clock))
	case p != nil:
		return interrupted("the promotion of %s was interrupted at %s", p.Event.To, p.Started.Local().Format(clock))
	case t != nil:
		return interrupted("the deployment of %s was interrupted at %s", t.Event.Commit.Short(), t.Started.Local().Format(clock))
	}
	return nil
}

func (x *exam) recover(ctx context.Context) error {
	if os.Geteuid() != x.owner {
		return fmt.Errorf("only %s may do that", x.account.Name)
	}
	return x.Recover(ctx)
}

// indexLock looks for the lock that a git command on the server left behind.
func (x *exam) indexLock() []Finding {
	path := filepath.Join(x.repo.Dir, "index.lock")
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []Finding{broken(x.asAccount("ls", "-l", path), "%v", err)}
	}
	f := warning(x.asAccount("rm", path), "a git command has left %s behind, and git on this server stumbles over it", path)
	if x.Host.Now().Sub(st.ModTime()) < staleIndex {
		f.Text = fmt.Sprintf("%s is there: a git command is running, or has just died", path)
		return []Finding{f}
	}
	return []Finding{f.by(func(context.Context) error {
		// Another one may have taken its place since.
		if now, err := os.Lstat(path); err != nil || !os.SameFile(st, now) {
			return err
		}
		return os.Remove(path)
	})}
}

// drift looks for tracked files that changed on disk.
func (x *exam) drift(ctx context.Context) []Finding {
	changed, err := x.env.Drift(ctx)
	if err != nil {
		return []Finding{broken(x.asAccount("bluegreen", "--repo", x.repo.Dir, "status"), "the web root cannot be compared with what was deployed: %v", err)}
	}
	if len(changed) == 0 {
		return nil
	}
	what := x.env.Config.Deploy.Branch
	if held, err := x.held(ctx); err == nil && held != nil && !held.Commit.IsZero() {
		what = held.Commit.Short()
	}
	return []Finding{warning(x.asAccount("bluegreen", "--repo", x.repo.Dir, "deploy", what),
		"%d tracked files in %s are not as they were deployed: %s", len(changed), x.env.Worktree.Dir, several(changed))}
}

// now is how long health checks may take here: they are asked about what is in
// place already, not about what comes up.
const now = 8 * time.Second

// health asks the health checks about what is deployed.
func (x *exam) health(ctx context.Context) []Finding {
	if len(x.env.Checks) == 0 {
		return []Finding{warning(x.edit(),
			"nothing is checked: without a [[health]] a deployment is healthy whatever it serves")}
	}
	held, err := x.held(ctx)
	if err != nil {
		return []Finding{broken(x.asAccount("bluegreen", "--repo", x.repo.Dir, "recover"), "what is deployed is not known: %v", err)}
	}
	if held == nil {
		return []Finding{warning("push a commit", "nothing has been deployed yet, so the health checks were not asked")}
	}
	brief := *x.env.Environment
	brief.Checks = impatient(brief.Checks)
	results := brief.Ask(ctx, held.Commit, x.env.Variables("", held.Tag, held.Commit, held.Previous))
	return x.sick(results, "the health check passes", "all %d health checks pass")
}

// impatient are checks that give up soon.
func impatient(checks []health.Check) []health.Check {
	brief := make([]health.Check, len(checks))
	for i, c := range checks {
		c.Within = min(c.Within, now)
		brief[i] = c
	}
	return brief
}

// sick finds what is not healthy, or says that the one is well, or that all are.
func (x *exam) sick(results []health.Result, one, all string) []Finding {
	var found []Finding
	for _, r := range results {
		if !r.Healthy {
			found = append(found, broken(x.asAccount("bluegreen", "--repo", x.repo.Dir, "check"), "%q is not healthy: %s", r.Name, r.Last))
		}
	}
	if len(results) == 1 {
		return or(found, "%s", one)
	}
	return or(found, all, len(results))
}

// outside asks the promoted checks, if the traffic is here.
func (x *exam) outside(ctx context.Context) []Finding {
	p := x.env.Promotion
	live, err := p.Live(ctx, x.env.Name)
	if err != nil {
		return nil // the provider is examined by itself
	}
	switch {
	case !live.Here && live.Environment == "":
		return ok("%s is not here", p.Mover.What)
	case !live.Here:
		return ok("%s is with %s, not here", p.Mover.What, live.Environment)
	case len(p.Checks) == 0:
		return []Finding{warning(x.edit(), "nothing asks the outside: without a [[health]] of at = \"promoted\" a promotion is not proved")}
	}
	held, err := x.held(ctx)
	if err != nil || held == nil {
		return []Finding{warning(x.asAccount("bluegreen", "--repo", x.repo.Dir, "status"), "%s is here, and what is deployed is not known", p.Mover.What)}
	}
	subject := health.Subject{Commit: held.Commit.String(), Short: held.Commit.Short(), Environment: x.env.Name, Tag: held.Tag,
		Env: x.env.Variables("", held.Tag, held.Commit, held.Previous), Dir: x.env.Worktree.Dir, File: x.file(held.Commit)}
	checks := impatient(p.Checks)
	results := health.Run(ctx, checks, subject, nil)
	blind := 0
	for i, r := range results {
		// A droplet may be unable to reach its own reserved IP.
		if r.Unreachable && p.Anchor != nil {
			if anchor, err := p.Anchor(ctx); err == nil {
				checks[i].Address = anchor
				results[i] = health.Run(ctx, checks[i:i+1], subject, nil)[0]
				blind++
			}
		}
	}
	how := ""
	if blind > 0 {
		how = ", asked at the anchor address: this droplet cannot reach its own reserved IP"
	}
	return x.sick(results, "the check of the outside passes"+how, "all %d checks of the outside pass"+how)
}

func (x *exam) file(commit git.OID) func(context.Context, string, int) ([]byte, int64, error) {
	return func(ctx context.Context, path string, limit int) ([]byte, int64, error) {
		return x.repo.File(ctx, commit, path, limit)
	}
}
