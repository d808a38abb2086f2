variable "pool_name" {
  description = "Pool that the machine joins, spelled exactly as in the gateway's configuration."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.pool_name))
    error_message = "pool_name '${var.pool_name}' is not a valid pool name: use 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit, exactly as in the gateway's configuration."
  }
}

variable "cloud" {
  description = "Cloud whose size limit and format the user data must respect: aws, crusoe, lambda, or generic (no limit)."
  type        = string
  default     = "generic"
  nullable    = false

  validation {
    condition     = contains(["aws", "crusoe", "lambda", "generic"], var.cloud)
    error_message = "cloud '${var.cloud}' is unknown: use aws, crusoe, lambda or generic."
  }
}

variable "compress" {
  description = "Compress the user data with gzip, which cloud-init unpacks. The cloud's limit then applies to the compressed size."
  type        = bool
  default     = false
  nullable    = false
}

variable "provider_name" {
  description = "Provider name; must equal the pool's provider in the gateway's configuration. Null: the agent's default, generic."
  type        = string
  default     = null

  validation {
    condition     = var.provider_name == null ? true : can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.provider_name))
    error_message = "provider_name must be 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit."
  }
}

variable "ssh_host" {
  description = "Gateway host that the worker connects to for its tunnel: a name or an address, without user or port."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_host == null ? true : can(regex("^([A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$", var.ssh_host))
    error_message = "ssh_host is not a host name or IP address: use one such as gateway.example.com or 192.0.2.7, without user, scheme or port (ssh_user, ssh_port)."
  }
}

variable "ssh_port" {
  description = "SSH port of the gateway host. Null: 22."
  type        = number
  default     = null

  validation {
    condition     = var.ssh_port == null ? true : var.ssh_port >= 1 && var.ssh_port <= 65535 && floor(var.ssh_port) == var.ssh_port
    error_message = "ssh_port must be a whole number from 1 to 65535."
  }
}

variable "ssh_user" {
  description = "Tunnel-only user on the gateway host. Null: beta9-tunnel."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_user == null ? true : can(regex("^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}$", var.ssh_user))
    error_message = "ssh_user is not a valid login name: use letters, digits and '_.@+-', not beginning with '.', '@', '+' or '-'."
  }
}

variable "ssh_host_key_fingerprint" {
  description = "SHA256 fingerprint of the gateway host's key, as printed by `ssh-keygen -lf`; separate several with commas. Any other host key is refused."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_host_key_fingerprint == null ? true : can(regex("^SHA256:[A-Za-z0-9+/]{43}=?(,SHA256:[A-Za-z0-9+/]{43}=?)*$", var.ssh_host_key_fingerprint))
    error_message = "ssh_host_key_fingerprint must be SHA256: and 43 characters, as printed on the gateway host by `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`; separate several with commas."
  }

  validation {
    condition     = var.ssh_host == null || var.ssh_host_key_fingerprint != null || anytrue([for name in keys(var.settings) : startswith(name, "BETA9_SSH_KNOWN_HOSTS")])
    error_message = "ssh_host is set, but nothing identifies its key: set ssh_host_key_fingerprint (run `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on that host), or BETA9_SSH_KNOWN_HOSTS in settings."
  }
}

variable "source_tarball" {
  description = "Source tarball with the bootstrap and the agent: https://…, file:///… or a path on the machine, followed by #sha256= and its checksum (`make source` prints it)."
  type        = string
  default     = null

  validation {
    condition     = var.source_tarball == null ? true : can(regex("^(https?://|file:///|/)[^#[:space:]]+#sha256=[0-9A-Fa-f]{64}$", var.source_tarball))
    error_message = "source_tarball must be https://…, file:///… or an absolute path, followed by #sha256= and 64 hexadecimal digits: the checksum is verified before anything runs as root."
  }

  validation {
    condition     = var.source_tarball != null || var.agent_image != null || length(local.release) > 0
    error_message = "No source for the bootstrap: set source_tarball (`make source` creates one and prints its checksum) or agent_image."
  }
}

variable "agent_image" {
  description = "The agent's image: a digest reference (registry/name@sha256:…), or the location of an archive with #sha256=. Null: built on the machine from the source tarball."
  type        = string
  default     = null

  validation {
    condition     = var.agent_image == null ? true : can(regex("^[^#[:space:]]+(@sha256:[0-9a-f]{64}|#sha256=[0-9A-Fa-f]{64})$", var.agent_image))
    error_message = "agent_image must end with @sha256: and a digest, or be the location of an archive followed by #sha256= and its checksum: a tag could be moved to another image."
  }
}

variable "token_ref" {
  description = "Reference to the machine token: ssm:///name, secretsmanager://id#key, or a file path on the machine. Null: the machine waits for /etc/beta9-worker/secrets/token."
  type        = string
  default     = null

  validation {
    condition     = var.token_ref == null || var.allow_plain_secrets ? true : can(regex("^(ssm://.*[^/]|secretsmanager://.+|/.+)$", var.token_ref))
    error_message = "token_ref is not a reference. The token itself must not appear in user data or in Terraform's state: use ssm:///name, secretsmanager://id#key or a file path on the machine. To write it out anyway, set allow_plain_secrets = true."
  }
}

variable "ssh_key_ref" {
  description = "Reference to the private key for the tunnel, in the same forms as token_ref. Null: the machine waits for /etc/beta9-worker/secrets/ssh_key."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_key_ref == null || var.allow_plain_secrets ? true : can(regex("^(ssm://.*[^/]|secretsmanager://.+|/.+)$", var.ssh_key_ref))
    error_message = "ssh_key_ref is not a reference. The private key must not appear in user data or in Terraform's state: use ssm:///name, secretsmanager://id#key or a file path on the machine. To write it out anyway, set allow_plain_secrets = true."
  }
}

variable "on_failure" {
  description = "What a machine does when its bootstrap fails: poweroff or keep. Null: poweroff where that stops the charges (aws, crusoe), otherwise keep."
  type        = string
  default     = null

  validation {
    condition     = var.on_failure == null ? true : contains(["poweroff", "keep"], var.on_failure)
    error_message = "on_failure must be poweroff or keep."
  }
}

variable "settings" {
  description = "Further BETA9_* variables, see docs/settings.md. Variables that have an input of their own here are rejected."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.settings), local.known_variables)) == 0
    error_message = "settings: unknown variable ${join(", ", setsubtract(keys(var.settings), local.known_variables))}; docs/settings.md lists the valid ones. A misspelt variable would go unnoticed until the machine has started."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), keys(local.own_variable))) == 0
    error_message = "settings: ${join(", ", [for name in setintersection(keys(var.settings), keys(local.own_variable)) : "${name} has an input of its own here, ${local.own_variable[name]}"])}; use that instead."
  }

  validation {
    condition     = !anytrue([for value in values(var.settings) : can(regex(local.unfit, value))])
    error_message = "settings: ${join(", ", [for name, value in var.settings : name if can(regex(local.unfit, value))])} contains a single quote, a backslash or a control character, which worker.env cannot hold: put the value into a file on the machine and give its path."
  }

  validation {
    condition     = !anytrue([for value in values(var.settings) : contains(split("\n", value), "BETA9_END_OF_SETTINGS")])
    error_message = "settings: a value contains the line BETA9_END_OF_SETTINGS, which ends the settings in the start-up script: remove it."
  }

  validation {
    condition = var.allow_plain_secrets || !anytrue([
      for name, value in var.settings :
      can(regex(local.secret, "${name}=${value}")) && !can(regex(local.reference, "${name}=${value}"))
    ])
    error_message = "settings: ${join(", ", [for name, value in var.settings : name if can(regex(local.secret, "${name}=${value}")) && !can(regex(local.reference, "${name}=${value}"))])} contains a secret in plain text, which would appear in user data and in Terraform's state: use ssm:///name, secretsmanager://id#key, or NAME_FILE with a path on the machine. To write it out anyway, set allow_plain_secrets = true."
  }
}

variable "allow_plain_secrets" {
  description = "Allow secrets in user data and thus in Terraform's state, where anybody with read access to either can see them."
  type        = bool
  default     = false
  nullable    = false
}
