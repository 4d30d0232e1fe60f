package install

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/index"
)

// current is the symlink among the releases that leads to the live one. The web
// root leads to it, because the account may not write beside the web root.
const current = "current"

// firstRelease is what a web root becomes that was a directory.
const firstRelease = "1"

// planReleases plans the directory of the releases, and the web root as a
// symlink into it.
func (i *Installation) planReleases(ctx context.Context) ([]Change, error) {
	dir, releases := i.cfg.Deploy.Directory, i.cfg.Deploy.Releases
	if releases == "" || !i.trusted {
		return nil, nil
	}
	changes, err := i.planReleasesDirectory(releases)
	if err != nil {
		return nil, err
	}
	e, err := i.host.Look(dir)
	switch {
	case err != nil:
		return nil, err
	case e == nil:
		return append(changes, Change{fmt.Sprintf("link %s to %s/%s", dir, releases, current), func(context.Context) error {
			return i.host.Symlink(path.Join(releases, current), dir)
		}}), nil
	case e.Mode.Type() == fs.ModeSymlink:
		target := e.Target
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(dir), target)
		}
		if path.Dir(path.Clean(target)) != releases {
			return nil, refuse("change deploy.directory or deploy.releases, or remove the symlink",
				"the web root %s is a symlink to %s, which is not in %s", dir, e.Target, releases)
		}
		return changes, nil
	case !e.Mode.IsDir():
		return nil, refuse("move it away, then run this again", "the web root %s is neither a directory nor a symlink", dir)
	}
	if err := i.noneLost(dir); err != nil {
		return nil, err
	}
	return append(changes, Change{
		fmt.Sprintf("make %s the first release, %s/%s, in one exchange for a symlink to %s/%s", dir, releases, firstRelease, releases, current),
		i.convert,
	}), nil
}

func (i *Installation) planReleasesDirectory(releases string) ([]Change, error) {
	e, err := i.host.Follow(releases)
	if err != nil {
		return nil, err
	}
	a, err := i.account()
	if err != nil {
		return nil, err
	}
	switch {
	case e == nil:
		return []Change{{fmt.Sprintf("make the directory %s (%s, 0755)", releases, a.Name), func(context.Context) error {
			a, err := i.account()
			if err != nil {
				return err
			}
			return i.host.Mkdir(releases, a, 0o755)
		}}}, nil
	case !e.Mode.IsDir():
		return nil, refuse("move it away, then run this again", "%s is not a directory", releases)
	case e.UID == a.UID && e.Mode&0o700 == 0o700:
		return nil, nil
	}
	return nil, refuse(fmt.Sprintf("give it to the account: chown %s: %s", a.Name, releases),
		"the directory of the releases, %s, belongs to %s, not to %s", releases, i.host.NameOf(e.UID), a.Name)
}

// noneLost refuses a web root with files that are neither the commit's nor
// shared: the next release would not have them, and what does not belong to a
// commit is removed from a release when it is used again.
func (i *Installation) noneLost(dir string) error {
	tracked, err := i.tracked()
	if err != nil {
		return err
	}
	d := i.cfg.Deploy
	keep := slices.Clone(d.Shared)
	if d.Marker != "" {
		keep = append(keep, d.Marker)
	}
	lost, err := i.strangers(dir, "", tracked, keep)
	lost = slices.DeleteFunc(lost, func(name string) bool { return i.isWelcome(path.Join(dir, name)) })
	if err != nil || len(lost) == 0 {
		return err
	}
	slices.Sort(lost)
	shown := strings.Join(lost[:min(len(lost), 5)], ", ")
	if len(lost) > 5 {
		shown += fmt.Sprintf(" and %d more", len(lost)-5)
	}
	return refuse("name in deploy.shared what is to outlive a release, remove the rest, and run this again",
		"%s has what no commit has, and what the next release would not have: %s", dir, shown)
}

// isWelcome tells whether a file is the page that a web server's package puts
// there.
func (i *Installation) isWelcome(file string) bool {
	switch path.Base(file) {
	case "index.html", "index.nginx-debian.html":
	default:
		return false
	}
	text, err := i.host.ReadFile(file)
	return err == nil && (bytes.Contains(text, []byte("Default Page: It works")) || bytes.Contains(text, []byte("<title>Welcome to nginx!</title>")))
}

// tracked returns what the repository's index says the web root holds, with the
// directories above.
func (i *Installation) tracked() (map[string]bool, error) {
	paths := map[string]bool{}
	e, err := i.host.Look(path.Join(i.o.Repo, "index"))
	if err != nil || e == nil {
		return paths, err
	}
	if !e.Mode.IsRegular() {
		return nil, fmt.Errorf("reading what the web root holds: the index of %s is not a regular file", i.o.Repo)
	}
	repo := filepath.Join(i.host.Root, i.o.Repo)
	x, _, err := index.ReadKnown(filepath.Join(repo, "index"), repo, sha1.Size, index.Mark{})
	if err != nil {
		x, _, err = index.ReadKnown(filepath.Join(repo, "index"), repo, sha256.Size, index.Mark{})
	}
	if err != nil {
		return nil, fmt.Errorf("reading what the web root holds: %w", err)
	}
	for n := range x.Len() {
		for p := string(x.Path(n)); p != "." && !paths[p]; p = path.Dir(p) {
			paths[p] = true
		}
	}
	return paths, nil
}

// strangers lists what is below dir and neither tracked nor to be kept: a
// directory of strangers as one.
func (i *Installation) strangers(dir, below string, tracked map[string]bool, keep []string) ([]string, error) {
	names, err := i.host.List(path.Join(dir, below))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		p := path.Join(below, name)
		leads := slices.ContainsFunc(keep, func(k string) bool { return strings.HasPrefix(k, p+"/") })
		switch {
		case slices.Contains(keep, p):
		case tracked[p] || leads:
			e, err := i.host.Look(path.Join(dir, p))
			if err != nil {
				return nil, err
			}
			if e == nil || !e.Mode.IsDir() {
				continue
			}
			more, err := i.strangers(dir, p, tracked, keep)
			if err != nil {
				return nil, err
			}
			found = append(found, more...)
		default:
			found = append(found, p)
		}
	}
	return found, nil
}

// convert makes the web root the first release. Nobody is served anything else
// at any moment: the directory and the symlink change places in one step. A
// deployment that runs is waited for; those that come are refused until then.
func (i *Installation) convert(ctx context.Context) error {
	dir, releases := i.cfg.Deploy.Directory, i.cfg.Deploy.Releases
	first := path.Join(releases, firstRelease)
	unlock, err := i.host.LockDirectory(ctx, dir, time.Minute)
	if err != nil {
		return err
	}
	defer unlock()
	if e, err := i.host.Look(first); err != nil {
		return err
	} else if e != nil && e.Mode.Type() != fs.ModeSymlink {
		return refuse("move it away, then run this again", "%s is there already", first)
	}
	a, err := i.account()
	if err != nil {
		return err
	}
	if err := i.host.Symlink(firstRelease, path.Join(releases, current)); err != nil {
		return err
	}
	if err := i.host.OwnLink(path.Join(releases, current), a); err != nil {
		return err
	}
	// What is to be the web root waits where the directory is to go.
	if err := i.host.Symlink(path.Join(releases, current), first); err != nil {
		return err
	}
	return i.host.Exchange(dir, first)
}
