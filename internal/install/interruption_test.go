package install

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"bluegreen/internal/gittest"
)

var errInterrupted = errors.New("interrupted")

// failAfter has a change of a work's be made, and reported as failed.
func failAfter(w *Work, number int) {
	n := 0
	for k := range w.steps {
		plan := w.steps[k].plan
		w.steps[k].plan = func(ctx context.Context) ([]Change, error) {
			changes, err := plan(ctx)
			for c := range changes {
				do := changes[c].do
				changes[c].do = func(ctx context.Context) error {
					err := do(ctx)
					if n++; n-1 == number {
						return errors.Join(err, errInterrupted)
					}
					return err
				}
			}
			return changes, err
		}
	}
}

// copy makes a server that is like another one.
func (s *server) copy(t *testing.T) *server {
	t.Helper()
	other := newServer(t)
	if out, err := exec.Command("sh", "-c", `rm -r "$2" && cp -a "$1" "$2"`, "sh", s.root, other.root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return other
}

// TestInterrupted fails an installation right after each of its changes. The
// next one makes of the server what an undisturbed one does, and uninstall gives
// back what there was.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]*server{"bare": newServer(t), "tutorial": newServer(t).tutorial()} {
		installed, uninstalled, changes := undisturbed(begin.copy(t))
		for number := range changes {
			t.Run(fmt.Sprintf("%s/%d", name, number), func(t *testing.T) {
				t.Parallel()
				s := begin.copy(t)
				i := s.prepare(s.options())
				failAfter(&i.Work, number)
				made, err := try(&i.Work)
				if !errors.Is(err, errInterrupted) || len(made) != number {
					t.Fatalf("%d changes were made: %v", len(made), err)
				}
				s.install(s.options())
				same(t, "the next installation", installed, s.snapshot())
				if name == "tutorial" {
					s.uninstall()
					same(t, "uninstall after it", uninstalled, s.snapshot())
				}
			})
		}
	}
}

// TestStoppedAtEach stops an installation, and uninstall, right before each
// change in turn: every run makes one change. They end as undisturbed ones do.
func TestStoppedAtEach(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]*server{"furnished": newServer(t).furnish(), "tutorial": newServer(t).tutorial()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			installed, uninstalled, _ := undisturbed(begin.copy(t))
			s := begin.copy(t)
			if name == "tutorial" {
				s.oneByOne(func() *Work { return &s.prepare(s.options()).Work })
			} else {
				s.install(s.options())
			}
			same(t, "the installation", installed, s.snapshot())
			s.oneByOne(func() *Work { return &s.removal(repo).Work })
			same(t, "uninstall", uninstalled, s.snapshot())
		})
	}
}

// TestHalfMade goes on where a crash has left a directory that was made and not
// yet handed over: it belonged to nobody before.
func TestHalfMade(t *testing.T) {
	t.Parallel()
	s := newServer(t).furnish()
	s.mkdir(recordsDir, 0o755)
	s.write(RecordPath(repo), `{"repo": "`+repo+`", "user": "deploy", "made": ["`+home+`/.ssh"]}`, 0o644)
	s.mkdir(home+"/.ssh", 0o700)
	s.install(s.options())
	s.write(keys, s.read(keys)+publicKey("eve")+" eve\n", 0o644)
	s.uninstall()
	s.is(home+"/.ssh", "0700")
	s.owned(accountIDs(), home+"/.ssh")
}

// undisturbed installs and uninstalls.
func undisturbed(s *server) (installed, uninstalled gittest.Snapshot, changes int) {
	s.Helper()
	changes = len(s.install(s.options()))
	installed = s.snapshot()
	s.uninstall()
	return installed, s.snapshot(), changes
}

// oneByOne runs a work again and again until nothing is left to do, and cancels
// it after its first change.
func (s *server) oneByOne(begin func() *Work) {
	s.Helper()
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n, err := begin().Do(ctx, func(Step, Change) { cancel() })
		stopped := (*Incomplete)(nil)
		switch {
		case n == 0 && err == nil:
			return
		case n != 1 || err != nil && (!errors.Is(err, context.Canceled) || !errors.As(err, &stopped) || stopped.Done != 1):
			s.Fatalf("%d changes were made: %v", n, err)
		}
	}
	s.Fatal("it comes to no end")
}

// TestCommandsFail has each command fail that is run, in the middle of a change
// too. What has been done until then is gone on with.
func TestCommandsFail(t *testing.T) {
	t.Parallel()
	begin := newServer(t).tutorial()
	installed, uninstalled, _ := undisturbed(begin.copy(t))
	s := begin.copy(t)
	s.untilAllSucceed(func() *Work { return &s.prepare(s.options()).Work })
	same(t, "the installation", installed, s.snapshot())
	s.untilAllSucceed(func() *Work { return &s.removal(repo).Work })
	same(t, "uninstall", uninstalled, s.snapshot())
}

// untilAllSucceed runs a work again and again. Of the commands that write each
// succeeds once, and the next one fails.
func (s *server) untilAllSucceed(begin func() *Work) {
	s.Helper()
	writes := func(argv []string) bool {
		return slices.ContainsFunc(argv, func(arg string) bool {
			return slices.Contains([]string{"--replace-all", "--add", "--unset-all", "init", "useradd"}, arg)
		})
	}
	for range 100 {
		n := 0
		s.instead = func(argv []string) []string {
			if writes(argv) {
				n++
			}
			if n > 1 && writes(argv) {
				return []string{"false"}
			}
			return nil
		}
		_, err := try(begin())
		if err == nil {
			s.instead = nil
			return
		}
		if !strings.Contains(err.Error(), `"git" exited with status 1`) {
			s.Fatal(err)
		}
	}
	s.Fatal("it comes to no end")
}
