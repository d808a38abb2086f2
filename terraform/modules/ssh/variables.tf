# What the worker is told is checked in ../user-data, and how secrets are sent in ../push-secrets: one place for each rule.

variable "host" {
  description = "The machine: a name or an address at which SSH answers."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_][0-9A-Za-z_.:-]*$", var.host))
    error_message = "host is not a host name or IP address; it has no user and no port in it (login_user, login_port)."
  }
}

variable "login_port" {
  description = "SSH port of the machine."
  type        = number
  default     = 22
  nullable    = false

  validation {
    condition     = var.login_port >= 1 && var.login_port <= 65535 && floor(var.login_port) == var.login_port
    error_message = "login_port must be a whole number from 1 to 65535."
  }
}

variable "host_key" {
  description = "The machine's public host key (ssh-ed25519 AAAA…; several on lines). Any other is refused."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(\\s*(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\\n]*)?\\s*)+$", var.host_key))
    error_message = "host_key must be lines such as ssh-ed25519 AAAA…, as `cat /etc/ssh/ssh_host_ed25519_key.pub` prints them on the machine's own console. Not a fingerprint."
  }
}

variable "source_file" {
  description = "Source tarball here, sent to the machine: for machines that cannot fetch one. Null: source_tarball or agent_image."
  type        = string
  default     = null

  validation {
    condition     = var.source_file == null ? true : fileexists(pathexpand(var.source_file)) && can(regex("^[A-Za-z0-9_.+-]+$", basename(var.source_file)))
    error_message = "source_file: there is no such file here, or its name has more than letters, digits and '_.+-'. `make source` makes one in dist/."
  }

  validation {
    condition     = var.source_file == null || var.source_tarball == null
    error_message = "Give source_file or source_tarball, not both."
  }
}

variable "leave_when_idle" {
  description = "On destroy, take no new work and wait until the last has ended, instead of draining at once."
  type        = bool
  default     = false
  nullable    = false
}

variable "leave_timeout_s" {
  description = "Seconds until the worker must have left, on destroy. With leave_when_idle: how long its last work may take."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.leave_timeout_s >= 1 && var.leave_timeout_s <= 604800
    error_message = "leave_timeout_s must be from 1 to 604800, which is a week."
  }
}

variable "uninstall" {
  description = "On destroy, also take back what the bootstrap did to the machine."
  type        = bool
  default     = false
  nullable    = false
}

variable "revision" {
  description = "Raise it to run the bootstrap again although nothing has changed."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = floor(var.revision) == var.revision
    error_message = "revision must be a whole number."
  }
}

variable "secrets_directory" {
  description = "Where on the machine the bootstrap waits for the secrets."
  type        = string
  default     = "/etc/beta9-worker/secrets"
  nullable    = false

  validation {
    condition     = can(regex("^/[A-Za-z0-9_./-]+$", var.secrets_directory))
    error_message = "secrets_directory must be an absolute path."
  }
}

variable "timeout_s" {
  description = "Seconds for the bootstrap, with a reboot if a driver wants one."
  type        = number
  default     = 5400
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 14400
    error_message = "timeout_s must be from 1 to 14400."
  }
}

variable "known_hosts_file" {
  description = "Where the machine's host key is kept, here. Null: HOST.known_hosts beside your configuration."
  type        = string
  default     = null

  validation {
    condition     = var.known_hosts_file == null ? true : length(var.known_hosts_file) > 0
    error_message = "known_hosts_file must be a path, or null."
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
  default     = "root"
  nullable    = false
}

variable "login_key_file" {
  description = "Path, here, of your private key. Null: the usual ones and the agent."
  type        = string
  default     = null
}
