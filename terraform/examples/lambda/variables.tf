variable "pool_name" {
  description = "Pool that the machine joins, spelled exactly as in the gateway's configuration."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.pool_name))
    error_message = "pool_name '${var.pool_name}' is not a valid pool name: use 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit."
  }
}

variable "gateway_host" {
  description = "Gateway host that the worker connects to for its tunnel: a name or an address."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.:-]+$", var.gateway_host))
    error_message = "gateway_host is not a host name or IP address: use one such as gateway.example.com, without user, scheme or port."
  }
}

variable "gateway_host_key_fingerprint" {
  description = "SHA256 fingerprint of the gateway host's key, as printed there by `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`. Null: gateway_host_key_file."
  type        = string
  default     = null
}

variable "gateway_host_key_file" {
  description = "Local file with the gateway host's public keys, as written by `ssh YOU@GATEWAY 'cat /etc/ssh/ssh_host_*_key.pub' >gateway.pub`. Null: gateway_host_key_fingerprint."
  type        = string
  default     = null
}

variable "source_tarball" {
  description = "Source tarball with the bootstrap and the agent: https://… followed by #sha256= and its checksum (`make source` prints it). Null: the last commit of this checkout."
  type        = string
  default     = null

  validation {
    condition     = var.source_tarball == null ? true : can(regex("^https://[^#[:space:]]+#sha256=[0-9A-Fa-f]{64}$", var.source_tarball))
    error_message = "source_tarball must be https://… followed by #sha256= and 64 hexadecimal digits: the checksum is verified before anything runs as root."
  }
}

variable "token_file" {
  description = "Local file with the machine token. Null: send it yourself, with the command in the output push_secrets."
  type        = string
  default     = null

  validation {
    condition     = var.token_file == null ? true : fileexists(pathexpand(var.token_file))
    error_message = "token_file: no such local file."
  }
}

variable "tunnel_key_file" {
  description = "Local file with the private key for the tunnel. Null: as for token_file."
  type        = string
  default     = null

  validation {
    condition     = var.tunnel_key_file == null ? true : fileexists(pathexpand(var.tunnel_key_file))
    error_message = "tunnel_key_file: no such local file."
  }
}

variable "login_key_file" {
  description = "Local file with your private key for logging in to the machine. Null: ssh's default keys and the SSH agent."
  type        = string
  default     = null

  validation {
    condition     = var.login_key_file == null ? true : fileexists(pathexpand(var.login_key_file))
    error_message = "login_key_file: no such local file."
  }
}

variable "name" {
  description = "Name of the machine."
  type        = string
  default     = "beta9-worker"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", var.name))
    error_message = "name must be 1-64 letters, digits, '-', '_' or '.'."
  }
}

variable "region" {
  description = "Lambda region, such as us-west-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be one that Lambda offers, such as us-west-1."
  }
}

variable "instance_type" {
  description = "Lambda instance type, such as gpu_1x_a10."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.instance_type))
    error_message = "instance_type must be one that Lambda offers, such as gpu_1x_a10."
  }
}

variable "ssh_key_name" {
  description = "Name of the SSH key in your Lambda account that may log in."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.ssh_key_name)) > 0
    error_message = "ssh_key_name is empty: Lambda launches a machine only with exactly one key."
  }
}

variable "api_url" {
  description = "URL of Lambda's API."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^https?://.+/api/v[0-9]+$", var.api_url))
    error_message = "api_url must end with /api/v1."
  }
}
