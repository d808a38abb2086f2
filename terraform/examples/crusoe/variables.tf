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
  description = "Name of the VM."
  type        = string
  default     = "beta9-worker"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.name))
    error_message = "name must be 1-63 lower-case letters, digits or '-', beginning and ending with a letter or digit."
  }
}

variable "type" {
  description = "Crusoe VM type, such as a100-80gb.1x."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9-]+(\\.[a-z0-9]+)+$", var.type))
    error_message = "type must be one that Crusoe offers, such as a100-80gb.1x."
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
  description = "Image with GPU drivers and Docker. Null: the one for the VM type."
  type        = string
  default     = null

  validation {
    condition     = var.image == null ? true : can(regex("^[^[:space:]:]+:[^[:space:]:]+$", var.image))
    error_message = "image must be NAME:TAG."
  }
}

variable "ssh_public_key_file" {
  description = "Local file with the public key that may log in. Null: login_key_file with .pub, or else your id_ed25519.pub, id_ecdsa.pub or id_rsa.pub in ~/.ssh."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_public_key_file == null ? true : fileexists(pathexpand(var.ssh_public_key_file))
    error_message = "ssh_public_key_file: no such local file; `ssh-keygen -t ed25519` creates a key pair."
  }
}

variable "ssh_from" {
  description = "CIDR block from which you reach the VM, usually your own address, such as 192.0.2.7/32."
  type        = string
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.ssh_from)) && !endswith(var.ssh_from, "/0")
    error_message = "ssh_from must be a CIDR block such as 192.0.2.7/32; /0 is not allowed."
  }
}
