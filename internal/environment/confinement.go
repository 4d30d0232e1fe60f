package environment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"bluegreen/internal/confine"
	"bluegreen/internal/deploy"
	"bluegreen/internal/release"
)

// Confinement tells which directories deployments write in, and in which of them
// a link is switched. Where the process cannot be kept to these, free says why:
// Landlock holds for all that it starts, and takes sudo from that.
func (e *Environment) Confinement(ctx context.Context) (dirs, links []string, free string) {
	switch program := e.program(ctx); {
	case program != "":
		return nil, nil, program + " may write anywhere, and use sudo"
	case !confine.Available():
		return nil, nil, "this kernel has no Landlock, or one before Linux 5.19"
	}
	dirs = []string{e.Repo.Dir, e.Journal.Dir}
	if isDirectory(os.TempDir()) {
		dirs = append(dirs, os.TempDir()) // git's, for signatures
	}
	if e.Releases == nil {
		return append(dirs, e.Worktree.Dir), nil, ""
	}
	dirs = append(dirs, e.Releases.Dir)
	// What outlives releases may be kept elsewhere, behind a symlink.
	if shared := filepath.Join(e.Releases.Dir, release.SharedDir); isDirectory(shared) {
		dirs = append(dirs, shared)
	}
	return dirs, []string{filepath.Dir(e.Releases.Link)}, ""
}

func isDirectory(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// program names a program of the operator's that a deployment may run, "" for
// none.
func (e *Environment) program(ctx context.Context) string {
	if program := e.Config.Program(); program != "" {
		return program
	}
	if cfg, err := e.Repo.Config(ctx); err != nil || cfg.HasHooks() {
		return "a hook of git's configuration"
	}
	dir, err := e.Repo.HooksDir(ctx)
	if err != nil {
		return "a hook"
	}
	for _, name := range []string{"update", "reference-transaction"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return "the hook " + name
		}
	}
	return ""
}

// confine keeps the process to where it writes, if it can be kept there. It is one
// wall more: a kernel that does not put it up is told of, and keeps nobody from
// deploying.
func (e *Environment) confine(ctx context.Context) {
	dirs, links, free := e.Confinement(ctx)
	if free != "" || e.confined { // one more each time would be too many for the kernel
		return
	}
	e.confined = true
	if err := confine.Writes(dirs, links); err != nil {
		e.Observe(deploy.Notice{Kind: deploy.Warning, Text: fmt.Sprintf("keeping the deployment to its directories: %v", err)})
	}
}
