package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A plan says what a site is made of. The same plan gives the same commits on
// every machine.
type plan struct {
	name, title  string
	files        int
	perDirectory int
	large        int64 // bytes of one file more, that does not compress
	steps        int   // commits one after the other
	changed      int   // files that each step changes
}

const (
	fileBytes  = 4500 // of a file, in the middle
	largeBytes = 1_000_000_000
	// history is the site whose commits somebody else has made.
	history = "history"
)

func plans() []plan {
	return []plan{
		{name: "tiny", title: "5 files", files: 5, perDirectory: 5, steps: 70, changed: 1},
		{name: "1k", title: "1,000 files", files: 1000, perDirectory: 100, steps: 40, changed: 10},
		{name: "10k", title: "10,000 files", files: 10_000, perDirectory: 100, steps: 40, changed: 10},
		{name: "100k", title: "100,000 files", files: 100_000, perDirectory: 100, steps: 40, changed: 10},
		{name: "scattered", title: "10,000 files in 2,000 directories", files: 10_000, perDirectory: 5, steps: 40, changed: 100},
		{name: "blob", title: "one file of 1 GB", files: 5, perDirectory: 5, large: largeBytes, steps: 1, changed: 1},
		{name: history, title: "a real repository"},
	}
}

func siteTitle(name string) string {
	for _, p := range plans() {
		if p.name == name {
			return p.title
		}
	}
	return name
}

// scaled is the plan of a smaller site, for trying things out.
func (p plan) scaled(scale float64) plan {
	if p.files > p.changed {
		p.files = max(p.changed, int(float64(p.files)*scale))
	}
	p.large = int64(float64(p.large) * scale)
	return p
}

// A site is two repositories: seed has what a server has stored before
// anything is deployed, source all commits.
type site struct {
	plan
	dir       string
	base      string   // the commit that seed has, as refs/heads/stored
	steps     []string // from base on, each the child of the one before
	same      []string // from base on, with the same tree
	far       string   // a child of base with a tenth of the files changed
	converted bool     // attributes may make a file differ from its blob
}

func (s *site) seed() string   { return filepath.Join(s.dir, "seed.git") }
func (s *site) source() string { return filepath.Join(s.dir, "source.git") }

// stored is the ref that a server has its first commit under. It is no branch
// that is deployed.
const stored = "refs/heads/stored"

// makeSite writes the site of a plan into dir.
func (sh *shell) makeSite(ctx context.Context, p plan, dir string) (*site, error) {
	s := &site{plan: p, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := sh.git(ctx, dir, "init", "-q", "--bare", "-b", "master", s.seed()); err != nil {
		return nil, err
	}
	commits, err := sh.importCommits(ctx, s.seed(), p.large > 0, func(w *stream) { w.base(p) })
	if err != nil {
		return nil, err
	}
	s.base = commits[0]
	if err := os.CopyFS(s.source(), os.DirFS(s.seed())); err != nil {
		return nil, err
	}
	commits, err = sh.importCommits(ctx, s.source(), false, func(w *stream) { w.changes(p, s.base) })
	if err != nil {
		return nil, err
	}
	s.steps = append([]string{s.base}, commits[:p.steps]...)
	s.same = append([]string{s.base}, commits[p.steps:2*p.steps]...)
	s.far = commits[2*p.steps]
	return s, nil
}

// takeSite makes a site of the last commits of a repository, along first
// parents.
func (sh *shell) takeSite(ctx context.Context, repository string, steps int, dir string) (*site, error) {
	s := &site{plan: plan{name: history, title: siteTitle(history)}, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	switch shallow, err := sh.git(ctx, repository, "rev-parse", "--is-shallow-repository"); {
	case err != nil:
		return nil, leftOut(err.Error())
	case shallow == "true":
		return nil, leftOut(fmt.Sprintf("the history of %q is shallow", repository))
	}
	if _, err := sh.git(ctx, dir, "clone", "-q", "--bare", "--no-local", repository, s.source()); err != nil {
		return nil, err
	}
	list, err := sh.git(ctx, s.source(), "rev-list", "--first-parent", "--reverse", fmt.Sprintf("--max-count=%d", steps+1), "HEAD")
	if err != nil {
		return nil, err
	}
	s.steps = strings.Fields(list)
	if len(s.steps) < 2 {
		return nil, leftOut(fmt.Sprintf("the history of %q has not even two commits", repository))
	}
	s.base = s.steps[0]
	paths, err := sh.git(ctx, s.source(), "ls-tree", "-r", "--name-only", "HEAD")
	if err != nil {
		return nil, err
	}
	s.converted = strings.Contains("\n"+paths, "\n.gitattributes") || strings.Contains(paths, "/.gitattributes")
	if _, err := sh.git(ctx, dir, "init", "-q", "--bare", "-b", "master", s.seed()); err != nil {
		return nil, err
	}
	_, err = sh.git(ctx, s.source(), "-c", "pack.compression=1", "push", "-q", "--receive-pack=git -c receive.unpackLimit=1 receive-pack", s.seed(), s.base+":"+stored)
	return s, err
}

// copyTo copies the repositories, to a place with another filesystem.
func (s *site) copyTo(dir string) (*site, error) {
	there := *s
	there.dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return &there, errors.Join(os.CopyFS(there.seed(), os.DirFS(s.seed())), os.CopyFS(there.source(), os.DirFS(s.source())))
}

// A leftOut is not an error of the benchmark: something is not there, and a
// line says so.
type leftOut string

func (l leftOut) Error() string { return string(l) }
