package install

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	templates "bluegreen/install"
	"bluegreen/internal/install/host"
)

func (i *Installation) unitPath() string { return UnitPath(i.o.Repo) }

// UnitPath returns where the unit of a repository is that runs at boot.
func UnitPath(repo string) string {
	return "/etc/systemd/system/bluegreen-recover-" + path.Base(repo) + ".service"
}

func (i *Installation) wantsPath() string { return WantsPath(i.o.Repo) }

// WantsPath returns where the symlink is that enables it.
func WantsPath(repo string) string {
	return "/etc/systemd/system/multi-user.target.wants/" + path.Base(UnitPath(repo))
}

func (i *Installation) unit() (string, error) {
	d := i.cfg.Deploy
	site := &templates.Site{Repo: i.o.Repo, User: i.o.User, Mounts: []string{i.o.Repo}}
	if plain(d.Directory) {
		site.Mounts = append(site.Mounts, d.Directory)
	}
	writes := []string{i.o.Repo, d.Directory}
	if d.Releases != "" {
		writes = []string{i.o.Repo, d.Releases, path.Dir(d.Directory)}
	}
	if i.cfg.Program() == "" && !slices.ContainsFunc(writes, hidden) {
		site.Writes = writes
	}
	text, err := templates.Render(templates.Unit, site)
	return string(text), err
}

// plain tells whether systemd takes a path as it is: it gives some characters a
// meaning of their own.
func plain(path string) bool {
	return !strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`%\"'`, r) })
}

// hidden tells whether a directory cannot be given to a unit that has a /tmp of
// its own.
func hidden(dir string) bool { return !plain(dir) || within(dir, "/tmp") || within(dir, "/var/tmp") }

// planUnit plans the unit and its enabling, which is a symlink: systemd need
// not be running.
func (i *Installation) planUnit(context.Context) ([]Change, error) {
	text, err := i.unit()
	if err != nil {
		return nil, err
	}
	changes, err := i.file(i.unitPath(), text, host.Superuser(), 0o644)
	if err != nil {
		return nil, err
	}
	link := i.wantsPath()
	e, err := i.host.Look(link)
	if err != nil {
		return nil, err
	}
	if e == nil || e.Target != i.unitPath() {
		if e != nil && e.Mode.Type() != fs.ModeSymlink {
			return nil, refuse("move it away, then run this again", "%s is there, and is not a symlink", link)
		}
		changes = append(changes, Change{"link " + link + " to it", func(context.Context) error {
			dir := path.Dir(link)
			if e, err := i.host.Follow(dir); err != nil {
				return err
			} else if e == nil {
				if err := i.host.Mkdir(dir, host.Superuser(), 0o755); err != nil {
					return err
				}
			}
			return i.host.Symlink(i.unitPath(), link)
		}})
	}
	if len(changes) > 0 && i.systemd() {
		changes = append(changes, i.running(quick, "systemctl", "daemon-reload"))
	}
	return changes, nil
}

// systemd tells whether it runs this host.
func (w *Work) systemd() bool {
	if w.host.Root != "/" || w.host.Program("systemctl") == "" {
		return false
	}
	_, err := os.Stat("/run/systemd/system")
	return !errors.Is(err, fs.ErrNotExist)
}
