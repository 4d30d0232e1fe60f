package hooks_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A swapper exchanges directories for symlinks that lead outside, and back, as
// fast as it can.
type swapper struct {
	aside   string   // where the links are made, and the directories are meanwhile
	outside string   // where the links lead
	base    int      // a descriptor of the directory that has the web roots
	sites   []string // them, which need not be there
	dirs    []string // in each of them

	swaps atomic.Int64
	stop  chan struct{}
	done  chan error
}

func (w *swapper) start() {
	w.stop, w.done = make(chan struct{}), make(chan error, 1)
	go func() { w.done <- w.run() }()
}

func (w *swapper) end() error {
	close(w.stop)
	return <-w.done
}

func (w *swapper) run() error {
	for {
		for _, site := range w.sites {
			for _, dir := range w.dirs {
				select {
				case <-w.stop:
					return nil
				default:
				}
				if err := w.swap(site, dir); err != nil {
					return err
				}
			}
		}
	}
}

// swap exchanges a directory for a symlink, and that for what it was. Either may
// have become something else, or nothing, in between.
func (w *swapper) swap(site, dir string) error {
	link, target := filepath.Join(w.aside, "link"), filepath.Join(w.outside, dir)
	if now, err := os.Readlink(link); err != nil || now != target {
		err := errors.Join(os.RemoveAll(link), os.Symlink(target, link))
		if err != nil {
			return err
		}
	}
	// It must not be led astray itself.
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	parent, err := unix.Openat2(w.base, filepath.Dir(filepath.Join(site, dir)), &how)
	if err != nil {
		return ifNotThere(err)
	}
	defer unix.Close(parent)
	for range 2 {
		err := unix.Renameat2(parent, filepath.Base(dir), unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
		if err == nil {
			w.swaps.Add(1)
		} else if err = ifNotThere(err); err != nil {
			return fmt.Errorf("swapping %q: %w", dir, err)
		}
	}
	return nil
}

// ifNotThere is an error that says something else than that nothing is there.
func ifNotThere(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// TestSwaps deploys into directories that are swapped for symlinks all the time.
// Whether it succeeds or not, nothing outside changes.
func TestSwaps(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{"in place": "", "releases": "releases = \"RELEASES\"\nkeep = 2\nshared = [\"d/uploads\"]\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			swaps(t, config)
		})
	}
}

func swaps(t *testing.T, config string) {
	s := newServer(t, "", "", allHooks...)
	sites := []string{"www"}
	if config != "" {
		releases := filepath.Join(s.dir, "releases")
		s.must(os.Remove(s.www))
		s.configure(strings.Replace(config, "RELEASES", releases, 1))
		sites = []string{"releases/1", "releases/2", "releases/3"}
	}
	// Each state has what the others lack, in directories of the same names.
	var commits []string
	for _, files := range []map[string]string{
		{"page": "0", "d/f": "0", "d/gone": "0", "d/sub/f": "0", "d/sub/deep/f": "0", "e/f": "0", "e/sub/f": "0"},
		{"page": "1", "d/f": "1", "d/gone": "-", "d/new": "1", "d/sub/f": "1", "e/sub": "-"},
		{"page": "2", "d/sub": "-", "d/more/f": "2", "e": "-"},
		{"page": "3", "d": "-", "e/f": "3", "e/sub/f": "3"},
		{"page": "4", "d/f": "4", "d/sub/deep/f": "4", "e/f": "4", ".gitattributes": "*.txt text eol=crlf\n", "d/sub/c.txt": "4\n"},
	} {
		commits = append(commits, s.commit(files))
	}
	s.pushed("master")
	inherits := filepath.Join(s.dir, sites[0], "d/sub") // what goes into it is staged in it
	s.must(os.Chmod(inherits, 0o755|fs.ModeSetgid))

	outside := filepath.Join(s.dir, "outside")
	for _, canary := range []string{"d/f", "d/gone", "d/new", "d/sub/f", "d/sub/deep/f", "d/uploads/f", "d/more/f", "e/f", "e/sub/f"} {
		s.must(os.MkdirAll(filepath.Join(outside, filepath.Dir(canary)), 0o755))
		s.must(os.WriteFile(filepath.Join(outside, canary), []byte("canary\n"), 0o644))
	}
	before, err := everything(outside)
	s.must(err)

	wanted, deployments, most := int64(3000), 8, 15*time.Second
	if long() > 1 {
		wanted, deployments, most = 100_000, 400, 10*time.Minute
	}
	base, err := os.Open(s.dir)
	s.must(err)
	defer base.Close()
	w := &swapper{base: int(base.Fd()), aside: filepath.Join(s.dir, "aside"), outside: outside, sites: sites, dirs: []string{"d", "d/sub", "e", "e/sub", "d/sub/deep"}}
	s.must(os.Mkdir(w.aside, 0o755))
	w.start()
	outcomes := map[int]int{}
	begin := time.Now()
	for n := 0; (n < deployments || w.swaps.Load() < wanted) && time.Since(begin) < most; n++ {
		status, out := s.status(nil, s.git, "bluegreen", "deploy", commits[n%len(commits)])
		if outcomes[status]++; status != 0 && !strings.Contains(out, "error: ") {
			t.Errorf("status %d\n%s", status, out)
		}
	}
	s.must(w.end())
	t.Logf("%d swaps, exit status → deployments: %v", w.swaps.Load(), outcomes)
	if n := w.swaps.Load(); n < wanted {
		t.Errorf("%d swaps only", n)
	}
	after, err := everything(outside)
	s.must(err)
	if d := diff(before, after); d != "" {
		t.Errorf("what is outside has changed:\n%s", d)
	}
	s.calm(commits[0])
}

// calm deploys when nobody swaps anything any more.
func (s *server) calm(commit string) {
	s.Helper()
	status, out := s.status(nil, s.git, "bluegreen", "deploy", commit)
	if status != 0 {
		s.Fatalf("with nobody around: status %d\n%s", status, out)
	}
	web := s.web(false)
	for path, what := range s.fresh(commit) {
		if got := web[path]; got != what && !strings.HasPrefix(what, "d") { // a directory's bits are not git's
			s.Errorf("%q: want %s, got %s", path, what, got)
		}
	}
}

// TestReleaseSwapped: a symlink in the place of a release, or of a directory that
// holds a path which is newly shared, leads nowhere.
func TestReleaseSwapped(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config, at, leads string
		says              string
	}{
		"a release":                       {"", "releases/2", "outside", `releases/2" is not a directory; move it away`},
		"the directory of a shared path":  {"shared = [\"d/uploads\"]\n", "releases/1/d", "outside/d", `moving "d/uploads" out of the live release: .*escapes`},
		"the directory of another's path": {"shared = [\"e/uploads\"]\n", "releases/shared/e", "outside", `"e/uploads".*escapes`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHostile(t, true, false, allHooks...)
			path, outside := filepath.Join(h.dir, test.at), filepath.Join(h.dir, "outside")
			h.must(errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(filepath.Join(h.dir, test.leads), path)))
			h.must(errors.Join(os.MkdirAll(filepath.Join(outside, "d/uploads"), 0o755), os.WriteFile(filepath.Join(outside, "d/uploads/f"), nil, 0o644)))
			before, err := everything(outside)
			h.must(err)
			h.configure(fmt.Sprintf("releases = %q\n%s", filepath.Join(h.dir, "releases"), test.config))
			h.commit(map[string]string{"page": "new"})
			if status, out := h.push(nil, "master"); status != 1 || !regexp.MustCompile("error: .*"+test.says).MatchString(out) {
				t.Errorf("status %d\n%s", status, out)
			}
			after, err := everything(outside)
			h.must(err)
			if d := diff(before, after); d != "" {
				t.Errorf("what is outside has changed:\n%s", d)
			}
		})
	}
}
