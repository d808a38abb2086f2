# The worker's settings are validated in ../user-data and the delivery of secrets in ../push-secrets, so that each rule
# exists once.

variable "host" {
  description = "The machine's name or address, reachable over SSH."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9A-Za-z_][0-9A-Za-z_.:-]*$", var.host))
    error_message = "host is not a host name or IP address: leave out user and port (set login_user, login_port)."
  }

  validation {
    condition     = can(regex("^[0-9.]+$", var.host)) ? can(cidrhost("${var.host}/32", 0)) : can(regex(":", var.host)) ? can(cidrhost("${split("%", var.host)[0]}/128", 0)) : true
    error_message = "host looks like an IP address, but is not a valid one: leave out the port (set login_port)."
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
  description = "The machine's public host key (ssh-ed25519 AAAA…, one per line). Any other key is refused. Null: the machine's key in your own ~/.ssh/known_hosts."
  type        = string
  default     = null

  validation {
    condition     = var.host_key == null ? true : can(regex("^(\\s*(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\\n]*)?\\s*)+$", var.host_key))
    error_message = "host_key must be lines such as ssh-ed25519 AAAA…, as printed on the machine's console by `cat /etc/ssh/ssh_host_ed25519_key.pub`, not a fingerprint."
  }
}

variable "source_file" {
  description = "Local source tarball to send to the machine. Null: source_tarball or agent_image, or else the last commit of this checkout, which is sent, too."
  type        = string
  default     = null

  validation {
    condition     = var.source_file == null ? true : fileexists(pathexpand(var.source_file)) && can(regex("^[A-Za-z0-9_.+-]+$", basename(var.source_file)))
    error_message = "source_file: no such local file, or its name contains characters other than letters, digits and '_.+-'. `make source` creates one in dist/."
  }

  validation {
    condition     = var.source_file == null || var.source_tarball == null
    error_message = "Set source_file or source_tarball, not both."
  }
}

variable "leave_when_idle" {
  description = "On destroy, take no new work and wait until running work has finished, instead of draining at once."
  type        = bool
  default     = false
  nullable    = false
}

variable "leave_timeout_s" {
  description = "Seconds within which the worker must have left on destroy. With leave_when_idle, this limits how long its last work may take."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.leave_timeout_s >= 1 && var.leave_timeout_s <= 604800
    error_message = "leave_timeout_s must be from 1 to 604800 (a week)."
  }
}

variable "uninstall" {
  description = "On destroy, also undo what the bootstrap did to the machine."
  type        = bool
  default     = false
  nullable    = false
}

variable "revision" {
  description = "Increase it to run the bootstrap again although nothing has changed."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = floor(var.revision) == var.revision
    error_message = "revision must be a whole number."
  }
}

variable "secrets_directory" {
  description = "Directory on the machine where the bootstrap waits for the secrets."
  type        = string
  default     = "/etc/beta9-worker/secrets"
  nullable    = false

  validation {
    condition     = can(regex("^/[A-Za-z0-9_./-]+$", var.secrets_directory))
    error_message = "secrets_directory must be an absolute path."
  }
}

variable "timeout_s" {
  description = "Seconds within which the bootstrap must finish, including a reboot if a driver needs one."
  type        = number
  default     = 5400
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 14400
    error_message = "timeout_s must be from 1 to 14400."
  }
}

variable "known_hosts_file" {
  description = "Local file in which the machine's host key is kept. Null: HOST.known_hosts beside your configuration."
  type        = string
  default     = null

  validation {
    condition     = var.known_hosts_file == null ? true : length(var.known_hosts_file) > 0
    error_message = "known_hosts_file must be a path, or null."
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
  description = "Source tarball with the bootstrap and the agent: https://… followed by #sha256= and its checksum (`make source` prints it)."
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
  default     = "root"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$", var.login_user))
    error_message = "login_user is not a valid login name."
  }
}

variable "login_key_file" {
  description = "Local path of your private key. Null: ssh's default keys and the SSH agent."
  type        = string
  default     = null

  validation {
    condition     = var.login_key_file == null ? true : fileexists(pathexpand(var.login_key_file))
    error_message = "login_key_file: no such local file."
  }
}
