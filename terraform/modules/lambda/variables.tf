# The worker's settings are validated in ../user-data and the delivery of secrets in ../push-secrets, so that each rule
# exists once.

variable "name" {
  description = "Name of the machine in Lambda's console."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", var.name))
    error_message = "name must be 1-64 letters, digits, '-', '_' or '.': Lambda accepts no more than 64 characters."
  }
}

variable "region" {
  description = "Lambda region, such as us-west-1. Lambda's firewall rules do not apply in us-south-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be one that Lambda offers, such as us-west-1."
  }
}

variable "instance_type" {
  description = "Lambda instance type, such as gpu_1x_a10. All machines of a pool have the same GPU model."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.instance_type))
    error_message = "instance_type must be one that Lambda offers, such as gpu_1x_a10 or gpu_8x_h100_sxm5."
  }

  validation {
    # Grace: gh200, gb200, gb300.
    condition     = !can(regex("_g[a-z][0-9]+", var.instance_type))
    error_message = "instance_type ${var.instance_type} has an ARM processor (NVIDIA Grace); the bootstrap supports only x86-64: use a type such as gpu_1x_h100_sxm5."
  }

  validation {
    condition     = startswith(var.instance_type, "gpu_") || !var.require_gpu
    error_message = "instance_type ${var.instance_type} has no NVIDIA GPU: a GPU pool would give the machine no work. For a pool without GPUs, set require_gpu = false."
  }
}

variable "require_gpu" {
  description = "Refuse instance types without a GPU. False: for a pool whose machines have none."
  type        = bool
  default     = true
  nullable    = false
}

variable "ssh_key_name" {
  description = "Name of the SSH key in your Lambda account that may log in; exactly one."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.ssh_key_name)) > 0
    error_message = "ssh_key_name is empty: Lambda launches a machine only with exactly one key."
  }
}

variable "hostname" {
  description = "Host name of the machine. Null: Lambda derives one from its address."
  type        = string
  default     = null

  validation {
    # A label as in RFC 1123: it becomes the name of the Kubernetes node.
    condition     = var.hostname == null ? true : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.hostname))
    error_message = "hostname must be 1-63 lower-case letters, digits or '-', beginning and ending with a letter or digit: Kubernetes accepts no other names."
  }
}

variable "image_id" {
  description = "Id of the image. Null: image_family, or the latest Lambda Stack, which includes the GPU drivers."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null || var.image_family == null
    error_message = "Set image_id or image_family, not both."
  }

  validation {
    condition     = var.image_id == null ? true : can(regex("^[0-9a-f-]{32,36}$", var.image_id))
    error_message = "image_id must be the id of an image: 32 hexadecimal digits."
  }
}

variable "image_family" {
  description = "Image family; the newest image of the family is used at launch. Null: image_id, or the latest Lambda Stack."
  type        = string
  default     = null

  validation {
    condition     = var.image_family == null ? true : length(trimspace(var.image_family)) > 0
    error_message = "image_family is empty; leave it out for the latest Lambda Stack."
  }
}

variable "file_system_names" {
  description = "Names of file systems to mount; they must be in the same region."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.file_system_names : length(trimspace(name)) > 0])
    error_message = "file_system_names contains an empty name."
  }
}

variable "firewall_ruleset_ids" {
  description = "Ids of firewall rule sets. A worker needs no inbound access; sending its secrets needs port 22 from this machine."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.firewall_ruleset_ids : can(regex("^[0-9a-f-]{32,36}$", id))])
    error_message = "firewall_ruleset_ids must be rule set ids: 32 hexadecimal digits each."
  }

  validation {
    condition     = length(var.firewall_ruleset_ids) == 0 || var.region != "us-south-1"
    error_message = "firewall_ruleset_ids: Lambda applies no firewall rules in us-south-1. Use another region, or leave them out."
  }
}

variable "tags" {
  description = "Further tags for the machine. The key beta9-machine is reserved: it identifies the machine if the launch response is lost."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : can(regex("^[a-z][a-z0-9:-]{1,54}$", key)) && length(value) <= 128])
    error_message = "tags: keys must be 2-55 lower-case letters, digits, '-' or ':', beginning with a letter; values may have up to 128 characters."
  }

  validation {
    condition     = !contains(keys(var.tags), "beta9-machine")
    error_message = "tags: beta9-machine is reserved for the module; leave it out."
  }
}

variable "api_url" {
  description = "URL of Lambda's API; must equal the provider's `uri`."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^/?#@[:space:]]+|http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?)/api/v[0-9]+$", var.api_url))
    error_message = "api_url must be https and end with /api/v1: the API answers 404 to every other path, and plain http would expose the key."
  }
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
  description = "Local path of your private key, the counterpart of ssh_key_name. Null: ssh's default keys and the SSH agent."
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
