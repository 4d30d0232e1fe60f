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
	others []*Record
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
	var err error
	if r.record, err = readRecord(h, repo); err != nil || r.record == nil {
		return r, err
	}
	if r.others, err = otherRecords(h, repo); err != nil {
		return nil, err
	}
	r.steps = []step{
		{"settings", "git asks the hooks no more", r.planSettings},
		{"hooks", "the hooks that were there before are put back", r.planHooks},
		{"configuration", "it stays, and belongs again to whom it belonged", r.planConfiguration},
		{"keys", "the keys that were let in go, and those that they replaced come back", r.planKeys},
		{"boot", "nothing runs at boot any more", r.planUnit},
		{"sudoers", "nothing runs as root any more", r.planSudoers},
		{"token", "the copy that was made goes", r.planToken},
		{"programs", "no other repository of this host uses them", r.planPrograms},
		{"record", "nothing is left to undo", r.planRecord},
	}
	return r, nil
}

// Recorded tells whether the repository was set up by install.
func (r *Removal) Recorded() bool { return r.record != nil }

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
	var changes []Change
	for _, key := range slices.Sorted(maps.Keys(r.record.Settings)) {
		s, now := r.record.Settings[key], has[strings.ToLower(key)]
		switch {
		case slices.Equal(now, s.Former):
		case !slices.Equal(now, s.Set):
			r.warn("%s of %s was changed since, and stays: %s", key, r.repo, strings.Join(now, ", "))
		case key == headKey:
			changes = append(changes, Change{fmt.Sprintf("run git symbolic-ref HEAD %s, in %s", s.Former[0], r.repo), func(ctx context.Context) error {
				return r.host.Run(ctx, a, quick, "git", "--git-dir="+r.repo, "symbolic-ref", "HEAD", s.Former[0])
			}})
		default:
			changes = append(changes, Change{fmt.Sprintf("run %s, in %s", describeSetting(key, s.Former, now), r.repo), func(ctx context.Context) error {
				return r.set(ctx, *a, r.repo, key, now, s.Former)
			}})
		}
	}
	return changes, nil
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
		if e, err := r.host.Look(kept); err != nil || e == nil {
			return nil, refuse("put a hook in its place, or remove "+hook+", then run this again",
				"%s, the hook that was there before, is gone (%v)", kept, err)
		}
		changes = append(changes, Change{"put " + kept + " back as " + name, func(context.Context) error { return r.host.Rename(kept, hook) }})
	}
	back, err := r.giveBack(dir)
	return append(changes, back...), err
}

// giveBack plans that something belongs again to whom it belonged.
func (r *Removal) giveBack(path string) ([]Change, error) {
	former, known := r.record.Owners[path]
	if !known && slices.Contains(r.record.Made, path) {
		a, err := r.account()
		if err != nil || a == nil {
			return nil, err
		}
		former, known = Owner{a.UID, a.GID, 0o755}, true
	}
	e, err := r.host.Look(path)
	if err != nil || e == nil || !known {
		return nil, err
	}
	if e.Mode.Type() == fs.ModeSymlink {
		return nil, nil // not what was taken
	}
	name := r.host.NameOf(former.UID)
	return r.owned(path, e, host.Account{Name: name, UID: former.UID, GID: former.GID}, former.Mode), nil
}

func (r *Removal) planConfiguration(context.Context) ([]Change, error) {
	return r.giveBack(path.Join(r.repo, "bluegreen.toml"))
}

func (r *Removal) planKeys(context.Context) ([]Change, error) {
	a, err := r.account()
	if err != nil || a == nil {
		return nil, err
	}
	file := path.Join(a.Home, ".ssh/authorized_keys")
	e, err := r.host.Look(file)
	if err != nil || e == nil || !e.Mode.IsRegular() {
		return nil, err
	}
	content, err := r.host.ReadFile(file)
	if err != nil {
		return nil, err
	}
	text := string(content)
	rest := authorized.Remove(text, r.repo, r.record.Keys)
	var changes []Change
	if rest != text {
		changes = append(changes, Change{"remove the lines for " + r.repo + " from " + file, func(context.Context) error {
			return r.host.WriteFile(file, strings.NewReader(rest), host.Account{UID: e.UID, GID: e.GID}, e.Mode.Perm())
		}})
	}
	if r.sharesAccount() {
		return changes, nil // its keys go on being root's
	}
	more, err := r.planKeysPlaces(file, rest)
	return append(changes, more...), err
}

// sharesAccount tells whether another repository has the same account.
func (r *Removal) sharesAccount() bool {
	return slices.ContainsFunc(r.others, func(other *Record) bool { return other.User == r.record.User })
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

func (r *Removal) planToken(context.Context) ([]Change, error) {
	token := r.record.Token
	if token == "" || len(r.others) > 0 {
		return nil, nil // they may use it; see bequeath
	}
	return joined(
		func() ([]Change, error) { return r.removal(token) },
		func() ([]Change, error) {
			if path.Dir(token) != path.Dir(TokenPath) {
				return nil, nil
			}
			return r.removeEmpty(path.Dir(token))
		},
	)
}

func (r *Removal) planPrograms(context.Context) ([]Change, error) {
	if len(r.others) > 0 {
		return nil, nil
	}
	var plans []func() ([]Change, error)
	for _, p := range programs() {
		plans = append(plans, func() ([]Change, error) { return r.removal(p.path) })
	}
	plans = append(plans, func() ([]Change, error) { return r.removeEmpty(ProgramsDir) })
	return joined(plans...)
}

func (r *Removal) planRecord(context.Context) ([]Change, error) {
	return joined(
		r.bequeath,
		func() ([]Change, error) { return r.removal(RecordPath(r.repo)) },
		func() ([]Change, error) {
			if len(r.others) > 0 {
				return nil, nil
			}
			return r.removeEmpty(recordsDir)
		},
	)
}

// bequeath plans that what this repository shares with others, and so is not
// undone yet, is undone with the last of them.
func (r *Removal) bequeath() ([]Change, error) {
	a, err := r.account()
	if err != nil || len(r.others) == 0 {
		return nil, err
	}
	heirs := map[*Record]string{}
	for _, heir := range r.others {
		before, err := heir.text()
		if err != nil {
			return nil, err
		}
		heir.inherit(r.record, a)
		after, err := heir.text()
		if err != nil {
			return nil, err
		}
		if after != before {
			heirs[heir] = after
		}
	}
	var changes []Change
	for heir, text := range heirs {
		file := RecordPath(heir.Repo)
		changes = append(changes, Change{"write " + file + ": what the two share goes with that one", func(context.Context) error {
			return r.writeFile(file, text, host.Superuser(), 0o644)
		}})
	}
	return changes, nil
}

// inherit takes over what former knows of things that both use. a is the
// account of former, nil where it is gone.
func (r *Record) inherit(former *Record, a *host.Account) {
	r.Token = cmp.Or(r.Token, former.Token)
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
