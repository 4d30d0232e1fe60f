package worktree

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// TestFstatat looks at a name that ends where the array says, and at no other.
func TestFstatat(t *testing.T) {
	t.Parallel()
	dir := gittest.Dir(t)
	write(t, filepath.Join(dir, "page"), "x\n")
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	for _, test := range []struct {
		array string
		n     int // of the name in it
		want  error
	}{{"page\x00more", 4, nil}, {"pages", 4, unix.EINVAL}, {"none\x00", 4, unix.ENOENT}} {
		var st unix.Stat_t
		if err := fstatat(fd, []byte(test.array)[:test.n], &st); !errors.Is(err, test.want) || err == nil && st.Size != 2 {
			t.Errorf("%q: %v, %d bytes", test.array, err, st.Size)
		}
	}
}
