variable "digitalocean_token" {
  description = "Terraform's own token: may create and delete droplets, reserved IPs and firewalls. It stays on this machine."
  type        = string
  sensitive   = true
}

variable "promotion_token" {
  description = "The token that both servers get, and that pushers' promotions use: scope reserved_ip:update, and nothing else."
  type        = string
  sensitive   = true

  validation {
    condition     = var.promotion_token != "" && var.promotion_token != var.digitalocean_token
    error_message = "The servers' token must be one of its own: who takes over a server has it."
  }
}

variable "region" {
  description = "Where the droplets and the reserved IP are."
  type        = string
  default     = "fra1"
}

variable "size" {
  description = "The droplets' size."
  type        = string
  default     = "s-1vcpu-1gb"
}

variable "image" {
  description = "What the droplets are made from: Debian, or a descendant with apt and cloud-init."
  type        = string
  default     = "debian-12-x64"
}

variable "ssh_keys" {
  description = "Fingerprints or ids of the account's SSH keys that log in as root. One of them must be in this machine's ssh-agent."
  type        = list(string)

  validation {
    condition     = length(var.ssh_keys) > 0
    error_message = "Without a key for root nobody can set the servers up, Terraform included."
  }
}

variable "ssh_from" {
  description = "The addresses that may connect over ssh: this machine's, the developers' and CI's."
  type        = list(string)
  default     = ["0.0.0.0/0", "::/0"]
}

variable "pushers" {
  description = "Files with the public keys of those who push. Each may push and fetch, and has no shell."
  type        = list(string)

  validation {
    condition     = length(var.pushers) > 0
    error_message = "Without a key nobody can push."
  }
}

variable "package_url" {
  description = "Where the servers fetch the package of their architecture, as \"make dist\" builds it."
  type        = string

  # It becomes a word of YAML, and one of shell.
  validation {
    condition     = can(regex("^https://[A-Za-z0-9:/?&=%~._+-]+$", var.package_url))
    error_message = "The package comes over https, from a URL without quotes, spaces and $."
  }
}

variable "package_sha256" {
  description = "The package's checksum, from dist/SHA256SUMS. Another file is not installed."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "A SHA-256 checksum has 64 digits from 0 to f."
  }
}
