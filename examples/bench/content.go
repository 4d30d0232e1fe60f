package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// importTimeout bounds the making of a site. 100,000 files take a quarter of a
// minute.
const importTimeout = 10 * time.Minute

// importCommits gives git fast-import what write says, and returns the commits
// in the order of their marks.
func (sh *shell) importCommits(ctx context.Context, repo string, stored bool, write func(*stream)) ([]string, error) {
	marks := filepath.Join(filepath.Dir(repo), "marks")
	args := []string{"-c", "fastimport.unpackLimit=1", "fast-import", "--quiet", "--depth=0", "--export-marks=" + marks}
	if stored { // what does not compress need not be tried
		args = append([]string{"-c", "core.compression=0"}, args...)
	}
	in, out := io.Pipe()
	go func() {
		w := &stream{Writer: bufio.NewWriterSize(out, 1<<20), words: words()}
		write(w)
		out.CloseWithError(w.Flush())
	}()
	defer in.Close()
	if _, err := sh.run(ctx, job{dir: repo, argv: append([]string{"git"}, args...), stdin: in, timeout: importTimeout}); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(marks)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	commits := make([]string, len(lines))
	for _, line := range lines {
		number, commit, _ := strings.Cut(strings.TrimPrefix(line, ":"), " ")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(commits) {
			return nil, fmt.Errorf("git fast-import wrote the mark %q", line)
		}
		commits[n-1] = commit
	}
	return commits, nil
}

// A stream is written for git fast-import. An error of writing shows when it is
// flushed.
type stream struct {
	*bufio.Writer
	mark  int
	words []string
	page  []byte
}

// commit begins a commit. A parent is a commit's name, or ":" and a mark.
func (w *stream) commit(ref, parent, message string) {
	w.mark++
	fmt.Fprintf(w, "commit %s\nmark :%d\ncommitter Ann <ann@example.com> %d +0000\ndata %d\n%s\n", ref, w.mark, 1_700_000_000+w.mark, len(message), message)
	if parent != "" {
		fmt.Fprintf(w, "from %s\n", parent)
	}
}

func (w *stream) file(path string, data []byte) {
	fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n", path, len(data))
	w.Write(data)
	w.WriteByte('\n')
}

// base writes the first commit.
func (w *stream) base(p plan) {
	w.commit(stored, "", "base")
	for i := range p.files {
		w.file(p.path(i), w.text(p, i, 0))
	}
	if p.large > 0 {
		fmt.Fprintf(w, "M 100644 inline film.bin\ndata %d\n", p.large)
		io.CopyN(w, rand.NewChaCha8([32]byte{1}), p.large)
		w.WriteByte('\n')
	}
}

// changes writes the commits that follow the first one: the steps, as many with
// the same tree, and the far one.
func (w *stream) changes(p plan, base string) {
	parent := base
	for step := range p.steps {
		w.commit("refs/heads/steps", parent, fmt.Sprintf("step %d", step+1))
		for i := range p.changed {
			// Far from each other, and from those of the step before.
			at := (i*p.files/p.changed + step) % p.files
			w.file(p.path(at), w.text(p, at, step+1))
		}
		parent = fmt.Sprintf(":%d", w.mark)
	}
	parent = base
	for step := range p.steps {
		w.commit("refs/heads/same", parent, fmt.Sprintf("same %d", step+1))
		parent = fmt.Sprintf(":%d", w.mark)
	}
	w.commit("refs/heads/far", base, "far")
	for at := 0; at < p.files; at += 10 {
		w.file(p.path(at), w.text(p, at, p.steps+1))
	}
}

// path names the files of a site. The first one is at the top.
func (p plan) path(i int) string {
	if i == 0 {
		return "index.html"
	}
	directory := i / p.perDirectory
	return fmt.Sprintf("%03d/%03d/page-%06d.html", directory/100, directory%100, i)
}

// text is a page as a site has it: it compresses to a quarter. It depends on
// nothing but the file and the version.
func (w *stream) text(p plan, file, version int) []byte {
	r := rand.New(rand.NewPCG(uint64(file), uint64(version)))
	size := fileBytes/2 + r.IntN(fileBytes)
	page := append(w.page[:0], "<!doctype html>\n<html lang=\"en\">\n<title>"...)
	page = fmt.Appendf(page, "Page %d, version %d</title>\n<body>\n<p>", file, version)
	for column := 0; len(page) < size; column++ {
		// Some words are much more frequent than others.
		page = append(page, w.words[min(r.IntN(len(w.words)), r.IntN(len(w.words)))]...)
		if column%14 == 13 {
			page = append(page, "\n"...)
		} else {
			page = append(page, ' ')
		}
	}
	w.page = append(page, "</p>\n</body>\n</html>\n"...)
	return w.page
}

// words are made of syllables, two by two.
func words() []string {
	syllables := strings.Fields("ka lo mi ter an ver sta nu re qui do bel fer ga hon ist ju cro wex yl pa zi ton mar")
	var all []string
	for _, first := range syllables {
		for _, second := range syllables {
			all = append(all, first+second)
		}
	}
	return all
}
