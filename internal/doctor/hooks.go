package doctor

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/command"
	"bluegreen/internal/version"
)

// module is what our programs are built from.
const module = "bluegreen"

// Hooks are the programs that git runs.
func Hooks() []string { return []string{"pre-receive", "proc-receive", "post-receive"} }

// without says what is lost without each hook.
func without(hook string) string {
	switch hook {
	case "pre-receive":
		return "what must not be pushed is not refused before it is stored"
	case "proc-receive":
		return "\"git push\" succeeds whatever the deployment does"
	}
	return "pushes do not say what was only stored"
}

// hookPrograms looks at the three hooks, where git looks for them.
func (x *exam) hookPrograms(ctx context.Context) []Finding {
	var found []Finding
	if usual := filepath.Join(x.repo.Dir, "hooks"); !sameFile(x.hooks, usual) {
		found = append(found, broken(x.gitCommand([]string{"config", "--unset-all", "core.hooksPath"}),
			"core.hooksPath makes git look for hooks in %s, not in %s", x.hooks, usual))
	}
	there := map[string]bool{}
	for _, name := range Hooks() {
		missing, wrong := x.hook(ctx, name)
		there[name] = !missing
		found = append(found, wrong...)
	}
	if len(x.config["receive.procreceiverefs"]) > 0 && !there["proc-receive"] {
		found = append(found, broken(x.install(), "receive.procReceiveRefs is set and there is no proc-receive hook: git refuses every push to those refs"))
	}
	if !there["proc-receive"] && !there["post-receive"] {
		found = append(found, broken(x.install(), "there is neither proc-receive nor post-receive in %s: nothing is deployed", x.hooks))
	}
	found = append(found, x.replaceable(there)...)
	return or(found, "the three hooks in %s are version %s", x.hooks, version.Number)
}

// packaged is where a Debian package has the operator's command.
const packaged = "/usr/bin/bluegreen"

// install is the command that sets up what belongs to root. The package's
// program is named in full: an older copy in /usr/local comes before it in PATH.
func (x *exam) install() string {
	program := "bluegreen"
	if _, err := os.Stat(x.Host.system(packaged)); err == nil {
		program = packaged
	}
	return x.asRoot(program, "install", "--user", x.account.Name, "--repo", x.repo.Dir)
}

func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	stA, errA := os.Stat(a)
	stB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(stA, stB)
}

// hook looks at one hook.
func (x *exam) hook(ctx context.Context, name string) (missing bool, found []Finding) {
	path := filepath.Join(x.hooks, name)
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if target, err := os.Readlink(path); err == nil {
			return true, []Finding{broken(x.install(), "the hook %s leads to %s, which is not there: %s", name, target, without(name))}
		}
		return true, []Finding{warning(x.install(), "there is no %s in %s: %s", name, x.hooks, without(name))}
	case err != nil:
		return false, []Finding{broken(x.asRoot("ls", "-lL", path), "the hook %s cannot be looked at: %v", name, err)}
	case !st.Mode().IsRegular():
		return true, []Finding{broken(x.install(), "%s is not a file", path)}
	}
	if wrong := x.program(ctx, path, name, st); wrong != nil {
		found = append(found, *wrong)
	}
	return false, found
}

// program looks whether a program is ours, of this version, and can be run;
// nil where it is. Nothing is run that is not ours: it may not know --version.
func (x *exam) program(ctx context.Context, path, name string, st fs.FileInfo) *Finding {
	wrong := func(f Finding) *Finding { return &f }
	if m := x.mountOf(path); m.has("noexec") {
		return wrong(broken(x.remount(m, "exec"), "%s cannot be run: %s is mounted noexec", path, m.point))
	}
	open := x.asRoot("chmod", "a+rx", path)
	if st.Mode()&0o111 == 0 || !x.stranger() && unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) != nil {
		return wrong(x.openable(broken(open, "%s is not executable for %s: git ignores it", path, x.account.Name), path, st))
	}
	info, err := buildinfo.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return wrong(x.openable(broken(open, "%s may not be read by %s: %v", path, x.account.Name, err), path, st))
	}
	if err != nil || info.Main.Path != module {
		return wrong(warning(x.install(), "%s is another program than bluegreen's: %s", path, without(name)))
	}
	said, err := command.Read(ctx, command.Command{Argv: []string{path, "--version"}, Env: x.Host.Environ, Dir: "/", Timeout: 5 * time.Second})
	if err != nil {
		return wrong(broken(x.install(), "%s cannot be run: %v", path, err))
	}
	if want := name + " " + version.Number; strings.TrimSpace(said) != want {
		return wrong(warning(x.install(), "%s says it is %.100q, and this is version %s", path, strings.TrimSpace(said), version.Number))
	}
	return nil
}

func (x *exam) remount(m *mount, option string) string {
	return x.asRoot("mount", "-o", "remount,"+option, m.point)
}

// openable makes the finding one that can be mended by who has found it: by the
// file's owner, or by root, who does so before becoming the account.
func (x *exam) openable(f Finding, path string, st fs.FileInfo) Finding {
	if x.Host.UID != 0 && ownerOf(st) != os.Geteuid() {
		return f
	}
	return f.by(func(context.Context) error { return makeExecutable(path) })
}

// MendHooks makes those hooks readable and executable that are root's own, which
// only root can do, and not root who has become the repository's account.
func MendHooks(repo string) (mended []Mended) {
	for _, name := range Hooks() {
		path := filepath.Join(repo, "hooks", name)
		if st, err := os.Stat(path); err == nil && ownerOf(st) == 0 && st.Mode()&0o005 != 0o005 {
			mended = append(mended, Mended{shell([]string{"chmod", "a+rx", path}), makeExecutable(path)})
		}
	}
	return mended
}

// makeExecutable lets everybody read and run a hook, symlinks followed, if it is
// a program of ours. What it leads to may be the account's choice: nothing is
// opened but a regular file, since opening a device can have effects.
func makeExecutable(path string) error {
	found, err := os.OpenFile(path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer found.Close()
	st, err := found.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%q is not a file", path)
	}
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", found.Fd())) // the very file that was looked at
	if err != nil {
		return fmt.Errorf("opening %q: %w", path, err)
	}
	defer f.Close()
	if info, err := buildinfo.Read(f); err != nil || info.Main.Path != module {
		return fmt.Errorf("%q is no program of bluegreen's", path)
	}
	return f.Chmod(st.Mode().Perm() | 0o555)
}

// replaceable looks whether the account that receives pushes could put other
// programs in the hooks' place.
func (x *exam) replaceable(there map[string]bool) []Finding {
	open := map[string]bool{}
	dirs := []string{x.hooks}
	for _, name := range Hooks() {
		if real, err := filepath.EvalSymlinks(filepath.Join(x.hooks, name)); err == nil && there[name] {
			open[name] = x.Host.Writable(real)
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	for _, dir := range dirs {
		switch {
		case !x.Host.Writable(dir):
		case x.owner == 0:
			return []Finding{warning(shell([]string{"bluegreen", "install", "--user", "deploy", "--repo", x.repo.Dir}),
				"pushes are received by root: a deployment may write anywhere, and so may its commands")}
		default:
			return []Finding{warning(x.asRoot("chown", "-R", "root:", dir), "%s may replace the hooks: it may write to %s", x.account.Name, dir)}
		}
	}
	for _, name := range Hooks() {
		if open[name] && x.owner != 0 {
			path := filepath.Join(x.hooks, name)
			return []Finding{warning(x.asRoot("chown", "root:", path), "%s may overwrite %s", x.account.Name, path)}
		}
	}
	return nil
}

// programs looks where the installed programs lie.
func (x *exam) programs(context.Context) []Finding {
	var found []Finding
	for _, path := range []string{"/usr/local/lib/bluegreen", "/usr/local/bin/bluegreen"} {
		path = x.Host.system(path)
		if _, err := os.Stat(path); err != nil {
			continue // wired by hand: the hooks themselves are looked at
		}
		if m := x.mountOf(path); m.has("noexec") {
			found = append(found, broken(x.remount(m, "exec"), "programs in %s cannot be run: %s is mounted noexec", path, m.point))
		}
	}
	if x.outdated() {
		found = append(found, warning(x.install(), "pushes run the programs in /usr/local, which are not those of the package"))
	}
	return or(found, "nothing is mounted noexec that programs are run from")
}

// outdated tells whether the package has another program than the copy that
// install has made of it.
func (x *exam) outdated() bool {
	ours, err := os.ReadFile(x.Host.system("/usr/local/bin/bluegreen"))
	if err != nil {
		return false // wired by hand
	}
	theirs, err := os.ReadFile(x.Host.system(packaged))
	return err == nil && !bytes.Equal(ours, theirs)
}
