package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"bluegreen/internal/broker"
	"bluegreen/internal/command"
	"bluegreen/internal/digitalocean"
	"bluegreen/internal/install"
	"bluegreen/internal/install/authorized"
	"bluegreen/internal/promotion"
)

// token looks at how the API's token is kept.
func (x *exam) token(context.Context) []Finding {
	c := x.env.Config.Promotion
	var found []Finding
	if u, err := url.Parse(c.APIURL); err == nil && u.Scheme == "http" && !loopback(u.Hostname()) {
		found = append(found, warning(x.edit(), "promotion.api_url is http://%s: the token goes over the network in clear", u.Host))
	}
	switch {
	case x.brokered():
		return or(append(found, x.brokersToken()...), "the token is root's alone")
	case len(c.Broker) > 0:
		return found // where its token is, its operator knows
	case c.TokenFile == "" && x.stranger():
		return found // its environment is another one
	case c.TokenFile == "":
		if _, err := digitalocean.CheckToken(x.Host.getenv("DIGITALOCEAN_TOKEN")); err != nil {
			found = append(found, broken(x.edit(), "there is no token: promotion.token_file is not set, and in DIGITALOCEAN_TOKEN %v", err))
		}
		return or(found, "the token is in DIGITALOCEAN_TOKEN here; that it is in the environment of pushes, too, only a push can tell")
	}
	return or(append(found, x.tokenFile(c.TokenFile)...), "the token file %s may be read by %s alone", c.TokenFile, x.account.Name)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (x *exam) tokenFile(path string) []Finding {
	st, err := os.Lstat(path)
	switch {
	case err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o077 != 0:
		return []Finding{broken(x.asRoot("chmod", "600", path), "the token file %s may be read by others (mode %#o)", path, st.Mode().Perm()).
			by(func(context.Context) error { return narrow(path) })}
	case err == nil && ownerOf(st) != x.owner:
		return []Finding{broken(x.asRoot("chown", x.account.Name+":", path), "the token file %s does not belong to %s", path, x.account.Name)}
	}
	if x.stranger() {
		return nil // who can read it is wrong
	}
	if _, err := digitalocean.ReadToken(path); err != nil {
		// What to type follows in words for a pusher.
		text, _, _ := strings.Cut(err.Error(), "; run ")
		return []Finding{broken(x.pasteToken(path), "%s", text)}
	}
	return nil
}

// narrow takes a token file from others.
func narrow(path string) error {
	st, err := os.Lstat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a file", path)
	}
	if err != nil {
		return err
	}
	return os.Chmod(path, 0o600)
}

// promotion looks whether the traffic could be moved. It only reads.
func (x *exam) promotion(ctx context.Context) []Finding {
	m := x.env.Promotion.Mover
	s, err := m.Provider.State(ctx, "")
	var found []Finding
	switch {
	case err != nil:
		return x.unanswered(err)
	case s.Hidden:
		return []Finding{broken(x.newToken(), "it cannot be told who has %s: %s", m.What, s.Foreign)}
	case s.Foreign != "":
		found = append(found, broken(x.edit(), "%s is not ours to move: %s", m.What, s.Foreign))
	case s.Busy != "":
		found = append(found, warning(x.asAccount("bluegreen", "--repo", x.repo.Dir, "status"), "%s cannot be moved now: %s", m.What, s.Busy))
	}
	for _, name := range slices.Sorted(maps.Keys(x.env.Config.Promotion.Droplets)) {
		err := m.Provider.Fit(ctx, name)
		misfit := (*promotion.Misfit)(nil)
		switch {
		case errors.As(err, &misfit):
			found = append(found, broken(misfit.Hint, "%s could not take %s: %s", name, m.What, misfit.Reason))
		case err != nil:
			found = append(found, x.unanswered(err)...)
		}
	}
	found = slices.CompactFunc(found, func(a, b Finding) bool { return a.Text == b.Text })
	owner := s.Owner
	if owner == "" {
		owner = "nobody"
	}
	if x.env.Config.Promotion.Provider == "command" {
		return or(found, "%s has the traffic", owner)
	}
	return or(found, "%s has %s, and each of %d droplets could take it; whether the token may move it, only a promotion can tell",
		owner, m.What, len(x.env.Config.Promotion.Droplets))
}

// unanswered is for a provider that gives no good answer.
func (x *exam) unanswered(err error) []Finding {
	c := x.env.Config.Promotion
	text := err.Error()
	unanswered := (*broker.Unanswered)(nil)
	switch {
	case c.Provider == "command":
		return []Finding{broken(x.asAccount(c.Owner...), "%s", text)}
	case errors.As(err, &unanswered) && x.brokered():
		return []Finding{broken(x.install(), "%s", text)}
	case errors.As(err, &unanswered):
		return []Finding{broken(x.asAccount(append(slices.Clone(c.Broker), "state")...), "%s", text)}
	case strings.HasPrefix(text, "the broker's file: ") || strings.HasPrefix(text, "the token's file: "):
		return nil // which are looked at by themselves
	case strings.Contains(text, "looking for the token") && len(c.Broker) > 0:
		said, _, _ := strings.Cut(text, "; run ")
		return []Finding{broken(x.pasteToken(cmp.Or(c.TokenFile, install.TokenPath)), "%s", said)}
	case strings.Contains(text, "looking for the token"):
		return nil // which is looked at by itself
	case strings.Contains(text, ": 401: ") || strings.Contains(text, ": 403: "):
		return []Finding{broken(x.newToken(), "the API does not accept the token: %s", text)}
	}
	return []Finding{broken(command.Line([]string{"curl", "-sSI", c.APIURL}), "the API gives no good answer: %s", text)}
}

func (x *exam) newToken() string {
	path := x.env.Config.Promotion.TokenFile
	const scope = " # paste a token with the scope reserved_ip:update"
	if x.brokered() {
		path = cmp.Or(path, install.TokenPath)
	}
	if path == "" {
		return "export DIGITALOCEAN_TOKEN=…" + scope
	}
	return x.pasteToken(path) + scope
}

// pasteToken is the command that writes the token's file from what is pasted.
func (x *exam) pasteToken(path string) string {
	owner := x.account.Name
	if len(x.env.Config.Promotion.Broker) > 0 {
		owner = "root"
	}
	return x.asRoot("install", "-D", "-o", owner, "-m", "600", "/dev/stdin", path)
}

// signersFile is where the signers of tags are, "" where none are asked for.
func (x *exam) signersFile() string {
	if x.env == nil || x.env.Config.Promotion == nil {
		return ""
	}
	return x.env.Config.Promotion.Signers
}

// signers looks whether anybody's signature could be accepted.
func (x *exam) signers(context.Context) []Finding {
	path := x.signersFile()
	if path == "" {
		return nil
	}
	var found []Finding
	if !x.installed("ssh-keygen") {
		found = append(found, broken(x.asRoot("apt-get", "install", "openssh-client"), "ssh-keygen is not installed: no signature of a tag can be verified"))
	}
	edit := x.asRoot("editor", path)
	text, err := readText(path)
	if errors.Is(err, fs.ErrPermission) {
		edit = x.asRoot("chmod", "a+r", path)
	}
	if err != nil {
		return append(found, broken(edit, "who may sign tags cannot be read: %v", err))
	}
	signers, n := 0, 0
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		if err := checkSigner(line); err != nil {
			found = append(found, broken(edit, "%s:%d: %v", path, n, err))
		}
		signers++
	}
	if signers == 0 {
		found = append(found, broken(edit, "%s names nobody: no tag promotes", path))
	}
	return or(found, "%s names %d who may sign tags", path, signers)
}

// checkSigner looks at a line of an SSH allowed-signers file: principals,
// options, the key's type, the key.
func checkSigner(line string) error {
	fields := authorized.Split(line, ' ')
	i := slices.IndexFunc(fields, authorized.IsType)
	switch {
	case i == 0:
		return errors.New("the line begins with a key, and not with whose it is")
	case i < 0 || i+1 == len(fields):
		return errors.New("there is no key in the line")
	case i > 2:
		return errors.New("there is something between the options and the key")
	}
	return authorized.Key{Type: fields[i], Data: fields[i+1]}.Check()
}

// installed tells whether a program is in the PATH of pushes.
func (x *exam) installed(program string) bool {
	path := x.Host.getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	for _, dir := range filepath.SplitList(path) {
		if st, err := os.Stat(filepath.Join(dir, program)); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// dropletID is this environment's droplet.
func (x *exam) dropletID() string {
	return strconv.Itoa(x.env.Config.Promotion.Droplets[x.env.Name])
}
