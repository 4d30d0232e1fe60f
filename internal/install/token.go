package install

import (
	"cmp"
	"context"
	"time"

	"bluegreen/internal/digitalocean"
	"bluegreen/internal/install/host"
)

// askWithin is how long the API may take to say what the token may do.
const askWithin = 15 * time.Second

// tokenPath is where the token is, or will be; "" where none is needed.
func (i *Installation) tokenPath() string {
	if i.cfg.Promotion == nil || i.cfg.Promotion.Provider != "digitalocean" {
		return ""
	}
	return cmp.Or(i.cfg.Promotion.TokenFile, TokenPath)
}

func (i *Installation) planToken(ctx context.Context) ([]Change, error) {
	file := i.tokenPath()
	if file == "" {
		return nil, nil
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
	if err != nil || token == "" && e == nil {
		return nil, err
	}
	if i.o.TokenFile == "" {
		return i.owned(file, e, a, 0o600), nil
	}
	changes, err := i.file(file, token+"\n", a, 0o600)
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	changes[0].do = func(context.Context) error {
		err := i.remember(func(r *Record) { r.Token = file })
		if err != nil {
			return err
		}
		a, err := i.account()
		if err != nil {
			return err
		}
		return i.writeFile(file, token+"\n", a, 0o600)
	}
	return changes, nil
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
