terraform {
  required_version = ">= 1.9" # a variable's validation looks at another one

  required_providers {
    digitalocean = {
      source  = "digitalocean/digitalocean"
      version = "~> 2.58"
    }
  }
}
