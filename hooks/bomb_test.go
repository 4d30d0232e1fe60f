package hooks_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// measure runs a program and adds a line to a file: how much memory it had at
// most, in KiB, the largest of its children included.
func measure() {
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
	f, err := os.OpenFile(os.Args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, peak)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// measured has the hooks' memory measured from now on, and returns the most that
// one had.
func (s *server) measured(hooks ...string) (peak func() int) {
	s.Helper()
	program, err := exec.LookPath("measure")
	s.must(err)
	file := filepath.Join(s.dir, "home/peaks")
	for _, hook := range hooks {
		path := filepath.Join(s.git, "hooks", hook)
		real, err := os.Readlink(path)
		s.must(err)
		s.must(os.Remove(path))
		gittest.Script(s, path, fmt.Sprintf("#!/bin/sh\nexec '%s' '%s' '%s'\n", program, file, real))
	}
	return func() (most int) {
		s.Helper()
		data, err := os.ReadFile(file)
		s.must(err)
		for line := range strings.Lines(string(data)) {
			n, err := strconv.Atoi(strings.TrimSpace(line))
			s.must(err)
			most = max(most, n)
		}
		return most
	}
}

// decimate makes a tree of ten directories, each the tree itself, so many times.
func decimate(p *gittest.Pack, tree string, levels int) string {
	for range levels {
		var entries []string
		for name := range 10 {
			entries = append(entries, "40000", strconv.Itoa(name), tree)
		}
		tree = p.Tree(entries...)
	}
	return tree
}

// long is how much larger things are than the tests have time for.
func long() int64 {
	if os.Getenv("BLUEGREEN_FAULTS") != "" {
		return 128
	}
	return 1
}

// bombs are small pushes of what is too large.
func bombs() []hostile {
	x := gittest.ObjectName("blob", "x")
	many := func(files int) func(p *gittest.Pack) string {
		return func(p *gittest.Pack) string {
			var thousand, all []string
			for i := range 1000 {
				thousand = append(thousand, "100644", fmt.Sprintf("%03d", i), x)
			}
			tree := p.Tree(thousand...)
			for i := range files / 1000 {
				all = append(all, "40000", fmt.Sprintf("%04d", i), tree)
			}
			return p.Tree(append(all, "100644", "one more", x)...)
		}
	}
	return []hostile{ // a file in each of the directories: those are more
		{name: "10^9 files in 764 bytes", says: "more than max_files = 1000000", tree: func(p *gittest.Pack) string { return decimate(p, p.Tree("100644", "f", x), 9) }},
		{name: "10^9 empty directories", says: "more than max_files = 1000000 directories", tree: func(p *gittest.Pack) string { return decimate(p, p.Tree(), 9) }},
		{name: "10^32 files", says: "more than max_files = 1000000", tree: func(p *gittest.Pack) string { return decimate(p, p.Tree("100644", "f", x), 32) }},
		{name: "a million files and one", says: "more than max_files = 1000000 files", tree: many(1_000_000)},
		{name: "a huge blob", says: "it unpacks to more than max_bytes = 1000000", tree: func(p *gittest.Pack) string {
			return p.Tree("100644", "huge", p.Add("blob", strings.Repeat("\x00", int(2*long())<<20)))
		}},
		{name: "a small blob in many places", says: "it unpacks to more than max_bytes = 1000000", tree: func(p *gittest.Pack) string {
			blob := p.Add("blob", strings.Repeat("\x00", 2000))
			var files []string
			for i := range 1000 {
				files = append(files, "100644", fmt.Sprintf("%03d", i), blob)
			}
			return p.Tree(files...)
		}},
	}
}

// TestBombs pushes a few bytes that unpack to more than anybody can hold. They
// are refused in no time, with little memory, and nothing is staged.
func TestBombs(t *testing.T) {
	t.Parallel()
	h := newHostile(t, false, false, allHooks...)
	h.configure("max_bytes = 1000000\n")
	peak := h.measured("pre-receive", "proc-receive")
	for _, bomb := range bombs() {
		start := time.Now()
		h.refuseAll([]hostile{bomb})
		t.Logf("%s: refused in %s", bomb.name, time.Since(start).Round(time.Millisecond))
		if took := time.Since(start); took > 20*time.Second*time.Duration(long()) { // 2 s on a machine that does nothing else
			t.Errorf("%s: refused in %s", bomb.name, took)
		}
	}
	t.Logf("%d KiB of memory", peak())
	if peak() > 100<<10 {
		t.Errorf("the hooks needed %d KiB of memory", peak())
	}
}

// TestLittleRoom deploys where the disk, or its inodes, would be filled up but for
// the reserve.
func TestLittleRoom(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a filesystem")
	}
	blob := func(p *gittest.Pack) string {
		return p.Tree("100644", "large", p.Add("blob", strings.Repeat("\x00", 2<<20)))
	}
	files := func(p *gittest.Pack) string {
		var all []string
		for i := range 100 {
			all = append(all, "100644", fmt.Sprintf("%03d", i), gittest.ObjectName("blob", "x"))
		}
		return p.Tree(all...)
	}
	for _, test := range []struct {
		name, options, says string
		tree                func(p *gittest.Pack) string
	}{
		{"bytes", "size=17m", "not enough room in", blob},
		{"inodes", "nr_inodes=300", "not enough inodes in", files},
	} {
		for _, releases := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, releases %v", test.name, releases), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, "", "", allHooks...)
				small := s.www
				if releases {
					s.must(os.Remove(s.www))
					small = filepath.Join(s.dir, "releases")
					s.must(os.Mkdir(small, 0o755))
					s.configure(fmt.Sprintf("releases = %q\n", small))
				}
				if err := unix.Mount("small", small, "tmpfs", 0, test.options); err != nil {
					t.Skipf("a filesystem cannot be mounted: %v", err)
				}
				t.Cleanup(func() { unix.Unmount(small, unix.MNT_DETACH) })
				h := &hostileServer{server: s, base: s.commit(map[string]string{"index.html": "page\n"})}
				s.pushed("master")
				commit, accepted, said := h.send(hostile{tree: test.tree})
				if accepted || !strings.Contains(said, "error: "+test.says) {
					t.Errorf("accepted is %v\n%s", accepted, said)
				}
				h.holds(h.base)
				s.must(unix.Mount("", small, "", unix.MS_REMOUNT, "size=100m,nr_inodes=10000"))
				if accepted, said := h.receive(h.base, commit, "refs/heads/master", (&gittest.Pack{TB: h}).Bytes()); !accepted {
					t.Errorf("with more room:\n%s", said)
				}
				h.holds(commit)
			})
		}
	}
}

// TestAnySymlinks: with symlinks = "any" each is written as it is, where a symlink
// can be at all.
func TestAnySymlinks(t *testing.T) {
	t.Parallel()
	link := func(target string) func(p *gittest.Pack) string {
		return func(p *gittest.Pack) string { return p.Tree("120000", "l", p.Add("blob", target)) }
	}
	h := newHostile(t, false, false, allHooks...)
	h.configure("symlinks = \"any\"\n")
	outside := func() listing {
		l := h.around(h.www)
		delete(l, h.dir) // where git's own checkouts come and go
		return l
	}
	before := outside()
	rows := map[string]func(p *gittest.Pack) string{
		"absolute": link("/etc"), "up": link("../outside"), "to itself": link("l"), "of 4,095 bytes": link(strings.Repeat("x/", 2047) + "x"),
		"through another": func(p *gittest.Pack) string {
			return p.Tree("40000", "d", p.Tree("120000", "l", p.Add("blob", "../s/../x")), "120000", "s", p.Add("blob", "../outside"))
		},
		"in a directory's place": func(p *gittest.Pack) string { return p.Tree("120000", "d", p.Add("blob", "../outside/d")) },
		"a directory in a symlink's place": func(p *gittest.Pack) string {
			return p.Tree("40000", "d", p.Tree("100644", "f", gittest.ObjectName("blob", "x")))
		},
	}
	for _, name := range []string{"absolute", "up", "to itself", "of 4,095 bytes", "through another", "in a directory's place", "a directory in a symlink's place", "in a directory's place"} {
		h.deployAll([]hostile{{name: name, tree: rows[name]}})
		h.base = h.ref("refs/heads/master")
	}
	for name, target := range map[string]string{"empty": "", "of 4,096 bytes": strings.Repeat("x/", 2048)} {
		if _, accepted, said := h.send(hostile{tree: link(target)}); accepted || !strings.Contains(said, "error: ") {
			t.Errorf("%s: accepted is %v\n%s", name, accepted, said)
		}
		h.holds(h.base)
	}
	if d := diff(before, outside()); d != "" {
		t.Errorf("something outside has changed:\n%s", d)
	}
}
