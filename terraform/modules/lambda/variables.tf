# What the worker is told is checked in ../user-data, and how secrets are sent in ../push-secrets: one place for each rule.

variable "name" {
  description = "Name of the machine in Lambda's console."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", var.name))
    error_message = "name must be 1-64 letters, digits, '-', '_' or '.': Lambda takes no more than 64 characters."
  }
}

variable "region" {
  description = "Region, such as us-west-1. Lambda's firewall rules do not apply in us-south-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be one of Lambda's, such as us-west-1."
  }
}

variable "instance_type" {
  description = "Instance type, such as gpu_1x_a10. One pool has machines of one GPU model."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.instance_type))
    error_message = "instance_type must be one of Lambda's, such as gpu_1x_a10 or gpu_8x_h100_sxm5."
  }
}

variable "ssh_key_name" {
  description = "Name of the one SSH key in your Lambda account that may log in."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.ssh_key_name)) > 0
    error_message = "ssh_key_name is empty: Lambda launches no machine without exactly one key."
  }
}

variable "hostname" {
  description = "Host name of the machine. Null: Lambda makes one from its address."
  type        = string
  default     = null

  validation {
    condition     = var.hostname == null ? true : can(regex("^[a-z0-9][0-9a-z-]{0,62}$", var.hostname))
    error_message = "hostname must be 1-63 lower-case letters, digits and '-', not beginning with '-'."
  }
}

variable "image_id" {
  description = "Id of the image. Null: image_family, or the latest Lambda Stack, which has the drivers."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null || var.image_family == null
    error_message = "Give image_id or image_family, not both."
  }

  validation {
    condition     = var.image_id == null ? true : can(regex("^[0-9a-f-]{32,36}$", var.image_id))
    error_message = "image_id must be the id of an image: 32 hexadecimal digits."
  }
}

variable "image_family" {
  description = "Family of the image, whose newest member is taken at the launch. Null: image_id, or the latest Lambda Stack."
  type        = string
  default     = null

  validation {
    condition     = var.image_family == null ? true : length(trimspace(var.image_family)) > 0
    error_message = "image_family is empty; leave it out for the latest Lambda Stack."
  }
}

variable "file_system_names" {
  description = "File systems to mount, of the same region."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.file_system_names : length(trimspace(name)) > 0])
    error_message = "file_system_names has an empty name."
  }
}

variable "firewall_ruleset_ids" {
  description = "Firewall rule sets. A worker needs nothing from outside; sending it secrets needs port 22 from here."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.firewall_ruleset_ids : can(regex("^[0-9a-f-]{32,36}$", id))])
    error_message = "firewall_ruleset_ids must be ids of rule sets: 32 hexadecimal digits each."
  }
}

variable "tags" {
  description = "More tags for the machine. beta9-machine is taken: by it a machine is found whose launch got lost."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : can(regex("^[a-z][a-z0-9:-]{1,54}$", key)) && length(value) <= 128])
    error_message = "tags: keys are 2-55 lower-case letters, digits, '-' and ':', beginning with a letter; values have up to 128 characters."
  }

  validation {
    condition     = !contains(keys(var.tags), "beta9-machine")
    error_message = "tags: beta9-machine is the module's own; leave it out."
  }
}

variable "api_url" {
  description = "Address of Lambda's API; the provider's `uri` must be the same."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^/?#@[:space:]]+|http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?)/api/v[0-9]+$", var.api_url))
    error_message = "api_url must be https and end with /api/v1: an address with another path answers 404 to everything, and plain http would show the key."
  }
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
  description = "Path, here, of your private key, the other half of ssh_key_name's. Null: the usual ones and the agent."
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
