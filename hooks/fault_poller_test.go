//go:build e2e

package hooks_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bluegreen/internal/gittest"
)

// TestNobodySeesAMixture has visitors ask for files all the time, over connections
// that stay, while one deployment with releases follows the other.
func TestNobodySeesAMixture(t *testing.T) {
	t.Parallel()
	deployments := 30
	if campaign(t) > 0 {
		deployments = 1000
	}
	s := newServer(t, "", "", allHooks...)
	s.must(os.Remove(s.www))
	s.configure(fmt.Sprintf("releases = %q\n", filepath.Join(s.dir, "releases")))
	var trees []gittest.Tree
	for i := range deployments + 1 {
		text := strings.Repeat(fmt.Sprintf("%d\n", i), 4000)
		trees = append(trees, gittest.Files("a", text, "b", text, "dir/c", text, "same", "0\n", fmt.Sprintf("some/%d", i%5), text))
	}
	commits := gittest.Commits(t, s.dev, trees...)
	push := func(commit string) {
		if status, out := s.push(nil, "-q", "+"+commit+":refs/heads/master"); status != 0 {
			t.Errorf("status %d\n%s", status, out)
		}
	}
	push(commits[0])

	site := httptest.NewServer(newVisited(s.www))
	defer site.Close()
	done := make(chan struct{})
	visitors := []*visitor{{url: site.URL}, {url: site.URL}}
	var wg sync.WaitGroup
	for _, v := range visitors {
		wg.Go(func() { v.visit(done) })
	}
	for _, commit := range commits[1:] {
		if push(commit); t.Failed() {
			break
		}
	}
	close(done)
	wg.Wait()
	s.settled(s.ref("refs/heads/master"))

	requests, found := 0, figures{times: deployments, new: deployments}
	for _, v := range visitors {
		requests += v.requests
		found.mixed += len(v.wrong)
		for _, what := range v.wrong[:min(len(v.wrong), 5)] {
			t.Errorf("a visitor saw %s", what)
		}
	}
	found.what = fmt.Sprintf("releases: %s requests during deployments", grouped(requests))
	found.print(t)
}

// newVisited serves the files below dir, and as /both what two of them hold of the
// directory that dir has led to when the request came.
func newVisited(dir string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir(dir)))
	mux.HandleFunc("/both", func(w http.ResponseWriter, _ *http.Request) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer root.Close()
		for _, name := range []string{"a", "dir/c", "b"} {
			data, err := root.ReadFile(name)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Write(data)
		}
	})
	return mux
}

// A visitor asks for one file after the other.
type visitor struct {
	url      string
	requests int
	wrong    []string // what was seen that nobody should
	newest   int
}

func (v *visitor) visit(done <-chan struct{}) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	pace := time.NewTicker(2 * time.Millisecond) // what leaves the server some time
	defer pace.Stop()
	for paths := []string{"/a", "/both", "/b", "/dir/c", "/same"}; ; v.requests++ {
		select {
		case <-done:
			return
		case <-pace.C:
		}
		path := paths[v.requests%len(paths)]
		if err := v.ask(client, path); err != nil {
			v.wrong = append(v.wrong, fmt.Sprintf("%s: %v", path, err))
		}
	}
}

// ask asks for a file. All its lines name the commit that it is of, and no answer
// is older than one before.
func (v *visitor) ask(client *http.Client, path string) error {
	answer, err := client.Get(v.url + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	first, _, _ := bytes.Cut(body, []byte("\n"))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %q", answer.StatusCode, body[:min(len(body), 80)])
	}
	if rest := bytes.ReplaceAll(body, append(first, '\n'), nil); len(rest) > 0 {
		return fmt.Errorf("a mixture: lines of %q, and %q", first, rest[:min(len(rest), 80)])
	}
	if path == "/same" {
		return nil
	}
	n, err := strconv.Atoi(string(first))
	if err == nil && n < v.newest {
		err = fmt.Errorf("%d after %d", n, v.newest)
	}
	v.newest = n
	return err
}
