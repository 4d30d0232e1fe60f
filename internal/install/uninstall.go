package install

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"bluegreen/internal/install/authorized"
	"bluegreen/internal/install/host"
)

// A Removal is the work of undoing an installation. It leaves the site, the
// repository and its configuration, the account, the packages and the log.
type Removal struct {
	Work
	record *Record // nil where there is nothing to undo
	repo   string
}

// Uninstall looks for what there is to undo for the repository at repo, an
// absolute path on the host below root. It changes nothing.
func Uninstall(root, repo string) (*Removal, error) {
	h := &host.Host{Root: cmp.Or(root, "/")}
	return uninstall(h, repo)
}

func uninstall(h *host.Host, repo string) (*Removal, error) {
	r := &Removal{Work: Work{host: h, title: "uninstall " + path.Base(repo)}, repo: repo}
	r.refresh = r.lookAgain
	return r, r.lookAgain()
}

// lookAgain reads the record, which another run may have changed.
func (r *Removal) lookAgain() error {
	var err error
	r.steps = nil
	if r.record, err = readRecord(r.host, r.repo); err != nil || r.record == nil {
		return err
	}
	if r.record.Repo != r.repo {
		return refuse("bluegreen uninstall --repo "+r.record.Repo, "%s was not set up by install; of that name %s was", r.repo, r.record.Repo)
	}
	r.steps = []step{
		{"settings", "git asks the hooks no more", r.planSettings},
		{"hooks", "the hooks that were there before are put back", r.planHooks},
		{"configuration", "it stays, and belongs again to whom it belonged", r.planConfiguration},
		{"keys", "the keys that were let in go, and those that they replaced come back", r.planKeys},
		{"boot", "nothing runs at boot any more", r.planUnit},
		{"sudoers", "nothing runs as root any more", r.planSudoers},
		{"broker", "nothing asks the API any more", r.planBroker},
		{"token", "the copy that was made goes", r.planToken},
		{"programs", "no other repository of this host uses them", r.planPrograms},
		{"record", "nothing is left to undo", r.planRecord},
	}
	return nil
}

// Recorded tells whether the repository was set up by install.
func (r *Removal) Recorded() bool { return r.record != nil }

// others returns the records of the other repositories, as they are now.
func (r *Removal) others() ([]*Record, error) { return otherRecords(r.host, r.repo) }

// account returns the account; nil where it is gone.
func (r *Removal) account() (*host.Account, error) { return r.host.Account(r.record.User) }

func (r *Removal) planSettings(ctx context.Context) ([]Change, error) {
	a, err := r.account()
	if err != nil || a == nil {
		return nil, err
	}
	e, err := r.host.Look(path.Join(r.repo, "HEAD"))
	if err != nil || e == nil {
		return nil, err
	}
	has, err := r.repoSettings(ctx, *a, r.repo)
	if err != nil {
		return nil, err
	}
	if head, err := r.host.Read(ctx, a, quick, "git", "--git-dir="+r.repo, "symbolic-ref", "--quiet", "HEAD"); err == nil {
		has[strings.ToLower(headKey)] = []string{strings.TrimSpace(head)}
	}
	asks, err := r.asksHook()
	if err != nil {
		return nil, err
	}
	former := maps.Clone(r.record.Settings)
	if r.record.Hooks[procReceive] == "" && (asks || len(former[refsKey].Former) > 0) {
		if former == nil {
			former = map[string]Setting{}
		}
		former[refsKey] = Setting{Set: former[refsKey].Set}
	}
	var changes []Change
	for _, key := range slices.Sorted(maps.Keys(former)) {
		s, now := former[key], has[strings.ToLower(key)]
		switch {
		case key == refsKey && asks && len(s.Former) == 0 && len(now) > 0:
			// Whoever has changed it since: without the hook git refuses what it names.
			changes = append(changes, r.setting(*a, key, now, nil))
		case sameValues(now, s.Former):
		case !among(now, slices.Concat(s.Set, s.Former)): // some of both: an interrupted run has left it
			r.warn("%s of %s was changed since, and stays: %s", key, r.repo, strings.Join(now, ", "))
		case key == headKey:
			changes = append(changes, Change{fmt.Sprintf("run git symbolic-ref HEAD %s, in %s", s.Former[0], r.repo), func(ctx context.Context) error {
				return r.host.Run(ctx, a, quick, "git", "--git-dir="+r.repo, "symbolic-ref", "HEAD", s.Former[0])
			}})
		default:
			changes = append(changes, r.setting(*a, key, now, s.Former))
		}
	}
	return changes, nil
}

// setting is the change of one setting.
func (r *Removal) setting(a host.Account, key string, now, former []string) Change {
	return Change{fmt.Sprintf("run %s, in %s", describeSetting(key, former, now), r.repo), func(ctx context.Context) error {
		return r.set(ctx, a, r.repo, key, now, former)
	}}
}

// asksHook tells whether the hook that receive.procReceiveRefs is about is ours,
// and goes.
func (r *Removal) asksHook() (bool, error) {
	e, err := r.host.Look(path.Join(r.repo, "hooks", procReceive))
	return e != nil && e.Target == path.Join(ProgramsDir, procReceive) && r.record.Hooks[procReceive] == "", err
}

func (r *Removal) planHooks(context.Context) ([]Change, error) {
	dir := path.Join(r.repo, "hooks")
	var changes []Change
	for _, name := range Hooks() {
		hook := path.Join(dir, name)
		e, err := r.host.Look(hook)
		if err != nil {
			return nil, err
		}
		if e == nil || e.Target != path.Join(ProgramsDir, name) {
			continue // somebody else's
		}
		former := r.record.Hooks[name]
		if former == "" {
			changes = append(changes, Change{"remove " + hook, func(context.Context) error { return r.host.Remove(hook) }})
			continue
		}
		kept := path.Join(dir, former)
		if e, err = r.host.Look(kept); err != nil {
			return nil, err
		}
		if e == nil {
			return nil, refuse("put a hook in its place, or remove "+hook+", then run this again",
				"%s, the hook that was there before, is gone", kept)
		}
		changes = append(changes, Change{"put " + kept + " back as " + name, func(context.Context) error { return r.host.Rename(kept, hook) }})
	}
	back, err := r.giveBack(dir)
	return append(changes, back...), err
}

// giveBack plans that something belongs again to whom it belonged.
func (r *Removal) giveBack(path string) ([]Change, error) {
	e, err := r.host.Look(path)
	if err != nil || e == nil || e.Mode.Type() == fs.ModeSymlink {
		return nil, err // a symlink is not what was taken
	}
	former, known := r.record.Owners[path]
	if !known && slices.Contains(r.record.Made, path) {
		a, err := r.account()
		if err != nil || a == nil {
			return nil, err
		}
		former, known = Owner{a.UID, a.GID, e.Mode.Perm()}, true
		if strings.Contains(path, "/.ssh") {
			former.Mode &= 0o700 // as ssh and sshd make them
		}
	}
	if !known {
		return nil, nil
	}
	return r.restore(path, e, former)
}

func (r *Removal) restore(path string, e *host.Entry, former Owner) ([]Change, error) {
	name := r.host.NameOf(former.UID)
	return r.owned(path, e, host.Account{Name: name, UID: former.UID, GID: former.GID}, former.Mode)
}

func (r *Removal) planConfiguration(context.Context) ([]Change, error) {
	return r.giveBack(path.Join(r.repo, "bluegreen.toml"))
}

func (r *Removal) planKeys(context.Context) ([]Change, error) {
	file, err := r.authorizedKeys()
	if err != nil || file == "" {
		return nil, err
	}
	e, err := r.host.Look(file)
	if err != nil || e != nil && !e.Mode.IsRegular() {
		return nil, err
	}
	rest, changes, err := r.planKeysLines(file, e)
	if err != nil {
		return nil, err
	}
	others, err := r.others()
	if err != nil || slices.ContainsFunc(others, func(other *Record) bool { return other.User == r.record.User }) {
		return changes, err // another repository has the account: its keys go on being root's
	}
	more, err := r.planKeysPlaces(file, rest)
	return append(changes, more...), err
}

// authorizedKeys is the file of the keys, also where the account is gone and the
// record alone tells; "" where that does not.
func (r *Removal) authorizedKeys() (string, error) {
	const place = "/.ssh/authorized_keys"
	a, err := r.account()
	if err != nil {
		return "", err
	}
	if a != nil {
		return a.Home + place, nil
	}
	for _, file := range slices.Concat(r.record.Made, r.record.Guarded, slices.Collect(maps.Keys(r.record.Owners))) {
		if strings.HasSuffix(file, place) {
			return file, nil
		}
	}
	return "", nil
}

// planKeysLines plans that our lines go, and returns what is left then.
func (r *Removal) planKeysLines(file string, e *host.Entry) (rest string, changes []Change, err error) {
	if e == nil {
		return "", nil, nil
	}
	content, err := r.host.ReadFile(file)
	if err != nil {
		return "", nil, err
	}
	rest = authorized.Remove(string(content), r.repo, r.record.Keys)
	if rest == string(content) {
		return rest, nil, nil
	}
	return rest, []Change{{"remove the lines for " + r.repo + " from " + file, func(context.Context) error {
		return r.host.WriteFile(file, strings.NewReader(rest), host.Account{UID: e.UID, GID: e.GID}, e.Mode.Perm())
	}}}, nil
}

// planKeysPlaces plans that the file and its directory are as they were.
func (r *Removal) planKeysPlaces(file, rest string) ([]Change, error) {
	return joined(
		func() ([]Change, error) {
			if rest == "" && slices.Contains(r.record.Made, file) {
				return r.removal(file)
			}
			return r.giveBack(file)
		},
		func() ([]Change, error) {
			if slices.Contains(r.record.Made, path.Dir(file)) && rest == "" {
				return r.removeEmpty(path.Dir(file))
			}
			return r.giveBack(path.Dir(file))
		},
	)
}

func (r *Removal) planUnit(context.Context) ([]Change, error) {
	changes, err := joined(
		func() ([]Change, error) { return r.removal(WantsPath(r.repo)) },
		func() ([]Change, error) { return r.removal(UnitPath(r.repo)) },
	)
	if len(changes) > 0 && r.systemd() {
		changes = append(changes, r.running(quick, "systemctl", "daemon-reload"))
	}
	return changes, err
}

func (r *Removal) planSudoers(context.Context) ([]Change, error) {
	return r.removal(sudoersFor(r.repo))
}

func (r *Removal) planBroker(context.Context) ([]Change, error) { return r.removeBroker(r.repo) }

func (r *Removal) planToken(context.Context) ([]Change, error) {
	others, err := r.others()
	if err != nil || len(others) > 0 {
		return nil, err // they may use it; see bequeath
	}
	var plans []func() ([]Change, error)
	for _, file := range slices.Sorted(maps.Keys(r.record.Tokens)) {
		former := r.record.Tokens[file]
		plans = append(plans, func() ([]Change, error) {
			e, err := r.host.Look(file)
			if err != nil || e == nil || former == nil {
				return r.removal(file)
			}
			return r.restore(file, e, *former)
		})
		if former == nil && path.Dir(file) == path.Dir(TokenPath) {
			plans = append(plans, func() ([]Change, error) { return r.removeEmpty(path.Dir(file)) })
		}
	}
	return joined(plans...)
}

func (r *Removal) planPrograms(context.Context) ([]Change, error) {
	others, err := r.others()
	if err != nil || len(others) > 0 {
		return nil, err
	}
	var plans []func() ([]Change, error)
	for _, p := range programs() {
		plans = append(plans, func() ([]Change, error) { return r.removal(p.path) })
	}
	plans = append(plans, func() ([]Change, error) { return r.removeEmpty(ProgramsDir) })
	return joined(plans...)
}

func (r *Removal) planRecord(context.Context) ([]Change, error) {
	return joined(r.bequeath, func() ([]Change, error) {
		file := RecordPath(r.repo)
		e, err := r.host.Look(file)
		if err != nil || e == nil {
			return nil, err
		}
		// Without the record nobody comes back for the directory.
		return []Change{{"remove " + file + ", and its directory if it is empty", func(context.Context) error {
			if err := r.host.Remove(file); err != nil {
				return err
			}
			return r.removeIfEmpty(path.Dir(file))
		}}}, nil
	})
}

// bequeath plans that what this repository shares with others, and so is not
// undone yet, is undone with the last of them.
func (r *Removal) bequeath() ([]Change, error) {
	a, err := r.account()
	if err != nil {
		return nil, err
	}
	others, err := r.others()
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, heir := range others {
		before, err := heir.text()
		if err != nil {
			return nil, err
		}
		heir.inherit(r.record, a)
		after, err := heir.text()
		if err != nil {
			return nil, err
		}
		if after == before {
			continue
		}
		file := RecordPath(heir.Repo)
		changes = append(changes, Change{"write " + file + ": what the two share goes with that one", func(context.Context) error {
			return r.writeFile(file, after, host.Superuser(), 0o644)
		}})
	}
	return changes, nil
}

// inherit takes over what former knows of things that both use. a is the
// account of former, nil where it is gone.
func (r *Record) inherit(former *Record, a *host.Account) {
	for file, owner := range former.Tokens {
		if r.Tokens == nil {
			r.Tokens = map[string]*Owner{}
		}
		if _, known := r.Tokens[file]; !known {
			r.Tokens[file] = owner
		}
	}
	if a == nil || former.User != r.User {
		return
	}
	for _, shared := range []string{path.Join(a.Home, ".ssh"), path.Join(a.Home, ".ssh/authorized_keys")} {
		if owner, known := former.Owners[shared]; known {
			if r.Owners == nil {
				r.Owners = map[string]Owner{}
			}
			r.Owners[shared] = owner
		}
		if slices.Contains(former.Made, shared) && !slices.Contains(r.Made, shared) {
			r.Made = append(r.Made, shared)
		}
	}
}
