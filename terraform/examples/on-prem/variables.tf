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

variable "host" {
  description = "The machine's name or address, reachable over SSH."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_][0-9A-Za-z_.:-]*$", var.host))
    error_message = "host is not a host name or IP address: leave out user and port (set login_user, login_port)."
  }
}

variable "login_user" {
  description = "User that may log in there and become root without a password."
  type        = string
  default     = "root"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$", var.login_user))
    error_message = "login_user is not a valid login name."
  }
}

variable "login_port" {
  description = "SSH port of the machine."
  type        = number
  default     = 22
  nullable    = false

  validation {
    condition     = var.login_port >= 1 && var.login_port <= 65535
    error_message = "login_port must be from 1 to 65535."
  }
}

variable "host_key" {
  description = "The machine's public host key, as printed there by `cat /etc/ssh/ssh_host_ed25519_key.pub`. Null: its key in your own ~/.ssh/known_hosts."
  type        = string
  default     = null

  validation {
    condition     = var.host_key == null ? true : can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]+) ", var.host_key))
    error_message = "host_key must be a line such as ssh-ed25519 AAAA…, not a fingerprint."
  }
}

variable "source_file" {
  description = "Local source tarball, as created in dist/ by `make source`. Null: the last commit of this checkout."
  type        = string
  default     = null

  validation {
    condition     = var.source_file == null ? true : fileexists(pathexpand(var.source_file))
    error_message = "source_file: no such local file; `make source` creates one in dist/."
  }
}

variable "uninstall" {
  description = "On destroy, also undo what the bootstrap did to the machine."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = contains([true, false], var.uninstall)
    error_message = "uninstall must be true or false."
  }
}
