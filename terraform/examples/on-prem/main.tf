# Turns an existing machine into a worker. Terraform sets it up over SSH.

module "worker" {
  source = "../../modules/ssh"

  host           = var.host
  login_user     = var.login_user
  login_port     = var.login_port
  login_key_file = var.login_key_file
  host_key       = var.host_key
  uninstall      = var.uninstall

  pool_name                = var.pool_name
  ssh_host                 = var.gateway_host
  ssh_host_key_fingerprint = var.gateway_host_key_fingerprint
  ssh_host_key_file        = var.gateway_host_key_file
  source_file              = var.source_file

  token_file      = var.token_file
  tunnel_key_file = var.tunnel_key_file
}
