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

  validation {
    # Grace: gh200, gb200, gb300.
    condition     = !can(regex("^g[a-z][0-9]+", var.type))
    error_message = "type ${var.type} has an ARM processor (NVIDIA Grace); the bootstrap supports only x86-64: use a type such as h100-80gb-sxm-ib.8x."
  }

  validation {
    condition     = !can(regex("^mi[0-9]+", var.type))
    error_message = "type ${var.type} has AMD GPUs; only NVIDIA's are supported: use a type such as h100-80gb-sxm-ib.8x."
  }

  validation {
    # c1a, m1a, s1a and their successors.
    condition     = !can(regex("^[cmrs][0-9][a-z]\\.", var.type)) || !var.require_gpu
    error_message = "type ${var.type} has no NVIDIA GPU: a GPU pool would give the machine no work. For a pool without GPUs, set require_gpu = false."
  }
}

variable "require_gpu" {
  description = "Refuse VM types without a GPU. False: for a pool whose machines have none."
  type        = bool
  default     = true
  nullable    = false
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
  description = "Image with GPU drivers and Docker. Null: custom_image, or else the image for the type: ubuntu22.04-nvidia-sxm-docker:latest for SXM GPUs, and -pcie- for others."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || var.custom_image == null
    error_message = "Set image or custom_image, not both: the provider fails after the plan."
  }

  validation {
    condition     = var.image == null ? true : can(regex("^[^[:space:]:]+:[^[:space:]:]+$", var.image))
    error_message = "image must be NAME:TAG, such as ubuntu22.04-nvidia-pcie-docker:latest."
  }

  validation {
    condition     = !(strcontains(var.type, "sxm") && can(regex("nvidia-pcie", var.image))) && !(!strcontains(var.type, "sxm") && can(regex("nvidia-sxm", var.image)))
    error_message = "image ${coalesce(var.image, "-")} is not for ${var.type}: types with SXM GPUs need an image with -sxm-, whose fabric manager starts their GPUs, and others one with -pcie-. Leave it out to get the right one."
  }

  validation {
    condition     = !can(regex("rocm|arm64|aarch64", var.image))
    error_message = "image ${coalesce(var.image, "-")} is not for x86-64 machines with NVIDIA GPUs."
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
    error_message = "ssh_public_key must be one line such as ssh-ed25519 AAAA…, the content of a .pub file, not the private key; `ssh-keygen -t ed25519` creates a key pair."
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
  description = "CIDR block of the network created by create_network. It must not overlap networks that a worker uses inside: 10.42.0.0/15 (k3s), 192.168.1.0/24 (containers), 198.18.0.0/15."
  type        = string
  default     = "10.200.0.0/24"
  nullable    = false

  validation {
    # Overlaps with other networks that a worker uses inside are found in ../user-data.
    condition     = can(cidrnetmask(var.network_cidr)) ? cidrsubnet(var.network_cidr, 0, 0) == var.network_cidr && can(cidrhost(var.network_cidr, 7)) : false
    error_message = "network_cidr must be an IPv4 CIDR block such as 10.200.0.0/24, with its first address, and with room for at least 8 addresses."
  }

  validation {
    condition = alltrue([
      for k3s in ["10.42.0.0/16", "10.43.0.0/16"] :
      try(cidrhost("${split("/", var.network_cidr)[0]}/${min(split("/", var.network_cidr)[1], 16)}", 0) != cidrhost("${split("/", k3s)[0]}/${min(split("/", var.network_cidr)[1], 16)}", 0), true)
    ])
    error_message = "network_cidr ${var.network_cidr} overlaps 10.42.0.0/16 or 10.43.0.0/16 (k3s), which k3s uses for pods and services: choose another, such as 10.200.0.0/24."
  }

  validation {
    condition = anytrue([
      for private in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] :
      try(tonumber(split("/", var.network_cidr)[1]) >= tonumber(split("/", private)[1]) && cidrhost("${split("/", var.network_cidr)[0]}/${split("/", private)[1]}", 0) == cidrhost(private, 0), false)
    ])
    error_message = "network_cidr must be private, inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16: the VM could not reach the public addresses that it takes for its own network."
  }
}

variable "ssh_from" {
  description = "CIDR block that may reach the VM's SSH port in the network created by create_network, such as 192.0.2.7/32. Needed to send secrets."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_from == null ? true : can(cidrnetmask(var.ssh_from)) && !endswith(var.ssh_from, "/0")
    error_message = "ssh_from must be an IPv4 CIDR block such as 192.0.2.7/32 (your own address, from which the secrets are sent); /0 is not allowed."
  }

  validation {
    condition     = var.ssh_from == null || var.create_network
    error_message = "ssh_from has an effect only with create_network: in another network, set its firewall rules yourself."
  }

  validation {
    condition     = !(var.create_network && (var.token_file != null || module.source.is_needed) && var.ssh_from == null)
    error_message = "create_network needs ssh_from, your own address such as 192.0.2.7/32: the secrets and the source tarball are sent over SSH, which is blocked otherwise."
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
  description = "SHA256 fingerprint of the gateway host's key, as printed by `ssh-keygen -lf`; separate several with commas. Any other host key is refused. Null: ssh_host_key_file."
  type        = string
  default     = null
}

variable "ssh_host_key_file" {
  description = "Local file with the gateway host's public keys, instead of ssh_host_key_fingerprint: lines of .pub files, known_hosts lines, or fingerprints as printed by `ssh-keygen -lf`."
  type        = string
  default     = null
}

variable "source_tarball" {
  description = "Source tarball with the bootstrap and the agent: https://… followed by #sha256= and its checksum (`make source` prints it). Null: the last commit of this checkout, sent over SSH."
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

  validation {
    condition     = try(tonumber(trimsuffix(lookup(var.settings, "BETA9_DRAIN_TIMEOUT", "60"), "s")) <= 80, true)
    error_message = "settings: BETA9_DRAIN_TIMEOUT may be at most 80 s here, since Crusoe ends a shutdown after 90 s."
  }
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
