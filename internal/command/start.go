package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepare finds the program and makes sure that nothing of ours is inherited.
func (c Command) prepare(ctx context.Context) (*exec.Cmd, error) {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return nil, errors.New("the command is empty")
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("%q was not started: %w", c.Argv[0], err)
	}
	// The kernel's ENOENT would not tell a missing directory from a missing program.
	if st, err := os.Stat(c.Dir); c.Dir != "" && err != nil {
		return nil, fmt.Errorf("working directory of %q: %w", c.Argv[0], err)
	} else if c.Dir != "" && !st.IsDir() {
		return nil, fmt.Errorf("working directory of %q: %q: %w", c.Argv[0], c.Dir, syscall.ENOTDIR)
	}
	path, err := c.lookup()
	if err != nil {
		return nil, err
	}
	closeOnExec()
	return &exec.Cmd{
		Path: path,
		Args: c.Argv,
		Env:  append([]string{}, c.Env...), // nil would be all of ours
		Dir:  c.Dir,
		// A session of its own: no Ctrl-C reaches it, and it has no terminal. Into
		// that of root, who runs this as another account, it could type.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}, nil
}

// lookup finds the program in the PATH that it will see.
func (c Command) lookup() (string, error) {
	name, path := c.Argv[0], "/usr/local/bin:/usr/bin:/bin"
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, kv := range c.Env {
		if value, found := strings.CutPrefix(kv, "PATH="); found && value != "" {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, name)
		// A relative directory would let the deployed site choose the program.
		if !filepath.IsAbs(dir) || unix.Access(candidate, unix.X_OK) != nil {
			continue
		}
		if st, err := os.Stat(candidate); err == nil && st.Mode().IsRegular() {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("program %q is not in the PATH: %w", name, fs.ErrNotExist)
}

// closeOnExec keeps descriptors that we have inherited from our children: git
// waits until the last process that holds one of them is gone.
func closeOnExec() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return // without /proc: git itself hands on only 0 to 2, and those are replaced
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

func startError(c Command, path string, err error) error {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
		err = failed.Err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.Dir, path)
	}
	if _, statErr := os.Stat(path); errors.Is(err, fs.ErrNotExist) && statErr == nil {
		return fmt.Errorf("starting %q: the interpreter in its first line is missing: %w", c.Argv[0], err)
	}
	return fmt.Errorf("starting %q: %w", c.Argv[0], err)
}
