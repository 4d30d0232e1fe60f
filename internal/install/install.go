package install

import (
	"cmp"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	templates "bluegreen/install"
	"bluegreen/internal/config"
	"bluegreen/internal/install/host"
)

// Options say what to set up. Empty ones stand for their defaults, or for what
// the repository's configuration says where there is one already.
type Options struct {
	Root        string         // "/" or a throw-away root, absolute; "" is "/"
	HostName    string         // this machine's
	Environment string         // default: HostName
	User        string         // the account that is pushed to; default: deploy
	Repo        string         // the bare repository, absolute; default: sample_app in the account's home
	Directory   string         // what the web server serves; default: /var/www/html
	Releases    string         // where whole releases go; "" deploys in place
	Branch      string         // default: master
	Web         string         // "apache", "nginx" or "none"; default: as before, or apache
	Keys        []string       // public key files, outside of Root
	IP          string         // the floating IP; "" for no promotion
	Droplets    map[string]int // environment to droplet id, with IP
	TokenFile   string         // to be copied, outside of Root; "" leaves the token as it is
	APIURL      string         // default: DigitalOcean's
	MetadataURL string         // default: the droplet's own
	Programs    string         // where the four programs are, outside of Root
	Version     string         // theirs
}

// An Installation is the work of setting a server up.
type Installation struct {
	Work
	o        Options
	cfg      *config.Config // as it is, or as it will be
	trusted  bool           // root may do what cfg asks for; see trust.go
	text     string         // of the configuration as it is to be; "" leaves it as it is
	record   *Record
	recorded bool   // the record is on disk
	web      string // as it was asked for
	asked    bool   // the API
	answer   string // what it has against a promotion; "" for nothing
}

// An OptionError is about an option by itself, or one that another needs.
type OptionError struct{ reason error }

func (e *OptionError) Error() string { return e.reason.Error() }

func (e *OptionError) Unwrap() error { return e.reason }

func wrongOption(format string, args ...any) error {
	return &OptionError{fmt.Errorf(format, args...)}
}

// New checks what is asked for against the host, and changes nothing. Its error
// may be an *OptionError, a *Refusal or a *config.Error; any other one is about
// looking at the host.
func New(o Options) (*Installation, error) {
	o.Root = cmp.Or(o.Root, "/")
	o.User = cmp.Or(o.User, "deploy")
	i := &Installation{o: o, Work: Work{host: &host.Host{Root: o.Root}}}
	return i, i.prepare()
}

func (i *Installation) prepare() error {
	if err := i.checkOptions(); err != nil {
		return err
	}
	account, err := i.account()
	if err != nil {
		return err
	}
	i.o.Repo = cmp.Or(i.o.Repo, path.Join(account.Home, "sample_app"))
	i.title = "install " + path.Base(i.o.Repo)
	if err := i.checkRepo(); err != nil {
		return err
	}
	i.web = i.o.Web
	i.refresh = i.lookAgain
	if err := i.lookAgain(); err != nil {
		return err
	}
	i.steps = []step{
		{"record", "so that uninstall can undo what follows", i.planRecord},
		{"packages", "git takes the pushes, the web server serves, sudo runs what the configuration allows", i.planPackages},
		{"account", "pushes come in as an account of their own, without a password", i.planAccount},
		{"web root", "the account writes what the web server serves", i.planWebRoot},
		{"programs", "root's own, in directories of root's", i.planPrograms},
		{"repository", "what is pushed is stored here", i.planRepository},
		{"broker", "root's program that alone has the token is told what it may move", i.planBroker},
		{"sudoers", "the configuration's commands, with exactly their arguments", i.planSudoers},
		{"configuration", "what is deployed, and how it is checked; root's own", i.planConfiguration},
		{"releases", "each deployment is a directory of its own, and the web root leads to one", i.planReleases},
		{"token", "to move the floating IP, for one account alone", i.planToken},
		{"hooks", "links to root's programs; hooks that are there are kept beside", i.planHooks},
		{"settings", "git asks the hooks, checks what it gets, and makes it durable", i.planSettings},
		{"keys", "each key may push and fetch here, and look; no shell", i.planKeys},
		{"boot", "a crash is recovered from before the web server starts", i.planUnit},
		{"guard", "what the account puts in the place of root's own is refused by the next run", i.planGuard},
	}
	return nil
}

// lookAgain reads what another installation may have changed: the record and
// the configuration.
func (i *Installation) lookAgain() error {
	if err := i.readRecord(); err != nil {
		return err
	}
	i.o.Web = cmp.Or(i.web, i.record.Web, "apache")
	if err := i.checkGuarded(); err != nil {
		return err
	}
	if err := i.configure(); err != nil {
		return err
	}
	return i.checkDirectory()
}

// checkOptions looks at each option by itself.
func (i *Installation) checkOptions() error {
	o := i.o
	switch {
	case !regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`).MatchString(o.User):
		return wrongOption("--user: %q is not an account's name", o.User)
	case o.User == "root":
		return refuse("leave --user out: an account of its own, deploy, is made", "pushes must not come in as root")
	case !slices.Contains([]string{"", "apache", "nginx", "none"}, o.Web):
		return wrongOption("--web: %q is none of apache, nginx and none", o.Web)
	}
	if o.IP != "" {
		if ip, err := netip.ParseAddr(o.IP); err != nil || !ip.Is4() {
			return wrongOption("--ip: %q is not an IPv4 address", o.IP)
		}
	}
	for _, path := range []string{o.Repo, o.Directory, o.Releases} {
		if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
			return wrongOption("%q is not an absolute path without detours", path)
		}
	}
	if o.Environment != "" {
		if err := config.EnvironmentName(o.Environment); err != nil {
			return wrongOption("--environment: %w", err)
		}
	}
	return nil
}

// account returns the account that is pushed to, with an id of -1 and the home
// that it will have where there is none yet.
func (i *Installation) account() (host.Account, error) {
	a, err := i.host.Account(i.o.User)
	if err != nil {
		return host.Account{}, err
	}
	if a == nil {
		return host.Account{Name: i.o.User, UID: -1, GID: -1, Home: "/home/" + i.o.User, Shell: "/bin/sh"}, nil
	}
	if a.UID == 0 {
		return *a, refuse("choose another account with --user", "%s is root under another name", i.o.User)
	}
	if !filepath.IsAbs(a.Home) || filepath.Clean(a.Home) != a.Home || a.Home == "/" {
		return *a, refuse("give it one: usermod --home /home/"+a.Name+" "+a.Name, "%s has no home of its own: %q", a.Name, a.Home)
	}
	return *a, nil
}

// checkRepo keeps to paths that stand in units and their names, sudoers lines,
// forced commands and remote addresses as they are.
func (i *Installation) checkRepo() error {
	repo := i.o.Repo
	if !regexp.MustCompile(`^(/[A-Za-z0-9_][A-Za-z0-9._-]*)+$`).MatchString(repo) {
		return wrongOption("--repo: %q has a character other than letters, digits and /._-, or a name that begins with a dot or dash", repo)
	}
	if system(repo) || system(i.host.Resolve(repo)) {
		return refuse("put it below the account's home", "%s is no place for a repository", repo)
	}
	e, err := i.host.Look(repo)
	if err == nil && e != nil && !e.Mode.IsDir() {
		err = refuse("choose another place with --repo", "%s is there, and is not a directory", repo)
	}
	return err
}

// checkDirectory refuses web roots, and directories of releases, that would be a
// mistake to hand over.
func (i *Installation) checkDirectory() error {
	d := i.cfg.Deploy
	if err := i.checkPlace(d.Directory, "a web root", "--directory"); err != nil {
		return err
	}
	if d.Releases != "" {
		if err := i.checkPlace(d.Releases, "releases", "--releases"); err != nil {
			return err
		}
	}
	return i.checkShared(d.Directory)
}

func (i *Installation) checkPlace(dir, what, option string) error {
	repo := i.o.Repo
	realDir, realRepo := i.host.Resolve(dir), i.host.Resolve(repo)
	if taken(dir) || taken(realDir) {
		return refuse("choose a directory that has nothing else in it, such as /var/www/html",
			"%s is no place for %s: what is there belongs to the system", dir, what)
	}
	if overlap(dir, repo) || overlap(realDir, realRepo) {
		return refuse("choose another one with "+option+" or --repo",
			"%q, for %s, and the repository %q must not lie in each other", dir, what, repo)
	}
	a, err := i.account()
	if err != nil {
		return err
	}
	if home := i.host.Resolve(a.Home); within(a.Home, dir) || within(home, realDir) {
		return refuse("choose a directory of its own below it, or another one, with "+option,
			"%q has the home of %s in it: whoever pushes would write what its shell and ssh read", dir, a.Name)
	}
	return nil
}

// taken tells whether a directory is, or may become, more than a web root:
// programs run what is there, or read their settings in it.
func taken(dir string) bool {
	for _, whole := range []string{"/root", "/usr", "/var/backups", "/var/cache", "/var/lib", "/var/log", "/var/mail", "/var/spool"} {
		if within(dir, whole) {
			return true
		}
	}
	return system(dir) || path.Dir(dir) == "/home" || strings.Contains(dir, "/.")
}

// within tells whether a path is below a directory, or is that.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// checkShared refuses the web root of another repository: each deployment would
// take away what the other one has put there.
func (i *Installation) checkShared(dir string) error {
	others, err := otherRecords(i.host, i.o.Repo)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.Directory != "" && overlap(i.host.Resolve(dir), i.host.Resolve(other.Directory)) {
			return refuse("give each repository its own, with --directory, or deploy.directory in its configuration",
				"the web root %q is that of %s, %q", dir, other.Repo, other.Directory)
		}
	}
	return nil
}

func overlap(a, b string) bool {
	return within(a, b) || within(b, a)
}

// system tells whether a directory is the system's as a whole.
func system(dir string) bool {
	for _, whole := range []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys",
		ProgramsDir, recordsDir, path.Dir(LogPath)} {
		if within(dir, whole) {
			return true
		}
	}
	return slices.Contains([]string{"/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/usr/bin",
		"/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share", "/var", "/var/cache",
		"/var/lib", "/var/log", "/var/spool", "/var/tmp"}, dir)
}

// Next returns the lines to type on the development machine. address is this
// server's, as that machine reaches it.
func (i *Installation) Next(address string) []string {
	repo := i.o.Repo
	if a, err := i.account(); err == nil {
		repo = strings.TrimPrefix(repo, a.Home+"/") // ssh starts in the home
	}
	name := i.cfg.Environment
	if !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(name) {
		name = "production" // git takes few names for a remote
	}
	return []string{
		fmt.Sprintf("git remote add %s %s@%s:%s", name, i.o.User, address, repo),
		fmt.Sprintf("git push %s %s", name, i.cfg.Deploy.Branch),
	}
}

// Hints returns what is left for a person to do, beyond the work.
func (i *Installation) Hints() []string {
	var hints []string
	if dir := i.cfg.Deploy.Directory; dir != "/var/www/html" && i.o.Web != "none" {
		name := templates.ApacheHint
		if i.o.Web == "nginx" {
			name = templates.NginxHint
		}
		if hint, err := templates.Render(name, &templates.Site{Directory: dir}); err == nil {
			hints = append(hints, strings.TrimSpace(string(hint)))
		}
	}
	if text, err := i.host.ReadFile(i.authorizedKeys()); err != nil || !strings.Contains(string(text), i.o.Repo+" ssh ") {
		hints = append(hints, fmt.Sprintf("no key may push here yet: bluegreen install --user %s --repo %s --key id_ed25519.pub", i.o.User, i.o.Repo))
	}
	return hints
}

// isRoot tells whether an entry is root's and changed by nobody else.
func isRoot(e *host.Entry) bool {
	return e.UID == host.Superuser().UID && e.Mode.Perm()&(fs.FileMode(0o022)) == 0
}
