package environment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"bluegreen/internal/confine"
	"bluegreen/internal/deploy"
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
	if st, err := os.Stat(os.TempDir()); err == nil && st.IsDir() {
		dirs = append(dirs, os.TempDir()) // git's, for signatures
	}
	if e.Releases == nil {
		return append(dirs, e.Worktree.Dir), nil, ""
	}
	return append(dirs, e.Releases.Dir), []string{filepath.Dir(e.Releases.Link)}, ""
}

// program names a program of the operator's that a deployment may run, "" for
// none.
func (e *Environment) program(ctx context.Context) string {
	if program := e.Config.Program(); program != "" {
		return program
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
