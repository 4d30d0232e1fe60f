package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"bluegreen/internal/git"
	"bluegreen/internal/worktree"
)

// A Switch makes a release the live one. The repository's own index, which git
// commands on the server read, follows it.
type Switch struct {
	Record  worktree.Record
	release *Release
}

// Switch returns the change that makes the release live.
func (rel *Release) Switch(target git.OID) (*Switch, error) {
	r := rel.releases
	link, _, err := r.live()
	if err != nil {
		return nil, err
	}
	to := rel.Worktree.Dir
	if sameDirectory(filepath.Dir(link), r.Dir) {
		to = rel.Name // beside it
	}
	from, err := os.Readlink(link)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("following the web root: %w", err)
	}
	return &Switch{release: rel, Record: worktree.Record{Directory: worktree.Path(r.Link), Tree: target,
		Link: &worktree.Link{Path: worktree.Path(link), From: worktree.Path(from), To: worktree.Path(to)}}}, nil
}

// Activate makes the release live, durably.
func (s *Switch) Activate() error { return s.release.Worktree.Activate(s.Record) }

// Undo makes the release live again that was it before.
func (s *Switch) Undo() error { return s.release.Worktree.Undo(s.Record) }

// PrepareIndex prepares the repository's index. What is left to SwitchIndex
// needs no room on the disk. The mark is that of the index.
func (s *Switch) PrepareIndex() (worktree.Mark, error) {
	return s.release.held.Index, s.release.releases.Site.PrepareIndexOf(s.release.Worktree.Index())
}

// SwitchIndex makes the repository's index that of the release.
func (s *Switch) SwitchIndex() (warning string, err error) {
	return s.release.releases.Site.SwitchToPrepared()
}

// Discard removes what is not kept any more, what the switch has beside the link,
// and an index that was prepared and not used.
func (s *Switch) Discard() error {
	if err := s.release.releases.Site.Discard(s.Record); err != nil {
		return err
	}
	return s.release.releases.Surplus()
}

// A Repair is a change of the live release itself, which holds the wanted tree
// but for what somebody has changed.
type Repair struct {
	*worktree.Staged
	release *Release
	mark    worktree.Mark
}

// Repair stages a plan for the live release. The marker that it may get is on
// record from now on.
func (rel *Release) Repair(ctx context.Context, p *worktree.Plan, id string, progress func(done int)) (*Repair, error) {
	if marker := rel.releases.Marker; marker != "" && !slices.Contains(rel.held.Markers, marker) {
		held := *rel.held
		held.Markers = append(slices.Clone(held.Markers), marker)
		if err := rel.write(&held); err != nil {
			return nil, err
		}
	}
	staged, err := rel.Worktree.Stage(ctx, p, id, progress)
	if err != nil {
		return nil, err
	}
	return &Repair{Staged: staged, release: rel}, nil
}

// PrepareIndex prepares the release's index.
func (s *Repair) PrepareIndex() (worktree.Mark, error) {
	var err error
	s.mark, err = s.Staged.PrepareIndex()
	return s.mark, err
}

// SwitchIndex makes the prepared index the release's and the repository's.
func (s *Repair) SwitchIndex() (warning string, err error) {
	if _, err := s.Staged.SwitchIndex(); err != nil {
		return "", err
	}
	if held := *s.release.held; held.Index != s.mark {
		held.Index = s.mark
		if err := s.release.write(&held); err != nil {
			return "", err
		}
	}
	return s.release.Publish()
}

// Publish makes the repository's index that of the release.
func (rel *Release) Publish() (warning string, err error) {
	if err := rel.releases.Site.PrepareIndexOf(rel.Worktree.Index()); err != nil {
		return "", err
	}
	return rel.releases.Site.SwitchToPrepared()
}

// Settle is for a recovery: it brings the live release, served as it is, to
// exactly the source, and the repository's index after it. The mark is that of the
// index.
func (rel *Release) Settle(ctx context.Context, source worktree.Source, id string) (p *worktree.Plan, mark worktree.Mark, err error) {
	w := *rel.Worktree
	w.Verify = true
	p, err = w.PlanSource(ctx, source, rel.known())
	if err != nil {
		return nil, mark, err
	}
	staged, err := w.Restage(ctx, p, id, nil)
	if err != nil {
		return nil, mark, err
	}
	if err := staged.Activate(); err != nil {
		return nil, mark, err
	}
	mark, err = staged.PrepareIndex()
	if err != nil {
		return nil, mark, err
	}
	if _, err := staged.SwitchIndex(); err != nil {
		return nil, mark, err
	}
	if _, err := rel.Publish(); err != nil {
		return nil, mark, err
	}
	now := held{Tree: source.Tree, Root: source.Root, Subdirectory: source.Dir, Conversions: p.Conversions,
		Accepted: p.Accepted, Index: mark}
	if rel.held != nil && rel.held.Tree == source.Tree {
		now.Build, now.Used, now.Markers = rel.held.Build, rel.held.Used, rel.held.Markers
	}
	if err := rel.use(&now); err != nil {
		return nil, mark, err
	}
	return p, mark, staged.Discard()
}
