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

  validation {
    condition     = can(regex("^[0-9.]+$", var.ssh_host)) ? can(cidrhost("${var.ssh_host}/32", 0)) : can(regex(":", var.ssh_host)) ? can(cidrhost("${var.ssh_host}/128", 0)) : true
    error_message = "ssh_host looks like an IP address, but is not a valid one: use one such as 192.0.2.7 or 2001:db8::7, without port (ssh_port)."
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
    condition     = var.ssh_host_key_file == null || var.ssh_host_key_fingerprint == null && !anytrue([for name in keys(var.settings) : startswith(name, "BETA9_SSH_KNOWN_HOSTS")])
    error_message = "Give the gateway host's key in one way: ssh_host_key_file, ssh_host_key_fingerprint, or BETA9_SSH_KNOWN_HOSTS in settings."
  }

  validation {
    condition     = var.ssh_host == null || var.ssh_host_key_fingerprint != null || var.ssh_host_key_file != null || anytrue([for name in keys(var.settings) : startswith(name, "BETA9_SSH_KNOWN_HOSTS")])
    error_message = "ssh_host is set, but nothing identifies its key: set ssh_host_key_file (ssh YOU@HOST 'cat /etc/ssh/ssh_host_*_key.pub' >gateway.pub writes it), or ssh_host_key_fingerprint (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub prints it on that host)."
  }
}

variable "ssh_host_key_file" {
  description = "Local file with the gateway host's public keys, instead of ssh_host_key_fingerprint: lines of .pub files, known_hosts lines, or fingerprints as printed by `ssh-keygen -lf`."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_host_key_file == null ? true : fileexists(pathexpand(var.ssh_host_key_file))
    error_message = "ssh_host_key_file: no such local file. To write it: ssh YOU@HOST 'cat /etc/ssh/ssh_host_*_key.pub' >gateway.pub"
  }

  validation {
    condition = var.ssh_host_key_file == null || var.ssh_host == null ? true : anytrue([
      for line in try(split("\n", trimprefix(file(pathexpand(var.ssh_host_key_file)), "\ufeff")), []) :
      can(regex("^(?:(?:@cert-authority \\S+|\\|1\\|\\S+) )?${local.host_key}|^[0-9]+ SHA256:[A-Za-z0-9+/]{43}", trimspace(line))) ||
      contains(split(",", split(" ", trimspace(line))[0]), var.ssh_port == null || var.ssh_port == 22 ? var.ssh_host : "[${var.ssh_host}]:${var.ssh_port}")
    ])
    error_message = "ssh_host_key_file has no key of ssh_host: it must have lines of .pub files, known_hosts lines that name the host (as [HOST]:PORT if the port is not 22), or fingerprints. To write it: ssh YOU@HOST 'cat /etc/ssh/ssh_host_*_key.pub' >gateway.pub"
  }

  validation {
    condition     = var.ssh_host_key_file == null ? true : length([for line in try(split("\n", file(pathexpand(var.ssh_host_key_file))), []) : line if startswith(line, "|1|")]) <= 10
    error_message = "ssh_host_key_file has many hashed lines, which cannot be told apart here. To extract the gateway host's: ssh-keygen -F HOST -f ~/.ssh/known_hosts >gateway.known_hosts (for a port other than 22: -F '[HOST]:PORT')"
  }
}

variable "source_tarball" {
  description = "Source tarball with the bootstrap and the agent: https://…, s3://BUCKET/KEY, file:///… or a path on the machine, followed by #sha256= and its checksum (`make source` prints it)."
  type        = string
  default     = null

  validation {
    condition     = var.source_tarball == null ? true : can(regex("^(https?://|s3://|file:///|/)[^#[:space:]]+#sha256=[0-9A-Fa-f]{64}$", var.source_tarball))
    error_message = "source_tarball must be https://…, s3://…, file:///… or an absolute path, followed by #sha256= and 64 hexadecimal digits: the checksum is verified before anything runs as root."
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
    condition     = length(setsubtract(keys(var.settings), keys(local.known_variables))) == 0
    error_message = "settings: unknown variable ${join(", ", setsubtract(keys(var.settings), keys(local.known_variables)))}; docs/settings.md lists the valid ones. A misspelt variable would go unnoticed until the machine has started."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), keys(local.own_variable))) == 0
    error_message = "settings: ${join(", ", [for name in setintersection(keys(var.settings), keys(local.own_variable)) : "${name} has an input of its own here, ${local.own_variable[name]}"])}; use that instead."
  }

  validation {
    condition     = length([for name, value in var.settings : name if value != "" && !can(regex("^(?:${local.known_variables[name]})$", value)) && lookup(local.known_variables, name, "") != ""]) == 0
    error_message = "settings: the machine would refuse the value of ${join(", ", [for name, value in var.settings : name if value != "" && !can(regex("^(?:${local.known_variables[name]})$", value)) && lookup(local.known_variables, name, "") != ""])}; docs/settings.md describes each variable."
  }

  validation {
    # The longest interval of which two attempts fit into the gateway's lease (agent/core/machine_api/lease.py).
    condition = can(regex("^[0-9]", lookup(var.settings, "BETA9_KEEPALIVE_INTERVAL", ""))) ? try(
      tonumber(trimsuffix(var.settings.BETA9_KEEPALIVE_INTERVAL, "s")) > 0 && tonumber(trimsuffix(var.settings.BETA9_KEEPALIVE_INTERVAL, "s")) <= 260, true
    ) : true
    error_message = "settings: BETA9_KEEPALIVE_INTERVAL must be more than 0 and at most 260 seconds, to fit the gateway's lease of 300 s."
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

variable "networks" {
  description = "Networks in which the machine will have an address, as CIDR blocks, as far as they are known."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.networks : can(cidrhost(each, 0))])
    error_message = "networks: ${join(", ", [for each in var.networks : each if !can(cidrhost(each, 0))])} is not a CIDR block such as 10.200.0.0/24."
  }

  validation {
    condition = length(flatten([
      for each in var.networks : [
        for inside, purpose in local.used_inside : each
        # Two networks overlap if they are the same up to the shorter of their prefixes.
        if try(cidrhost("${split("/", each)[0]}/${min(split("/", each)[1], split("/", inside)[1])}", 0) == cidrhost("${split("/", inside)[0]}/${min(split("/", each)[1], split("/", inside)[1])}", 0), false)
      ]
    ])) == 0
    error_message = "The machine's own network is one that a worker uses inside: ${join("; ", flatten([for each in var.networks : [for inside, purpose in local.used_inside : "${each} overlaps ${inside} (${purpose})" if try(cidrhost("${split("/", each)[0]}/${min(split("/", each)[1], split("/", inside)[1])}", 0) == cidrhost("${split("/", inside)[0]}/${min(split("/", each)[1], split("/", inside)[1])}", 0), false)]]))}. Choose another one."
  }
}

variable "allow_plain_secrets" {
  description = "Allow secrets in user data and thus in Terraform's state, where anybody with read access to either can see them."
  type        = bool
  default     = false
  nullable    = false
}
