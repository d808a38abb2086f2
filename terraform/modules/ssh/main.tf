# Turns an existing machine into a worker over SSH: any Linux machine where you can log in and become root.
#
# Two resources, so that a changed setting does not make the worker leave: the bootstrap, which runs again whenever its
# inputs change, and the membership, which ends on destroy or when the host changes. A reboot for a new driver is waited
# for. You provide the host key, or have it in your known_hosts, since the machine is not new (docs/adr/0008).

module "source" {
  source = "../source"

  source_tarball = var.source_file == null ? var.source_tarball : var.source_file
  agent_image    = var.agent_image
}

locals {
  # What is sent to the machine: the given file, or the checkout's own tarball.
  source_path = var.source_file == null ? null : "/opt/beta9-worker/source/${basename(var.source_file)}"
  location = (
    var.source_file != null ? "${local.source_path}#sha256=${filesha256(pathexpand(var.source_file))}" :
    module.source.is_needed ? module.source.tarball.location : var.source_tarball
  )

  # Networks of the machine, as far as they are known from here.
  own_address = can(cidrhost("${var.host}/32", 0)) && !startswith(var.host, "192.168.1.") ? ["${var.host}/32"] : []

  # The bootstrap's default, which needs no setting.
  usual_place = var.secrets_directory == "/etc/beta9-worker/secrets"

  # Environment of the scripts: where the machine is and how to log in.
  login = {
    HOST           = var.host
    PORT           = tostring(var.login_port)
    LOGIN_USER     = var.login_user
    LOGIN_KEY_FILE = var.login_key_file == null ? "" : abspath(pathexpand(var.login_key_file))
    # Without a host key, that in the user's known_hosts.
    TRUST_KNOWN_HOSTS = var.host_key == null ? "1" : ""
    HOST_KEY          = var.host_key == null ? "" : var.host_key
  }
}

module "user_data" {
  source = "../user-data"

  pool_name                = var.pool_name
  provider_name            = var.provider_name
  ssh_host                 = var.ssh_host
  ssh_port                 = var.ssh_port
  ssh_user                 = var.ssh_user
  ssh_host_key_fingerprint = var.ssh_host_key_fingerprint
  ssh_host_key_file        = var.ssh_host_key_file
  source_tarball           = local.location
  agent_image              = var.agent_image
  token_ref                = local.usual_place ? null : "${var.secrets_directory}/token"
  ssh_key_ref              = local.usual_place ? null : "${var.secrets_directory}/ssh_key"
  settings                 = var.settings
  networks                 = local.own_address
}

# Only a warning: it may be the address of a router in front of the machine, and jobs that nobody connects to do run.
check "containers_can_be_reached" {
  assert {
    condition     = !startswith(var.host, "192.168.1.")
    error_message = "host ${var.host} is in 192.168.1.0/24, which the gateway's workers use for containers: if that is the machine's own network, endpoints and pods on it cannot be reached. Functions run."
  }
}

module "push_secrets" {
  source = "../push-secrets"
  count  = var.token_file == null ? 0 : 1

  machine           = "${var.host}:${var.login_port}"
  host              = var.host
  login_user        = var.login_user
  login_port        = var.login_port
  login_key_file    = var.login_key_file
  host_key          = var.host_key
  trust_known_hosts = var.host_key == null
  known_hosts_file  = local.known_hosts_file
  token_file        = var.token_file
  tunnel_key_file   = var.tunnel_key_file
  secrets_directory = var.secrets_directory
  revision          = var.secrets_revision
  timeout_s         = 120
}

resource "terraform_data" "membership" {
  # Another host is another member, so the old one leaves. Login details may change without that.
  triggers_replace = [var.host]

  input = merge(local.login, {
    WHEN_IDLE = var.leave_when_idle ? "1" : "0"
    UNINSTALL = var.uninstall ? "1" : "0"
    TIMEOUT_S = tostring(var.leave_timeout_s)
  })

  provisioner "local-exec" {
    when        = destroy
    command     = "python3 '${path.module}/../../lib/over_ssh.py' leave"
    environment = self.output
  }
}

resource "terraform_data" "bootstrap" {
  triggers_replace = [terraform_data.membership.id, sha256(module.user_data.script), var.revision]

  provisioner "local-exec" {
    command = "python3 '${path.module}/../../lib/over_ssh.py' install"
    environment = merge(local.login, {
      SCRIPT        = module.user_data.script
      SOURCE_FILE   = var.source_file != null ? abspath(pathexpand(var.source_file)) : try(module.source.tarball.file, "")
      SOURCE_PATH   = local.location == null ? "" : split("#", local.location)[0]
      SOURCE_SHA256 = try(module.source.tarball.sha256, "")
      SOURCE_COMMIT = try(module.source.tarball.commit, "")
      TIMEOUT_S     = tostring(var.timeout_s)
    })
  }

  depends_on = [module.push_secrets]
}

locals {
  known_hosts_file = coalesce(var.known_hosts_file, "${path.root}/${var.host}.known_hosts")
}
