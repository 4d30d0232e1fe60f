package digitalocean

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/digitalocean/godo"
)

// maxPause is the longest pause that the server can ask for where the context
// has no deadline.
const maxPause = 5 * time.Minute

// read asks until it has a good answer, or a failure that will not pass, or no
// pause or time is left.
func read[T any](ctx context.Context, p *Provider, what string, ask func(context.Context) (T, *godo.Response, error)) (T, error) {
	var none T
	if _, err := p.token.get(); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	var before *failure
	for attempt := 0; ; attempt++ {
		answer, resp, err := ask(ctx)
		if err == nil {
			return answer, nil
		}
		f := p.failed(ctx, what, resp, err)
		if ctx.Err() != nil && before != nil {
			before.cause = ctx.Err()
			return none, before // an attempt that was cut short has seen nothing
		}
		if !f.passing || attempt == len(p.pace) {
			return none, f
		}
		pause := max(f.pause, p.pace[attempt])
		if pause > timeLeft(ctx) {
			if f.pause > 0 {
				f.text += ", which is longer than there is time for"
			}
			return none, f
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			f.cause = ctx.Err()
			return none, f
		}
		before = f
	}
}

func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return maxPause
}

// What follows reads one thing each. An answer that does not say what it was
// asked for counts as unreadable: 200 and {} must never look like nobody.

func (p *Provider) reservedIP(ctx context.Context) (*godo.ReservedIP, error) {
	return read(ctx, p, "asking DigitalOcean for "+p.ip,
		func(ctx context.Context) (*godo.ReservedIP, *godo.Response, error) {
			ip, resp, err := p.client.ReservedIPs.Get(ctx, p.ip)
			switch {
			case err != nil:
			case ip == nil:
				err = errors.New("an answer without a reserved IP")
			case ip.IP != p.ip:
				err = fmt.Errorf("an answer without it, but with %q", ip.IP)
			case ip.Droplet != nil && ip.Droplet.ID < 1:
				err = errors.New("an answer without the id of its droplet")
			}
			return ip, resp, err
		})
}

// droplet reads the droplet of an environment.
func (p *Provider) droplet(ctx context.Context, environment string) (*godo.Droplet, error) {
	id := p.droplets[environment]
	return read(ctx, p, "asking DigitalOcean for "+p.describe(environment),
		func(ctx context.Context) (*godo.Droplet, *godo.Response, error) {
			droplet, resp, err := p.client.Droplets.Get(ctx, id)
			switch {
			case err != nil:
			case droplet == nil:
				err = errors.New("an answer without a droplet")
			case droplet.ID != id:
				err = fmt.Errorf("an answer without it, but with droplet %d", droplet.ID)
			case droplet.Status == "":
				err = errors.New("an answer without its status")
			}
			return droplet, resp, err
		})
}

// actions reads the last actions on something, the newest first.
func (p *Provider) actions(ctx context.Context, of string, list func(context.Context) ([]godo.Action, *godo.Response, error)) ([]godo.Action, error) {
	actions, err := read(ctx, p, "asking DigitalOcean for the actions of "+of,
		func(ctx context.Context) ([]godo.Action, *godo.Response, error) {
			actions, resp, err := list(ctx)
			if err == nil && actions == nil {
				err = errors.New("an answer without actions")
			}
			for _, a := range actions {
				if err == nil && (a.ID < 1 || a.Status == "") {
					err = errors.New("an answer without the id or the status of an action")
				}
			}
			return actions, resp, err
		})
	slices.SortStableFunc(actions, func(a, b godo.Action) int { return cmp.Compare(b.ID, a.ID) })
	return actions, err
}

// ipPage reads a page of the list of all reserved IPs, and whether it is the
// last. Pages are counted: the links in answers lead anywhere.
func (p *Provider) ipPage(ctx context.Context, page int) (ips []godo.ReservedIP, last bool, err error) {
	ips, err = read(ctx, p, "asking DigitalOcean for the reserved IPs",
		func(ctx context.Context) ([]godo.ReservedIP, *godo.Response, error) {
			ips, resp, err := p.client.ReservedIPs.List(ctx, &godo.ListOptions{Page: page, PerPage: ipsPerPage})
			if err == nil && ips == nil {
				err = errors.New("an answer without reserved IPs")
			}
			for _, ip := range ips {
				if _, bad := netip.ParseAddr(ip.IP); bad != nil && err == nil {
					err = fmt.Errorf("an answer with %q for a reserved IP", ip.IP)
				}
			}
			last = err != nil || resp.Links == nil || resp.Links.IsLastPage()
			return ips, resp, err
		})
	return ips, last, err
}
