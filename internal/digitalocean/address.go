package digitalocean

import (
	"context"
	"fmt"
	"net/netip"
)

// Address returns where an environment's droplet can be asked directly: its
// address in the private network, or else its public one; "" where the API
// tells none.
func (p *Provider) Address(ctx context.Context, environment string) (string, error) {
	if _, err := p.dropletID(environment); err != nil {
		return "", err
	}
	droplet, err := p.droplet(ctx, environment)
	if err != nil {
		return "", err
	}
	private, err := droplet.PrivateIPv4()
	if err != nil || private == "" {
		if private, err = droplet.PublicIPv4(); err != nil || private == "" {
			return "", nil
		}
	}
	address, err := netip.ParseAddr(private)
	if err != nil || !address.Is4() {
		return "", fmt.Errorf("%s has the address %s, which is none", p.describe(environment), p.token.quote(private))
	}
	return address.String(), nil
}
