# One VM at Crusoe as a worker, in a network of its own. Credentials come from ~/.crusoe/config, or from
# CRUSOE_ACCESS_KEY_ID and CRUSOE_SECRET_KEY.

provider "crusoe" {}

module "worker" {
  source = "../../modules/crusoe"

  name           = var.name
  type           = var.type
  location       = var.location
  image          = var.image
  ssh_public_key = file(pathexpand(var.ssh_public_key_file))
  create_network = true
  ssh_from       = var.ssh_from

  pool_name                = var.pool_name
  ssh_host                 = var.gateway_host
  ssh_host_key_fingerprint = var.gateway_host_key_fingerprint
  source_tarball           = var.source_tarball

  token_file      = var.token_file
  tunnel_key_file = var.tunnel_key_file
  login_key_file  = var.login_key_file
}
