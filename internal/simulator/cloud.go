// Package simulator is a small cloud with DigitalOcean's API: droplets, reserved
// (floating) IPs, their actions, the metadata service, and traffic that follows
// an IP to its droplet. It answers as DigitalOcean's OpenAPI document says, and
// misbehaves as it is told to. It is for tests and for the demo.
package simulator

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Options say how a cloud behaves while nothing is wrong.
type Options struct {
	// Token is what requests must carry; "" accepts any bearer token that is
	// not empty.
	Token string
	// Delay is the time from the acceptance of an assignment to the change of
	// owner; until then the action is in progress and the IP locked. With 0 the
	// owner changes at once; the answer to the POST says in-progress all the
	// same, and the next read completed.
	Delay time.Duration
	// Limit is how many requests are served in a minute before a 429; 0 is 250.
	Limit int
	// Scopes of the token, as the OpenAPI document names them; nil is all of
	// them. None implies another here. Without droplet:read a reserved IP's
	// droplet is null; without project:read it has no project_id.
	Scopes []string
}

// A Call is one request that was made. The token is in none of its fields.
type Call struct {
	Method, Path string
	Status       int // that was answered, 0 for none (yet)
	Body         string
	Authorized   bool // it had the right token
	Time         time.Time
}

// A Move is one change of an IP's owner. From and To are droplets, 0 is nobody.
type Move struct {
	IP       string
	From, To int
	Time     time.Time
	ActionID int // 0 for SetOwner
}

// Cloud is the state of the simulated cloud. Its methods may be called by
// several goroutines at once. A droplet or an IP that was never added is a
// mistake of the caller's: methods that are given one panic.
type Cloud struct {
	options Options
	routes  []route

	mu       sync.Mutex
	ahead    time.Duration // of the real clock
	droplets []*droplet
	ips      []*address
	actions  []*action
	faults   []*Fault
	calls    []Call
	moves    []Move
	recent   []time.Time // requests of the last minute
	frozen   map[int]string
}

type droplet struct {
	id                   int
	name, region, status string
	host                 int // the last byte of its addresses
	created              time.Time
}

type address struct {
	ip     string
	number int // the same as an integer, as in an action's resource_id
	region string
	owner  int
	locked bool
}

// An action is an event of an IP or of a droplet.
type action struct {
	id             int
	kind           string // as in "type"
	status         string
	ip             *address // nil for a droplet's
	droplet        *droplet // nil for an IP's
	region         string
	started, ended time.Time
	due            time.Time // zero when time alone does not end it
	final          string    // the status once due
	moves          bool      // the owner changes once due
	to             int       // the owner then
}

const inProgress, completed = "in-progress", "completed"

// New makes an empty cloud.
func New(o Options) *Cloud {
	if o.Limit <= 0 {
		o.Limit = 250
	}
	c := &Cloud{options: o}
	c.routes = c.paths()
	return c
}

// AddDroplet adds an active droplet.
func (c *Cloud) AddDroplet(id int, name, region string) {
	c.change(func() {
		if id <= 0 || c.findDroplet(id) != nil {
			panic(fmt.Sprintf("simulator: droplet %d cannot be added", id))
		}
		c.droplets = append(c.droplets, &droplet{
			id: id, name: name, region: region, status: "active",
			host: 10 + len(c.droplets)%200, created: c.now(),
		})
	})
}

// SetDropletStatus sets the status: "new", "active", "off" or "archive".
func (c *Cloud) SetDropletStatus(id int, status string) {
	c.change(func() { c.droplet(id).status = status })
}

// AddIP adds a reserved IP that belongs to the droplet owner; 0 is nobody.
func (c *Cloud) AddIP(ip, region string, owner int) {
	c.change(func() {
		parsed, err := netip.ParseAddr(ip)
		if err != nil || !parsed.Is4() || c.findIP(ip) != nil {
			panic(fmt.Sprintf("simulator: IP %q cannot be added", ip))
		}
		if owner != 0 {
			c.droplet(owner)
		}
		c.add(parsed, region, owner)
	})
}

func (c *Cloud) add(ip netip.Addr, region string, owner int) *address {
	number := ip.As4()
	a := &address{ip: ip.String(), number: int(binary.BigEndian.Uint32(number[:])), region: region, owner: owner}
	c.ips = append(c.ips, a)
	return a
}

// Owner returns the droplet that has the IP now, 0 for nobody.
func (c *Cloud) Owner(ip string) (owner int) {
	c.change(func() { owner = c.address(ip).owner })
	return owner
}

// SetOwner gives the IP to a droplet (0: to nobody) behind everybody's back:
// there is no action for it, and no rule is kept.
func (c *Cloud) SetOwner(ip string, droplet int) {
	c.change(func() {
		if droplet != 0 {
			c.droplet(droplet)
		}
		c.move(c.address(ip), droplet, 0, c.now())
	})
}

// SetLocked locks the IP, as though an event that no list shows were pending,
// or takes that back. An IP with a pending action is locked in any case.
func (c *Cloud) SetLocked(ip string, locked bool) {
	c.change(func() { c.address(ip).locked = locked })
}

// AddPending adds somebody else's event to the IP, an assign_ip that is in
// progress until the function that is returned is called, and moves nothing.
func (c *Cloud) AddPending(ip string) (end func()) {
	return c.pend(func() *action {
		a := c.address(ip)
		return &action{kind: "assign_ip", ip: a, region: a.region}
	})
}

// AddDropletPending adds an event to the droplet, a snapshot that is in
// progress until the function that is returned is called.
func (c *Cloud) AddDropletPending(id int) (end func()) {
	return c.pend(func() *action {
		d := c.droplet(id)
		return &action{kind: "snapshot", droplet: d, region: d.region}
	})
}

func (c *Cloud) pend(event func() *action) func() {
	var a *action
	c.change(func() { a = c.begin(event()) })
	return func() {
		c.change(func() {
			if a.status == inProgress {
				a.status, a.ended = completed, c.now()
			}
		})
	}
}

// Advance lets time pass: what is due by then happens, and the limit on
// requests is counted afresh.
func (c *Cloud) Advance(d time.Duration) {
	c.change(func() { c.ahead += d })
	c.change(func() {})
}

// Calls returns what was asked, in the order of arrival.
func (c *Cloud) Calls() (calls []Call) {
	c.change(func() { calls = slices.Clone(c.calls) })
	return calls
}

// Moves returns the changes of owner, in the order in which they happened.
func (c *Cloud) Moves() (moves []Move) {
	c.change(func() { moves = slices.Clone(c.moves) })
	return moves
}

// Unassigns counts the unassign actions that were accepted: each left an IP
// with nobody.
func (c *Cloud) Unassigns() (n int) {
	c.change(func() {
		for _, a := range c.actions {
			if a.kind == "unassign_ip" {
				n++
			}
		}
	})
	return n
}

// change runs f with the state locked, and with everything done that is due: no
// timer is needed, since nobody can look at the cloud otherwise.
func (c *Cloud) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	f()
}

func (c *Cloud) now() time.Time { return time.Now().Add(c.ahead) }

// settle ends the actions that are due. Delay is the same for all, so the order
// in which they began is that in which they end.
func (c *Cloud) settle() {
	now := c.now()
	for _, a := range c.actions {
		if a.due.IsZero() || a.due.After(now) {
			continue
		}
		a.status = a.final
		if a.status != inProgress {
			a.ended = a.due
		}
		if a.moves {
			c.move(a.ip, a.to, a.id, a.due)
		}
		a.due = time.Time{}
	}
}

func (c *Cloud) move(a *address, to, actionID int, at time.Time) {
	if a.owner != to {
		c.moves = append(c.moves, Move{IP: a.ip, From: a.owner, To: to, Time: at, ActionID: actionID})
		a.owner = to
	}
}

// begin adds an action that is in progress.
func (c *Cloud) begin(a *action) *action {
	a.id = 72531856 + len(c.actions)
	a.status, a.started = inProgress, c.now()
	c.actions = append(c.actions, a)
	return a
}

// pending tells whether an event of the IP or of the droplet is in progress.
func (c *Cloud) pending(ip *address, d *droplet) bool {
	return slices.ContainsFunc(c.actions, func(a *action) bool {
		return a.status == inProgress && (ip != nil && a.ip == ip || d != nil && a.droplet == d)
	})
}

// holds tells whether the droplet has an IP or is about to.
func (c *Cloud) holds(d *droplet) bool {
	return slices.ContainsFunc(c.ips, func(a *address) bool { return a.owner == d.id }) ||
		slices.ContainsFunc(c.actions, func(a *action) bool { return !a.due.IsZero() && a.moves && a.to == d.id })
}

func (c *Cloud) findDroplet(id int) *droplet {
	for _, d := range c.droplets {
		if d.id == id {
			return d
		}
	}
	return nil
}

func (c *Cloud) findIP(ip string) *address {
	for _, a := range c.ips {
		if a.ip == ip {
			return a
		}
	}
	return nil
}

func (c *Cloud) droplet(id int) *droplet {
	d := c.findDroplet(id)
	if d == nil {
		panic(fmt.Sprintf("simulator: droplet %d was never added", id))
	}
	return d
}

func (c *Cloud) address(ip string) *address {
	a := c.findIP(ip)
	if a == nil {
		panic(fmt.Sprintf("simulator: IP %q was never added", ip))
	}
	return a
}
