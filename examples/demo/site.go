package main

import (
	"fmt"
	"html/template"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A site is an environment's web server, and a client that asks it all the time.
type site struct {
	name, root, url string
	server          http.Server
	client          sync.WaitGroup
	stopped         atomic.Bool

	// The client holds the lock during a request, so that what is expected
	// does not change meanwhile.
	mu       sync.Mutex
	expected []string
	answers  map[string]int // how often each came
	wrong    []string       // those that were not expected
}

func newSite(name, root string) (*site, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &site{name: name, root: root, url: fmt.Sprintf("http://%s/", listener.Addr()), answers: map[string]int{}}
	s.server.Handler = s
	go s.server.Serve(listener)
	return s, nil
}

// close ends the client, then the server.
func (s *site) close() {
	if s != nil {
		s.stopped.Store(true)
		s.client.Wait()
		s.server.Close()
	}
}

// ServeHTTP serves the web root's page, which is a template that knows the
// environment's name. One that is not valid is the server's error.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	page, err := template.ParseFiles(s.root + "/index.html")
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		io.WriteString(w, err.Error())
		return
	}
	page.Execute(w, struct{ Environment string }{s.name})
}

// noAnswer begins what get returns when a request fails.
const noAnswer = "no answer: "

// get asks for the home page: its text, or the status where that is not 200.
func (s *site) get() string {
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(s.url)
	if err != nil {
		return noAnswer + err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return noAnswer + err.Error()
	case response.StatusCode != http.StatusOK:
		return fmt.Sprintf("status %d", response.StatusCode)
	}
	return strings.TrimSpace(string(body))
}

// expect sets what the client may be answered from now on.
func (s *site) expect(answers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected = answers
}

func (s *site) startClient() {
	s.client.Go(func() {
		for !s.stopped.Load() {
			s.mu.Lock()
			text := s.get()
			s.answers[text]++
			if !slices.Contains(s.expected, text) {
				s.wrong = append(s.wrong, text)
			}
			s.mu.Unlock()
			time.Sleep(2 * time.Millisecond)
		}
	})
}
