# Sends the machine token and the tunnel's private key from local files to a new machine over SSH, and before them the
# source tarball, if the machine waits for that, too. States and plans contain only the files' paths. The machine's host key is verified before anything is sent: against `host_key`, or with
# the nonce in its user data (docs/adr/0008).

resource "terraform_data" "push_secrets" {
  # Runs again for another machine, other paths or a new revision. The secrets' content is no trigger, because even its
  # checksum must not enter the state. Nor is the tarball: its checksum is in the user data, so another one means another
  # machine.
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
      TRUST_KNOWN_HOSTS  = var.trust_known_hosts ? "1" : ""
      NONCE              = var.nonce == null ? "" : var.nonce
      KNOWN_HOSTS_FILE   = abspath(pathexpand(var.known_hosts_file))
      TIMEOUT_S          = tostring(var.timeout_s)
      TOKEN_FILE         = var.token_file == null ? "" : abspath(pathexpand(var.token_file))
      SECRETS_DIRECTORY  = var.secrets_directory
      TUNNEL_KEY_FILE    = var.tunnel_key_file == null ? "" : abspath(pathexpand(var.tunnel_key_file))
      SOURCE_FILE        = var.source_tarball == null ? "" : var.source_tarball.file
      SOURCE_PATH        = var.source_tarball == null ? "" : split("#", var.source_tarball.location)[0]
      SOURCE_SHA256      = var.source_tarball == null ? "" : var.source_tarball.sha256
      SOURCE_COMMIT      = var.source_tarball == null ? "" : var.source_tarball.commit
    }
  }
}
