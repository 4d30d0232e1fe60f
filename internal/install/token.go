package install

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"bluegreen/internal/digitalocean"
	"bluegreen/internal/install/host"
)

// askWithin is how long the API may take to say what the token may do.
const askWithin = 15 * time.Second

func (i *Installation) planToken(ctx context.Context) ([]Change, error) {
	p := i.cfg.Promotion
	if p == nil || p.Provider != "digitalocean" || !i.trusted {
		return nil, nil
	}
	file := p.TokenFile
	switch {
	case i.brokered():
		file = cmp.Or(file, TokenPath)
	case len(p.Broker) > 0:
		return nil, nil // where its token is, its operator knows
	default:
		i.adviseBroker()
	}
	if file == "" && i.o.TokenFile != "" {
		return nil, refuse(fmt.Sprintf("add token_file = %q to its [promotion]", TokenPath), "%s names no file for the token", i.configPath())
	}
	if file == "" {
		return nil, nil // the hooks' environment has it
	}
	e, err := i.host.Look(file)
	if err != nil {
		return nil, err
	}
	if e != nil && !e.Mode.IsRegular() {
		return nil, refuse("remove it, then run this again", "the token's place %s is not a regular file", file)
	}
	token := ""
	if i.o.TokenFile != "" {
		if token, err = digitalocean.ReadToken(i.o.TokenFile); err != nil {
			return nil, err
		}
	} else if e != nil {
		if text, err := i.host.ReadFile(file); err == nil {
			token, _ = digitalocean.CheckToken(string(text))
		}
	}
	if token == "" {
		i.warn("there is no token in %s yet: bluegreen install --token-file FILE puts it there", file)
	} else {
		i.askAPI(ctx, token)
	}
	return i.tokenChanges(file, e, token)
}

func (i *Installation) tokenChanges(file string, e *host.Entry, token string) ([]Change, error) {
	a, err := i.account()
	if err != nil || i.o.TokenFile == "" && e == nil {
		return nil, err
	}
	if err := i.checkSharing(file); err != nil {
		return nil, err
	}
	if err := i.checkTokenFile(file, e, a); err != nil {
		return nil, err
	}
	var changes []Change
	switch owner := i.tokenOwner(a); {
	case i.o.TokenFile == "" && token == "" || i.o.TokenFile == "" && (owner == a || e.UID == owner.UID):
		changes, err = i.owned(file, e, owner, 0o600)
	case e != nil && owner != a && e.UID != owner.UID:
		if old, err := i.host.ReadFile(file); err == nil && strings.TrimSpace(string(old)) == token {
			i.warn("%s could read the token until now: revoke it, and put a new one there with --token-file FILE", i.host.NameOf(e.UID))
		}
		// A new file: whoever has the old one open could go on writing to it.
		changes = []Change{{fmt.Sprintf("write %s (%s, 0600), which was %s's", file, owner.Name, i.host.NameOf(e.UID)),
			func(context.Context) error { return i.writeFile(file, token+"\n", owner, 0o600) }}}
	default:
		changes, err = i.file(file, token+"\n", owner, 0o600)
	}
	for n, c := range changes {
		changes[n].do = func(ctx context.Context) error {
			if err := i.rememberToken(file, e); err != nil {
				return err
			}
			return c.do(ctx)
		}
	}
	return changes, err
}

// tokenOwner is who alone may read the token.
func (i *Installation) tokenOwner(a host.Account) host.Account {
	if i.brokered() {
		return host.Superuser()
	}
	return a
}

// checkTokenFile refuses a file that may be something else of somebody else's:
// only root puts files into the token's own directory. Elsewhere the operator
// gives it to whom it is for.
func (i *Installation) checkTokenFile(file string, e *host.Entry, a host.Account) error {
	owner := i.tokenOwner(a)
	if i.brokered() {
		if err := i.rootsAlone(file, "%s, the token's file"); err != nil {
			return err
		}
	}
	if e == nil || e.Is(owner, 0o600) || e.Is(a, 0o600) || path.Dir(file) == path.Dir(TokenPath) && (e.UID == a.UID || e.UID == host.Superuser().UID) {
		return nil
	}
	return refuse(fmt.Sprintf("look at it, then: chown %s: %s && chmod 600 %s; or set token_file = %q", owner.Name, file, file, TokenPath),
		"%s, the token's file, is there already, and is not %s's alone (%s, %v)", file, owner.Name, i.host.NameOf(e.UID), e.Mode)
}

// checkSharing refuses to take a token from others who need it: it has one owner.
func (i *Installation) checkSharing(file string) error {
	other, theirs, err := i.tokenOf(file, i.brokered())
	if err != nil || other == nil {
		return err
	}
	another := "name another file in token_file of " + i.configPath()
	switch {
	case theirs:
		return refuse(fmt.Sprintf("add to its [promotion]: %s; or %s", BrokerLine(i.o.Repo), another),
			"%s is the token of %s, whose broker alone may read it, and %s has none", file, other.Repo, i.configPath())
	case other.User != i.o.User:
		return refuse(another+", or set both up with --user "+other.User, "%s is the token of %s, whose account is %s", file, other.Repo, other.User)
	}
	return refuse(another+", and run this again with --token-file FILE",
		"%s is the token of %s, too, whose account has to read it: that one has no broker", file, other.Repo)
}

func (i *Installation) rememberToken(file string, e *host.Entry) error {
	return i.remember(func(r *Record) {
		if _, known := r.Tokens[file]; known {
			return
		}
		if r.Tokens == nil {
			r.Tokens = map[string]*Owner{}
		}
		r.Tokens[file] = nil
		if e != nil {
			r.Tokens[file] = &Owner{e.UID, e.GID, e.Mode.Perm()}
		}
	})
}

// askAPI asks, once, for what a promotion will ask for, and warns of what is
// wrong. A token can be exchanged later, and the network may come up later. That
// the token may also move the IP cannot be tried without moving it.
func (i *Installation) askAPI(ctx context.Context, token string) {
	if !i.asked {
		i.asked, i.answer = true, i.ask(ctx, token)
	}
	if i.answer != "" {
		i.warn("promotions may not work yet: %s", i.answer)
	}
}

func (i *Installation) ask(ctx context.Context, token string) string {
	p, self := i.cfg.Promotion, i.cfg.Environment
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	provider, err := digitalocean.New(digitalocean.Options{IP: p.IP, Droplets: p.Droplets, Self: self, APIURL: p.APIURL,
		Token: func() (string, error) { return token, nil }, Attempt: askWithin / 3, Pace: []time.Duration{}})
	if err != nil {
		return err.Error()
	}
	state, err := provider.State(ctx, self)
	if err == nil {
		err = provider.Fit(ctx, self)
	}
	if err != nil {
		return err.Error()
	}
	return state.Foreign
}
