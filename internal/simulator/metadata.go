package simulator

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Metadata serves what the droplet sees at http://169.254.169.254: plain text
// below /metadata/v1/, also lists of what there is. Nothing asks for a token.
func (c *Cloud) Metadata(id int) http.Handler {
	var d *droplet
	c.change(func() { d = c.droplet(id) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		var all map[string]string
		c.change(func() { all = c.metadata(d) })
		asked, ok := strings.CutPrefix(r.URL.Path, "/metadata/v1/")
		text, found := all[asked]
		if !found && ok {
			text = index(all, strings.TrimSuffix(asked, "/"))
		}
		if !found && text == "" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusNotFound)
			text = "not found"
		}
		io.WriteString(w, text)
	})
}

// SetMetadataLag makes the metadata of all droplets go on naming the owners of
// this moment, or ends that.
func (c *Cloud) SetMetadataLag(frozen bool) {
	c.change(func() {
		c.frozen = nil
		if frozen {
			c.frozen = c.held()
		}
	})
}

// held tells which IP each droplet has.
func (c *Cloud) held() map[int]string {
	held := make(map[int]string)
	for _, a := range c.ips {
		held[a.owner] = a.ip
	}
	return held
}

func (c *Cloud) metadata(d *droplet) map[string]string {
	held := c.frozen
	if held == nil {
		held = c.held()
	}
	all := map[string]string{
		"id":                               strconv.Itoa(d.id),
		"hostname":                         d.name,
		"region":                           d.region,
		"interfaces/public/0/ipv4/address": d.publicIP(),
		"interfaces/public/0/anchor_ipv4/address": d.anchorIP(),
		"interfaces/private/0/ipv4/address":       d.privateIP(),
	}
	for _, name := range []string{"reserved_ip", "floating_ip"} {
		ip, active := held[d.id]
		all[name+"/ipv4/active"] = strconv.FormatBool(active)
		if active {
			all[name+"/ipv4/ip_address"] = ip
		}
	}
	return all
}

// index lists what is below a directory, "" where nothing is.
func index(all map[string]string, dir string) string {
	if dir != "" {
		dir += "/"
	}
	var names []string
	for path := range all {
		if rest, ok := strings.CutPrefix(path, dir); ok {
			name, _, deeper := strings.Cut(rest, "/")
			if deeper {
				name += "/"
			}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n")
}
