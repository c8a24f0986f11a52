# Generated from a deployment's profile; change that and write again.

terraform {
  required_version = ">= 1.10"
}

provider "azurerm" {
  subscription_id     = "01234567-89ab-cdef-0123-456789abcdef"
  storage_use_azuread = true

  features {}
}

module "server" {
  source = "./module"

  name         = "penguins"
  env          = "production"
  image        = "registry.example.org/research/arsenal-penguins:1"
  serve        = true
  words        = ["/models/penguins", "--host", "0.0.0.0", "--port", "8000", "--drain", "30", "--admin-host", "0.0.0.0", "--admin-port", "8001", "--max-batch", "64", "--monitor", "/var/lib/arsenal/monitor", "--request-log", "/var/lib/arsenal/requests", "--sample", "0.01", "--keys", "/run/secrets/keys.json", "--insecure"]
  port         = 8000
  accelerators = 0
  least        = 2
  most         = 10
  start        = 120
  keys_secret  = "arsenal-keys"
  repository   = "research/penguins"
  log_days     = 365
  budget       = 100
  email        = "research@example.org"
  tag          = "arsenal-penguins:1"
  cpu          = 2
  memory       = 4096
  cpu_target   = 70
  grace        = 45
  profile      = "NC24-A100"
  key_vault    = "/subscriptions/01234567-89ab-cdef-0123-456789abcdef/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/research"
  subscription = "01234567-89ab-cdef-0123-456789abcdef"
  location     = "westeurope"

  labels = {
    arsenal-deployment = "penguins-production"
    arsenal-model      = "penguins"
    arsenal-version    = "1"
    arsenal-digest     = "7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9"
    arsenal-owner      = "research"
    managed-by         = "arsenal"
  }
}

output "image_registry" {
  value = module.server.image_registry
}

output "cluster" {
  value = module.server.cluster
}

output "bucket" {
  value = module.server.bucket
}

output "url" {
  value = module.server.url
}

output "push_identity" {
  value = module.server.push_identity
}
