# What the machine receives at its first boot. In a file of its own because it can be tested without a provider.

locals {
  # Placeholder for the nonce in the rendered text, of the same length: the size is checked before the nonce exists.
  placeholder = "00000000-0000-0000-0000-000000000000"
}

locals {
  image = var.image != null || var.custom_image != null ? var.image : "ubuntu22.04-nvidia-${strcontains(var.type, "sxm") ? "sxm" : "pcie"}-docker:latest"
}

module "source" {
  source = "../source"

  source_tarball = var.source_tarball
  agent_image    = var.agent_image
}

module "user_data" {
  source = "../user-data"

  cloud                    = "crusoe"
  pool_name                = var.pool_name
  provider_name            = var.provider_name
  ssh_host                 = var.ssh_host
  ssh_port                 = var.ssh_port
  ssh_user                 = var.ssh_user
  ssh_host_key_fingerprint = var.ssh_host_key_fingerprint
  ssh_host_key_file        = var.ssh_host_key_file
  source_tarball           = module.source.is_needed ? module.source.tarball.location : var.source_tarball
  agent_image              = var.agent_image
  networks                 = [var.network_cidr]
  settings = merge(
    # Crusoe allows 90 s for a shutdown.
    { BETA9_DRAIN_TIMEOUT = "60" },
    var.settings,
    { BETA9_HOST_KEY_NONCE = local.placeholder },
  )
}
