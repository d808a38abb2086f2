# The worker's settings are validated in ../user-data and the delivery of secrets in ../push-secrets, so that each rule
# exists once.

variable "name" {
  description = "Name of the VM."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "name must be 1-63 lower-case letters, digits or '-', beginning and ending with a letter or digit; the provider accepts an empty name and fails later."
  }
}

variable "type" {
  description = "Product name of the VM type, such as a100-80gb.1x. All machines of a pool have the same GPU model."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9]+)+$", var.type))
    error_message = "type must be one that Crusoe offers, such as a100-80gb.1x or l40s-48gb.4x."
  }
}

variable "location" {
  description = "Crusoe location, such as us-east1-a."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)*[0-9]+-[a-z]$", var.location))
    error_message = "location must be one that Crusoe offers, such as us-east1-a."
  }
}

variable "image" {
  description = "Image with GPU drivers and Docker, such as ubuntu22.04-nvidia-pcie-docker:latest (or -sxm-, to match the type). Null: custom_image."
  type        = string
  default     = null

  validation {
    condition     = (var.image == null) != (var.custom_image == null)
    error_message = "Set either image or custom_image: with both or neither, the provider fails after the plan."
  }

  validation {
    condition     = var.image == null ? true : can(regex("^[^[:space:]:]+:[^[:space:]:]+$", var.image))
    error_message = "image must be NAME:TAG, such as ubuntu22.04-nvidia-pcie-docker:latest."
  }
}

variable "custom_image" {
  description = "Id of a custom image. Null: image."
  type        = string
  default     = null

  validation {
    condition     = var.custom_image == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.custom_image))
    error_message = "custom_image must be the id of an image: a UUID."
  }
}

variable "ssh_public_key" {
  description = "Public key that may log in, as one line (ssh-ed25519 AAAA…)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\n]*)?\n?$", var.ssh_public_key))
    error_message = "ssh_public_key must be one line such as ssh-ed25519 AAAA…, the content of a .pub file, not the private key."
  }
}

variable "subnet_id" {
  description = "VPC subnet of the VM; it must allow outbound traffic. Null: the location's default subnet, or the one created by create_network."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.subnet_id))
    error_message = "subnet_id must be the id of a subnet: a UUID."
  }

  validation {
    condition     = var.subnet_id == null || !var.create_network
    error_message = "Set subnet_id or create_network, not both."
  }
}

variable "create_network" {
  description = "Create a VPC network for this VM, with the rules that a worker needs: everything outbound, and SSH inbound from ssh_from."
  type        = bool
  default     = false
  nullable    = false
}

variable "network_cidr" {
  description = "CIDR block of the network created by create_network. It must not overlap 10.42.0.0/15, which k3s uses for pods and services."
  type        = string
  default     = "10.200.0.0/24"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.network_cidr, 1)) && !can(regex("^10\\.4[23]\\.", var.network_cidr))
    error_message = "network_cidr must be a CIDR block such as 10.200.0.0/24, outside of 10.42.0.0/16 and 10.43.0.0/16 (k3s)."
  }
}

variable "ssh_from" {
  description = "CIDR block that may reach the VM's SSH port in the network created by create_network, such as 192.0.2.7/32. Needed to send secrets."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_from == null ? true : can(cidrhost(var.ssh_from, 0))
    error_message = "ssh_from must be a CIDR block such as 192.0.2.7/32 (your own address, from which the secrets are sent)."
  }

  validation {
    condition     = !(var.create_network && var.token_file != null && var.ssh_from == null)
    error_message = "create_network with token_file needs ssh_from, your own address such as 192.0.2.7/32: the secrets are sent over SSH, which is blocked otherwise."
  }
}

variable "disk_ids" {
  description = "Ids of persistent disks to attach for data. Container data goes to the VM's local NVMe disks, if it has any."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.disk_ids : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", id))])
    error_message = "disk_ids must be disk ids: UUIDs."
  }
}

variable "project_id" {
  description = "Id of the Crusoe project. Null: the project of the profile in ~/.crusoe/config."
  type        = string
  default     = null

  validation {
    condition     = var.project_id == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.project_id))
    error_message = "project_id must be the id of a project: a UUID."
  }
}

variable "install_watch_agent" {
  description = "Let Crusoe install its own monitoring agent, as the provider does by default."
  type        = bool
  default     = false
  nullable    = false
}

variable "pool_name" {
  description = "Pool that the machine joins, spelled exactly as in the gateway's configuration."
  type        = string
  nullable    = false
}

variable "provider_name" {
  description = "Provider name; must equal the pool's provider in the gateway's configuration. Null: the agent's default, generic."
  type        = string
  default     = null
}

variable "ssh_host" {
  description = "Gateway host that the worker connects to for its tunnel: a name or an address, without user or port."
  type        = string
  nullable    = false
}

variable "ssh_port" {
  description = "SSH port of the gateway host. Null: 22."
  type        = number
  default     = null
}

variable "ssh_user" {
  description = "Tunnel-only user on the gateway host. Null: beta9-tunnel."
  type        = string
  default     = null
}

variable "ssh_host_key_fingerprint" {
  description = "SHA256 fingerprint of the gateway host's key, as printed by `ssh-keygen -lf`. Any other host key is refused."
  type        = string
  nullable    = false
}

variable "source_tarball" {
  description = "Source tarball with the bootstrap and the agent: https://… followed by #sha256= and its checksum (`make source` prints it)."
  type        = string
  default     = null
}

variable "agent_image" {
  description = "The agent's image: a digest reference (registry/name@sha256:…), or the location of an archive with #sha256=. Null: built on the machine from the source tarball."
  type        = string
  default     = null
}

variable "settings" {
  description = "Further BETA9_* variables, see docs/settings.md. No secrets: use token_file and tunnel_key_file for those."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "token_file" {
  description = "Local path of a file with the machine token. It is sent over SSH; its content never enters a state or plan. Null: send it yourself, with the command in the output push_secrets."
  type        = string
  default     = null

  validation {
    condition     = (var.token_file == null) == (var.tunnel_key_file == null)
    error_message = "Set both token_file and tunnel_key_file, or neither: the machine needs both before it can join."
  }
}

variable "tunnel_key_file" {
  description = "Local path of the private key for the tunnel to the gateway host (not your own login key). Null: as for token_file."
  type        = string
  default     = null
}

variable "secrets_revision" {
  description = "Increase it to send the secrets again after the files have changed."
  type        = number
  default     = 1
  nullable    = false
}

variable "login_user" {
  description = "User that may log in to the machine and become root there without a password."
  type        = string
  default     = "ubuntu"
  nullable    = false
}

variable "login_key_file" {
  description = "Local path of your private key, the counterpart of ssh_public_key. Null: ssh's default keys and the SSH agent."
  type        = string
  default     = null
}

variable "host_key" {
  description = "The machine's public host key (ssh-ed25519 AAAA…, one per line), if the image has a known one. Null: the machine proves its key with a nonce (docs/adr/0008)."
  type        = string
  default     = null
}

variable "known_hosts_file" {
  description = "Local file in which the machine's host key is kept once it is known. Null: NAME.known_hosts beside your configuration."
  type        = string
  default     = null
}
