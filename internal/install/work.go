// Package install sets a server up for deployments by git push, and undoes
// that. It looks first and changes only what is not as it should be, so that it
// can run again at any time: after a failure it goes on from there.
package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"bluegreen/internal/install/host"
	"bluegreen/internal/lock"
)

// Where things are on a server.
const (
	ProgramsDir = "/usr/local/lib/bluegreen"
	CommandPath = "/usr/local/bin/bluegreen"
	PackagePath = "/usr/bin/bluegreen" // where a Debian package has it
	TokenPath   = "/etc/bluegreen/token"
	LogPath     = "/var/log/bluegreen/install.log"
	recordsDir  = "/var/lib/bluegreen"
	lockPath    = "/run/bluegreen-install.lock"
)

// A Refusal is a host, or a request, that is left as it is.
type Refusal struct {
	Reason string
	Hint   string // what to type or to look at; may be ""
}

func (r *Refusal) Error() string { return r.Reason }

func refuse(hint, format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...), Hint: hint}
}

// A Step is a part of the work, with what is left to do of it.
type Step struct {
	Name    string
	Reason  string
	Changes []Change
}

// A Change is one thing to do.
type Change struct {
	What string // a line that names the file or the command
	do   func(context.Context) error
}

// An Incomplete is work that stopped at a change. Doing it again goes on from
// there.
type Incomplete struct {
	Step string
	What string // the change; "" where the step could not tell what to do
	Done int    // changes before it
	Err  error
}

func (e *Incomplete) Error() string {
	if e.What == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Step, e.What, e.Err)
}

func (e *Incomplete) Unwrap() error { return e.Err }

// A step knows how to look at the host for what is missing.
type step struct {
	name   string
	reason string
	plan   func(context.Context) ([]Change, error)
}

// Work is an ordered list of steps on one host.
type Work struct {
	host     *host.Host
	title    string // "install sample_app", in the log
	steps    []step
	warnings []string
	// refresh looks again at what was known before this work was alone on the
	// host; may be nil.
	refresh func() error
}

// Plan looks at the host, changes nothing, and returns the steps that have
// something left to do.
func (w *Work) Plan(ctx context.Context) ([]Step, error) {
	w.warnings = nil
	var plan []Step
	for _, s := range w.steps {
		changes, err := s.plan(ctx)
		if err != nil {
			return plan, &Incomplete{Step: s.name, Err: err}
		}
		if len(changes) > 0 {
			plan = append(plan, Step{Name: s.name, Reason: s.reason, Changes: changes})
		}
	}
	return plan, nil
}

// Do carries out what is left to do, tells done of each change once it is made
// and written to the log, and returns how many there were. A failure is an
// *Incomplete; what can be foreseen fails before the first change.
func (w *Work) Do(ctx context.Context, done func(Step, Change)) (int, error) {
	one, err := w.alone(ctx)
	if err != nil {
		return 0, &Incomplete{Step: "lock", Err: err}
	}
	defer one.Release()
	if w.refresh != nil {
		if err := w.refresh(); err != nil {
			return 0, err
		}
	}
	if _, err := w.Plan(ctx); err != nil {
		return 0, err
	}
	w.warnings = nil
	n := 0
	for _, s := range w.steps {
		changes, err := s.plan(ctx)
		if err != nil {
			return n, &Incomplete{Step: s.name, Done: n, Err: err}
		}
		for _, c := range changes {
			err := ctx.Err()
			if err == nil {
				err = c.do(ctx)
			}
			if err == nil {
				err = w.log(c.What)
			}
			if err != nil {
				return n, &Incomplete{Step: s.name, What: c.What, Done: n, Err: err}
			}
			n++
			done(Step{Name: s.name, Reason: s.reason, Changes: changes}, c)
		}
	}
	return n, nil
}

// alone keeps other work out of this host until it is released. The lock is a
// file that root alone can open: no account can be in the way.
func (w *Work) alone(ctx context.Context) (*lock.File, error) {
	if w.host.Root != "/" {
		f, err := os.Open(w.host.Root)
		if err != nil {
			return nil, err
		}
		return lock.AcquireFile(ctx, f, "set-up by bluegreen of "+w.host.Root, 2*time.Second)
	}
	f, err := os.OpenFile(lockPath, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock: %w", err)
	}
	return lock.AcquireFile(ctx, f, "set-up by bluegreen", 2*time.Second)
}

// Warnings returns what the last Plan or Do saw that a person should know.
func (w *Work) Warnings() []string { return w.warnings }

func (w *Work) warn(format string, args ...any) {
	w.warnings = append(w.warnings, fmt.Sprintf(format, args...))
}

// log adds a line to the log, where there is one.
func (w *Work) log(what string) error {
	e, err := w.host.Look(LogPath)
	if err != nil || e == nil {
		return err
	}
	line := fmt.Sprintf("%s %s: %s", time.Now().UTC().Format(time.RFC3339), w.title, what)
	// What a repository's settings were before is the account's to choose.
	return w.host.AppendLine(LogPath, strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, line))
}

// makeLog prepares the log. Its directory is root's, and so is what is in it.
func (w *Work) makeLog() ([]Change, error) {
	e, err := w.host.Look(LogPath)
	if err != nil || e != nil {
		return nil, err
	}
	return []Change{{"write " + LogPath + ", the log of what is done", func(context.Context) error {
		return w.writeFile(LogPath, "", host.Superuser(), 0o640)
	}}}, nil
}

// writeFile writes a file, and makes its directory as root's where it is
// missing.
func (w *Work) writeFile(path, content string, owner host.Account, perm fs.FileMode) error {
	dir := path[:strings.LastIndexByte(path, '/')]
	e, err := w.host.Follow(dir)
	if err == nil && e == nil {
		err = w.host.Mkdir(dir, host.Superuser(), 0o755)
	}
	if err == nil {
		err = w.host.WriteFile(path, strings.NewReader(content), owner, perm)
	}
	return err
}

// file plans a file with exactly this content, owner and permissions.
func (w *Work) file(path, content string, owner host.Account, perm fs.FileMode) ([]Change, error) {
	e, err := w.host.Look(path)
	if err != nil {
		return nil, err
	}
	write := []Change{{fmt.Sprintf("write %s (%s, %#o)", path, owner.Name, perm), func(context.Context) error {
		return w.writeFile(path, content, owner, perm)
	}}}
	if e == nil {
		return write, nil
	}
	if !e.Mode.IsRegular() {
		return nil, refuse("move it away, then run this again", "%s is there, and is not a regular file", path)
	}
	if before, err := w.host.ReadFile(path); err != nil || string(before) != content {
		return write, err
	}
	return w.owned(path, e, owner, perm)
}

// owned plans the owner and the permissions of what is there.
func (w *Work) owned(path string, e *host.Entry, owner host.Account, perm fs.FileMode) ([]Change, error) {
	if e.Is(owner, perm) {
		return nil, nil
	}
	if e.Mode.IsRegular() && e.Names > 1 {
		return nil, refuse("look what it is, and remove one of the names: find / -xdev -samefile "+path,
			"%s has another name, and may be a file of somebody else's", path)
	}
	return []Change{{fmt.Sprintf("give %s to %s (%#o)", path, owner.Name, perm), func(context.Context) error {
		return w.host.Own(path, owner.UID, owner.GID, perm)
	}}}, nil
}

// removal plans that a file of ours goes.
func (w *Work) removal(path string) ([]Change, error) {
	e, err := w.host.Look(path)
	if err != nil || e == nil {
		return nil, err
	}
	return []Change{{"remove " + path, func(context.Context) error { return w.host.Remove(path) }}}, nil
}

// removeEmpty plans that a directory goes when nothing is left in it.
func (w *Work) removeEmpty(path string) ([]Change, error) {
	e, err := w.host.Look(path)
	if err != nil || e == nil || !e.Mode.IsDir() {
		return nil, err
	}
	return []Change{{"remove " + path + ", if it is empty", func(context.Context) error { return w.removeIfEmpty(path) }}}, nil
}

func (w *Work) removeIfEmpty(dir string) error {
	if names, err := w.host.List(dir); err != nil || len(names) > 0 {
		return err
	}
	return w.host.Remove(dir)
}

// joined runs plans one after the other and joins what they find.
func joined(plans ...func() ([]Change, error)) ([]Change, error) {
	var all []Change
	for _, plan := range plans {
		changes, err := plan()
		if err != nil {
			return nil, err
		}
		all = append(all, changes...)
	}
	return all, nil
}

// missing tells that err is about something that does not exist.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
