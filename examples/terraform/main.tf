provider "digitalocean" {
  token = var.digitalocean_token
}

locals {
  environments = toset(["blue", "green"])
  keys         = join("", [for file in var.pushers : "${trimspace(file(file))}\n"])
}

# The address of production. It has no droplet_id, and there is no
# digitalocean_reserved_ip_assignment: promotions move it, and Terraform, if it
# were told where it belongs, would move it back with the next apply. So nobody
# has it at first; the first tag that is pushed takes it.
resource "digitalocean_reserved_ip" "production" {
  region = var.region
}

resource "digitalocean_droplet" "environment" {
  for_each = local.environments

  name     = each.key
  image    = var.image
  size     = var.size
  ssh_keys = var.ssh_keys

  # The address can move within its region only. As the droplets come after it,
  # they also go before it: it is deleted when nobody has it any more.
  region = digitalocean_reserved_ip.production.region

  user_data = templatefile("${path.module}/../cloud-init/user-data.yaml", {
    environment    = each.key
    package_url    = var.package_url
    package_sha256 = var.package_sha256
    keys           = base64encode(local.keys)
  })

  lifecycle {
    # These matter at the first boot only. For another value Terraform would
    # replace both servers at once, and production with them. What can change
    # later is brought to them below.
    ignore_changes = [image, ssh_keys, user_data]
  }
}

resource "digitalocean_firewall" "web" {
  name        = "bluegreen"
  droplet_ids = [for droplet in digitalocean_droplet.environment : droplet.id]

  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = var.ssh_from
  }

  dynamic "inbound_rule" {
    for_each = ["80", "443"]

    content {
      protocol         = "tcp"
      port_range       = inbound_rule.value
      source_addresses = ["0.0.0.0/0", "::/0"]
    }
  }

  inbound_rule {
    protocol         = "icmp"
    source_addresses = ["0.0.0.0/0", "::/0"]
  }

  # Without rules of its own a firewall lets nothing out: no packages, and no
  # requests to the API.
  dynamic "outbound_rule" {
    for_each = ["tcp", "udp"]

    content {
      protocol              = outbound_rule.value
      port_range            = "1-65535"
      destination_addresses = ["0.0.0.0/0", "::/0"]
    }
  }

  outbound_rule {
    protocol              = "icmp"
    destination_addresses = ["0.0.0.0/0", "::/0"]
  }
}
