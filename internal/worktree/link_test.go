package worktree

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestLink switches a link there and back from every state that a crash can
// leave, and leaves one alone that somebody else has set.
func TestLink(t *testing.T) {
	t.Parallel()
	for _, from := range []Path{"", "1"} {
		for _, now := range []string{"", "1", "2", "elsewhere", "directory"} {
			for _, stray := range []bool{false, true} {
				dir := t.TempDir()
				l := &Link{Path: Path(filepath.Join(dir, "www")), From: from, To: "2"}
				ours := now == string(from) || now == "2"
				for _, do := range []struct {
					set  func() error
					want string
				}{{l.activate, "2"}, {l.undo, string(from)}, {l.undo, string(from)}, {l.activate, "2"}} {
					if do.want == "2" && do.set != nil {
						os.RemoveAll(string(l.Path))
						leave(t, string(l.Path), now)
					}
					if stray && do.want == "2" {
						leave(t, l.temp(), "half")
					}
					before, _ := os.Lstat(string(l.Path))
					err := do.set()
					got, _ := os.Readlink(string(l.Path)) // "" where there is none
					switch {
					case !ours && (!errors.Is(err, ErrMoved) || now != "directory" && got != now):
						t.Fatalf("from %q to %q: what somebody else has set, %q, is %q now, %v", from, l.To, now, got, err)
					case ours && (err != nil || got != do.want):
						t.Fatalf("from %q to %q, which was %q: it leads to %q, want %q, %v", from, l.To, now, got, do.want, err)
					}
					if kept, _ := os.Lstat(l.temp()); ours && now == string(from) && now != "" && do.want == "2" && !os.SameFile(kept, before) {
						t.Fatalf("from %q to %q: the former link is not kept", from, l.To)
					}
				}
				if err := l.Discard(); ours && err != nil {
					t.Fatal(err)
				}
				if _, err := os.Lstat(l.temp()); ours && !os.IsNotExist(err) {
					t.Fatalf("something is left behind: %v", err)
				}
			}
		}
	}
}

// leave makes what was there before a switch.
func leave(t *testing.T, path, what string) {
	t.Helper()
	var err error
	switch what {
	case "":
	case "directory":
		err = os.Mkdir(path, 0o755)
	default:
		os.Remove(path)
		err = os.Symlink(what, path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLinkUndone: taking a switch back makes nothing, for which there may be no
// room.
func TestLinkUndone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := &Link{Path: Path(filepath.Join(dir, "www")), From: "1", To: "2"}
	leave(t, string(l.Path), "1")
	before, err := os.Lstat(string(l.Path))
	must(t, err)
	must(t, l.activate())
	must(t, l.undo())
	after, err := os.Lstat(string(l.Path))
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the link that is back is another one")
	}
}
