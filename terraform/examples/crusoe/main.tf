# One VM at Crusoe as a worker, in a network of its own. Credentials come from ~/.crusoe/config, or from
# CRUSOE_ACCESS_KEY_ID and CRUSOE_SECRET_KEY.

provider "crusoe" {}

locals {
  # The first that exists; ssh tries the private keys in the same order.
  public_key_files = compact(
    var.ssh_public_key_file != null ? [var.ssh_public_key_file] :
    var.login_key_file != null ? ["${var.login_key_file}.pub"] :
    ["~/.ssh/id_ed25519.pub", "~/.ssh/id_ecdsa.pub", "~/.ssh/id_rsa.pub"]
  )
  public_key_file = try([for each in local.public_key_files : pathexpand(each) if fileexists(pathexpand(each))][0], null)
}

module "worker" {
  source = "../../modules/crusoe"

  name           = var.name
  type           = var.type
  location       = var.location
  image          = var.image
  ssh_public_key = local.public_key_file == null ? "" : file(local.public_key_file)
  create_network = true
  ssh_from       = var.ssh_from

  pool_name                = var.pool_name
  ssh_host                 = var.gateway_host
  ssh_host_key_fingerprint = var.gateway_host_key_fingerprint
  ssh_host_key_file        = var.gateway_host_key_file
  source_tarball           = var.source_tarball

  token_file      = var.token_file
  tunnel_key_file = var.tunnel_key_file
  login_key_file  = var.login_key_file
}
