// Package install holds the files that "bluegreen install" writes on a server,
// as templates.
package install

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"text/template"
)

//go:embed templates
var files embed.FS

// The templates.
const (
	Configuration = "bluegreen.toml"            // for a *Site
	Broker        = "broker.toml"               // for a *Site
	Unit          = "bluegreen-recover.service" // for a *Site
	Sudoers       = "sudoers"                   // for a *Rules
	ApacheHint    = "apache.txt"                // for a *Site: how Apache comes to serve another directory
	NginxHint     = "nginx.txt"                 // for a *Site: the same for nginx
)

// A Site is what one bare repository deploys.
type Site struct {
	Repo        string // absolute, without characters that a shell or systemd would interpret
	User        string
	Environment string
	Branch      string
	Directory   string
	Releases    string         // "" for none
	Mounts      []string       // directories that must be mounted before recovery; written as they are
	Writes      []string       // directories that recovery writes in and is kept to, written as they are; none to let it be
	Server      string         // service of the web server that answers on 127.0.0.1; "" for none
	IP          string         // of the promotion; "" for none
	Droplets    map[string]int // with IP
	TokenFile   string         // with IP
	APIURL      string         // "" for the default
	MetadataURL string         // "" for the default
	Broker      []string       // that asks the API; empty where the hooks do
	Timeout     string         // of a promotion
}

// Rules are lines of a sudoers file, ready to use.
type Rules struct {
	Repo  string
	Lines []string
}

// Render fills in one of the templates.
func Render(name string, values any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{"toml": quote}).
		ParseFS(files, "templates/"+name)
	if err != nil {
		return nil, fmt.Errorf("reading the template %q: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, name, values); err != nil {
		return nil, fmt.Errorf("filling in the template %q: %w", name, err)
	}
	return out.Bytes(), nil
}

// quote writes s as a string of TOML, which knows all escapes that JSON uses.
func quote(s string) (string, error) {
	quoted, err := json.Marshal(s)
	return string(quoted), err
}
