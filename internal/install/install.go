package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
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
}

// An Installation is the work of setting a server up.
type Installation struct {
	Work
	o        Options
	cfg      *config.Config // as it is, or as it will be
	text     string         // of the configuration that is to be written; "" where there is one
	record   *Record
	recorded bool   // the record is on disk
	asked    bool   // the API
	answer   string // what it has against a promotion; "" for nothing
}

// New checks what is asked for against the host, and changes nothing. A
// *Refusal, or an error of the configuration's, tells what stands against it;
// any other error is about the options.
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
	if i.record, err = readRecord(i.host, i.o.Repo); err != nil {
		return err
	}
	if i.recorded = i.record != nil; !i.recorded {
		i.record = &Record{Repo: i.o.Repo, User: i.o.User}
	}
	if i.record.User != i.o.User {
		return refuse("uninstall it first: bluegreen uninstall --repo "+i.o.Repo,
			"%s is set up for the account %s, not %s", i.o.Repo, i.record.User, i.o.User)
	}
	i.o.Web = cmp.Or(i.o.Web, i.record.Web, "apache")
	if err := i.configure(); err != nil {
		return err
	}
	if err := i.checkDirectory(); err != nil {
		return err
	}
	i.steps = []step{
		{"record", "so that uninstall can undo what follows", i.planRecord},
		{"packages", "git takes the pushes, the web server serves, sudo runs what the configuration allows", i.planPackages},
		{"account", "pushes come in as an account of their own, without a password", i.planAccount},
		{"web root", "the account writes what the web server serves", i.planWebRoot},
		{"programs", "root's own, so that no pusher can replace them", i.planPrograms},
		{"repository", "what is pushed is stored here", i.planRepository},
		{"configuration", "what is deployed, and how it is checked; root's own", i.planConfiguration},
		{"releases", "each deployment is a directory of its own, and the web root leads to one", i.planReleases},
		{"token", "for the account alone, to move the floating IP", i.planToken},
		{"sudoers", "the configuration's commands, with exactly their arguments", i.planSudoers},
		{"hooks", "links to root's programs; hooks that are there are kept beside", i.planHooks},
		{"settings", "git asks the hooks, checks what it gets, and makes it durable", i.planSettings},
		{"keys", "each key may push and fetch here, and look; no shell", i.planKeys},
		{"boot", "a crash is recovered from before the web server starts", i.planUnit},
	}
	return nil
}

// checkOptions looks at each option by itself.
func (i *Installation) checkOptions() error {
	o := i.o
	switch {
	case !regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`).MatchString(o.User):
		return fmt.Errorf("--user: %q is not an account's name", o.User)
	case o.User == "root":
		return refuse("leave --user out: an account of its own, deploy, is made", "pushes must not come in as root")
	case !slices.Contains([]string{"", "apache", "nginx", "none"}, o.Web):
		return fmt.Errorf("--web: %q is none of apache, nginx and none", o.Web)
	}
	if o.IP != "" {
		if ip, err := netip.ParseAddr(o.IP); err != nil || !ip.Is4() {
			return fmt.Errorf("--ip: %q is not an IPv4 address", o.IP)
		}
	}
	for _, path := range []string{o.Repo, o.Directory, o.Releases} {
		if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
			return fmt.Errorf("%q is not an absolute path without detours", path)
		}
	}
	if o.Environment != "" {
		if err := config.EnvironmentName(o.Environment); err != nil {
			return fmt.Errorf("--environment: %w", err)
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

// checkRepo keeps to paths that stand in units, sudoers lines, forced commands
// and remote addresses as they are.
func (i *Installation) checkRepo() error {
	repo := i.o.Repo
	if !regexp.MustCompile(`^(/[A-Za-z0-9_+][A-Za-z0-9._+-]*)+$`).MatchString(repo) {
		return fmt.Errorf("--repo: %q has a character other than letters, digits and /._+-, or a name that begins with a dot or dash", repo)
	}
	if system(repo) {
		return refuse("put it below the account's home", "%s is no place for a repository", repo)
	}
	return nil
}

// checkDirectory refuses web roots that would be a mistake to hand over.
func (i *Installation) checkDirectory() error {
	dir, repo := i.cfg.Deploy.Directory, i.o.Repo
	if system(dir) {
		return refuse("choose a directory that has nothing else in it, such as /var/www/html",
			"%s is no place for a web root: what is there belongs to the system", dir)
	}
	realDir, realRepo := i.resolved(dir), i.resolved(repo)
	if overlap(dir, repo) || overlap(realDir, realRepo) {
		return refuse("choose another one with --directory or --repo",
			"the web root %q and the repository %q must not lie in each other", dir, repo)
	}
	return nil
}

// resolved follows the symlinks of what there is of a path already.
func (i *Installation) resolved(path string) string {
	rest := ""
	for at := path; at != "/"; at = filepath.Dir(at) {
		if real, err := filepath.EvalSymlinks(filepath.Join(i.o.Root, at)); err == nil {
			return filepath.Join(real, rest)
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
	return filepath.Join(i.o.Root, path)
}

func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// system tells whether a directory is the system's as a whole.
func system(dir string) bool {
	for _, whole := range []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys"} {
		if dir == whole || strings.HasPrefix(dir, whole+"/") {
			return true
		}
	}
	return slices.Contains([]string{"/", "/home", "/media", "/mnt", "/opt", "/root", "/srv", "/tmp", "/usr", "/usr/bin",
		"/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/sbin", "/usr/share", "/var", "/var/cache",
		"/var/lib", "/var/log", "/var/spool", "/var/tmp"}, dir)
}

// configPath is where the configuration is.
func (i *Installation) configPath() string { return path.Join(i.o.Repo, "bluegreen.toml") }

// configure reads the configuration, or makes the one that will be written. It
// is checked in either case.
func (i *Installation) configure() error {
	e, err := i.host.Look(i.configPath())
	if err != nil {
		return err
	}
	var text []byte
	switch {
	case e == nil:
		if text, err = i.newConfiguration(); err == nil {
			i.text = string(text)
		}
	case !e.Mode.IsRegular():
		return refuse("put the file itself there", "%s is there, and is not a regular file", i.configPath())
	default:
		text, err = i.host.ReadFile(i.configPath())
	}
	if err != nil {
		return err
	}
	if i.cfg, err = config.Parse(i.configPath(), text, i.o.HostName); err != nil {
		return err
	}
	if err := i.cfg.Unsupported(); err != nil {
		return err
	}
	if e != nil {
		return i.contradiction()
	}
	return nil
}

func (i *Installation) newConfiguration() ([]byte, error) {
	o, self := i.o, cmp.Or(i.o.Environment, i.o.HostName)
	if o.IP == "" && (len(o.Droplets) > 0 || o.TokenFile != "" || o.APIURL != "" || o.MetadataURL != "") {
		return nil, errors.New("--droplet, --token-file, --api-url and --metadata-url go with --ip, the floating IP")
	}
	if o.IP != "" && o.Droplets[self] == 0 {
		return nil, fmt.Errorf("--ip needs --droplet %s=ID, the droplet of this environment, and one for each other", self)
	}
	site := &templates.Site{
		Environment: self, Branch: cmp.Or(o.Branch, "master"),
		Directory: cmp.Or(o.Directory, "/var/www/html"), Web: o.Web != "none", Releases: o.Releases,
		IP: o.IP, Droplets: o.Droplets, TokenFile: TokenPath, APIURL: o.APIURL, MetadataURL: o.MetadataURL,
	}
	return templates.Render(templates.Configuration, site)
}

// contradiction compares a configuration that is there with the options that
// were given. The file is the operator's: it is not changed.
func (i *Installation) contradiction() error {
	o, c := i.o, i.cfg
	differs := func(key, has, option, wanted string) error {
		return refuse("change the file, or leave the option out", "%s has %s = %q, and %s asks for %q", i.configPath(), key, has, option, wanted)
	}
	switch {
	case o.Environment != "" && o.Environment != c.Environment:
		return differs("environment", c.Environment, "--environment", o.Environment)
	case o.Directory != "" && o.Directory != c.Deploy.Directory:
		return differs("deploy.directory", c.Deploy.Directory, "--directory", o.Directory)
	case o.Releases != "" && o.Releases != c.Deploy.Releases:
		return differs("deploy.releases", c.Deploy.Releases, "--releases", o.Releases)
	case o.Branch != "" && o.Branch != c.Deploy.Branch:
		return differs("deploy.branch", c.Deploy.Branch, "--branch", o.Branch)
	case o.IP == "" && len(o.Droplets) == 0 && o.TokenFile == "" && o.APIURL == "" && o.MetadataURL == "":
		return nil
	case c.Promotion == nil || c.Promotion.Provider != "digitalocean":
		return refuse("add it to the file, as the comments in it or the README show",
			"%s is there already, without a [promotion] that the options could be compared with", i.configPath())
	case o.IP != "" && o.IP != c.Promotion.IP:
		return differs("promotion.ip", c.Promotion.IP, "--ip", o.IP)
	case len(o.Droplets) > 0 && !maps.Equal(o.Droplets, c.Promotion.Droplets):
		return differs("promotion.droplets", fmt.Sprint(c.Promotion.Droplets), "--droplet", fmt.Sprint(o.Droplets))
	case o.APIURL != "" && o.APIURL != c.Promotion.APIURL:
		return differs("promotion.api_url", c.Promotion.APIURL, "--api-url", o.APIURL)
	case o.MetadataURL != "" && o.MetadataURL != c.Promotion.MetadataURL:
		return differs("promotion.metadata_url", c.Promotion.MetadataURL, "--metadata-url", o.MetadataURL)
	}
	return nil
}

func (i *Installation) planConfiguration(context.Context) ([]Change, error) {
	e, err := i.host.Look(i.configPath())
	if err != nil {
		return nil, err
	}
	if e != nil {
		return i.take(i.configPath(), e, 0o644), nil
	}
	return i.file(i.configPath(), i.text, host.Superuser(), 0o644)
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
		hints = append(hints, "no key may push here yet: bluegreen install --key id_ed25519.pub …")
	}
	return hints
}

// isRoot tells whether an entry is root's and changed by nobody else.
func isRoot(e *host.Entry) bool {
	return e.UID == host.Superuser().UID && e.Mode.Perm()&(fs.FileMode(0o022)) == 0
}
