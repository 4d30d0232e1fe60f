output "production" {
  description = "What the site's DNS record points to."
  value       = digitalocean_reserved_ip.production.ip_address
}

output "remotes" {
  description = "To be typed on the development machine, in the application's repository."
  value = join("\n", [
    for name, droplet in digitalocean_droplet.environment :
    "git remote add ${name} deploy@${droplet.ipv4_address}:sample_app"
  ])
}
