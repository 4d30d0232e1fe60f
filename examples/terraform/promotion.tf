# What can only be told when both droplets are there, and the token, which must
# not be in user_data. It is done again, without a new droplet, when one of the
# triggers changes: for another package, a further key, an exchanged token.
resource "terraform_data" "promotion" {
  for_each = digitalocean_droplet.environment

  triggers_replace = [
    digitalocean_reserved_ip.production.ip_address,
    [for droplet in digitalocean_droplet.environment : droplet.id],
    var.package_sha256,
    local.keys,
    sha256(var.promotion_token), # the state has no token
  ]

  connection {
    host = each.value.ipv4_address
    user = "root"
    # Root's script would be open to all accounts in /tmp.
    script_path = "/root/terraform_%RAND%.sh"
  }

  # In memory, and root's.
  provisioner "remote-exec" {
    inline = ["install -d -m 700 /run/bluegreen-setup"]
  }

  provisioner "file" {
    content     = local.keys
    destination = "/run/bluegreen-setup/pushers.pub"
  }

  provisioner "file" {
    content     = var.promotion_token
    destination = "/run/bluegreen-setup/token"
  }

  provisioner "remote-exec" {
    inline = [<<-EOT
      set -eu
      trap 'rm -rf /run/bluegreen-setup' EXIT
      chmod 600 /run/bluegreen-setup/token
      # What the first boot could not do is done below, or its reason is shown.
      cloud-init status --wait >/dev/null || cloud-init status --long || true
      bluegreen-setup '${var.package_url}' '${var.package_sha256}' \
        --environment ${each.key} --key /run/bluegreen-setup/pushers.pub \
        --ip ${digitalocean_reserved_ip.production.ip_address} \
        --droplet blue=${digitalocean_droplet.environment["blue"].id} \
        --droplet green=${digitalocean_droplet.environment["green"].id} \
        --token-file /run/bluegreen-setup/token
    EOT
    ]
  }
}
