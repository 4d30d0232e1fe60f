package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"bluegreen/internal/git"
	"bluegreen/internal/journal"
	"bluegreen/internal/worktree"
)

// A marker is what the file deploy.marker says to the outside.
type marker struct {
	Commit      git.OID   `json:"commit"`
	Environment string    `json:"environment"`
	DeployedAt  time.Time `json:"deployed_at"`
	Tag         string    `json:"tag"`
	WorksWith   *string   `json:"works_with"` // null: nothing is declared
}

// mark makes the marker say what the web root holds: now, which is nil where
// it holds nothing of ours. It is made from the records, so a recovery can
// repeat it.
func (e *Environment) mark(w *worktree.Worktree, now *journal.Deployed) error {
	if now == nil || !sameDirectory(now.Directory, w.Dir) {
		return nil
	}
	return e.writeMarker(w, now)
}

// writeMarker is mark for a web root that need not be the one that is served.
func (e *Environment) writeMarker(w *worktree.Worktree, now *journal.Deployed) error {
	if now.Marker == "" {
		return nil
	}
	var data bytes.Buffer
	out := json.NewEncoder(&data)
	out.SetEscapeHTML(false) // a check looks for a tag as it is
	says := marker{Commit: now.Commit, Environment: e.Name, DeployedAt: now.At, Tag: now.Tag}
	if now.WorksWith != "" {
		says.WorksWith = &now.WorksWith
	}
	if err := out.Encode(says); err != nil {
		return fmt.Errorf("writing the marker: %w", err)
	}
	return w.WriteMarker(now.Marker, data.Bytes())
}

// unmark removes the marker of before, where now has none or another one, and
// where the commit of now has no file of its own at that place.
func (e *Environment) unmark(ctx context.Context, w *worktree.Worktree, before, now *journal.Deployed) error {
	if before == nil || before.Marker == "" || !sameDirectory(before.Directory, w.Dir) {
		return nil
	}
	if now != nil {
		objects := e.Repo.Objects(ctx)
		defer objects.Close()
		if now.Marker == before.Marker || !now.Tree.IsZero() && w.MarkerConflict(objects, now.Tree, before.Marker) != nil {
			return nil
		}
	}
	return w.RemoveMarker(before.Marker)
}
