package install

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/install/host"
)

// How long programs may take.
const (
	quick = time.Minute
	slow  = 20 * time.Minute // apt-get, on a slow mirror, behind another apt-get
)

// packages maps each package that is needed to programs of which one is enough.
func (i *Installation) packages() map[string][]string {
	needed := map[string][]string{"git": {"git"}, "sudo": {"sudo"}}
	switch i.o.Web {
	case "apache":
		needed["apache2"] = webServers()["apache"]
	case "nginx":
		needed["nginx"] = webServers()["nginx"]
	}
	return needed
}

// webServers maps what --web may be to programs of which each is that server.
func webServers() map[string][]string {
	return map[string][]string{"apache": {"apache2", "httpd"}, "nginx": {"nginx"}}
}

// WebServer returns what --web is on a host as it is: the server that is there,
// or "none".
func WebServer(h *host.Host) string {
	for _, web := range []string{"apache", "nginx"} {
		if slices.ContainsFunc(webServers()[web], func(p string) bool { return h.Program(p) != "" }) {
			return web
		}
	}
	return "none"
}

func (i *Installation) planPackages(ctx context.Context) ([]Change, error) {
	var absent []string
	for name, programs := range i.packages() {
		if !slices.ContainsFunc(programs, func(p string) bool { return i.host.Program(p) != "" }) {
			absent = append(absent, name)
		}
	}
	slices.Sort(absent)
	if i.host.Program("sshd") == "" {
		i.warn("there is no sshd here, which pushes over ssh need: apt-get install openssh-server")
	}
	if i.host.Program("git") != "" {
		if err := i.checkGit(ctx); err != nil {
			return nil, err
		}
	}
	if len(absent) == 0 {
		return nil, nil
	}
	if i.host.Program("apt-get") == "" {
		return nil, refuse("install them with this system's own package manager, then run this again",
			"there is no apt-get here, and these are missing: %s", strings.Join(absent, ", "))
	}
	// Unattended upgrades, for one, run at a new droplet's first boot.
	get := []string{"apt-get", "-o", "DPkg::Lock::Timeout=300"}
	install := append(append(slices.Clone(get), "install", "-y", "--no-install-recommends"), absent...)
	return []Change{
		i.running(slow, append(slices.Clone(get), "update")...),
		{"run " + command.Line(install), func(ctx context.Context) error {
			if err := i.host.Run(ctx, nil, slow, install...); err != nil {
				return err
			}
			return i.checkGit(ctx)
		}},
	}, nil
}

// running plans that root runs a program.
func (w *Work) running(timeout time.Duration, argv ...string) Change {
	return Change{"run " + command.Line(argv), func(ctx context.Context) error {
		return w.host.Run(ctx, nil, timeout, argv...)
	}}
}

// checkGit refuses a git that knows no proc-receive.
func (i *Installation) checkGit(ctx context.Context) error {
	out, err := i.host.Read(ctx, nil, quick, "git", "version")
	if err != nil {
		return err
	}
	version := strings.TrimPrefix(strings.TrimSpace(out), "git version ")
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("git calls itself %q, which is no version", version)
	}
	if major < 2 || major == 2 && minor < 29 {
		return refuse("upgrade git, or wire up post-receive alone, as the README shows",
			"git %s is too old: the hook that fails a push when its deployment fails needs 2.29", version)
	}
	return nil
}

func (i *Installation) planAccount(context.Context) ([]Change, error) {
	a, err := i.account()
	if err != nil {
		return nil, err
	}
	if a.UID < 0 {
		// "*" is no password, and not a locked account either, which sshd would
		// refuse even with a key.
		return []Change{i.running(quick, "useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", a.Name)}, nil
	}
	if !RunsCommands(a.Shell) {
		return nil, refuse(fmt.Sprintf("usermod --shell /bin/sh %s; its keys are bound to one command all the same", a.Name),
			"the shell of %s, %s, runs no command for sshd", a.Name, a.Shell)
	}
	if open, err := i.host.HasPassword(a.Name); err != nil {
		return nil, err
	} else if open {
		i.warn("%s can log in with a password; usermod --password '*' %s takes it away", a.Name, a.Name)
	}
	home, err := i.host.Follow(a.Home)
	if err != nil || home != nil {
		return nil, err
	}
	return []Change{{"make the directory " + a.Home + " (" + a.Name + ", 0755)", func(context.Context) error {
		return i.host.Mkdir(a.Home, a, 0o755)
	}}}, nil
}

// RunsCommands tells whether sshd can run a command by an account's shell.
func RunsCommands(shell string) bool {
	return !slices.Contains([]string{"nologin", "false", "git-shell", "true"}, path.Base(shell))
}

func (i *Installation) planWebRoot(context.Context) ([]Change, error) {
	dir := i.cfg.Deploy.Directory
	if i.cfg.Deploy.Releases != "" {
		e, err := i.host.Look(dir)
		if err != nil || e == nil || e.Mode.Type() == fs.ModeSymlink {
			return nil, err // see planReleases
		}
	}
	e, err := i.host.Follow(dir)
	if err != nil {
		return nil, err
	}
	a, err := i.account()
	switch {
	case err != nil || !i.trusted:
		return nil, err
	case e == nil:
		return []Change{{"make the directory " + dir + " (" + a.Name + ", 0755)", func(context.Context) error {
			a, err := i.account()
			if err != nil {
				return err
			}
			return i.host.Mkdir(dir, a, 0o755)
		}}}, nil
	case !e.Mode.IsDir():
		return nil, refuse("move it away, or choose another one with --directory", "the web root %s is not a directory", dir)
	case e.UID == a.UID && e.Mode&0o700 == 0o700:
		return nil, nil
	}
	// Its group may be the web server's, and stays.
	perm := e.Mode.Perm() | 0o700
	return []Change{{fmt.Sprintf("give %s to %s (%#o); what is in it stays as it is", dir, a.Name, perm), func(context.Context) error {
		a, err := i.account()
		if err != nil {
			return err
		}
		return i.host.Own(dir, a.UID, e.GID, perm)
	}}}, nil
}
