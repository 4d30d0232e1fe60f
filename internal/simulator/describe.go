package simulator

import (
	"fmt"
	"time"
)

type object = map[string]any

const projectID = "746c6152-2fa2-11ed-92d3-27aaa54e4988"

func (c *Cloud) describeIP(a *address) object {
	o := object{
		"ip": a.ip, "region": describeRegion(a.region), "droplet": nil,
		"locked": a.locked || c.pending(a, nil),
	}
	if a.owner != 0 && c.may("droplet:read") {
		o["droplet"] = c.describeDroplet(c.droplet(a.owner))
	}
	if c.may("project:read") {
		o["project_id"] = projectID
	}
	return o
}

func (c *Cloud) describeAction(resource string, a *action) object {
	o := object{
		"id": a.id, "status": a.status, "type": a.kind, "started_at": timestamp(a.started), "completed_at": nil,
		"resource_type": "droplet", "region": describeRegion(a.region), "region_slug": a.region,
	}
	if !a.ended.IsZero() {
		o["completed_at"] = timestamp(a.ended)
	}
	if a.droplet != nil {
		o["resource_id"] = a.droplet.id
		return o
	}
	o["resource_type"], o["resource_id"] = resource, a.ip.number
	if c.may("project:read") {
		o["project_id"] = projectID
	}
	return o
}

func (c *Cloud) describeDroplet(d *droplet) object {
	none := []string{}
	return object{
		"id": d.id, "name": d.name, "status": d.status, "created_at": timestamp(d.created),
		"locked": c.pending(nil, d), "memory": 1024, "vcpus": 1, "disk": 25,
		"features": []string{"backups", "droplet_agent", "private_networking"}, "kernel": nil,
		// Null, as for a droplet without backups, is something that the document
		// allows in one place and forbids in another.
		"next_backup_window": object{"start": "2030-01-01T00:00:00Z", "end": "2030-01-01T23:00:00Z"},
		"backup_ids":         none, "snapshot_ids": none, "volume_ids": none, "tags": none,
		"vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
		"region":   describeRegion(d.region), "size_slug": "s-1vcpu-1gb",
		"size": object{
			"slug": "s-1vcpu-1gb", "description": "Basic", "available": true, "memory": 1024, "vcpus": 1, "disk": 25,
			"transfer": 1, "price_monthly": 6, "price_hourly": 0.00893, "regions": []string{d.region},
		},
		"image": object{
			"id": 63663980, "name": "24.04 (LTS) x64", "distribution": "Ubuntu", "slug": "ubuntu-24-04-x64", "public": true,
			"regions": none, "created_at": "2024-05-15T05:47:50Z", "min_disk_size": 7, "type": "base",
			"size_gigabytes": 2.36, "description": "", "tags": none, "status": "available", "error_message": "",
		},
		"networks": object{"v6": none, "v4": []object{
			{"ip_address": d.privateIP(), "netmask": "255.255.0.0", "gateway": "nil", "type": "private"},
			{"ip_address": d.publicIP(), "netmask": "255.255.255.0", "gateway": "198.51.100.1", "type": "public"},
		}},
	}
}

// The public addresses are from a network that is reserved for documentation.
func (d *droplet) publicIP() string  { return fmt.Sprintf("198.51.100.%d", d.host) }
func (d *droplet) privateIP() string { return fmt.Sprintf("10.132.0.%d", d.host) }
func (d *droplet) anchorIP() string  { return fmt.Sprintf("10.17.0.%d", d.host) }

func describeRegion(slug string) object {
	return object{
		"slug": slug, "name": slug, "available": true, "sizes": []string{"s-1vcpu-1gb", "s-1vcpu-2gb"},
		"features": []string{"backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"},
	}
}

func timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
