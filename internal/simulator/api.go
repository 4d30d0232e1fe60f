package simulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strconv"
)

// A route is an endpoint. answer is called with the cloud locked.
type route struct {
	method, path, scope string
	answer              func(*query) (status int, body any)
}

// paths are the endpoints that are served.
func (c *Cloud) paths() []route {
	routes := []route{
		{"GET", "/v2/account", "account:read", c.getAccount},
		{"GET", "/v2/actions", "actions:read", c.listActions},
		{"GET", "/v2/actions/*", "actions:read", c.getAction},
		{"GET", "/v2/droplets", "droplet:read", c.listDroplets},
		{"GET", "/v2/droplets/*", "droplet:read", c.getDroplet},
		{"GET", "/v2/droplets/*/actions", "droplet:read", c.listDropletActions},
	}
	for _, name := range []string{"reserved_ips", "floating_ips"} {
		routes = append(routes,
			route{"GET", "/v2/" + name, "reserved_ip:read", c.listIPs},
			route{"POST", "/v2/" + name, "reserved_ip:create", c.createIP},
			route{"GET", "/v2/" + name + "/*", "reserved_ip:read", c.getIP},
			route{"GET", "/v2/" + name + "/*/actions", "reserved_ip:read", c.listIPActions},
			route{"POST", "/v2/" + name + "/*/actions", "reserved_ip:update", c.postIPAction},
			route{"GET", "/v2/" + name + "/*/actions/*", "reserved_ip:read", c.getIPAction},
		)
	}
	return routes
}

// answer carries out what is asked.
func (c *Cloud) answer(q *query) (a answer) {
	c.change(func() {
		var body any
		a.status, body = c.dispatch(q)
		a.body, _ = json.Marshal(body) // of maps, strings and numbers, which cannot fail
	})
	return a
}

func (c *Cloud) dispatch(q *query) (int, any) {
	switch {
	case !q.authorized:
		return q.refuse(http.StatusUnauthorized, "")
	case q.limited:
		return q.refuse(http.StatusTooManyRequests, "")
	}
	for _, r := range c.routes {
		if ok, _ := path.Match(r.path, q.URL.Path); !ok || r.method != q.Method {
			continue
		}
		if !c.may(r.scope) {
			return q.refuse(http.StatusForbidden, "")
		}
		return r.answer(q)
	}
	return q.refuse(http.StatusNotFound, "")
}

func (c *Cloud) may(scope string) bool {
	return c.options.Scopes == nil || slices.Contains(c.options.Scopes, scope)
}

// refuse is the API's error; "" is its usual message for the status.
func (q *query) refuse(status int, message string) (int, any) {
	id, usual := "server_error", "Unexpected server-side error"
	switch status {
	case http.StatusBadRequest:
		id, usual = "bad_request", "The request could not be understood."
	case http.StatusUnauthorized:
		id, usual = "Unauthorized", "Unable to authenticate you"
	case http.StatusForbidden:
		id, usual = "forbidden", "You are not authorized to perform this operation"
	case http.StatusNotFound:
		id, usual = "not_found", "The resource you were accessing could not be found."
	case http.StatusUnprocessableEntity:
		id, usual = "unprocessable_entity", "request payload validation failed"
	case http.StatusTooManyRequests:
		id, usual = "too_many_requests", "API Rate limit exceeded."
	case http.StatusServiceUnavailable:
		id, usual = "service_unavailable", "Server is unavailable, please try again later."
	}
	return status, object{"id": id, "message": cmp.Or(message, usual), "request_id": q.id}
}

func (c *Cloud) getAccount(*query) (int, any) {
	return http.StatusOK, object{"account": object{
		"droplet_limit": 25, "floating_ip_limit": 5, "email": "sammy@example.com", "name": "Sammy the Shark",
		"uuid": "b6f989db-f6d9-456c-ace5-f3c78dc9851d", "email_verified": true, "status": "active", "status_message": "",
		"team": object{"name": "My Team", "uuid": "5df3e300-4a17-4242-b7c2-0ca6c9fc25b7"},
	}}
}

func (c *Cloud) listDroplets(q *query) (int, any) {
	var droplets []object
	for _, d := range c.droplets {
		if name := q.FormValue("name"); name == "" || name == d.name {
			droplets = append(droplets, c.describeDroplet(d))
		}
	}
	return q.page("droplets", droplets)
}

func (c *Cloud) getDroplet(q *query) (int, any) {
	if d := c.findDroplet(q.number(3)); d != nil {
		return http.StatusOK, object{"droplet": c.describeDroplet(d)}
	}
	return q.refuse(http.StatusNotFound, "")
}

func (c *Cloud) listDropletActions(q *query) (int, any) {
	d := c.findDroplet(q.number(3))
	if d == nil {
		return q.refuse(http.StatusNotFound, "")
	}
	return c.pageActions(q, func(a *action) bool { return a.droplet == d })
}

func (c *Cloud) listActions(q *query) (int, any) {
	return c.pageActions(q, func(*action) bool { return true })
}

func (c *Cloud) getAction(q *query) (int, any) {
	return c.findAction(q, q.number(3), func(*action) bool { return true })
}

func (c *Cloud) listIPs(q *query) (int, any) {
	var ips []object
	for _, a := range c.ips {
		ips = append(ips, c.describeIP(a))
	}
	return q.page(q.segments[2], ips)
}

func (c *Cloud) getIP(q *query) (int, any) {
	if a := c.findIP(q.segments[3]); a != nil {
		return http.StatusOK, object{q.resource(): c.describeIP(a)}
	}
	return q.refuse(http.StatusNotFound, "")
}

func (c *Cloud) listIPActions(q *query) (int, any) {
	ip := c.findIP(q.segments[3])
	if ip == nil {
		return q.refuse(http.StatusNotFound, "")
	}
	return c.pageActions(q, func(a *action) bool { return a.ip == ip })
}

func (c *Cloud) getIPAction(q *query) (int, any) {
	ip := c.findIP(q.segments[3])
	return c.findAction(q, q.number(5), func(a *action) bool { return ip != nil && a.ip == ip })
}

// createIP reserves an IP for a region, or for a droplet, to which it is assigned.
func (c *Cloud) createIP(q *query) (int, any) {
	var asked struct {
		Region    string `json:"region"`
		DropletID int    `json:"droplet_id"`
	}
	if err := json.Unmarshal(q.body, &asked); err != nil {
		return q.refuse(http.StatusBadRequest, "")
	}
	d := c.findDroplet(asked.DropletID)
	switch {
	case asked.DropletID == 0 && asked.Region == "":
		return q.refuse(http.StatusUnprocessableEntity, "")
	case asked.DropletID == 0:
	case d == nil:
		return q.refuse(http.StatusNotFound, "")
	case c.pending(nil, d):
		return q.refuse(http.StatusUnprocessableEntity, pendingDroplet)
	case c.holds(d):
		return q.refuse(http.StatusUnprocessableEntity, holdsOne)
	default:
		asked.Region = d.region
	}
	links := object{}
	ip := c.add(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + len(c.ips)%250)}), asked.Region, 0)
	if d != nil {
		a := c.accept(q, &action{kind: "assign_ip", ip: ip, to: d.id})
		links["actions"] = []object{{"id": a.id, "rel": a.kind, "href": fmt.Sprintf("http://%s/v2/actions/%d", q.Host, a.id)}}
		links["droplets"] = []object{{"id": d.id, "rel": "droplet", "href": fmt.Sprintf("http://%s/v2/droplets/%d", q.Host, d.id)}}
	}
	return http.StatusAccepted, object{q.resource(): c.describeIP(ip), "links": links}
}

// The API's own words.
const (
	pendingIP      = "The floating IP already has a pending event."
	pendingDroplet = "Droplet already has a pending event."
)

// Words for what no source quotes.
const (
	holdsOne    = "The droplet already has a floating IP assigned."
	otherRegion = "The floating IP and the droplet must be in the same region."
	unassigned  = "The floating IP is not assigned to a droplet."
	unknownType = "The action type is not valid."
)

func (c *Cloud) postIPAction(q *query) (int, any) {
	a := c.findIP(q.segments[3])
	if a == nil {
		return q.refuse(http.StatusNotFound, "")
	}
	var asked struct {
		Type      string `json:"type"`
		DropletID int    `json:"droplet_id"`
	}
	if err := json.Unmarshal(q.body, &asked); err != nil {
		return q.refuse(http.StatusBadRequest, "")
	}
	if a.locked || c.pending(a, nil) {
		return q.refuse(http.StatusUnprocessableEntity, pendingIP)
	}
	switch asked.Type {
	case "assign":
		return c.assign(q, a, asked.DropletID)
	case "unassign":
		if a.owner == 0 {
			return q.refuse(http.StatusUnprocessableEntity, unassigned)
		}
		return c.act(q, &action{kind: "unassign_ip", ip: a})
	}
	return q.refuse(http.StatusUnprocessableEntity, unknownType)
}

func (c *Cloud) assign(q *query, a *address, to int) (int, any) {
	d := c.findDroplet(to)
	switch {
	case d == nil:
		return q.refuse(http.StatusNotFound, "")
	case c.pending(nil, d):
		return q.refuse(http.StatusUnprocessableEntity, pendingDroplet)
	case c.holds(d): // also this same IP
		return q.refuse(http.StatusUnprocessableEntity, holdsOne)
	case d.region != a.region:
		return q.refuse(http.StatusUnprocessableEntity, otherRegion)
	}
	return c.act(q, &action{kind: "assign_ip", ip: a, to: to})
}

func (c *Cloud) act(q *query, a *action) (int, any) {
	return http.StatusCreated, object{"action": c.describeAction(q.resource(), c.accept(q, a))}
}

// accept begins an action that ends by itself.
func (c *Cloud) accept(q *query, a *action) *action {
	a.region = a.ip.region
	a.final = cmp.Or(q.fault.ActionStatus, completed)
	a.moves = q.fault.ActionStatus == "" || q.fault.Apply
	c.begin(a)
	a.due = a.started.Add(c.options.Delay)
	return a
}

// readAction describes an action. A fault may lie about its status.
func (c *Cloud) readAction(q *query, a *action) object {
	o := c.describeAction(q.resource(), a)
	if q.fault.ActionStatus != "" {
		o["status"] = q.fault.ActionStatus
	}
	return o
}

// findAction answers with one action.
func (c *Cloud) findAction(q *query, id int, ok func(*action) bool) (int, any) {
	for _, a := range c.actions {
		if a.id == id && ok(a) {
			return http.StatusOK, object{"action": c.readAction(q, a)}
		}
	}
	return q.refuse(http.StatusNotFound, "")
}

// pageActions lists actions, the newest first.
func (c *Cloud) pageActions(q *query, ok func(*action) bool) (int, any) {
	var actions []object
	for _, a := range slices.Backward(c.actions) {
		if ok(a) {
			actions = append(actions, c.readAction(q, a))
		}
	}
	return q.page("actions", actions)
}

// page answers with one page of a list.
func (q *query) page(key string, items []object) (int, any) {
	number := func(name string, usual, most int) int {
		n, err := strconv.Atoi(q.FormValue(name))
		if err != nil || n < 1 {
			return usual
		}
		return min(n, most)
	}
	per, page := number("per_page", 20, 200), number("page", 1, 1<<20)
	last := max(1, (len(items)+per-1)/per)
	link := func(n int) string {
		return fmt.Sprintf("http://%s%s?page=%d&per_page=%d", q.Host, q.URL.Path, n, per)
	}
	pages := object{}
	if page > 1 {
		pages["first"], pages["prev"] = link(1), link(min(page-1, last))
	}
	if page < last {
		pages["next"], pages["last"] = link(page+1), link(last)
	}
	links := object{}
	if len(pages) > 0 {
		links["pages"] = pages
	}
	from := min((page-1)*per, len(items))
	shown := append([]object{}, items[from:min(from+per, len(items))]...)
	return http.StatusOK, object{key: shown, "links": links, "meta": object{"total": len(items)}}
}

// resource is what the endpoint calls an IP.
func (q *query) resource() string {
	if q.segments[2] == "floating_ips" {
		return "floating_ip"
	}
	return "reserved_ip"
}

// number is a segment of the path as an id, 0 where it is none.
func (q *query) number(segment int) int {
	n, err := strconv.Atoi(q.segments[segment])
	if err != nil {
		return 0
	}
	return n
}
