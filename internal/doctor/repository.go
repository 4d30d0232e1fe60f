package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"bluegreen/internal/environment"
)

// configuration looks at bluegreen.toml.
func (x *exam) configuration(context.Context) []Finding {
	path := x.configFile()
	if x.envErr != nil {
		return []Finding{broken(x.edit(), "%v", x.envErr)}
	}
	if !x.env.Config.Present {
		return ok("there is no %s: the defaults hold", path)
	}
	if st, err := os.Stat(path); err == nil && x.writers(st) != 0 {
		return []Finding{warning(x.asRoot("chmod", "go-w", path), "%s may be written by others (mode %#o)", path, st.Mode().Perm())}
	}
	return ok("%s is in order; this is %s", path, x.env.Name)
}

// repository looks at the repository itself.
func (x *exam) repository(ctx context.Context) []Finding {
	var found []Finding
	if x.stranger() {
		found = append(found, warning(x.asAccount("bluegreen", "--repo", x.repo.Dir, "doctor"),
			"the repository belongs to %s, and another account asks: what only %s may see is not known", x.account.Name, x.account.Name))
	}
	if x.gitErr != nil {
		found = append(found, broken(x.asAccount("git", "-C", x.repo.Dir, "config", "--list"),
			"git cannot read the repository's configuration: %v", x.gitErr))
	} else if !x.config.Bool("core.bare") {
		found = append(found, broken(x.asAccount("git", "-C", x.repo.Dir, "config", "core.bare", "true"),
			"the repository %s is not bare", x.repo.Dir))
	}
	return or(append(found, x.belongings(ctx)...), "the repository %s is bare and belongs to %s", x.repo.Dir, x.account.Name)
}

// stranger tells whether somebody asks who is neither the repository's account
// nor root: what that account may do, this process cannot try.
func (x *exam) stranger() bool { return x.Host.UID != x.owner && x.Host.UID != 0 }

// maxEntries bounds how many of a repository's files are looked at: what is
// wrong with one of so many is hardly wrong with it alone.
const maxEntries = 100_000

// belongings looks whose the repository's files are, and who may write them.
func (x *exam) belongings(ctx context.Context) []Finding {
	var foreign, locked, open, shared []string
	seen := 0
	err := filepath.WalkDir(x.repo.Dir, func(path string, d fs.DirEntry, err error) error {
		if seen++; seen > maxEntries || ctx.Err() != nil {
			return fs.SkipAll
		}
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil // its owner is told of, or a push is under way
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if uid := ownerOf(info); uid != x.owner && (uid != 0 || !x.mayBeRoots(path)) {
			foreign = append(foreign, path)
			// Files of others are read, and replaced; what they own else is in the way.
			if d.IsDir() || unix.Access(path, unix.R_OK) != nil {
				locked = append(locked, path)
			}
		}
		switch writers := x.writers(info); {
		case info.Mode()&fs.ModeSymlink != 0, path == x.configFile():
		case writers&0o002 != 0:
			open = append(open, path)
		case writers != 0:
			shared = append(shared, path)
		}
		return nil
	})
	var found []Finding
	if err != nil {
		found = append(found, broken(x.asAccount("ls", "-l", x.repo.Dir), "the repository cannot be read: %v", err))
	}
	giveBack := x.asRoot(append([]string{"chown", "-R", x.account.Name + ":"}, x.tops(foreign)...)...)
	if len(locked) > 0 {
		found = append(found, broken(giveBack, "another account than %s, the repository's, owns %s: pushes fail", x.account.Name, several(locked)))
	} else if len(foreign) > 0 {
		found = append(found, warning(giveBack, "another account than %s, the repository's, owns %s", x.account.Name, several(foreign)))
	}
	closing := x.asAccount("chmod", "-R", "go-w", x.repo.Dir)
	if len(open) > 0 {
		found = append(found, broken(closing, "every account of this machine may write to %s", several(open)))
	}
	if len(shared) > 0 {
		found = append(found, warning(closing, "a group may write to %s; one account is to own the repository", several(shared)))
	}
	return found
}

// mayBeRoots tells whether a path of the repository is better root's: what a
// pusher must not replace.
func (x *exam) mayBeRoots(path string) bool {
	return inside(path, filepath.Join(x.repo.Dir, "hooks")) || path == x.configFile()
}

// edit is the command to change the configuration.
func (x *exam) edit() string { return x.asRoot("editor", x.configFile()) }

func (x *exam) configFile() string { return filepath.Join(x.repo.Dir, environment.ConfigFile) }

// tops are the repository's entries that paths are in.
func (x *exam) tops(paths []string) []string {
	var tops []string
	for _, path := range paths {
		first, _, _ := strings.Cut(strings.TrimPrefix(path, x.repo.Dir+"/"), "/")
		tops = append(tops, filepath.Join(x.repo.Dir, first))
	}
	slices.Sort(tops)
	return slices.Compact(tops)
}

// several names the first of some paths.
func several(paths []string) string {
	if len(paths) == 1 {
		return paths[0]
	}
	return fmt.Sprintf("%s and %d more", paths[0], len(paths)-1)
}

// gitVersion looks whether git is new enough for what is asked of it.
func (x *exam) gitVersion(ctx context.Context) []Finding {
	update := x.asRoot("apt-get", "install", "git")
	version, err := x.repo.Version(ctx)
	if err != nil {
		return []Finding{broken(update, "git cannot be run: %v", err)}
	}
	switch {
	case older(version, 2, 29):
		return []Finding{broken(update, "git %s is older than 2.29 and knows no proc-receive hook: \"git push\" succeeds whatever the deployment does", version)}
	case x.signersFile() != "" && older(version, 2, 34):
		return []Finding{broken(update, "git %s is older than 2.34 and cannot verify tags that are signed with SSH keys: none promotes", version)}
	case older(version, 2, 36):
		return []Finding{warning(update, "git %s is older than 2.36 and ignores core.fsync: after a power cut the branch may be lost", version)}
	}
	return ok("git is version %s", version)
}

// older tells whether a version of git's is older than major.minor. One that
// cannot be read is not.
func older(version string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(version, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}

// A setting is one of git's that the hooks rely on.
type setting struct {
	key, value string
	without    string // what is wrong without it
	set        bool
}

// settings looks at git's configuration, whatever file it is in.
func (x *exam) settings(context.Context) []Finding {
	c := x.config
	list := []setting{
		{"receive.advertisePushOptions", "true", "push options such as -o live are refused", c.Bool("receive.advertisepushoptions")},
		{"receive.fsckObjects", "true", "malformed objects are stored", c.Bool("receive.fsckobjects")},
		{"receive.maxInputSize", "2g", "a push may fill the disk", c.Last("receive.maxinputsize") != "" && c.Last("receive.maxinputsize") != "0"},
		{"core.fsync", "all", "a power cut may lose the branch", c.Last("core.fsync") == "all"},
	}
	found := x.procReceiveRefs()
	for _, s := range list {
		if s.set {
			continue
		}
		argv := []string{"config", "--replace-all", s.key, s.value}
		found = append(found, warning(x.gitCommand(argv), "%s is not %s: %s", s.key, s.value, s.without).
			by(x.configure(argv)))
	}
	return or(found, "git's settings are in order")
}

// procReceiveRefs looks whether git hands to proc-receive what it is to handle.
// Without the hook, git refuses what it would have to hand over.
func (x *exam) procReceiveRefs() []Finding {
	refs := x.config["receive.procreceiverefs"]
	if _, err := os.Stat(filepath.Join(x.hooks, "proc-receive")); err != nil || x.env == nil {
		return nil
	}
	var found []Finding
	for want, probe := range map[string]string{x.env.Rules().BranchRef(): "", "refs/tags": "/release-1"} {
		if covers(refs, want+probe) {
			continue
		}
		argv := []string{"config", "--add", "receive.procReceiveRefs", want}
		found = append(found, broken(x.gitCommand(argv), "receive.procReceiveRefs does not name %s: proc-receive is not asked about it, and \"git push\" succeeds whatever the deployment does", want).
			by(x.configure(argv)))
	}
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.Fix, b.Fix) })
	return found
}

// covers tells whether git hands every kind of update of ref to proc-receive:
// whole path components match, "adm:" says which kinds, "!" all others.
func covers(refs []string, ref string) bool {
	for _, kind := range "adm" { // added, deleted, modified
		if !slices.ContainsFunc(refs, func(entry string) bool {
			flags, prefix, given := strings.Cut(entry, ":")
			if !given {
				flags, prefix = "adm", entry
			}
			matches := inside(ref, strings.TrimRight(prefix, "/"))
			return strings.ContainsRune(flags, kind) && matches != strings.Contains(flags, "!")
		}) {
			return false
		}
	}
	return true
}

func (x *exam) gitCommand(argv []string) string {
	return x.asAccount(append([]string{"git", "-C", x.repo.Dir}, argv...)...)
}

// configure changes git's configuration, if the file remains its account's.
func (x *exam) configure(argv []string) func(context.Context) error {
	return func(ctx context.Context) error {
		if os.Geteuid() != x.owner {
			return fmt.Errorf("only %s may do that", x.account.Name)
		}
		_, err := x.repo.Run(ctx, argv...)
		return err
	}
}

// head looks where HEAD leads: clones check that out, and so does the script
// that deployed by "git checkout -f".
func (x *exam) head(ctx context.Context) []Finding {
	want := x.env.Rules().BranchRef()
	mend := x.gitCommand([]string{"symbolic-ref", "HEAD", want})
	at, err := x.repo.SymbolicTarget(ctx, "HEAD")
	switch {
	case err != nil:
		return []Finding{broken(mend, "HEAD cannot be read: %v", err)}
	case at == "":
		return []Finding{warning(mend, "HEAD is detached, and %s is deployed: clones and a hook that runs \"git checkout -f\" follow HEAD", want)}
	case at != want:
		return []Finding{warning(mend, "HEAD points at %s, and %s is deployed: clones and a hook that runs \"git checkout -f\" follow HEAD", at, want)}
	}
	return ok("HEAD points at %s, which is deployed", want)
}
