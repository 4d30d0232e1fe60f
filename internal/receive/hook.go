package receive

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bluegreen/internal/command"
	"bluegreen/internal/deploy"
	"bluegreen/internal/git"
	"bluegreen/internal/policy"
)

// findHook returns the path of the hook that git would run, "" where it would
// run none.
func findHook(ctx context.Context, repo *git.Repository, name string) (string, error) {
	dir, err := repo.HooksDir(ctx)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return "", nil
	}
	return path, nil
}

// updateHookTimeout bounds the repository's own update hook.
const updateHookTimeout = 5 * time.Minute

// askUpdateHook runs the update hook for a ref that proc-receive moves: git
// does not, and the rules that it may hold must not vanish.
func (r *processor) askUpdateHook(ctx context.Context, d policy.Decision) error {
	hook, err := findHook(ctx, r.env.Repo, "update")
	if err != nil || hook == "" {
		return err
	}
	hex := func(oid git.OID) string {
		if oid.IsZero() {
			return strings.Repeat("0", 2*r.env.Repo.HashSize())
		}
		return oid.String()
	}
	var env []string
	for _, kv := range r.process.Environ {
		if !strings.HasPrefix(kv, "GIT_DIR=") && !strings.HasPrefix(kv, "DIGITALOCEAN_TOKEN=") {
			env = append(env, kv)
		}
	}
	_, err = command.Run(ctx, command.Command{
		Argv: []string{hook, d.Ref, hex(d.Old), hex(d.New)},
		Env:  append(env, "GIT_DIR="+r.env.Repo.Dir), Dir: r.env.Repo.Dir, Timeout: updateHookTimeout,
	}, func(line string) { r.console.Say("%s", line) })
	if err != nil {
		return &deploy.Failure{Refused: true, Reason: fmt.Sprintf("the update hook declined %q: %v", d.Ref, err)}
	}
	return nil
}
