# What the worker is told is checked in ../user-data, and how secrets are sent in ../push-secrets: one place for each rule.

variable "name" {
  description = "Name of the VM."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "name must be 1-63 lower-case letters, digits and '-', beginning and ending with a letter or digit; the provider takes an empty one and fails later."
  }
}

variable "type" {
  description = "Product name of the VM type, such as a100-80gb.1x. One pool has machines of one GPU model."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9]+)+$", var.type))
    error_message = "type must be one of Crusoe's, such as a100-80gb.1x or l40s-48gb.4x."
  }
}

variable "location" {
  description = "Location, such as us-east1-a."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)*[0-9]+-[a-z]$", var.location))
    error_message = "location must be one of Crusoe's, such as us-east1-a."
  }
}

variable "image" {
  description = "Image with drivers and Docker, such as ubuntu22.04-nvidia-pcie-docker:latest (or -sxm-, as the type is). Null: custom_image."
  type        = string
  default     = null

  validation {
    condition     = (var.image == null) != (var.custom_image == null)
    error_message = "Give either image or custom_image: with both or neither the provider fails after the plan."
  }

  validation {
    condition     = var.image == null ? true : can(regex("^[^[:space:]:]+:[^[:space:]:]+$", var.image))
    error_message = "image must be NAME:TAG, such as ubuntu22.04-nvidia-pcie-docker:latest."
  }
}

variable "custom_image" {
  description = "Id of an image of your own. Null: image."
  type        = string
  default     = null

  validation {
    condition     = var.custom_image == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.custom_image))
    error_message = "custom_image must be the id of an image: a UUID."
  }
}

variable "ssh_public_key" {
  description = "The public key that may log in, as one line (ssh-ed25519 AAAA…)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\n]*)?\n?$", var.ssh_public_key))
    error_message = "ssh_public_key must be one line such as ssh-ed25519 AAAA…, the content of a .pub file. Not the private key."
  }
}

variable "subnet_id" {
  description = "VPC subnet of the VM; it must allow traffic out. Null: the location's default one, or the one that create_network makes."
  type        = string
  default     = null

  validation {
    condition     = var.subnet_id == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.subnet_id))
    error_message = "subnet_id must be the id of a subnet: a UUID."
  }

  validation {
    condition     = var.subnet_id == null || !var.create_network
    error_message = "Give subnet_id or create_network, not both."
  }
}

variable "create_network" {
  description = "Make a VPC network of the VM's own, with the rules that a worker needs: all out, SSH in from ssh_from."
  type        = bool
  default     = false
  nullable    = false
}

variable "network_cidr" {
  description = "Addresses of the network that create_network makes. Not 10.42.0.0/15, which k3s takes for pods and services."
  type        = string
  default     = "10.200.0.0/24"
  nullable    = false

  validation {
    condition     = can(cidrhost(var.network_cidr, 1)) && !can(regex("^10\\.4[23]\\.", var.network_cidr))
    error_message = "network_cidr must be a network such as 10.200.0.0/24, outside of 10.42.0.0/16 and 10.43.0.0/16 (k3s)."
  }
}

variable "ssh_from" {
  description = "Who may reach the VM's SSH in the network that create_network makes: a network such as 192.0.2.7/32. Needed to send secrets."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_from == null ? true : can(cidrhost(var.ssh_from, 0))
    error_message = "ssh_from must be a network such as 192.0.2.7/32 (your own address: what you send secrets from)."
  }

  validation {
    condition     = !(var.create_network && var.token_file != null && var.ssh_from == null)
    error_message = "create_network with token_file needs ssh_from, your own address such as 192.0.2.7/32: nobody reaches the VM's SSH otherwise, and the secrets are sent over it."
  }
}

variable "disk_ids" {
  description = "Persistent disks to attach for data. Container data goes to the VM's own NVMe, where it has some."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.disk_ids : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", id))])
    error_message = "disk_ids must be ids of disks: UUIDs."
  }
}

variable "project_id" {
  description = "Crusoe project. Null: that of the profile in ~/.crusoe/config."
  type        = string
  default     = null

  validation {
    condition     = var.project_id == null ? true : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.project_id))
    error_message = "project_id must be the id of a project: a UUID."
  }
}

variable "install_watch_agent" {
  description = "Let Crusoe install its own monitoring agent, which is the provider's default."
  type        = bool
  default     = false
  nullable    = false
}

variable "pool_name" {
  description = "Pool that the machine joins, exactly as in the gateway's configuration."
  type        = string
  nullable    = false
}

variable "provider_name" {
  description = "Must equal the pool's provider in the gateway's configuration. Null: the agent's default, generic."
  type        = string
  default     = null
}

variable "ssh_host" {
  description = "The gateway's host, which the worker dials for its tunnel: a name or an address, without user and port."
  type        = string
  nullable    = false
}

variable "ssh_port" {
  description = "SSH port of the gateway's host. Null: 22."
  type        = number
  default     = null
}

variable "ssh_user" {
  description = "Tunnel-only user on the gateway's host. Null: beta9-tunnel."
  type        = string
  default     = null
}

variable "ssh_host_key_fingerprint" {
  description = "SHA256 fingerprint of the gateway host's key, as `ssh-keygen -lf` prints it. An unknown host key is refused."
  type        = string
  nullable    = false
}

variable "source_tarball" {
  description = "Source tarball with bootstrap and agent: https://…, then #sha256= and its checksum (`make source` prints it)."
  type        = string
  default     = null
}

variable "agent_image" {
  description = "The agent's image: by digest (registry/name@sha256:…), or an archive's location with #sha256=. Null: built on the machine from the source tarball."
  type        = string
  default     = null
}

variable "settings" {
  description = "More BETA9_* variables, as docs/settings.md has them. No secrets: those go by token_file and tunnel_key_file."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "token_file" {
  description = "Path, here, of a file with the machine token. Sent over SSH; its content is in no state and no plan. Null: send it yourself, as the output push_secrets says."
  type        = string
  default     = null

  validation {
    condition     = (var.token_file == null) == (var.tunnel_key_file == null)
    error_message = "Give both token_file and tunnel_key_file, or neither: the machine needs both before it can join."
  }
}

variable "tunnel_key_file" {
  description = "Path, here, of the private key for the tunnel to the gateway's host (not of your own key). Null, like token_file."
  type        = string
  default     = null
}

variable "secrets_revision" {
  description = "Raise it to send the secrets again, after the files' content has changed."
  type        = number
  default     = 1
  nullable    = false
}

variable "login_user" {
  description = "Who may log in to the machine and become root there without a password."
  type        = string
  default     = "ubuntu"
  nullable    = false
}

variable "login_key_file" {
  description = "Path, here, of your private key, the other half of ssh_public_key. Null: the usual ones and the agent."
  type        = string
  default     = null
}

variable "host_key" {
  description = "The machine's public host key (ssh-ed25519 AAAA…; several on lines), where an image has a known one. Null: the machine proves its key by a nonce (docs/adr/0008)."
  type        = string
  default     = null
}

variable "known_hosts_file" {
  description = "Where the machine's host key is kept, here, once it is known. Null: NAME.known_hosts beside your configuration."
  type        = string
  default     = null
}
