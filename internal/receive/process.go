package receive

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/command"
	"bluegreen/internal/console"
	"bluegreen/internal/deploy"
	"bluegreen/internal/environment"
	"bluegreen/internal/profile"
	"bluegreen/internal/version"
)

// A Process is what a hook gets from git.
type Process struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Environ []string // GIT_DIR is relative to the working directory, as git sets it
	Parent  int      // the process id of git receive-pack
}

// A Hook is the work of one hook. It returns the hook's exit status.
type Hook func(ctx context.Context, p *Process, c *console.Console) int

// drain is how long a hook that has finished waits for a pusher who reads
// slowly.
const drain = 5 * time.Second

// Main runs a hook as a program and returns its exit status.
func Main(name string, hook Hook, args []string) (status int) {
	command.Become(args)
	if len(args) == 1 && (args[0] == "--version" || args[0] == "version") {
		fmt.Printf("%s %s\n", name, version.Number)
		return 0
	}
	if len(args) > 0 {
		fmt.Fprintf(os.Stderr, "error: %s takes no arguments but --version: git runs it as a hook\n", name)
		return 2
	}
	// Descriptors that the pusher's shell left open are not for our children.
	// Kernels before 5.11 do not know how; it does no harm there.
	unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	defer profile.Start(name)()
	stdout, stderr := outlive()
	c := console.New(stderr)
	defer c.Close(drain)
	defer func() {
		if broken := recover(); broken != nil {
			c.Hint("run \"bluegreen recover\" on the server, then \"bluegreen status\"")
			c.Error("%s broke down: %v", name, broken)
			status = 1
		}
	}()
	return hook(context.Background(), &Process{Stdin: os.Stdin, Stdout: stdout, Stderr: stderr,
		Environ: os.Environ(), Parent: os.Getppid()}, c)
}

// outlive makes the process outlive its pusher. Ctrl-C in the terminal of a
// pusher on this machine, and its hang-up, are for the process group that git is
// in: the hook leaves it. A closed connection is SIGPIPE where it is written to
// by descriptor 1 or 2, and an error, which changes nothing, where it is by
// others: so Go has it. Catching the signals would do, too, but takes a multiple
// of all else that a hook does before its work.
func outlive() (stdout, stderr *os.File) {
	unix.Setpgid(0, 0) // fails for the leader of a session, who is in no terminal's group but its own
	return beyond(os.Stdout), beyond(os.Stderr)
}

// beyond is f under another descriptor.
func beyond(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return f
	}
	return os.NewFile(uintptr(fd), f.Name())
}

// untilTerminated makes SIGTERM, a shutdown, end the context: a deployment goes
// back then. Before one begins the signal ends the process, which is as good.
func untilTerminated(ctx context.Context) (context.Context, func()) {
	return signal.NotifyContext(ctx, syscall.SIGTERM)
}

func (p *Process) getenv(name string) string { return Getenv(p.Environ, name) }

// Getenv looks a variable up in an environment.
func Getenv(environ []string, name string) string {
	for _, kv := range environ {
		if value, found := strings.CutPrefix(kv, name+"="); found {
			return value
		}
	}
	return ""
}

// open opens the environment that the hook belongs to.
func (p *Process) open(c *console.Console) (*environment.Environment, error) {
	dir := p.getenv("GIT_DIR")
	if dir == "" {
		dir = "."
	}
	return environment.Open(dir, p.Environ, func(n deploy.Notice) { Show(c, n) })
}

// outside is the process without the quarantine in which git keeps the objects of
// a push until pre-receive has let them in.
func (p *Process) outside() *Process {
	stored := *p
	stored.Environ = slices.DeleteFunc(slices.Clone(p.Environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "GIT_QUARANTINE_PATH" || name == "GIT_OBJECT_DIRECTORY" || name == "GIT_ALTERNATE_OBJECT_DIRECTORIES"
	})
	return &stored
}

// Show writes what a deployment does on a console.
func Show(c *console.Console, n deploy.Notice) {
	switch n.Kind {
	case deploy.Doing:
		c.Say("%s", n.Text)
	case deploy.Phase:
		c.Progress("%s", n.Text)
	case deploy.Progress:
		if n.Total > 0 {
			c.Progress("%s: %d%% (%d/%d)", n.Text, 100*n.Done/n.Total, n.Done, n.Total)
		} else {
			c.Progress("%s", n.Text)
		}
	case deploy.Output:
		c.Say("  %s", n.Text)
	case deploy.Warning:
		c.Warning("%s", n.Text)
	case deploy.Hint:
		c.Hint("%s", n.Text)
	}
}

// pushOptions reads the options that git gives to pre-receive and post-receive
// in the environment.
func (p *Process) pushOptions() ([]string, error) {
	value := p.getenv("GIT_PUSH_OPTION_COUNT")
	if value == "" {
		return nil, nil
	}
	count, err := strconv.Atoi(value)
	if err != nil || count < 0 || count > maxUpdates {
		return nil, fmt.Errorf("GIT_PUSH_OPTION_COUNT is %q", shorten(value))
	}
	options := make([]string, count)
	for i := range options {
		options[i] = p.getenv("GIT_PUSH_OPTION_" + strconv.Itoa(i))
		if i == 100 {
			return options, nil // too many already
		}
	}
	return options, nil
}

// Pusher names who pushes: BLUEGREEN_USER, which authorized_keys sets for each
// key; or the signer of a push certificate that git found good; or the account.
func Pusher(getenv func(string) string) string {
	if name := getenv("BLUEGREEN_USER"); name != "" {
		return shorten(name)
	}
	if signer := getenv("GIT_PUSH_CERT_SIGNER"); signer != "" && getenv("GIT_PUSH_CERT_STATUS") == "G" {
		return shorten(signer)
	}
	return AccountName(os.Geteuid())
}

// AccountName names an account by its number.
func AccountName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil && u.Username != "" {
		return u.Username
	}
	return "uid " + strconv.Itoa(uid)
}
