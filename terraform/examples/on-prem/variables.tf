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

variable "host" {
  description = "The machine: a name or an address at which SSH answers."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_][0-9A-Za-z_.:-]*$", var.host))
    error_message = "host is not a host name or IP address; it has no user and no port in it."
  }
}

variable "login_user" {
  description = "Who may log in there and become root without a password."
  type        = string
  default     = "root"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$", var.login_user))
    error_message = "login_user is not a login name."
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
  description = "The machine's public host key, as `cat /etc/ssh/ssh_host_ed25519_key.pub` prints it there."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]+) ", var.host_key))
    error_message = "host_key must be a line such as ssh-ed25519 AAAA…; not a fingerprint."
  }
}

variable "source_file" {
  description = "Source tarball here, as `make source` makes it in dist/."
  type        = string
  nullable    = false

  validation {
    condition     = fileexists(pathexpand(var.source_file))
    error_message = "source_file: there is no such file here; `make source` makes one in dist/."
  }
}

variable "uninstall" {
  description = "On destroy, also take back what the bootstrap did to the machine."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = contains([true, false], var.uninstall)
    error_message = "uninstall must be true or false."
  }
}
