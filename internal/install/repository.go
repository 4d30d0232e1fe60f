package install

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"bluegreen/internal/install/host"
)

func (i *Installation) planRepository(ctx context.Context) ([]Change, error) {
	repo := i.o.Repo
	e, err := i.host.Look(repo)
	if err != nil {
		return nil, err
	}
	a, err := i.account()
	if err != nil {
		return nil, err
	}
	begun, err := i.begun(e)
	if err != nil {
		return nil, err
	}
	if begun {
		return []Change{{fmt.Sprintf("run git init --bare --initial-branch=%s %s, as %s", i.cfg.Deploy.Branch, repo, a.Name), i.initialize}}, nil
	}
	if owner := i.host.NameOf(e.UID); e.UID != a.UID {
		hint := "name the account that it belongs to: --user " + owner
		if e.UID == 0 {
			hint = fmt.Sprintf("give it to the account: chown -R %s: %s", a.Name, repo)
		}
		return nil, refuse(hint, "the repository %s belongs to %s, not to %s", repo, owner, a.Name)
	}
	if i.host.Program("git") == "" {
		return nil, nil // what it is like is seen once git is here
	}
	settings, err := i.settings(ctx, a)
	if err != nil {
		return nil, err
	}
	if bare := settings["core.bare"]; len(bare) == 0 || !truth(bare[len(bare)-1]) {
		return nil, refuse("make a bare one of it: git clone --bare", "%s is a repository, but not a bare one", repo)
	}
	return i.planHead(ctx, a)
}

// begun tells whether there is no repository yet: nothing, or what an
// interrupted run has left.
func (i *Installation) begun(e *host.Entry) (bool, error) {
	repo := i.o.Repo
	if e == nil {
		return true, nil
	}
	names, err := i.host.List(repo)
	if err != nil {
		return false, err
	}
	if slices.Contains(names, "HEAD") && slices.Contains(names, "objects") && slices.Contains(names, "config") {
		return false, nil
	}
	for _, name := range names {
		if slices.Contains([]string{"HEAD", "HEAD.lock", "branches", "config", "config.lock", "description", "hooks", "info", "objects", "refs"}, name) {
			continue
		}
		if name == ".git" {
			return false, refuse("make a bare one of it: git clone --bare", "%s is a repository, but not a bare one", repo)
		}
		return false, refuse("choose another place with --repo", "%s is there, has %q in it, and is not a bare repository", repo, name)
	}
	return true, nil
}

// initialize makes the repository. The directory is handed over first: its
// parent may be one that the account cannot write to.
func (i *Installation) initialize(ctx context.Context) error {
	a, err := i.account()
	if err != nil {
		return err
	}
	if err := i.host.Mkdir(i.o.Repo, a, 0o755); err != nil {
		return err
	}
	// A git that was killed has left them, and the next one would give up.
	for _, name := range []string{"HEAD.lock", "config.lock"} {
		if err := i.host.Remove(path.Join(i.o.Repo, name)); err != nil {
			return err
		}
	}
	return i.host.Run(ctx, &a, quick, "git", "init", "--quiet", "--bare", "--initial-branch="+i.cfg.Deploy.Branch, i.o.Repo)
}

// headKey stands for HEAD among the settings in the record.
const headKey = "HEAD"

// planHead plans that HEAD points at the branch: it is what "git clone" checks
// out.
func (i *Installation) planHead(ctx context.Context, a host.Account) ([]Change, error) {
	ref := "refs/heads/" + i.cfg.Deploy.Branch
	out, err := i.host.Read(ctx, &a, quick, "git", "--git-dir="+i.o.Repo, "symbolic-ref", "--quiet", "HEAD")
	former := strings.TrimSpace(out)
	if err == nil && former == ref {
		return nil, nil
	}
	if err != nil {
		return nil, refuse("make it point at the branch: git symbolic-ref HEAD "+ref, "HEAD of %s points at no branch: %v", i.o.Repo, err)
	}
	return []Change{{fmt.Sprintf("run git symbolic-ref HEAD %s, in %s (it is %s)", ref, i.o.Repo, former), func(ctx context.Context) error {
		if err := i.rememberSetting(headKey, []string{former}, []string{ref}); err != nil {
			return err
		}
		return i.host.Run(ctx, &a, quick, "git", "--git-dir="+i.o.Repo, "symbolic-ref", "HEAD", ref)
	}}}, nil
}

// repoSettings reads a repository's own configuration of git's; empty where there
// is none, or no git yet. Its keys are in lower case.
func (w *Work) repoSettings(ctx context.Context, a host.Account, repo string) (map[string][]string, error) {
	values := map[string][]string{}
	if e, err := w.host.Look(path.Join(repo, "config")); err != nil || e == nil || w.host.Program("git") == "" {
		return values, err
	}
	out, err := w.host.Read(ctx, &a, quick, "git", "config", "--file", path.Join(repo, "config"), "--list", "-z")
	if err != nil {
		return nil, err
	}
	for _, item := range strings.Split(strings.TrimSuffix(out, "\x00"), "\x00") {
		key, value, given := strings.Cut(item, "\n")
		if !given {
			value = "true"
		}
		values[key] = append(values[key], value)
	}
	return values, nil
}

func (i *Installation) settings(ctx context.Context, a host.Account) (map[string][]string, error) {
	return i.repoSettings(ctx, a, i.o.Repo)
}

// truth reads a boolean as git does.
func truth(value string) bool {
	switch strings.ToLower(value) {
	case "", "false", "no", "off", "0":
		return false
	}
	return true
}

// A wish is a setting as it should be.
type wish struct {
	key    string
	values []string // none to unset it
	keep   bool     // a value of the operator's own will do
}

func (i *Installation) wishes() []wish {
	return []wish{
		{key: "core.fsync", values: []string{"all"}},
		{key: "receive.fsckObjects", values: []string{"true"}},
		{key: "receive.maxInputSize", values: []string{"2g"}, keep: true},
		{key: "receive.advertisePushOptions", values: []string{"true"}},
		{key: "core.hooksPath"},
		{key: refsKey, values: []string{"refs/heads/" + i.cfg.Deploy.Branch, "refs/tags"}},
	}
}

// met tells whether what git has, its key in lower case, is as it should be.
func (s wish) met(has []string) bool {
	if len(s.values) == 1 && s.values[0] == "true" && len(has) > 0 {
		return truth(has[len(has)-1])
	}
	return s.keep && len(has) > 0 || sameValues(has, s.values)
}

// sameValues compares the values of a setting. Their order has no meaning in
// those that have several.
func sameValues(a, b []string) bool { return among(a, b) && among(b, a) }

// among tells whether each of some values is one of all.
func among(some, all []string) bool {
	return !slices.ContainsFunc(some, func(value string) bool { return !slices.Contains(all, value) })
}

func (i *Installation) planSettings(ctx context.Context) ([]Change, error) {
	a, err := i.account()
	if err != nil {
		return nil, err
	}
	has, err := i.settings(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := i.warnOfHooksPath(ctx, a); err != nil {
		return nil, err
	}
	var changes []Change
	for _, s := range i.wishes() {
		former := has[strings.ToLower(s.key)]
		if s.met(former) {
			continue
		}
		changes = append(changes, Change{
			fmt.Sprintf("run %s, in %s", describeSetting(s.key, s.values, former), i.o.Repo),
			func(ctx context.Context) error {
				a, err := i.account()
				if err == nil {
					err = i.rememberSetting(s.key, former, s.values)
				}
				if err == nil {
					err = i.set(ctx, a, i.o.Repo, s.key, former, s.values)
				}
				return err
			},
		})
	}
	return changes, nil
}

// warnOfHooksPath warns where git looks for hooks elsewhere in all repositories.
func (i *Installation) warnOfHooksPath(ctx context.Context, a host.Account) error {
	if e, err := i.host.Look(path.Join(i.o.Repo, "HEAD")); err != nil || e == nil || i.host.Program("git") == "" {
		return err
	}
	// Run outside of any repository. It fails where there is none.
	out, err := i.host.Read(ctx, &a, quick, "git", "config", "--show-scope", "--get-all", "core.hooksPath")
	for line := range strings.Lines(out) {
		if scope, value, found := strings.Cut(strings.TrimSpace(line), "\t"); err == nil && found {
			i.warn("git config --%s core.hooksPath is %s: no hook of this repository runs; unset it", scope, value)
		}
	}
	return nil
}

func describeSetting(key string, values, former []string) string {
	was := ""
	if len(former) > 0 {
		was = fmt.Sprintf(" (it is %s)", strings.Join(former, ", "))
	}
	if len(values) == 0 {
		return "git config --unset-all " + key + was
	}
	return "git config " + key + " " + strings.Join(values, ", ") + was
}

// set changes a setting from what it was to values. A push at any moment finds
// either, or both.
func (w *Work) set(ctx context.Context, a host.Account, repo, key string, former, values []string) error {
	git := func(args ...string) error {
		argv := append([]string{"git", "config", "--file", path.Join(repo, "config")}, args...)
		return w.host.Run(ctx, &a, quick, argv...)
	}
	if len(values) == 1 {
		return git("--replace-all", key, values[0])
	}
	for _, value := range values {
		if slices.Contains(former, value) {
			continue
		}
		if err := git("--add", key, value); err != nil {
			return err
		}
	}
	var done []string
	for _, value := range former {
		if slices.Contains(values, value) || slices.Contains(done, value) {
			continue
		}
		if err := git("--unset-all", key, "^"+regexp.QuoteMeta(value)+"$"); err != nil {
			return err
		}
		done = append(done, value)
	}
	return nil
}

// rememberSetting records what a setting was before the first change, and what
// it is after the last one.
func (i *Installation) rememberSetting(key string, former, values []string) error {
	return i.remember(func(r *Record) {
		if r.Settings == nil {
			r.Settings = map[string]Setting{}
		}
		s, known := r.Settings[key]
		if !known {
			s.Former = former
		}
		s.Set = values
		r.Settings[key] = s
	})
}

// hooksDir is where git looks for hooks.
func (i *Installation) hooksDir() string { return path.Join(i.o.Repo, "hooks") }

func (i *Installation) planHooks(context.Context) ([]Change, error) {
	dir := i.hooksDir()
	e, err := i.host.Look(dir)
	if err != nil {
		return nil, err
	}
	var changes []Change
	switch {
	case e == nil:
		changes = append(changes, Change{"make the directory " + dir + " (root, 0755)", func(context.Context) error {
			if err := i.rememberMade(dir); err != nil {
				return err
			}
			return i.host.Mkdir(dir, host.Superuser(), 0o755)
		}})
	case !e.Mode.IsDir():
		return nil, refuse("make it a directory of the repository's own", "%s is not a directory", dir)
	default:
		if changes, err = i.take(dir, e, 0o755); err != nil {
			return nil, err
		}
	}
	for _, name := range Hooks() {
		change, err := i.planHook(name)
		if err != nil {
			return nil, err
		}
		changes = append(changes, change...)
	}
	return changes, nil
}

func (i *Installation) planHook(name string) ([]Change, error) {
	hook, program := path.Join(i.hooksDir(), name), path.Join(ProgramsDir, name)
	e, err := i.host.Look(hook)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return []Change{{"link " + hook + " to " + program, func(context.Context) error {
			if err := i.rememberHook(name, ""); err != nil {
				return err
			}
			return i.host.Symlink(program, hook)
		}}}, nil
	}
	if e.Target == program {
		return nil, nil
	}
	if !e.Mode.IsRegular() && e.Mode.Type() != fs.ModeSymlink {
		return nil, refuse("move it away, then run this again", "%s is neither a file nor a symlink", hook)
	}
	kept, linked, err := i.keptName(name, e)
	if err != nil {
		return nil, err
	}
	return []Change{{fmt.Sprintf("link %s to %s; what is there now is kept as %s", hook, program, path.Base(kept)), func(context.Context) error {
		if err := i.rememberHook(name, path.Base(kept)); err != nil {
			return err
		}
		// Two names for a moment: no push finds none.
		if !linked {
			if err := i.host.Keep(hook, kept); err != nil {
				return err
			}
		}
		return i.host.Symlink(program, hook)
	}}}, nil
}

// keptName finds a name for a hook that was there before: a free one, or the
// one that an interrupted run has linked to it.
func (i *Installation) keptName(name string, hook *host.Entry) (kept string, linked bool, err error) {
	for n := 1; ; n++ {
		kept := path.Join(i.hooksDir(), name+".before-bluegreen")
		if n > 1 {
			kept = fmt.Sprintf("%s.%d", kept, n)
		}
		e, err := i.host.Look(kept)
		if err != nil || e == nil {
			return kept, false, err
		}
		if e.Same(hook) {
			return kept, true, nil
		}
	}
}

// rememberHook records under what name a hook is kept. The last one kept is the
// one that ours replaced.
func (i *Installation) rememberHook(name, kept string) error {
	return i.remember(func(r *Record) {
		if r.Hooks == nil {
			r.Hooks = map[string]string{}
		}
		if before, known := r.Hooks[name]; !known || kept != "" || before == "" {
			r.Hooks[name] = kept
		}
	})
}
