// Package digitalocean moves a reserved IP between droplets through
// DigitalOcean's API, and reads a droplet's metadata.
package digitalocean

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/digitalocean/godo"

	"bluegreen/internal/promotion"
)

const (
	// An action is up to 6 KB, most of it its region; a reserved IP comes with
	// a droplet and two regions. A page must stay well below maxBody.
	actionsPerPage = 10
	ipsPerPage     = 5
	maxPages       = 100
)

// Options say what to move, and how to ask for it.
type Options struct {
	IP       string                 // the reserved IP, an IPv4 address
	Droplets map[string]int         // environment to droplet id
	Self     string                 // this environment, one of Droplets
	APIURL   string                 // http or https; a path in it is kept
	Token    func() (string, error) // asked before the first request, until it gives one; its errors must not hold the token
	Pace     []time.Duration        // the pauses before a read is tried again; nil is 500ms, 1s, 2s, empty is never
	Attempt  time.Duration          // for one request and its whole answer; 0 is 10s
}

// A Provider is a promotion.Provider for one reserved IP. Several goroutines
// may use it.
//
// Reads are tried again after failures that may pass, and an assignment is sent
// once. Messages of the server's are escaped and cut, and the token is in none
// of the texts and errors that a Provider returns.
type Provider struct {
	ip       string
	droplets map[string]int
	self     string
	pace     []time.Duration
	token    *token
	client   *godo.Client
}

var _ promotion.Provider = (*Provider)(nil)

// New checks the options. It asks neither for the token nor the network.
func New(o Options) (*Provider, error) {
	ip, err := netip.ParseAddr(o.IP)
	if err != nil || !ip.Is4() {
		return nil, fmt.Errorf("%q is not an IPv4 address", o.IP)
	}
	base, err := parseBase(o.APIURL)
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(o.Droplets))
	for name, id := range o.Droplets {
		if id < 1 {
			return nil, fmt.Errorf("%d, of %q, is not a droplet's id", id, name)
		}
		if other, twice := names[id]; twice {
			return nil, fmt.Errorf("%q and %q are both droplet %d", min(name, other), max(name, other), id)
		}
		names[id] = name
	}
	if o.Droplets[o.Self] == 0 {
		return nil, fmt.Errorf("this environment, %q, has no droplet", o.Self)
	}
	if o.Token == nil {
		return nil, errors.New("nothing gives a token")
	}
	p := &Provider{
		ip: ip.String(), droplets: maps.Clone(o.Droplets), self: o.Self,
		pace:  []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second},
		token: &token{ask: o.Token},
	}
	if o.Pace != nil {
		p.pace = slices.Clone(o.Pace)
	}
	// Without godo's retries: they would send an assignment again.
	p.client = godo.NewClient(newHTTPClient(base, p.token, cmp.Or(o.Attempt, 10*time.Second)))
	p.client.BaseURL = base
	p.client.UserAgent = userAgent
	return p, nil
}

// parseBase reads the API's address. godo resolves paths against it, which
// keeps a prefix only where that ends with a slash.
func parseBase(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("the API's address is not a url") // it may hold a password
	case u.User != nil:
		return nil, fmt.Errorf("the API's address, %q, carries a user name", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("the API's address, %q, is not an http or https url", address)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("the API's address, %q, goes on after its path", address)
	}
	return u.JoinPath("/"), nil
}

// State implements promotion.Provider.
func (p *Provider) State(ctx context.Context, to string) (*promotion.State, error) {
	s := new(promotion.State)
	// The owner is read last: what an action that is over by now has done is
	// seen, and what begins meanwhile locks the IP.
	if to != "" {
		if err := p.pending(ctx, to, s); err != nil {
			return nil, err
		}
	}
	ip, err := p.reservedIP(ctx)
	if err != nil {
		return nil, err
	}
	if ip.Locked && s.Busy == "" {
		s.Busy = p.ip + " is locked"
	}
	if err := p.owner(ctx, ip, s); err != nil {
		return nil, err
	}
	return s, nil
}

// owner says whose the IP is.
func (p *Provider) owner(ctx context.Context, ip *godo.ReservedIP, s *promotion.State) error {
	if ip.Droplet != nil {
		for name, id := range p.droplets {
			if id == ip.Droplet.ID {
				s.Owner = name
				return nil
			}
		}
		s.Foreign = fmt.Sprintf("it belongs to droplet %d (%s), which is not in promotion.droplets",
			ip.Droplet.ID, p.token.quote(ip.Droplet.Name))
		return nil
	}
	// It is shown without a droplet to those who may not see droplets, too.
	_, err := p.droplet(ctx, p.self)
	switch statusOf(err) {
	case http.StatusForbidden:
		s.Hidden = true
		s.Foreign = "the API shows no droplet for it, and the token may not see droplets: it needs the scope droplet:read"
		return nil
	case http.StatusNotFound:
		s.Hidden = true
		s.Foreign = fmt.Sprintf("the API shows no droplet for it, and the droplet of this environment, %s, "+
			"does not exist or the token may not see it", p.describe(p.self))
		return nil
	}
	return err
}

// pending reads what is under way on the IP and on the droplet that it is to
// move to.
func (p *Provider) pending(ctx context.Context, to string, s *promotion.State) error {
	id, err := p.dropletID(to)
	if err != nil {
		return err
	}
	page := &godo.ListOptions{PerPage: actionsPerPage}
	actions, err := p.actions(ctx, p.ip, func(ctx context.Context) ([]godo.Action, *godo.Response, error) {
		return p.client.ReservedIPActions.List(ctx, p.ip, page)
	})
	if err != nil {
		return err
	}
	for _, a := range actions {
		s.Actions = append(s.Actions, promotion.Action{ID: a.ID, Status: p.token.clean(a.Status, maxMessage)})
		if a.Status == godo.ActionInProgress && s.Busy == "" {
			s.Busy = fmt.Sprintf("action %d on %s is in progress", a.ID, p.ip)
		}
	}
	actions, err = p.actions(ctx, p.describe(to), func(ctx context.Context) ([]godo.Action, *godo.Response, error) {
		return p.client.Droplets.Actions(ctx, id, page)
	})
	if status := statusOf(err); status == http.StatusForbidden || status == http.StatusNotFound {
		return nil // a token's older scopes may hide them; and that a droplet is gone, Fit says better
	}
	if err != nil {
		return err
	}
	for _, a := range actions {
		if a.Status == godo.ActionInProgress && s.Occupied == "" {
			s.Occupied = fmt.Sprintf("droplet %d has a pending event (action %d, %s)", id, a.ID, p.token.clean(a.Type, maxMessage))
		}
	}
	return nil
}

// Fit implements promotion.Provider.
func (p *Provider) Fit(ctx context.Context, to string) error {
	id, err := p.dropletID(to)
	if err != nil {
		return err
	}
	ip, err := p.reservedIP(ctx)
	if statusOf(err) == http.StatusNotFound {
		return &promotion.Misfit{
			Reason: fmt.Sprintf("DigitalOcean knows no reserved IP %s", p.ip),
			Hint:   "compare promotion.ip with the reserved IPs of the team that the token belongs to",
		}
	}
	if err != nil {
		return err
	}
	droplet, err := p.droplet(ctx, to)
	if statusOf(err) == http.StatusNotFound {
		return &promotion.Misfit{
			Reason: p.describe(to) + " does not exist",
			Hint:   fmt.Sprintf("set promotion.droplets.%s to the droplet's id, which its metadata tells at /metadata/v1/id", to),
		}
	}
	if err != nil {
		return err
	}
	if droplet.Status != "active" {
		return &promotion.Misfit{
			Reason: fmt.Sprintf("%s is %s", p.describe(to), p.token.clean(droplet.Status, maxMessage)),
			Hint:   "a droplet takes traffic when it is active: power it on",
		}
	}
	// A region that is not told is left to the API, which refuses the wrong one.
	if a, b := ip.Region, droplet.Region; a != nil && b != nil && a.Slug != b.Slug && a.Slug != "" && b.Slug != "" {
		return &promotion.Misfit{
			Reason: fmt.Sprintf("%s is in %s and %s in %s", p.describe(to), p.token.clean(b.Slug, maxMessage),
				p.ip, p.token.clean(a.Slug, maxMessage)),
			Hint: "a reserved IP moves only between droplets of its own region",
		}
	}
	other, err := p.otherIP(ctx, id)
	if err != nil {
		return err
	}
	if other.IsValid() {
		return &promotion.Misfit{
			Reason: fmt.Sprintf("%s holds %s already, and a droplet can hold one", p.describe(to), other),
			Hint:   fmt.Sprintf("unassign it first, if nothing needs it: doctl compute reserved-ip-action unassign %s", other),
		}
	}
	return nil
}

// otherIP returns a reserved IP, not ours, that a droplet holds; the zero Addr
// where it holds none.
func (p *Provider) otherIP(ctx context.Context, droplet int) (netip.Addr, error) {
	for page := 1; page <= maxPages; page++ {
		ips, last, err := p.ipPage(ctx, page)
		if err != nil {
			return netip.Addr{}, err
		}
		for _, ip := range ips {
			if ip.Droplet != nil && ip.Droplet.ID == droplet && ip.IP != p.ip {
				return netip.ParseAddr(ip.IP) // ipPage has looked at it
			}
		}
		if last {
			return netip.Addr{}, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("asking DigitalOcean for the reserved IPs: there are more than %d pages", maxPages)
}

// Assign implements promotion.Provider.
func (p *Provider) Assign(ctx context.Context, to string, _ func(pid int) error) (int, error) {
	id, err := p.dropletID(to)
	if err != nil {
		return 0, &promotion.Rejection{Err: err}
	}
	what := fmt.Sprintf("asking DigitalOcean to assign %s to %s", p.ip, p.describe(to))
	if _, err := p.token.get(); err != nil {
		return 0, &promotion.Rejection{Err: fmt.Errorf("%s: %w", what, err)}
	}
	action, resp, err := p.client.ReservedIPActions.Assign(ctx, p.ip, id)
	if err != nil {
		f := p.failed(ctx, what, resp, err)
		switch f.status {
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
			http.StatusNotFound, http.StatusTooManyRequests:
			return 0, &promotion.Rejection{Err: f}
		}
		return 0, f
	}
	if action == nil || action.ID < 1 {
		return 0, nil
	}
	return action.ID, nil
}

func (p *Provider) dropletID(environment string) (int, error) {
	id, ok := p.droplets[environment]
	if !ok {
		return 0, fmt.Errorf("%q is not in promotion.droplets", environment)
	}
	return id, nil
}

// describe names the droplet of an environment.
func (p *Provider) describe(environment string) string {
	return fmt.Sprintf("droplet %d (%s)", p.droplets[environment], environment)
}
