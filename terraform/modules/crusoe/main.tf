# One VM at Crusoe that becomes a worker through its start-up script. On demand only: neither the provider nor Crusoe's
# CLI can request spot VMs.
#
# Start-up and shutdown scripts are bash, plain ASCII, below 64 kB, and stay on the machine's disk, so they must not
# contain secrets. The start-up script runs as root at every boot, which cloud-init/boot.sh allows for. Changing the
# name, key, location, image or a script replaces the VM.

locals {
  startup_script = replace(module.user_data.script, local.placeholder, terraform_data.launch.output)

  # Crusoe allows 90 s for a shutdown; the worker drains for less (user-data.tf).
  shutdown_script = <<-EOT
    #!/bin/bash
    timeout 85 systemctl stop beta9-worker.service
  EOT

  address = try(crusoe_compute_instance.machine.network_interfaces[0].public_ipv4.address, null)

  known_hosts_file = coalesce(var.known_hosts_file, "${path.root}/${var.name}.known_hosts")
}

# One per launch: the nonce with which the machine proves its host key (docs/adr/0008). The type is not among the
# triggers, since the provider resizes a VM within a family, which keeps the host key.
resource "terraform_data" "launch" {
  input            = uuid()
  triggers_replace = sha256(jsonencode([module.user_data.script, var.name, var.location, local.image, var.custom_image, var.ssh_public_key]))

  lifecycle {
    ignore_changes = [input]
  }
}

resource "crusoe_compute_instance" "machine" {
  name                       = var.name
  type                       = var.type
  location                   = var.location
  image                      = local.image
  custom_image               = var.custom_image
  ssh_key                    = trimspace(var.ssh_public_key)
  project_id                 = var.project_id
  startup_script             = local.startup_script
  shutdown_script            = local.shutdown_script
  install_crusoe_watch_agent = var.install_watch_agent

  network_interfaces = var.create_network ? [{ subnet = crusoe_vpc_subnet.own[0].id }] : (
    var.subnet_id == null ? null : [{ subnet = var.subnet_id }]
  )
  disks = length(var.disk_ids) == 0 ? null : [
    for id in var.disk_ids : { id = id, attachment_type = "data", mode = "read-write" }
  ]

  # A VM that cannot connect outwards never joins, but is charged.
  depends_on = [crusoe_vpc_firewall_rule.out]
}

module "push_secrets" {
  source = "../push-secrets"
  count  = var.token_file == null && !module.source.is_needed ? 0 : 1

  machine          = crusoe_compute_instance.machine.id
  host             = local.address
  login_user       = var.login_user
  login_key_file   = var.login_key_file
  host_key         = var.host_key
  nonce            = terraform_data.launch.output
  known_hosts_file = local.known_hosts_file
  token_file       = var.token_file
  tunnel_key_file  = var.tunnel_key_file
  source_tarball   = module.source.tarball
  revision         = var.secrets_revision

  depends_on = [crusoe_vpc_firewall_rule.ssh_in]
}
