# What the machine receives at its first boot. In a file of its own because it can be tested without a provider.

locals {
  # Placeholder for the nonce in the rendered text, of the same length: the size is checked before the nonce exists.
  placeholder = "00000000-0000-0000-0000-000000000000"
}

module "source" {
  source = "../source"

  source_tarball = var.source_tarball
  agent_image    = var.agent_image
}

module "user_data" {
  source = "../user-data"

  cloud                    = "lambda"
  pool_name                = var.pool_name
  provider_name            = var.provider_name
  ssh_host                 = var.ssh_host
  ssh_port                 = var.ssh_port
  ssh_user                 = var.ssh_user
  ssh_host_key_fingerprint = var.ssh_host_key_fingerprint
  ssh_host_key_file        = var.ssh_host_key_file
  source_tarball           = module.source.is_needed ? module.source.tarball.location : var.source_tarball
  agent_image              = var.agent_image
  settings                 = merge(var.settings, { BETA9_HOST_KEY_NONCE = local.placeholder })
}
