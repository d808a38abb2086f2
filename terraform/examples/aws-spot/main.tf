# GPU machines on AWS's spot market that join a Beta9 pool automatically: a minimal use of ../../modules/aws-spot.

provider "aws" {
  region = var.region
}

locals {
  secret_name = coalesce(var.secret_name, "beta9/${var.pool_name}")
}

module "workers" {
  source = "../../modules/aws-spot"

  name                     = var.name
  pool_name                = var.pool_name
  ssh_host                 = var.gateway_host
  ssh_host_key_fingerprint = var.gateway_host_key_fingerprint
  ssh_host_key_file        = var.gateway_host_key_file
  source_tarball           = var.source_tarball
  token_ref                = "secretsmanager://${local.secret_name}#token"
  ssh_key_ref              = "secretsmanager://${local.secret_name}#ssh_key"

  instance_types = var.instance_types
  subnet_ids     = var.subnet_ids
  market         = var.market
  max_size       = var.max_size
  desired_size   = var.machines
  settings       = var.settings
}
