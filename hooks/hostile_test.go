package hooks_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bluegreen/internal/gittest"
)

// A hostile push brings one tree that must not reach a disk, or that just may.
type hostile struct {
	name string
	tree func(p *gittest.Pack) string
	// says is what the gate says of it, "" where git itself refuses it or, with
	// fine, where nothing is wrong.
	says string
	fine bool
}

// hostiles are the rows about trees and objects. x names a blob that every pack
// has.
var hostiles = func() (all []hostile) {
	x := gittest.ObjectName("blob", "x")
	one := func(name, mode, entry, says string) {
		all = append(all, hostile{name: name, says: says, tree: func(p *gittest.Pack) string { return p.Tree(mode, entry, x) }})
	}
	of := func(name, says string, tree func(p *gittest.Pack) string) {
		all = append(all, hostile{name: name, says: says, tree: tree})
	}
	link := func(name, target, says string) {
		of("symlink "+name, says, func(p *gittest.Pack) string { return p.Tree("120000", "l", p.Add("blob", target)) })
	}

	// Names of git's own, and what some filesystem takes for them.
	for _, name := range []string{".git", ".GIT", "git~1", ".git. ", ".git ", ".git::$INDEX_ALLOCATION", ".g\u200cit"} {
		one(fmt.Sprintf("%q", name), "100644", name, "is a name of git's own")
	}
	of("s/.git", `directory "s/": ".git" is a name of git's own`,
		func(p *gittest.Pack) string {
			return p.Tree("40000", "s", p.Tree("40000", ".git", p.Tree("100644", "config", x)))
		})
	// Names that leave the directory.
	for _, name := range []string{".", ".."} {
		one(fmt.Sprintf("%q", name), "100644", name, "leaves its directory")
		of(fmt.Sprintf("directory %q", name), "leaves its directory",
			func(p *gittest.Pack) string { return p.Tree("40000", name, p.Tree("100644", "escaped", x)) })
	}
	for _, name := range []string{"a/b", "../escaped", "/tmp/escaped", `..\escaped`} {
		one(fmt.Sprintf("%q", name), "100644", name, "has a slash in its name")
	}
	// Names that no terminal should see.
	for _, name := range []string{"new\nline", "\x1b]0;title\x07", "carriage\r", "\x7f"} {
		one(fmt.Sprintf("%q", name), "100644", name, "has a control character in its name")
	}
	one("name of 256 bytes", "100644", strings.Repeat("n", 256), "is longer than 255 bytes")
	of("path of 4,096 bytes", "a path is longer than 4095 bytes", func(p *gittest.Pack) string { return longPath(p, 96) })
	of("101 levels", "nested more than 100 deep", func(p *gittest.Pack) string { return nested(p, p.Tree("100644", "f", x), "d", 100) })

	// Entries that are in each other's way.
	of("file twice", "is there twice", func(p *gittest.Pack) string { return p.Tree("100644", "a", x, "100644", "a", p.Add("blob", "y")) })
	of("file and directory", "is there twice", func(p *gittest.Pack) string { return p.Tree("100644", "a", x, "40000", "a", p.Tree("100644", "f", x)) })
	of("symlink and directory", "is there twice", func(p *gittest.Pack) string {
		return p.Tree("120000", "a", p.Add("blob", "../outside"), "40000", "a", p.Tree("100644", "escaped", x))
	})
	of("symlink, another, directory", "is there twice", func(p *gittest.Pack) string {
		return p.Tree("120000", "a", p.Add("blob", "../outside"), "100644", "a-", x, "40000", "a", p.Tree("100644", "escaped", x))
	})
	of("unsorted", "is out of order", func(p *gittest.Pack) string { return p.Tree("100644", "b", x, "100644", "a", x) })

	for _, mode := range []string{"100600", "104755", "20666", "60644", "10644", "140644", "0", "120777"} {
		one("mode "+mode, mode, "f", "mode")
	}
	for _, mode := range []string{"040000", "40755"} {
		of("mode "+mode, "mode", func(p *gittest.Pack) string { return p.Tree(mode, "d", p.Tree("100644", "f", x)) })
	}

	link("absolute", "/etc", "leads outside the tree")
	link("up", "../..", "leaves the tree")
	link("to itself", "l", "leads in a circle")
	link("empty", "", "has no target")
	link("of 4,096 bytes", strings.Repeat("x/", 2048), "longer than 4095 bytes")
	link("with a NUL", "a\x00b", "NUL")
	link("with an escape", "/\x1b[2J", `leads outside the tree: "/\\x1b\[2J"`)
	of("symlink out through another", "leaves the tree through another symlink", func(p *gittest.Pack) string {
		return p.Tree("40000", "d", p.Tree("120000", "l", p.Add("blob", "../s/../x")), "120000", "s", p.Add("blob", "."))
	})
	of("two symlinks in a circle", "leads in a circle", func(p *gittest.Pack) string {
		return p.Tree("120000", "a", p.Add("blob", "b"), "120000", "b", p.Add("blob", "a"))
	})
	of(".gitmodules is a symlink", "is a symlink", func(p *gittest.Pack) string { return p.Tree("120000", ".gitmodules", x) })
	// All is well but one entry, the last one: nothing may be written before it is read.
	of("the last of many", "leaves the tree", func(p *gittest.Pack) string {
		var entries []string
		for i := range 300 {
			entries = append(entries, "100644", fmt.Sprintf("%03d", i), x)
		}
		return p.Tree(append(entries, "120000", "z", p.Add("blob", "../outside"))...)
	})

	// What git refuses by itself: it cannot follow them.
	missing := strings.Repeat("1", 40)
	of("tree cut short", "", func(p *gittest.Pack) string { return p.Add("tree", "100644 a\x00123") })
	of("empty name", "", func(p *gittest.Pack) string { return p.Tree("100644", "", x) })
	of("blob that is a tree", "", func(p *gittest.Pack) string { return p.Tree("100644", "a", p.Tree("100644", "f", x)) })
	of("tree that is a blob", "", func(p *gittest.Pack) string { return p.Tree("40000", "a", x) })
	of("root is a blob", "", func(p *gittest.Pack) string { return x })
	of("blob is missing", "", func(p *gittest.Pack) string { return p.Tree("100644", "a", missing) })
	of("tree is missing", "", func(p *gittest.Pack) string { return p.Tree("40000", "a", missing) })
	of("root is missing", "", func(p *gittest.Pack) string { return missing })
	return all
}()

// fines are the rows that may be deployed.
var fines = func() (all []hostile) {
	x := gittest.ObjectName("blob", "x")
	of := func(name string, tree func(p *gittest.Pack) string) {
		all = append(all, hostile{name: name, fine: true, tree: tree})
	}
	of("names in invalid UTF-8", func(p *gittest.Pack) string { return p.Tree("100644", "\xc3\x28", x, "100644", "\xff\xfe", x) })
	of("names that differ in case", func(p *gittest.Pack) string {
		return p.Tree("100644", "README", x, "100644", "Readme", p.Add("blob", "y"), "40000", "readme", p.Tree("100644", "F", x, "100644", "f", x))
	})
	of("mode 100664", func(p *gittest.Pack) string { return p.Tree("100664", "f", x) })
	of("submodule", func(p *gittest.Pack) string { return p.Tree("160000", "theirs", strings.Repeat("1", 40)) })
	of("name of 255 bytes", func(p *gittest.Pack) string { return p.Tree("100644", strings.Repeat("n", 255), x) })
	of("100 levels", func(p *gittest.Pack) string { return nested(p, p.Tree("100644", "f", x), "d", 99) })
	of("symlinks that stay", func(p *gittest.Pack) string {
		return p.Tree("120000", "a", p.Add("blob", "d/f"), "40000", "d", p.Tree("100644", "f", x, "120000", "up", p.Add("blob", "../a")))
	})
	return all
}()

// nested puts a tree below so many directories.
func nested(p *gittest.Pack, tree, name string, levels int) string {
	for range levels {
		tree = p.Tree("40000", name, tree)
	}
	return tree
}

// longPath is a tree with one path, of 4,000 bytes and the length of its last
// name.
func longPath(p *gittest.Pack, last int) string {
	return nested(p, p.Tree("100644", strings.Repeat("y", last), gittest.ObjectName("blob", "x")), strings.Repeat("x", 199), 20)
}

// receive has git receive a pack as a push of one ref, and returns git's answer
// for that ref and what was said.
func (s *server) receive(old, new, ref string, pack []byte) (accepted bool, said string) {
	s.Helper()
	cmd := s.command(s.dir, "git", "receive-pack", s.git)
	cmd.Stdin = strings.NewReader(packets(old+" "+new+" "+ref+"\x00 report-status\n", "") + string(pack))
	var answer, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &answer, &errs
	cmd.Run() // git's status says nothing that its answer does not
	said = errs.String()
	if _, reason, refused := strings.Cut(answer.String(), "ng "+ref+" "); refused {
		said += reason[:strings.IndexByte(reason, '\n')+1]
	}
	for line := range strings.Lines(said) {
		if wrong := rawControls("remote: " + line); wrong != "" {
			s.Errorf("it printed %s", wrong)
		}
	}
	return strings.Contains(answer.String(), "unpack ok\n") && strings.Contains(answer.String(), "ok "+ref+"\n"), said
}

// around lists everything below the server's directory but for the repositories,
// the home and what is to be skipped.
func (s *server) around(skip ...string) listing {
	s.Helper()
	l, err := everything(s.dir, append(skip, s.git, s.dev, filepath.Join(s.dir, "home"))...)
	s.must(err)
	return l
}

// everything lists a directory with inodes and times, also those of directories:
// a file that came and went shows.
func everything(dir string, skip ...string) (listing, error) {
	l := listing{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(skip, path) {
			return fs.SkipDir
		}
		what, err := describe(path, true)
		if err == nil && d.IsDir() {
			var st unix.Stat_t
			err = unix.Lstat(path, &st)
			what += fmt.Sprintf(" inode %d at %d", st.Ino, st.Mtim.Nano())
		}
		l[path] = what
		return err
	})
	return l, err
}

// A watch sees each name that is made in some directories, also one that is gone
// again.
type watch struct {
	*server
	fd int
}

func (s *server) spy(dirs ...string) *watch {
	s.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	s.must(err)
	s.Cleanup(func() { unix.Close(fd) })
	for _, dir := range dirs {
		_, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_ONLYDIR)
		s.must(err)
	}
	return &watch{s, fd}
}

// made returns the names since the last call, each ended by a NUL.
func (w *watch) made() string {
	var names strings.Builder
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buffer)
		if err != nil {
			return names.String()
		}
		names.Write(buffer[:n]) // with what else the kernel tells
	}
}

// TestHostilePacks pushes what must not reach a disk, each row of it by itself
// and past the git client, which would not send most of it: through each of the
// doors, with git's own look at the objects and without, in place and with
// releases.
func TestHostilePacks(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name           string
		hooks          []string
		fsck, releases bool
		// each is how many rows apart those are that are pushed: the same code
		// checks them behind another door.
		each int
	}{
		{"all hooks", allHooks, false, false, 1},
		{"all hooks, git looks first", allHooks, true, false, 1},
		{"releases", allHooks, false, true, 1},
		{"releases, git looks first", allHooks, true, true, 2},
		{"proc-receive", []string{"proc-receive"}, false, false, 3},
		{"post-receive", []string{"post-receive"}, false, false, 3},
		{"releases, proc-receive", []string{"proc-receive"}, false, true, 3},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s := newHostile(t, v.releases, v.fsck, v.hooks...)
			var rows []hostile
			for i := v.each - 1; i < len(hostiles); i += v.each {
				rows = append(rows, hostiles[i])
			}
			s.refuseAll(rows)
			if v.each == 1 && !v.fsck {
				s.deployAll(fines)
			}
		})
	}
}

// A hostileServer has something deployed, and canaries around its web root.
type hostileServer struct {
	*server
	base       string
	fsck       bool
	afterwards bool // the ref moves first
}

func newHostile(t *testing.T, releases, fsck bool, hooks ...string) *hostileServer {
	t.Helper()
	s := newServer(t, "", "", hooks...)
	if releases {
		s.must(os.Remove(s.www))
		s.configure(fmt.Sprintf("releases = %q\n", filepath.Join(s.dir, "releases")))
	}
	h := &hostileServer{server: s, fsck: fsck, afterwards: hooks[0] == "post-receive"}
	if fsck {
		s.must(appendTo(filepath.Join(s.git, "config"), "[receive]\n\tfsckObjects = true\n"))
	}
	for _, canary := range []string{"outside/f", "outside/d/f", "escaped"} {
		s.must(os.MkdirAll(filepath.Join(s.dir, filepath.Dir(canary)), 0o755))
		s.must(os.WriteFile(filepath.Join(s.dir, canary), []byte("canary\n"), 0o644))
	}
	h.base = s.commit(map[string]string{"index.html": "page\n", "d/f": "f\n"})
	s.pushed("master")
	return h
}

// send pushes a row's tree to master.
func (h *hostileServer) send(row hostile) (commit string, accepted bool, said string) {
	h.Helper()
	p := &gittest.Pack{TB: h}
	p.Add("blob", "x")
	commit = p.Commit(row.tree(p), h.base)
	accepted, said = h.receive(h.ref("refs/heads/master"), commit, "refs/heads/master", p.Bytes())
	return commit, accepted, said
}

// refuseAll pushes rows that must be refused. Nothing may be staged for them, not
// even for a moment.
func (h *hostileServer) refuseAll(rows []hostile) {
	h.Helper()
	w := h.server.spy(filepath.Join(h.git, "bluegreen"))
	before := h.around()
	for _, row := range rows {
		start := time.Now()
		_, accepted, said := h.send(row)
		gitRefuses := row.says == "" || h.fsck && !strings.Contains(said, "refusing the tree")
		if accepted != (h.afterwards && !gitRefuses) {
			h.Errorf("%s: accepted is %v\n%s", row.name, accepted, said)
		}
		if !gitRefuses && !regexp.MustCompile("(?m)^error: .*"+row.says).MatchString(said) {
			h.Errorf("%s: %q is not said:\n%s", row.name, row.says, said)
		}
		if names := w.made(); strings.Contains(names, "stage") {
			h.Errorf("%s: something was staged: %q", row.name, names)
		}
		if h.afterwards {
			h.must(os.WriteFile(filepath.Join(h.git, "refs/heads/master"), []byte(h.base+"\n"), 0o644))
		}
		if at := h.ref("refs/heads/master"); at != h.base {
			h.Errorf("%s: master is at %s", row.name, at)
		}
		if took := time.Since(start); took > patience {
			h.Errorf("%s: took %s", row.name, took)
		}
		if d := diff(before, h.around()); d != "" {
			h.Fatalf("%s: something has changed:\n%s", row.name, d)
		}
	}
	h.holds(h.base)
}

// deployAll pushes rows that may be deployed.
func (h *hostileServer) deployAll(rows []hostile) {
	h.Helper()
	for _, row := range rows {
		commit, accepted, said := h.send(row)
		if !accepted || !strings.Contains(said, "success: ") {
			h.Errorf("%s: accepted is %v\n%s", row.name, accepted, said)
			continue
		}
		h.holds(commit)
	}
}
