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

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.pool_name))
    error_message = "pool_name '${var.pool_name}' is not a name that the gateway can use: give 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit, exactly as in the gateway's configuration."
  }
}

variable "provider_name" {
  description = "Must equal the pool's provider in the gateway's configuration. Null: the agent's default, generic."
  type        = string
  default     = null

  validation {
    condition     = var.provider_name == null ? true : can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.provider_name))
    error_message = "provider_name must be 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit."
  }
}

variable "ssh_host" {
  description = "The gateway's host, which the worker dials for its tunnel: a name or an address, without user and port."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.ssh_host) > 0 && can(regex("^[A-Za-z0-9_.:-]+$", var.ssh_host))
    error_message = "ssh_host is not a host name or IP address: give one such as gateway.example.com or 192.0.2.7, without user, scheme or port (ssh_user, ssh_port)."
  }
}

variable "ssh_port" {
  description = "SSH port of the gateway's host. Null: 22."
  type        = number
  default     = null

  validation {
    condition     = var.ssh_port == null ? true : var.ssh_port >= 1 && var.ssh_port <= 65535 && floor(var.ssh_port) == var.ssh_port
    error_message = "ssh_port must be a whole number from 1 to 65535."
  }
}

variable "ssh_user" {
  description = "Tunnel-only user on the gateway's host. Null: beta9-tunnel."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_user == null ? true : can(regex("^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}$", var.ssh_user))
    error_message = "ssh_user is not a login name: give letters, digits, '_', '.', '-', not beginning with '-'."
  }
}

variable "ssh_host_key_fingerprint" {
  description = "SHA256 fingerprint of the gateway host's key, as `ssh-keygen -lf` prints it. An unknown host key is refused."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^SHA256:[A-Za-z0-9+/]{43}=?(,SHA256:[A-Za-z0-9+/]{43}=?)*$", var.ssh_host_key_fingerprint))
    error_message = "ssh_host_key_fingerprint must look like SHA256: and 43 characters, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it on the gateway's host; several with commas."
  }
}

variable "source_tarball" {
  description = "Source tarball with bootstrap and agent: https://…, then #sha256= and its checksum (`make source` prints it)."
  type        = string
  default     = null

  validation {
    condition     = var.source_tarball == null ? true : can(regex("^(https?://|file:///|/)[^#[:space:]]+#sha256=[0-9A-Fa-f]{64}$", var.source_tarball))
    error_message = "source_tarball must be https://…, file:///… or an absolute path, followed by #sha256= and 64 hexadecimal digits: what is fetched as root is checked first."
  }
}

variable "agent_image" {
  description = "The agent's image: by digest (registry/name@sha256:…), or an archive's location with #sha256=. Null: built on the machine from the source tarball."
  type        = string
  default     = null

  validation {
    condition     = var.agent_image == null ? true : can(regex("^[^#[:space:]]+(@sha256:[0-9a-f]{64}|#sha256=[0-9A-Fa-f]{64})$", var.agent_image))
    error_message = "agent_image must end with @sha256: and the digest, or be an archive's location followed by #sha256= and its checksum: a tag can be moved."
  }
}

variable "settings" {
  description = "More BETA9_* variables, as docs/settings.md has them. No secrets: those go by token_file and tunnel_key_file."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^BETA9_[A-Z0-9_]+$", name))])
    error_message = "settings: the names are those of docs/settings.md, all of which begin with BETA9_."
  }
}

variable "token_file" {
  description = "Path, here, of a file with the machine token. Sent over SSH; its content is in no state and no plan. Null: send it yourself, as the output push_secrets says."
  type        = string
  default     = null

  validation {
    condition     = var.token_file == null ? true : fileexists(pathexpand(var.token_file))
    error_message = "token_file: there is no such file here. Write what `beta9 machine create` printed into one that only you can read (umask 077)."
  }

  validation {
    condition     = (var.token_file == null) == (var.tunnel_key_file == null)
    error_message = "Give both token_file and tunnel_key_file, or neither: the machine needs both before it can join."
  }
}

variable "tunnel_key_file" {
  description = "Path, here, of the private key for the tunnel to the gateway's host (not of your own key). Null, like token_file."
  type        = string
  default     = null

  validation {
    condition     = var.tunnel_key_file == null ? true : fileexists(pathexpand(var.tunnel_key_file))
    error_message = "tunnel_key_file: there is no such file here. It is the private key that the gateway's host knows (docs/ssh-tunnel.md)."
  }
}

variable "secrets_revision" {
  description = "Raise it to send the secrets again, after the files' content has changed."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = floor(var.secrets_revision) == var.secrets_revision
    error_message = "secrets_revision must be a whole number."
  }
}

variable "login_user" {
  description = "Who may log in to the machine and become root there without a password."
  type        = string
  default     = "root"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$", var.login_user))
    error_message = "login_user is not a login name."
  }
}

variable "login_key_file" {
  description = "Path, here, of your private key. Null: the usual ones and the agent."
  type        = string
  default     = null

  validation {
    condition     = var.login_key_file == null ? true : fileexists(pathexpand(var.login_key_file))
    error_message = "login_key_file: there is no such file here."
  }
}
