// Package host is the machine that is set up: its files, its accounts and its
// programs, at / or in a throw-away root.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"bluegreen/internal/command"
)

// search is where programs are looked for.
const search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxFile is the largest file that is read whole, in bytes.
const maxFile = 1 << 20

// A Host is a whole system below Root. All paths are as they are seen from
// inside it.
type Host struct {
	Root string // "/", or the absolute path of a throw-away root
	// Enter makes the argv that runs argv inside, as an account where as is not
	// nil. nil enters by chroot(8), which needs root.
	Enter func(as *Account, argv []string) []string
}

// An Account is one line of /etc/passwd.
type Account struct {
	Name     string
	UID, GID int
	Home     string
	Shell    string
}

// Superuser owns what nobody else may change. Its id is that of the process: in
// a test's throw-away root an ordinary user stands for root.
func Superuser() Account {
	gid := 0
	if os.Geteuid() != 0 {
		gid = os.Getegid()
	}
	return Account{Name: "root", UID: os.Geteuid(), GID: gid, Home: "/root"}
}

// Account looks an account up; nil where there is none.
func (h *Host) Account(name string) (*Account, error) {
	return h.account(func(a *Account) bool { return a.Name == name })
}

// NameOf names the account with an id; an id that has none stands for itself.
func (h *Host) NameOf(uid int) string {
	if a, err := h.account(func(a *Account) bool { return a.UID == uid }); err == nil && a != nil {
		return a.Name
	}
	return strconv.Itoa(uid)
}

func (h *Host) account(wanted func(*Account) bool) (*Account, error) {
	text, err := h.ReadFile("/etc/passwd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), ":")
		if len(fields) != 7 {
			continue
		}
		uid, err := strconv.Atoi(fields[2])
		gid, err2 := strconv.Atoi(fields[3])
		if err != nil || err2 != nil {
			continue
		}
		a := &Account{Name: fields[0], UID: uid, GID: gid, Home: fields[5], Shell: fields[6]}
		if wanted(a) {
			return a, nil
		}
	}
	return nil, nil
}

// HasPassword tells whether somebody could log in to the account with a
// password, an empty one too.
func (h *Host) HasPassword(name string) (bool, error) {
	text, err := h.ReadFile("/etc/shadow")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Split(line, ":"); fields[0] == name && len(fields) > 1 {
			return !strings.HasPrefix(fields[1], "!") && !strings.HasPrefix(fields[1], "*"), nil
		}
	}
	return false, nil
}

// Program returns the path of a program, "" where there is none.
func (h *Host) Program(name string) string {
	for _, dir := range filepath.SplitList(search) {
		path := filepath.Join(dir, name)
		e, err := h.Follow(path)
		// A symlink that is not followed here may lead to one.
		if err == nil && e != nil && (e.Mode.IsRegular() && e.Mode&0o111 != 0 || e.Mode.Type() == fs.ModeSymlink) {
			return path
		}
	}
	return ""
}

// Run runs a program to its end, as an account where as is not nil.
func (h *Host) Run(ctx context.Context, as *Account, timeout time.Duration, argv ...string) error {
	out, err := command.Run(ctx, h.command(as, timeout, argv), nil)
	if failed := (*command.Error)(nil); errors.As(err, &failed) {
		failed.Program = argv[0] // chroot(8) is how, not what
		if last := out.Last(); last != "" {
			failed.Outcome += fmt.Sprintf(", saying %q", last)
		}
	}
	return err
}

// Read runs a program that prints a value, and returns that.
func (h *Host) Read(ctx context.Context, as *Account, timeout time.Duration, argv ...string) (string, error) {
	value, err := command.Read(ctx, h.command(as, timeout, argv))
	if failed := (*command.Error)(nil); errors.As(err, &failed) {
		failed.Program = argv[0]
	}
	return value, err
}

func (h *Host) command(as *Account, timeout time.Duration, argv []string) command.Command {
	home := "/root"
	if as != nil {
		home = as.Home
	}
	enter := h.Enter
	if enter == nil {
		enter = h.chroot
	}
	return command.Command{Argv: enter(as, argv), Dir: "/", Timeout: timeout, Env: []string{
		"PATH=" + search, "HOME=" + home, "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "GIT_TERMINAL_PROMPT=0"}}
}

// chroot also changes the account, with no group but its own.
func (h *Host) chroot(as *Account, argv []string) []string {
	if as == nil && h.Root == "/" {
		return argv
	}
	enter := []string{"chroot"}
	if as != nil {
		enter = append(enter, fmt.Sprintf("--userspec=%d:%d", as.UID, as.GID), fmt.Sprintf("--groups=%d", as.GID))
	}
	return append(append(enter, h.Root), argv...)
}
