package operator

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"bluegreen/internal/receive"
)

// An account is one that root becomes.
type account struct {
	uid, gid int
	private  int   // the group that is the account's alone, as Debian makes them; -1 for none
	groups   []int // all of them
	name     string
	home     string
}

// becomeOwner gives up root for good where the repository belongs to another
// account, before anything of it is read. What that account has put into its
// repository, hooks and commands must not be run as root; only so it is seen
// what pushes see; and files of root's would be in the way of the next push. For
// anybody but root it does nothing.
func (a *app) becomeOwner() error {
	owner, err := a.findOwner()
	if err == nil {
		err = a.become(owner)
	}
	return err
}

// findOwner finds out whose the repository is, and holds on to where it is: a
// symlink to it may lead elsewhere the next moment. nil is for who is not root.
func (a *app) findOwner() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	path, err := filepath.Abs(a.repo) // the account may not see the working directory
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, a.notOpened(fmt.Errorf("opening repository %q: %w", a.repo, err))
	}
	owner, dir, err := ownerOf(path)
	switch {
	case err != nil:
		a.console.Error("looking whose the repository is: %v", err)
		return nil, &status{failed}
	case dir != "" && owner.uid == 0:
		a.console.Hint("chown root: %s && chmod go-w %s", dir, dir)
	case dir != "":
		a.console.Hint("sudo -u %s bluegreen --repo %s …", owner.name, path)
	default:
		a.repo = path
		return owner, nil
	}
	a.console.Error("%q belongs to %s, and others may put something else in its place: they may change %q", path, owner.name, dir)
	return nil, &status{failed}
}

// ownerOf returns whose a directory is, and which directory on the way to it
// lets others than root and the owner put something else in its place, "" for
// none. path has no symlinks.
func ownerOf(path string) (owner *account, open string, err error) {
	type step struct {
		dir string
		st  *syscall.Stat_t
	}
	var way []step // from the repository up
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Lstat(dir)
		if err != nil {
			return nil, "", err
		}
		st, found := info.Sys().(*syscall.Stat_t)
		if !found || !info.IsDir() {
			return nil, "", fmt.Errorf("%q is not a directory", dir)
		}
		way = append(way, step{dir, st})
		if dir == "/" {
			break
		}
	}
	if owner, err = lookup(int(way[0].st.Uid), int(way[0].st.Gid)); err != nil {
		return nil, "", err
	}
	for i, s := range way {
		// In a sticky directory nobody moves what belongs to others.
		sticky := i > 0 && s.st.Mode&unix.S_ISVTX != 0
		shared := s.st.Mode&0o002 != 0 || s.st.Mode&0o020 != 0 && int(s.st.Gid) != owner.private
		if s.st.Uid != 0 && int(s.st.Uid) != owner.uid || shared && !sticky {
			return owner, s.dir, nil
		}
	}
	return owner, "", nil
}

// lookup finds an account. One that the system does not know has the group gid
// alone.
func lookup(uid, gid int) (*account, error) {
	a := &account{uid: uid, gid: gid, private: -1, groups: []int{}, name: receive.AccountName(uid), home: "/"}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return a, nil
	}
	a.home = u.HomeDir
	if a.gid, err = strconv.Atoi(u.Gid); err != nil {
		return nil, fmt.Errorf("the group of %q is %q: %w", u.Username, u.Gid, err)
	}
	if g, err := user.LookupGroupId(u.Gid); err == nil && g.Name == u.Username {
		a.private = a.gid
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("looking for the groups of %q: %w", u.Username, err)
	}
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil {
			a.groups = append(a.groups, n)
		}
	}
	return a, nil
}

// become makes this process the owner's, whom nothing of root's is left: no
// group, no variable, no descriptor for the programs that it starts.
func (a *app) become(owner *account) error {
	if owner == nil || owner.uid == 0 {
		return nil
	}
	// Kernels before 5.11 do not know how; it does no harm there.
	unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	// In this order: who is not root any more cannot give up groups.
	err := errors.Join(syscall.Setgroups(owner.groups), syscall.Setresgid(owner.gid, owner.gid, owner.gid),
		syscall.Setresuid(owner.uid, owner.uid, owner.uid))
	if err != nil {
		a.console.Hint("sudo -u %s bluegreen --repo %s …", owner.name, a.repo)
		a.console.Error("becoming %s, whose the repository is: %v", owner.name, err)
		return &status{failed}
	}
	a.Environ = ownersEnvironment(a.Environ, owner)
	os.Unsetenv("TMPDIR") // root's
	return nil
}

// ownersEnvironment is what is left of root's environment for the owner. A token
// is not: where it would be sent the owner's configuration says.
func ownersEnvironment(environ []string, owner *account) []string {
	kept := []string{"HOME=" + owner.home, "USER=" + owner.name, "LOGNAME=" + owner.name}
	for _, kv := range environ {
		switch name, _, _ := strings.Cut(kv, "="); {
		case name == "PATH", name == "LANG", name == "TZ", name == "TERM", name == "NO_COLOR", name == "BLUEGREEN_USER", strings.HasPrefix(name, "LC_"):
			kept = append(kept, kv)
		}
	}
	return kept
}
