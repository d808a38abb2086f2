# A network for this VM alone. Unlike Crusoe's default networks, a new one has no firewall rules, which denies both
# directions.

resource "crusoe_vpc_network" "own" {
  count = var.create_network ? 1 : 0

  name       = var.name
  cidr       = var.network_cidr
  project_id = var.project_id
}

resource "crusoe_vpc_subnet" "own" {
  count = var.create_network ? 1 : 0

  name       = var.name
  cidr       = var.network_cidr
  location   = var.location
  network    = crusoe_vpc_network.own[0].id
  project_id = var.project_id
}

# Outbound: everything (the tunnel on 22 or ssh_port, images, packages, DNS, NTP).
resource "crusoe_vpc_firewall_rule" "out" {
  count = var.create_network ? 1 : 0

  name              = "${var.name}-out"
  network           = crusoe_vpc_network.own[0].id
  project_id        = var.project_id
  action            = "allow"
  direction         = "egress"
  protocols         = "tcp,udp"
  source            = var.network_cidr
  source_ports      = "1-65535"
  destination       = "0.0.0.0/0"
  destination_ports = "1-65535"
}

# Inbound: only SSH, and only from where the secrets are sent. Nothing else ever connects to a worker.
resource "crusoe_vpc_firewall_rule" "ssh_in" {
  count = var.create_network && var.ssh_from != null ? 1 : 0

  name              = "${var.name}-ssh-in"
  network           = crusoe_vpc_network.own[0].id
  project_id        = var.project_id
  action            = "allow"
  direction         = "ingress"
  protocols         = "tcp"
  source            = var.ssh_from
  source_ports      = "1-65535"
  destination       = var.network_cidr
  destination_ports = "22"
}
