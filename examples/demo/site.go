package main

import (
	"bytes"
	"cmp"
	"html/template"
	"net"
	"net/http"
	"os"
	"strings"
)

// servedBy is a header that names the environment an answer comes from.
const servedBy = "Served-By"

// A site is an environment's web server.
type site struct {
	name, dir string // dir is the web root
	address   string // "127.0.0.1:port"
	root      *os.Root
	server    http.Server
}

func newSite(name, dir string) (*site, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		root.Close()
		return nil, err
	}
	s := &site{name: name, dir: dir, address: listener.Addr().String(), root: root}
	s.server.Handler = s
	go s.server.Serve(listener)
	return s, nil
}

func (s *site) close() {
	if s != nil {
		s.server.Close()
		s.root.Close()
	}
}

// ServeHTTP serves the files of the web root, which are templates that know the
// environment's name and the host that was asked for. One that cannot be made
// into a page is the server's error.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(servedBy, s.name)
	name := cmp.Or(strings.TrimPrefix(r.URL.Path, "/"), "index.html")
	text, err := s.root.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	var page bytes.Buffer
	parsed, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err == nil {
		err = parsed.Execute(&page, map[string]string{"Environment": s.name, "Host": r.Host})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(page.Bytes())
}
