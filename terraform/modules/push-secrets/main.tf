# Sends the machine token and the tunnel's private key to a new machine over SSH, from files here. Only the files'
# paths are in the state and in plans. The machine's host key is known before anything is sent: by `host_key`, or by
# the nonce in its user data (docs/adr/0008).

resource "terraform_data" "push_secrets" {
  # Another machine, other files, or on demand: a file's content is nothing that Terraform may know.
  triggers_replace = [var.machine, var.token_file, var.tunnel_key_file, var.revision]

  provisioner "local-exec" {
    command = "bash '${path.module}/../../lib/deliver.sh'"
    environment = {
      HOST               = var.host == null ? "" : var.host
      LAMBDA_INSTANCE_ID = var.lambda_instance_id == null ? "" : var.lambda_instance_id
      LAMBDA_API         = var.lambda_api_url == null ? "" : var.lambda_api_url
      LAMBDA_TIMEOUT_S   = tostring(var.timeout_s)
      PORT               = tostring(var.login_port)
      LOGIN_USER         = var.login_user
      LOGIN_KEY_FILE     = var.login_key_file == null ? "" : abspath(pathexpand(var.login_key_file))
      HOST_KEY           = var.host_key == null ? "" : var.host_key
      NONCE              = var.nonce == null ? "" : var.nonce
      KNOWN_HOSTS_FILE   = abspath(pathexpand(var.known_hosts_file))
      TIMEOUT_S          = tostring(var.timeout_s)
      TOKEN_FILE         = abspath(pathexpand(var.token_file))
      SECRETS_DIRECTORY  = var.secrets_directory
      TUNNEL_KEY_FILE    = abspath(pathexpand(var.tunnel_key_file))
    }
  }
}
