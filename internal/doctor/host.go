package doctor

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/command"
	"bluegreen/internal/install/host"
)

// A Host is the machine that is examined.
type Host struct {
	Root    string   // what the paths of the system's own files are below; "" is "/"
	Environ []string // of commands, git's among them, and where a token may be
	// UID is the account of who asks, and for whose shell fixes are. The process
	// itself may have become the repository's account.
	UID     int
	Now     func() time.Time
	Statfs  func(path string) (Space, error)
	Account func(uid int) (Account, error)
	// Writable tells whether this process may write to a file, or make files in
	// a directory.
	Writable func(path string) bool
}

// An Account is one of the machine's.
type Account struct {
	Name  string
	Home  string // "" where it has none
	Shell string // "" where it is not known
	// Group is the group that is the account's alone, by its name, as Debian
	// makes them; 0 for none.
	Group int
}

// A Space is what a filesystem has.
type Space struct {
	Size, Free   uint64 // in bytes, of what ordinary accounts may use
	Files, Spare uint64 // inodes; Files is 0 where they are not counted
}

// ThisHost is the machine that this runs on.
func ThisHost(environ []string) Host {
	return Host{
		Environ: environ, UID: os.Getuid(), Now: time.Now, Statfs: statfs, Account: account,
		Writable: func(path string) bool {
			return unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
		},
	}
}

func statfs(path string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Space{}, fmt.Errorf("asking for the space of %q: %w", path, err)
	}
	block := uint64(st.Bsize)
	return Space{
		Size: (st.Blocks - st.Bfree + st.Bavail) * block, Free: st.Bavail * block,
		Files: st.Files, Spare: st.Ffree,
	}, nil
}

func account(uid int) (Account, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return Account{}, err
	}
	a := Account{Name: u.Username, Home: u.HomeDir}
	if line, err := (&host.Host{Root: "/"}).Account(u.Username); err == nil && line != nil {
		a.Shell = line.Shell
	}
	if g, err := user.LookupGroupId(u.Gid); err == nil && g.Name == u.Username {
		a.Group, _ = strconv.Atoi(u.Gid) // 0 where it is no number
	}
	return a, nil
}

// system is where a file of the system's is.
func (h Host) system(path string) string { return filepath.Join("/", h.Root, path) }

// root is the id of who alone may change the system's files: in a test's
// throw-away root it is the process's.
func (h Host) root() int {
	if h.Root == "" {
		return 0
	}
	return os.Geteuid()
}

// host is the machine as install sees it.
func (h Host) host() *host.Host { return &host.Host{Root: h.system("/")} }

// getenv looks a variable up in the environment of pushes.
func (h Host) getenv(name string) string {
	for _, kv := range h.Environ {
		if value, found := strings.CutPrefix(kv, name+"="); found {
			return value
		}
	}
	return ""
}

// owner returns whose a file is, symlinks followed.
func owner(path string) (int, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return ownerOf(st), nil
}

func ownerOf(info os.FileInfo) int {
	if st, found := info.Sys().(*syscall.Stat_t); found {
		return int(st.Uid)
	}
	return -1
}

// writers are the permission bits that let others than the account write to a
// file.
func (x *exam) writers(info os.FileInfo) os.FileMode {
	st, found := info.Sys().(*syscall.Stat_t)
	if found && x.account.Group != 0 && int(st.Gid) == x.account.Group {
		return info.Mode() & 0o002
	}
	return info.Mode() & 0o022
}

// maxText is the most that is read of a file of the system's, in bytes.
const maxText = 1 << 20

// readText reads a file that is meant for people. It does not wait for a FIFO.
func readText(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.IsDir() || st.Mode()&os.ModeNamedPipe != 0 {
		return "", fmt.Errorf("%q is not a file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxText))
	return string(data), err
}

// asAccount is a command for the repository's account, and asRoot one for root,
// as who asks types them.
func (x *exam) asAccount(argv ...string) string {
	if x.Host.UID == x.owner {
		return command.Line(argv)
	}
	return command.Line(append([]string{"sudo", "-u", x.account.Name}, argv...))
}

func (x *exam) asRoot(argv ...string) string {
	if x.Host.UID == 0 {
		return command.Line(argv)
	}
	return command.Line(append([]string{"sudo"}, argv...))
}
