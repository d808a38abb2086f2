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
  description = "Name of the VM."
  type        = string
  default     = "beta9-worker"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "name must be 1-63 lower-case letters, digits and '-'."
  }
}

variable "type" {
  description = "Crusoe's VM type, such as a100-80gb.1x."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9]+)+$", var.type))
    error_message = "type must be one of Crusoe's, such as a100-80gb.1x."
  }
}

variable "location" {
  description = "Crusoe's location, such as us-east1-a."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)*[0-9]+-[a-z]$", var.location))
    error_message = "location must be one of Crusoe's, such as us-east1-a."
  }
}

variable "image" {
  description = "Image with drivers and Docker, for the type: -pcie- or -sxm-."
  type        = string
  default     = "ubuntu22.04-nvidia-pcie-docker:latest"
  nullable    = false

  validation {
    condition     = can(regex("^[^[:space:]:]+:[^[:space:]:]+$", var.image))
    error_message = "image must be NAME:TAG."
  }
}

variable "ssh_public_key_file" {
  description = "File, here, with the public key that may log in."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(pathexpand(var.ssh_public_key_file))
    error_message = "ssh_public_key_file: there is no such file here; ssh-keygen -t ed25519 makes a pair."
  }
}

variable "ssh_from" {
  description = "Network from which you reach the VM, such as 192.0.2.7/32: your own address."
  type        = string
  nullable    = false

  validation {
    condition     = can(cidrhost(var.ssh_from, 0))
    error_message = "ssh_from must be a network such as 192.0.2.7/32."
  }
}
