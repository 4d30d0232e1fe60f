package terraform_test

import "github.com/hashicorp/hcl/v2"

// The arguments of the resources, by the documentation of the provider's
// version 2.99 and of Terraform 1.11. What is not here, or is missing where it
// is required, is an error when the configuration is read into them.

type reservedIP struct {
	Region    string  `hcl:"region"`
	IPAddress *string `hcl:"ip_address"`
	DropletID *int    `hcl:"droplet_id"`
}

type droplet struct {
	ForEach          hcl.Expression `hcl:"for_each"`
	Image            string         `hcl:"image"`
	Name             string         `hcl:"name"`
	Size             string         `hcl:"size"`
	Region           *string        `hcl:"region"`
	SSHKeys          []string       `hcl:"ssh_keys,optional"`
	UserData         *string        `hcl:"user_data"`
	Tags             []string       `hcl:"tags,optional"`
	VolumeIDs        []string       `hcl:"volume_ids,optional"`
	VPC              *string        `hcl:"vpc_uuid"`
	Backups          *bool          `hcl:"backups"`
	Monitoring       *bool          `hcl:"monitoring"`
	IPv6             *bool          `hcl:"ipv6"`
	PublicNetworking *bool          `hcl:"public_networking"`
	ResizeDisk       *bool          `hcl:"resize_disk"`
	DropletAgent     *bool          `hcl:"droplet_agent"`
	GracefulShutdown *bool          `hcl:"graceful_shutdown"`
	Lifecycle        *lifecycle     `hcl:"lifecycle,block"`
}

type lifecycle struct {
	IgnoreChanges hcl.Expression `hcl:"ignore_changes,optional"`
}

type firewall struct {
	Name       string         `hcl:"name"`
	DropletIDs []int          `hcl:"droplet_ids,optional"`
	Tags       []string       `hcl:"tags,optional"`
	Inbound    []inboundRule  `hcl:"inbound_rule,block"`
	Outbound   []outboundRule `hcl:"outbound_rule,block"`
}

type inboundRule struct {
	Protocol      string   `hcl:"protocol"`
	PortRange     *string  `hcl:"port_range"`
	Addresses     []string `hcl:"source_addresses,optional"`
	DropletIDs    []int    `hcl:"source_droplet_ids,optional"`
	Tags          []string `hcl:"source_tags,optional"`
	LoadBalancers []string `hcl:"source_load_balancer_uids,optional"`
	Kubernetes    []string `hcl:"source_kubernetes_ids,optional"`
}

type outboundRule struct {
	Protocol      string   `hcl:"protocol"`
	PortRange     *string  `hcl:"port_range"`
	Addresses     []string `hcl:"destination_addresses,optional"`
	DropletIDs    []int    `hcl:"destination_droplet_ids,optional"`
	Tags          []string `hcl:"destination_tags,optional"`
	LoadBalancers []string `hcl:"destination_load_balancer_uids,optional"`
	Kubernetes    []string `hcl:"destination_kubernetes_ids,optional"`
}

// terraformData is Terraform's own resource.
type terraformData struct {
	ForEach      hcl.Expression `hcl:"for_each"`
	Triggers     hcl.Expression `hcl:"triggers_replace,optional"`
	Connection   *connection    `hcl:"connection,block"`
	Provisioners []provisioner  `hcl:"provisioner,block"`
}

type connection struct {
	Host       string  `hcl:"host"`
	User       *string `hcl:"user"`
	HostKey    *string `hcl:"host_key"`
	ScriptPath *string `hcl:"script_path"`
	Timeout    *string `hcl:"timeout"`
}

// provisioner has the arguments of both kinds, "file" and "remote-exec".
type provisioner struct {
	Kind        string   `hcl:"kind,label"`
	Inline      []string `hcl:"inline,optional"`
	Content     *string  `hcl:"content"`
	Source      *string  `hcl:"source"`
	Destination *string  `hcl:"destination"`
}

// settings is what the terraform block may have.
type settings struct {
	RequiredVersion string `hcl:"required_version"`
	Providers       struct {
		DigitalOcean struct {
			Source  string `cty:"source"`
			Version string `cty:"version"`
		} `hcl:"digitalocean"`
	} `hcl:"required_providers,block"`
}

type providerSettings struct {
	Token string `hcl:"token"`
}

type variable struct {
	Description string         `hcl:"description"`
	Type        hcl.Expression `hcl:"type"`
	Default     hcl.Expression `hcl:"default,optional"`
	Sensitive   bool           `hcl:"sensitive,optional"`
	Validations []struct {
		Condition hcl.Expression `hcl:"condition"`
		Message   string         `hcl:"error_message"`
	} `hcl:"validation,block"`
}

type output struct {
	Description string `hcl:"description"`
	Value       string `hcl:"value"`
}
