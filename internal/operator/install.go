package operator

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bluegreen/internal/config"
	"bluegreen/internal/console"
	"bluegreen/internal/install"
	"bluegreen/internal/version"
)

func (a *app) installCommand() *cobra.Command {
	var o install.Options
	var dry bool
	var droplets []string
	c := &cobra.Command{
		Use:   "install",
		Short: "set this server up for deployments by git push",
		Long: "install sets a server up: packages, an account without a password, the web root,\n" +
			"the bare repository, the hooks, git's settings, a configuration, keys, sudoers,\n" +
			"the API's token, a broker that alone reads it, and a unit that recovers at boot.\n" +
			"What is right already stays as it is, also on a server with a hook of its own,\n" +
			"which is kept beside: it can run again at any time. --dry-run names every file and\n" +
			"command, and changes nothing. \"bluegreen uninstall\" undoes it. Both need root.",
		Example: "  bluegreen install --environment blue --key ada.pub\n" +
			"  bluegreen install --environment blue --key ada.pub --ip 203.0.113.10 \\\n" +
			"      --droplet blue=3164494 --droplet green=3164495 --token-file token",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needRoot("install", o.Root); err != nil {
				return err
			}
			if err := a.installOptions(&o, droplets); err != nil {
				return err
			}
			i, err := install.New(o)
			if err != nil {
				return a.failInstall(err)
			}
			if err := a.work(c, &i.Work, dry); err != nil || dry {
				return err
			}
			for _, hint := range i.Hints() {
				a.console.Hint("%s", hint)
			}
			a.console.Flush(patience)
			fmt.Fprintln(a.Stdout, "on the development machine, in the application's repository:")
			for _, line := range i.Next(a.address(o.HostName)) {
				fmt.Fprintf(a.Stdout, "  %s\n", console.Escape(line))
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Repo, "repo", "", "the bare repository's `directory` (default: sample_app in the account's home)")
	f.StringVar(&o.Environment, "environment", "", "this server's `name` among the environments (default: the host's)")
	f.StringVar(&o.User, "user", "deploy", "the `account` that is pushed to")
	f.StringVar(&o.Directory, "directory", "", "what the web server serves (default: /var/www/html)")
	f.StringVar(&o.Releases, "releases", "", "a `directory` for whole releases, to which the web root then leads")
	f.StringVar(&o.Branch, "branch", "", "the `branch` that is deployed (default: master)")
	f.StringVar(&o.Web, "web", "", "the web `server`: apache, nginx or none (default: as before, or apache)")
	f.StringArrayVar(&o.Keys, "key", nil, "a public key `file` that may push; again for more")
	f.StringVar(&o.IP, "ip", "", "the floating `address` that promotions move")
	f.StringArrayVar(&droplets, "droplet", nil, "an environment's droplet, `NAME=ID`; once for each")
	f.StringVar(&o.TokenFile, "token-file", "", "a `file` with the API's token, to be copied")
	f.StringVar(&o.APIURL, "api-url", "", "the API's `url`, where it is not DigitalOcean's")
	f.StringVar(&o.MetadataURL, "metadata-url", "", "the metadata's `url`, where it is not the droplet's own")
	f.StringVar(&o.Programs, "programs", "", "the `directory` of the four programs (default: where this one is)")
	f.StringVar(&o.Root, "root", "/", "set up the system below this `directory`")
	f.Lookup("root").Hidden = true
	dryRun(c, &dry)
	return c
}

func dryRun(c *cobra.Command, dry *bool) {
	c.Flags().BoolVar(dry, "dry-run", false, "say what would be done, and change nothing")
}

func (a *app) uninstallCommand() *cobra.Command {
	var root, given string
	var dry bool
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "undo what install has done",
		Long: "uninstall puts the hook back that was there before, and git's settings, and removes\n" +
			"the keys, the sudoers file, the boot unit, the broker's file, the token's copy and,\n" +
			"with the last repository, the programs. The site, the repository with its\n" +
			"configuration, the account, the packages and the log of what was done stay.",
		Example: "  bluegreen uninstall --repo /home/deploy/sample_app",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.needRoot("uninstall", root); err != nil {
				return err
			}
			repo := "/home/deploy/sample_app"
			if given != "" {
				var err error
				if repo, err = filepath.Abs(given); err != nil {
					return err
				}
			}
			root, err := filepath.Abs(root)
			if err != nil {
				return err
			}
			r, err := install.Uninstall(root, repo)
			if err != nil {
				return a.failInstall(err)
			}
			if !r.Recorded() {
				a.console.Success("nothing to do: %s is not there, so %s was not set up by install", install.RecordPath(repo), repo)
				return nil
			}
			return a.work(c, &r.Work, dry)
		},
	}
	c.Flags().StringVar(&given, "repo", "", "the bare repository's `directory` (default: /home/deploy/sample_app)")
	c.Flags().StringVar(&root, "root", "/", "the system below this `directory`")
	c.Flags().Lookup("root").Hidden = true
	dryRun(c, &dry)
	return c
}

// needRoot refuses other accounts, but in a throw-away root: there an ordinary
// one stands for root as far as it can.
func (a *app) needRoot(command, root string) error {
	if os.Geteuid() == 0 || root != "/" {
		return nil
	}
	a.console.Hint("sudo bluegreen %s …", command)
	a.console.Error("%s needs root: it changes files of root's, also to look at them with --dry-run", command)
	return &status{failed}
}

// installOptions completes what the flags cannot say by themselves.
func (a *app) installOptions(o *install.Options, droplets []string) error {
	var err error
	if o.HostName, err = os.Hostname(); err != nil {
		return fmt.Errorf("looking for the host's name: %w", err)
	}
	if o.Repo != "" {
		if o.Repo, err = filepath.Abs(o.Repo); err != nil {
			return err
		}
	}
	for _, d := range droplets {
		name, id, _ := strings.Cut(d, "=")
		number, err := strconv.Atoi(id)
		if err != nil || number < 1 || name == "" {
			return fmt.Errorf("--droplet: %q is not like blue=3164494", d)
		}
		if before, twice := o.Droplets[name]; twice && before != number {
			return fmt.Errorf("--droplet: %q has two, %d and %d", name, before, number)
		}
		if o.Droplets == nil {
			o.Droplets = map[string]int{}
		}
		o.Droplets[name] = number
	}
	if o.Programs == "" {
		self, err := os.Executable()
		if err == nil {
			self, err = filepath.EvalSymlinks(self)
		}
		if err != nil {
			return fmt.Errorf("looking for this program: %w", err)
		}
		o.Programs = filepath.Dir(self)
	}
	if o.Programs, err = filepath.Abs(o.Programs); err != nil {
		return err
	}
	o.Version = version.Number
	o.Root, err = filepath.Abs(o.Root)
	return err
}

// work plans, or carries out, and says which.
func (a *app) work(c *cobra.Command, w *install.Work, dry bool) error {
	n, last := 0, ""
	show := func(s install.Step, change install.Change) {
		if s.Name != last {
			fmt.Fprintf(a.Stdout, "%s: %s\n", s.Name, console.Escape(s.Reason))
		}
		last = s.Name
		fmt.Fprintf(a.Stdout, "  %s\n", console.Escape(change.What))
	}
	var err error
	if dry {
		var plan []install.Step
		plan, err = w.Plan(c.Context())
		for _, s := range plan {
			for _, change := range s.Changes {
				show(s, change)
				n++
			}
		}
	} else {
		n, err = w.Do(c.Context(), show)
	}
	for _, warning := range w.Warnings() {
		a.console.Warning("%s", warning)
	}
	switch {
	case err != nil:
		return a.failInstall(err)
	case n == 0:
		a.console.Success("nothing to do: everything is in place")
	case dry:
		a.console.Success("this is what would be done, %s; nothing was changed", count(n, "change"))
	default:
		a.console.Success("%s made, noted in %s", count(n, "change"), install.LogPath)
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// failInstall says what stands against the work, or what has become of it.
func (a *app) failInstall(err error) error {
	var option *install.OptionError
	var refusal *install.Refusal
	var stopped *install.Incomplete
	var wrong *config.Error
	switch {
	case errors.As(err, &refusal) && refusal.Hint != "":
		a.console.Hint("%s", refusal.Hint)
	case errors.As(err, &stopped):
		a.console.Hint("run it again when that is mended: it goes on from there")
	case errors.As(err, &option):
		return err
	}
	if errors.As(err, &stopped) && stopped.Done > 0 {
		a.console.Say("%s made before that, noted in %s", count(stopped.Done, "change"), install.LogPath)
	}
	a.console.Error("%v", err)
	if errors.As(err, &wrong) {
		return &status{usage}
	}
	return &status{failed}
}

// address is how the development machine reaches this server, as far as it is
// known: by the way that an ssh session came, or by name.
func (a *app) address(hostName string) string {
	if fields := strings.Fields(a.getenv("SSH_CONNECTION")); len(fields) == 4 {
		if strings.Contains(fields[2], ":") {
			return "[" + fields[2] + "]" // IPv6
		}
		return fields[2]
	}
	return hostName
}
