package deploy

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"

	"bluegreen/internal/command"
	"bluegreen/internal/git"
	"bluegreen/internal/health"
	"bluegreen/internal/journal"
	"bluegreen/internal/tree"
	"bluegreen/internal/worktree"
)

// refsAreAt refuses when a ref is not where it should be: the lock keeps no
// order, and others than we may move refs.
func (e *Environment) refsAreAt(ctx context.Context, refs []git.RefUpdate, want func(git.RefUpdate) git.OID) error {
	for _, u := range refs {
		at, err := e.Repo.Ref(ctx, u.Name)
		if err != nil {
			return &Failure{Reason: oneLine(err)}
		}
		if at != want(u) {
			return &Failure{Refused: true, Hint: "fetch, look at what came in, and push again",
				Reason: fmt.Sprintf("%q has moved to %s while this push was waiting", u.Name, at.Short())}
		}
	}
	return nil
}

// moveRefs moves refs together. A transaction that reports failure may have
// taken place all the same: where the refs are decides.
func (e *Environment) moveRefs(ctx context.Context, why string, refs []git.RefUpdate) error {
	if len(refs) == 0 {
		return nil
	}
	err := e.Repo.UpdateRefs(ctx, why, refs...)
	if err == nil || e.refsAreAt(ctx, refs, func(u git.RefUpdate) git.OID { return u.New }) == nil {
		return nil
	}
	return err
}

// admit finds the commit that oid leads to, and what of it goes into the web
// root: that must leave room for what a web root has beside it.
func (e *Environment) admit(ctx context.Context, oid git.OID) (commit git.OID, source worktree.Source, err error) {
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	commit, root, err := objects.Commit(oid)
	if err != nil {
		return commit, source, err
	}
	if source, err = e.Worktree.Source(objects, root); err == nil {
		err = e.Conflict(objects, source.Tree)
	}
	if err != nil {
		return commit, source, &worktree.Refused{Err: err}
	}
	return commit, source, nil
}

// planInPlace compares the web root as it is served with what is to be there.
func (e *Environment) planInPlace(ctx context.Context, source worktree.Source, held *journal.Deployed) (*worktree.Plan, error) {
	objects := e.Repo.Objects(ctx)
	known := e.known(objects, held)
	objects.Close()
	return e.Worktree.PlanSource(ctx, source, known)
}

// Conflict refuses a tree that has something of its own where the marker or a
// shared path goes.
func (e *Environment) Conflict(objects tree.Objects, root git.OID) error {
	if e.Marker != "" {
		if err := e.Worktree.MarkerConflict(objects, root, e.Marker); err != nil {
			return err
		}
	}
	if e.Releases != nil {
		return e.Releases.Conflict(objects, root)
	}
	return nil
}

// Plan tells what a deployment of the commit would change. It changes nothing
// and needs no lock.
func (e *Environment) Plan(ctx context.Context, commit git.OID) (*worktree.Plan, error) {
	held, err := e.Journal.Deployed()
	if err != nil {
		return nil, err
	}
	_, source, err := e.admit(ctx, commit)
	if err != nil {
		return nil, err
	}
	return e.planInPlace(ctx, source, held)
}

// Drift lists the tracked paths that are not on disk as they were deployed.
func (e *Environment) Drift(ctx context.Context) ([]string, error) {
	held, err := e.Journal.Deployed()
	if err != nil {
		return nil, err
	}
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	return e.Worktree.Drift(ctx, e.known(objects, held))
}

// known is what the records say of the web root. They say nothing on a server
// that was deployed to by other means.
func (e *Environment) known(objects *git.Objects, held *journal.Deployed) worktree.Known {
	switch {
	case held == nil:
		return worktree.Known{}
	case e.elsewhere(held):
		return worktree.Known{Deployed: true, Elsewhere: true, Tree: held.Elsewhere[e.Worktree.Dir]}
	}
	k := worktree.Known{Deployed: true, Tree: held.Tree, Subdirectory: held.Subdirectory, Conversions: held.Conversions,
		Accepted: held.Accepted, Index: held.Index}
	if k.Subdirectory != "" {
		// The commit may have been pruned; then its attributes are not known.
		_, k.Root, _ = objects.Commit(held.Commit)
	}
	return k
}

// heldIndex is what the records say of the index alone.
func heldIndex(held *journal.Deployed) worktree.Known {
	if held == nil {
		return worktree.Known{}
	}
	return worktree.Known{Tree: held.Tree, Index: held.Index}
}

// elsewhere tells that the records are about another directory.
func (e *Environment) elsewhere(held *journal.Deployed) bool {
	return held != nil && !sameDirectory(held.Directory, e.Worktree.Dir)
}

// others remembers what the directories hold that were deployed to before the
// configuration named this one.
func (e *Environment) others(held *journal.Deployed) map[string]git.OID {
	if held == nil {
		return nil
	}
	others := map[string]git.OID{}
	maps.Copy(others, held.Elsewhere)
	if e.elsewhere(held) {
		others[held.Directory] = held.Tree
	}
	delete(others, e.Worktree.Dir)
	return others
}

func sameDirectory(a, b string) bool {
	if a == b {
		return true
	}
	a, errA := filepath.EvalSymlinks(a)
	b, errB := filepath.EvalSymlinks(b)
	return errA == nil && errB == nil && a == b
}

// previous is the commit that the web root holds before the deployment. Where
// the index says something else than our records, the web root was deployed to
// by other means: then it is where the branch was, if that has the same tree.
func (r *run) previous(ctx context.Context, held *journal.Deployed) git.OID {
	old := r.request.Old
	if len(r.request.Refs) > 0 {
		old = r.request.Refs[0].Old
	}
	return r.holder(ctx, r.heldTree, held, old)
}

// holder finds the commit whose tree the web root holds, zero where it is not
// known: the last deployment, or else the commit at candidate.
func (e *Environment) holder(ctx context.Context, tree git.OID, held *journal.Deployed, candidate git.OID) git.OID {
	switch {
	case tree.IsZero():
		return git.OID{}
	case held != nil && held.Tree == tree:
		return held.Commit
	case candidate.IsZero():
		return git.OID{}
	}
	objects := e.Repo.Objects(ctx)
	defer objects.Close()
	commit, root, err := objects.Commit(candidate)
	if err != nil {
		return git.OID{}
	}
	if source, err := e.Worktree.Source(objects, root); err != nil || source.Tree != tree {
		return git.OID{}
	}
	return commit
}

// Held returns what the web root holds by the index and the records; nil when
// nothing was ever deployed. Its Commit is zero where the web root holds
// something else than any deployment of ours, or than branch.
func (e *Environment) Held(ctx context.Context, branch git.OID) (*journal.Deployed, error) {
	held, err := e.Journal.Deployed()
	if err != nil {
		return nil, err
	}
	if e.elsewhere(held) {
		return nil, nil
	}
	tree, err := e.treeHeld(held)
	if err != nil {
		return nil, err
	}
	switch {
	case held != nil && held.Tree == tree:
		return held, nil
	case tree.IsZero() && held == nil:
		return nil, nil
	}
	return &journal.Deployed{Commit: e.holder(ctx, tree, nil, branch), Tree: tree, Directory: e.Worktree.Dir}, nil
}

// check asks the health checks about the release.
func (r *run) check(ctx context.Context) error {
	if len(r.Checks) == 0 {
		return nil
	}
	err := verdict(r.Ask(ctx, r.deployed.Commit, r.variables()))
	if err != nil && ctx.Err() != nil {
		return &Failure{Reason: "stopped while the checks were running"}
	}
	return err
}

// verdict makes an error of what the checks found, nil when all are healthy.
func verdict(results []health.Result) error {
	var failure *Failure
	for _, result := range results {
		switch {
		case result.Healthy:
		case failure == nil:
			failure = &Failure{Reason: fmt.Sprintf("%q is not healthy: %s", result.Name, result.Last), Lines: result.Lines}
		default:
			failure.Lines = append(failure.Lines, fmt.Sprintf("%q is not healthy: %s", result.Name, result.Last))
		}
	}
	if failure == nil {
		return nil
	}
	return failure
}

// Ask asks the environment's health checks about commit, whatever the web root
// holds.
func (e *Environment) Ask(ctx context.Context, commit git.OID, env []string) []health.Result {
	subject := health.Subject{
		Commit: commit.String(), Short: commit.Short(), Environment: e.Name,
		Env: env, Dir: e.Worktree.Dir,
		File: func(ctx context.Context, path string, limit int) ([]byte, int64, error) {
			return e.Repo.File(ctx, commit, path, limit)
		},
	}
	return health.Run(ctx, e.Checks, subject, func(name string, attempt int, last string) {
		e.Observe(Notice{Kind: Progress, Text: fmt.Sprintf("asking %q: %s", name, last), Done: attempt})
	})
}

// variables is the environment of the commands of this deployment.
func (r *run) variables() []string {
	tag := ""
	if r.request.Promote != nil {
		tag = r.request.Promote.Tag
	}
	return r.Variables(r.request.Ref, tag, r.deployed.Commit, r.deployed.Previous)
}

// Variables is the environment of commands and command checks. tag is short,
// and "" where nothing is promoted.
func (e *Environment) Variables(ref, tag string, commit, previous git.OID) []string {
	return e.variablesOf(e.Name, ref, tag, commit, previous)
}

// variablesOf is Variables for what is about another environment.
func (e *Environment) variablesOf(environment, ref, tag string, commit, previous git.OID) []string {
	hex := func(oid git.OID) string {
		if oid.IsZero() {
			return ""
		}
		return oid.String()
	}
	return append(append([]string{}, e.Environ...),
		"BLUEGREEN_ENVIRONMENT="+environment,
		"BLUEGREEN_COMMIT="+hex(commit),
		"BLUEGREEN_PREVIOUS="+hex(previous),
		"BLUEGREEN_DIRECTORY="+e.Worktree.Dir,
		"BLUEGREEN_REF="+ref,
		"BLUEGREEN_TAG="+tag,
	)
}

// runCommands runs the operator's commands for one moment, in order, until one
// fails.
func (r *run) runCommands(ctx context.Context, at string) error {
	return r.RunCommands(ctx, at, r.variables())
}

// RunCommands runs the operator's commands for one moment, in order, until one
// fails. Their output is handed to Observe.
func (e *Environment) RunCommands(ctx context.Context, at string, env []string) error {
	return e.runCommandsIn(ctx, e.Worktree.Dir, at, env)
}

func (e *Environment) runCommandsIn(ctx context.Context, dir, at string, env []string) error {
	for _, c := range e.Commands {
		if c.At != at {
			continue
		}
		e.Observe(Notice{Kind: Doing, Text: fmt.Sprintf("running %q", c.Run[0])})
		_, err := command.Run(ctx, command.Command{Argv: c.Run, Env: env, Dir: dir, Timeout: c.Timeout},
			func(line string) { e.Observe(Notice{Kind: Output, Text: line}) })
		if err != nil {
			return &Failure{Reason: fmt.Sprintf("%s command: %s", at, oneLine(err))}
		}
	}
	return nil
}
