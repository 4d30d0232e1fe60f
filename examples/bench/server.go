package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A server is a bare repository with a contestant's hooks, and its web root.
type server struct {
	contestant string
	site       *site
	dir        string
	repo       string
	www        string
	at         string // the commit in the web root
	ref        string // the commit that the branch is at; differs after "bluegreen deploy"
}

// branch is what everybody deploys.
const branch = "refs/heads/master"

// hookNames are the hooks that git may run for a push, in this order.
func hookNames() []string { return []string{"pre-receive", "proc-receive", "post-receive"} }

// newServer makes a server that has stored the first commit, and deployed
// nothing. The objects are links to those of the site: nothing is written. The
// error is a leftOut where the programs do not know how to be this contestant.
func newServer(ctx context.Context, sh *shell, dir string, s *site, contestant string) (*server, error) {
	v := &server{contestant: contestant, site: s, dir: dir, repo: filepath.Join(dir, "srv.git"), www: filepath.Join(dir, "www")}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := sh.git(ctx, dir, "init", "-q", "--bare", "-b", "master", v.repo); err != nil {
		return nil, err
	}
	packs, err := filepath.Glob(filepath.Join(s.seed(), "objects/pack/*"))
	if err != nil {
		return nil, err
	}
	for _, pack := range packs {
		if err := os.Link(pack, filepath.Join(v.repo, "objects/pack", filepath.Base(pack))); err != nil {
			return nil, err
		}
	}
	if _, err := sh.git(ctx, v.repo, "update-ref", stored, s.base); err != nil {
		return nil, err
	}
	if err := v.makeRoot(); err != nil {
		return nil, err
	}
	if ours(contestant) {
		return v, v.installPrograms(ctx, sh)
	}
	return v, v.installScript(ctx, sh)
}

// whole tells whether the web root is a link to one of several directories.
func (v *server) whole() bool {
	return slices.Contains([]string{releases, swept, archive}, v.contestant)
}

func (v *server) releases() string { return filepath.Join(v.dir, "releases") }

func (v *server) makeRoot() error {
	if !v.whole() {
		return os.Mkdir(v.www, 0o755)
	}
	first := filepath.Join(v.releases(), "1")
	return errors.Join(os.MkdirAll(first, 0o755), os.Symlink(first, v.www))
}

// installPrograms sets the server up with the three hooks, and no checks.
func (v *server) installPrograms(ctx context.Context, sh *shell) error {
	if err := v.linkHooks(sh); err != nil {
		return err
	}
	for _, setting := range [][2]string{
		{"receive.procReceiveRefs", branch}, {"receive.procReceiveRefs", "refs/tags"}, {"receive.advertisePushOptions", "true"},
	} {
		if _, err := sh.git(ctx, v.repo, "config", "--add", setting[0], setting[1]); err != nil {
			return err
		}
	}
	config := fmt.Sprintf("environment = \"bench\"\n[deploy]\ndirectory = %q\n", v.www)
	switch v.contestant {
	case trust:
		config += "verify = false\n"
	case releases:
		config += fmt.Sprintf("releases = %q\nverify = false\n", v.releases())
	case swept:
		config += fmt.Sprintf("releases = %q\n", v.releases())
	}
	if err := os.WriteFile(filepath.Join(v.repo, "bluegreen.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	status := 0
	out, err := sh.run(ctx, job{argv: []string{filepath.Join(sh.bin, "bluegreen"), "--repo", v.repo, "check"}, status: &status})
	if err == nil && status == 2 {
		return leftOut(fmt.Sprintf("%s: %s", nameOf(v.contestant), strings.ReplaceAll(lastLines(out), v.repo+"/", "")))
	}
	return err
}

// linkHooks has git run the programs themselves, as they are.
func (v *server) linkHooks(sh *shell) error {
	for _, name := range hookNames() {
		hook := filepath.Join(v.repo, "hooks", name)
		if err := errors.Join(remove(hook), os.Symlink(filepath.Join(sh.bin, name), hook)); err != nil {
			return err
		}
	}
	return nil
}

// bashHook is the hook of the well-known tutorial's kind. Names in capitals are
// filled in.
const bashHook = `#!/usr/bin/env bash
while read -r old new ref; do
	if [[ $ref =~ .*/master$ ]]; then
		echo "master has come in: the web root gets it"
		git --work-tree='WWW' --git-dir='REPO' checkout -f
	else
		echo "$ref has come in: nothing to do, only master is deployed"
	fi
done
`

// archiveHook does what Capistrano and Deployer do for each release, without
// the removal of old ones.
const archiveHook = `#!/usr/bin/env bash
set -e -o pipefail
while read -r old new ref; do
	[[ $ref == refs/heads/master ]] || continue
	release='RELEASES'/$(date +%Y%m%d%H%M%S%N)
	mkdir "$release"
	git archive "$new" | tar -x -f - -C "$release"
	ln -s "$release" 'WWW.next'
	mv -T 'WWW.next' 'WWW'
done
`

// installScript sets the server up with a contestant that is not ours.
func (v *server) installScript(ctx context.Context, sh *shell) error {
	text := bashHook
	switch v.contestant {
	case plain:
		return nil
	case archive:
		text = archiveHook
	case synced:
		text += "sync -f 'WWW'\n"
	case parallel:
		if _, err := sh.git(ctx, v.repo, "config", "checkout.workers", "0"); err != nil {
			return err
		}
	}
	if strings.Contains(v.dir, "'") {
		return fmt.Errorf("%q: the scripts quote with \"'\"", v.dir)
	}
	text = strings.NewReplacer("WWW", v.www, "REPO", v.repo, "RELEASES", v.releases()).Replace(text)
	return os.WriteFile(filepath.Join(v.repo, "hooks/post-receive"), []byte(text), 0o755)
}

// tidy removes releases that nobody goes back to, as a deployer does now and
// then. Ours does so itself.
func (v *server) tidy() error {
	if v.contestant != archive {
		return nil
	}
	entries, err := os.ReadDir(v.releases())
	if err != nil {
		return err
	}
	live, err := os.Readlink(v.www)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		if path := filepath.Join(v.releases(), e.Name()); path != live {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return err
}

func (v *server) close() error {
	if v == nil {
		return nil
	}
	return os.RemoveAll(v.dir)
}

// remove removes a file that may be there.
func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
