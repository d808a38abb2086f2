# One machine at Lambda as a worker. The provider reads Lambda's API key from the environment variable REST_API_BEARER.

provider "restapi" {
  uri                   = var.api_url
  create_returns_object = true
  # At most one request per second. Never set `retries` here: repeating a launch request launches another machine.
  rate_limit = 1
}

module "worker" {
  source = "../../modules/lambda"

  name          = var.name
  region        = var.region
  instance_type = var.instance_type
  ssh_key_name  = var.ssh_key_name
  api_url       = var.api_url

  pool_name                = var.pool_name
  ssh_host                 = var.gateway_host
  ssh_host_key_fingerprint = var.gateway_host_key_fingerprint
  ssh_host_key_file        = var.gateway_host_key_file
  source_tarball           = var.source_tarball

  token_file      = var.token_file
  tunnel_key_file = var.tunnel_key_file
  login_key_file  = var.login_key_file
}
