package git

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"bluegreen/internal/gittest"
)

// TestAnotherReader holds what is read of every object against another
// implementation of git's formats, go-git.
func TestAnotherReader(t *testing.T) {
	t.Parallel()
	dir := history(t)
	gittest.Git(t, dir, "repack", "-q", "-a", "-d", "-f", "--depth=50")
	other := filesystem.NewStorage(osfs.New(dir), cache.NewObjectLRUDefault())
	defer other.Close()
	r, err := Open(dir, gittest.Environ())
	if err != nil {
		t.Fatal(err)
	}
	objects := r.Objects(t.Context())
	defer objects.Close()
	names := strings.Fields(gittest.Git(t, dir, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"))
	for _, name := range names {
		oid, err := ParseOID(name)
		if err != nil {
			t.Fatal(err)
		}
		kind, data, err := objects.Read(oid)
		if err != nil {
			t.Fatal(err)
		}
		want, err := other.EncodedObject(plumbing.AnyObject, plumbing.NewHash(name))
		if err != nil {
			t.Fatal(err)
		}
		content, err := want.Reader()
		if err != nil {
			t.Fatal(err)
		}
		read, err := io.ReadAll(content)
		content.Close()
		if err != nil || kind != want.Type().String() || !bytes.Equal(data, read) {
			t.Fatalf("%s is read as %s of %d bytes, and by go-git as %s of %d, %v", name, kind, len(data), want.Type(), len(read), err)
		}
	}
	if len(names) < 100 {
		t.Fatalf("only %d objects", len(names))
	}
}
