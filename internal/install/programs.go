package install

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/install/host"
)

// procReceive is the hook that git asks for the refs in refsKey, and without
// which it refuses them.
const (
	procReceive = "proc-receive"
	refsKey     = "receive.procReceiveRefs"
)

// Hooks are the programs that git runs.
func Hooks() []string { return []string{"pre-receive", procReceive, "post-receive"} }

// programs maps each place of a program on the server to its name.
func programs() []struct{ path, name string } {
	all := []struct{ path, name string }{{CommandPath, "bluegreen"}}
	for _, name := range Hooks() {
		all = append(all, struct{ path, name string }{path.Join(ProgramsDir, name), name})
	}
	return all
}

// source finds a program to install: in the directory that was named, or, as
// packages lay them out, in ../lib/bluegreen beside that.
func (i *Installation) source(name string) (string, error) {
	for _, dir := range []string{i.o.Programs, filepath.Join(i.o.Programs, "../lib/bluegreen")} {
		file := filepath.Join(dir, name)
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", refuse("name the directory that \"make\" put them into: --programs DIR",
		"there is no program %s in %s", name, i.o.Programs)
}

func (i *Installation) planPrograms(ctx context.Context) ([]Change, error) {
	if err := i.lookForPackage(); err != nil {
		return nil, err
	}
	changes, err := i.planProgramsDir()
	if err != nil {
		return nil, err
	}
	for _, p := range programs() {
		source, err := i.source(p.name)
		if err != nil {
			return nil, err
		}
		e, err := i.host.Look(p.path)
		if err != nil {
			return nil, err
		}
		if e != nil && e.Mode.IsDir() {
			return nil, refuse("move it away, then run this again", "%s is a directory", p.path)
		}
		if err := i.checkInPlace(ctx, source, p.path); err != nil {
			return nil, err
		}
		same := false
		if e != nil && e.Mode.IsRegular() {
			if same, err = i.host.Same(p.path, source); err != nil {
				return nil, err
			}
		}
		if same {
			own, err := i.owned(p.path, e, host.Superuser(), 0o755)
			if err != nil {
				return nil, err
			}
			changes = append(changes, own...)
			continue
		}
		changes = append(changes, Change{fmt.Sprintf("write %s (root, 0755), from %s", p.path, source), func(ctx context.Context) error {
			return i.installProgram(ctx, source, p.path)
		}})
	}
	return changes, nil
}

// checkInPlace looks whether a program is what it should be, where there is none
// to compare it with: it is installed from its own place.
func (i *Installation) checkInPlace(ctx context.Context, source, file string) error {
	from, err := os.Stat(source)
	if err != nil {
		return err
	}
	at, err := os.Stat(filepath.Join(i.o.Root, file))
	if err != nil || !os.SameFile(from, at) {
		return nil
	}
	said, err := command.Read(ctx, command.Command{Argv: []string{source, "--version"}, Timeout: 10 * time.Second})
	if err == nil && strings.TrimSpace(said) != path.Base(file)+" "+i.o.Version {
		err = fmt.Errorf("it says it is %.100q, and this is version %s", strings.TrimSpace(said), i.o.Version)
	}
	if err != nil {
		return refuse("install it anew, from the directory of a package or of \"make\": --programs DIR", "%s is not the program that it should be: %v", file, err)
	}
	return nil
}

// planProgramsDir plans whose the programs' directory is, where there is one.
func (i *Installation) planProgramsDir() ([]Change, error) {
	e, err := i.host.Follow(ProgramsDir)
	if err != nil || e == nil {
		return nil, err
	}
	if !e.Mode.IsDir() {
		return nil, refuse("move it away, then run this again", "%s is not a directory", ProgramsDir)
	}
	return i.owned(ProgramsDir, e, host.Superuser(), 0o755)
}

// lookForPackage warns where the program that runs is a copy that install has
// made, and the package has another one: the copy comes first in PATH, and has
// nothing newer to install than itself.
func (i *Installation) lookForPackage() error {
	running := filepath.Join(i.o.Programs, "bluegreen")
	if running != filepath.Join(i.o.Root, CommandPath) {
		return nil
	}
	e, err := i.host.Follow(PackagePath)
	if err != nil || e == nil {
		return err
	}
	if same, err := i.host.Same(PackagePath, running); err != nil || same {
		return err
	}
	i.warn("%s is not the package's program; to install those of the package: %s install --user %s --repo %s",
		CommandPath, PackagePath, i.o.User, i.o.Repo)
	return nil
}

// installProgram puts a program in place, by a rename: one that runs goes on
// with the file that it has.
func (i *Installation) installProgram(ctx context.Context, source, file string) error {
	// One for another processor must not take the place of one that runs.
	if _, err := command.Read(ctx, command.Command{Argv: []string{source, "--version"}, Timeout: 10 * time.Second}); err != nil {
		return fmt.Errorf("this program does not run here: %w", err)
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	dir := path.Dir(file)
	e, err := i.host.Follow(dir)
	if err == nil && e == nil {
		err = i.host.Mkdir(dir, host.Superuser(), 0o755)
	}
	if err != nil {
		return err
	}
	return i.host.WriteFile(file, f, host.Superuser(), 0o755)
}
