variable "pool_name" {
  description = "Pool that the machine joins, exactly as in the gateway's configuration."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$", var.pool_name))
    error_message = "pool_name '${var.pool_name}' is not a name that the gateway can use: give 1-63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit, exactly as in the gateway's configuration."
  }
}

variable "cloud" {
  description = "Whose limits the user data must keep: aws, crusoe, lambda or generic (none)."
  type        = string
  default     = "generic"
  nullable    = false

  validation {
    condition     = contains(["aws", "crusoe", "lambda", "generic"], var.cloud)
    error_message = "cloud '${var.cloud}' is not known: give aws, crusoe, lambda or generic."
  }
}

variable "compress" {
  description = "Use the gzip form, which cloud-init unpacks: its size, instead of the plain form's, must then keep the cloud's limit."
  type        = bool
  default     = false
  nullable    = false
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
  description = "Host that the worker dials for its tunnel: a name or an address, without user and port."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_host == null ? true : can(regex("^([A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$", var.ssh_host))
    error_message = "ssh_host is not a host name or IP address: give one such as gateway.example.com or 192.0.2.7, without user, scheme or port (ssh_user, ssh_port)."
  }
}

variable "ssh_port" {
  description = "SSH port of that host. Null: 22."
  type        = number
  default     = null

  validation {
    condition     = var.ssh_port == null ? true : var.ssh_port >= 1 && var.ssh_port <= 65535 && floor(var.ssh_port) == var.ssh_port
    error_message = "ssh_port must be a whole number from 1 to 65535."
  }
}

variable "ssh_user" {
  description = "Tunnel-only user on that host. Null: beta9-tunnel."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_user == null ? true : can(regex("^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}$", var.ssh_user))
    error_message = "ssh_user is not a login name: give letters, digits, '_', '.', '-', not beginning with '-'."
  }
}

variable "ssh_host_key_fingerprint" {
  description = "SHA256 fingerprint of that host's key, as `ssh-keygen -lf` prints it; several with commas. An unknown host key is refused."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_host_key_fingerprint == null ? true : can(regex("^SHA256:[A-Za-z0-9+/]{43}=?(,SHA256:[A-Za-z0-9+/]{43}=?)*$", var.ssh_host_key_fingerprint))
    error_message = "ssh_host_key_fingerprint must look like SHA256: and 43 characters, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it on the gateway's host; several with commas."
  }

  validation {
    condition     = var.ssh_host == null || var.ssh_host_key_fingerprint != null || anytrue([for name in keys(var.settings) : startswith(name, "BETA9_SSH_KNOWN_HOSTS")])
    error_message = "ssh_host is given, but nothing to know it by: set ssh_host_key_fingerprint (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on it prints one), or BETA9_SSH_KNOWN_HOSTS in settings."
  }
}

variable "source_tarball" {
  description = "Source tarball with bootstrap and agent: https://…, file:///… or a path on the machine, then #sha256= and its checksum (`make source` prints it)."
  type        = string
  default     = null

  validation {
    condition     = var.source_tarball == null ? true : can(regex("^(https?://|file:///|/)[^#[:space:]]+#sha256=[0-9A-Fa-f]{64}$", var.source_tarball))
    error_message = "source_tarball must be https://…, file:///… or an absolute path, followed by #sha256= and 64 hexadecimal digits: what is fetched as root is checked first."
  }

  validation {
    condition     = var.source_tarball != null || var.agent_image != null || length(local.release) > 0
    error_message = "Nothing says where the bootstrap is: set source_tarball (`make source` makes one and prints its checksum) or agent_image."
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

variable "token_ref" {
  description = "Where the machine finds its token: ssm:///name, secretsmanager://id#key, or a file's path on the machine. Null: it waits for /etc/beta9-worker/secrets/token."
  type        = string
  default     = null

  validation {
    condition     = var.token_ref == null || var.allow_plain_secrets ? true : can(regex("^(ssm://.*[^/]|secretsmanager://.+|/.+)$", var.token_ref))
    error_message = "token_ref is no reference. A token itself does not belong into user data, nor into Terraform's state: give ssm:///name, secretsmanager://id#key or a file's path on the machine. Only allow_plain_secrets = true writes it out all the same."
  }
}

variable "ssh_key_ref" {
  description = "Where the machine finds its private key for the tunnel, in the same ways. Null: it waits for /etc/beta9-worker/secrets/ssh_key."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_key_ref == null || var.allow_plain_secrets ? true : can(regex("^(ssm://.*[^/]|secretsmanager://.+|/.+)$", var.ssh_key_ref))
    error_message = "ssh_key_ref is no reference. A private key does not belong into user data, nor into Terraform's state: give ssm:///name, secretsmanager://id#key or a file's path on the machine. Only allow_plain_secrets = true writes it out all the same."
  }
}

variable "on_failure" {
  description = "What a machine does whose bootstrap failed: poweroff or keep. Null: poweroff where that ends the costs (aws, crusoe), else keep."
  type        = string
  default     = null

  validation {
    condition     = var.on_failure == null ? true : contains(["poweroff", "keep"], var.on_failure)
    error_message = "on_failure must be poweroff or keep."
  }
}

variable "settings" {
  description = "More BETA9_* variables, as docs/settings.md has them. What has a variable of its own here is refused."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.settings), local.known_variables)) == 0
    error_message = "settings: nothing reads ${join(", ", setsubtract(keys(var.settings), local.known_variables))}; docs/settings.md lists the variables there are. A misspelt one would go unnoticed until the machine has started."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), keys(local.own_variable))) == 0
    error_message = "settings: ${join(", ", [for name in setintersection(keys(var.settings), keys(local.own_variable)) : "${name} has a variable of its own here, ${local.own_variable[name]}"])}; use that."
  }

  validation {
    condition     = !anytrue([for value in values(var.settings) : can(regex(local.unfit, value))])
    error_message = "settings: ${join(", ", [for name, value in var.settings : name if can(regex(local.unfit, value))])} has a ', a backslash or a control character, which worker.env cannot carry: put it into a file on the machine and name that."
  }

  validation {
    condition     = !anytrue([for value in values(var.settings) : contains(split("\n", value), "BETA9_END_OF_SETTINGS")])
    error_message = "settings: a value has a line BETA9_END_OF_SETTINGS, at which a start-up script would stop reading: change it."
  }

  validation {
    condition = var.allow_plain_secrets || !anytrue([
      for name, value in var.settings :
      can(regex(local.secret, "${name}=${value}")) && !can(regex(local.reference, "${name}=${value}"))
    ])
    error_message = "settings: ${join(", ", [for name, value in var.settings : name if can(regex(local.secret, "${name}=${value}")) && !can(regex(local.reference, "${name}=${value}"))])} holds a secret in plain text, which would stand in user data and in Terraform's state: give ssm:///name, secretsmanager://id#key, or NAME_FILE with a path on the machine. Only allow_plain_secrets = true writes it out all the same."
  }
}

variable "allow_plain_secrets" {
  description = "Write secrets into user data and so into Terraform's state, where whoever reads either has them."
  type        = bool
  default     = false
  nullable    = false
}
