variable "pool_name" {
  description = "Pool that the machine joins, exactly as in the gateway's configuration."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.pool_name))
    error_message = "pool_name '${var.pool_name}' is not a name that the gateway can use: give 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit."
  }
}

variable "gateway_host" {
  description = "Host that the worker dials for its tunnel: a name or an address."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.:-]+$", var.gateway_host))
    error_message = "gateway_host is not a host name or IP address: give one such as gateway.example.com, without user, scheme or port."
  }
}

variable "gateway_host_key_fingerprint" {
  description = "Fingerprint of that host's key, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it there."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^SHA256:[A-Za-z0-9+/]{43}=?$", var.gateway_host_key_fingerprint))
    error_message = "gateway_host_key_fingerprint must look like SHA256: and 43 characters, as `ssh-keygen -lf` prints it."
  }
}

variable "source_tarball" {
  description = "Source tarball with bootstrap and agent: https://…, then #sha256= and its checksum (`make source` prints it)."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https://[^#[:space:]]+#sha256=[0-9A-Fa-f]{64}$", var.source_tarball))
    error_message = "source_tarball must be https://…, followed by #sha256= and 64 hexadecimal digits: what is fetched as root is checked first."
  }
}

variable "token_file" {
  description = "File, here, with the machine token. Null: send it yourself, as the output push_secrets says."
  type        = string
  default     = null

  validation {
    condition     = var.token_file == null ? true : fileexists(pathexpand(var.token_file))
    error_message = "token_file: there is no such file here."
  }
}

variable "tunnel_key_file" {
  description = "File, here, with the private key for the tunnel. Null, like token_file."
  type        = string
  default     = null

  validation {
    condition     = var.tunnel_key_file == null ? true : fileexists(pathexpand(var.tunnel_key_file))
    error_message = "tunnel_key_file: there is no such file here."
  }
}

variable "login_key_file" {
  description = "File, here, with your private key for the machine. Null: the usual ones and the agent."
  type        = string
  default     = null

  validation {
    condition     = var.login_key_file == null ? true : fileexists(pathexpand(var.login_key_file))
    error_message = "login_key_file: there is no such file here."
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
  description = "Lambda's region, such as us-west-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be one of Lambda's, such as us-west-1."
  }
}

variable "instance_type" {
  description = "Lambda's instance type, such as gpu_1x_a10."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.instance_type))
    error_message = "instance_type must be one of Lambda's, such as gpu_1x_a10."
  }
}

variable "ssh_key_name" {
  description = "Name of the SSH key in your Lambda account that may log in."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.ssh_key_name)) > 0
    error_message = "ssh_key_name is empty: Lambda launches no machine without exactly one key."
  }
}

variable "api_url" {
  description = "Address of Lambda's API."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^https?://.+/api/v[0-9]+$", var.api_url))
    error_message = "api_url must end with /api/v1."
  }
}
