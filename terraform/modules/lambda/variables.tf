variable "name" {
  description = "Name of the machine in Lambda's console."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", var.name))
    error_message = "name must be 1-64 letters, digits, '-', '_' or '.': Lambda takes no more than 64 characters."
  }
}

variable "region" {
  description = "Region, such as us-west-1. Lambda's firewall rules do not apply in us-south-1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be one of Lambda's, such as us-west-1."
  }
}

variable "instance_type" {
  description = "Instance type, such as gpu_1x_a10. One pool has machines of one GPU model."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9_]+$", var.instance_type))
    error_message = "instance_type must be one of Lambda's, such as gpu_1x_a10 or gpu_8x_h100_sxm5."
  }
}

variable "ssh_key_name" {
  description = "Name of the one SSH key in your Lambda account that may log in."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.ssh_key_name)) > 0
    error_message = "ssh_key_name is empty: Lambda launches no machine without exactly one key."
  }
}

variable "hostname" {
  description = "Host name of the machine. Null: Lambda makes one from its address."
  type        = string
  default     = null

  validation {
    condition     = var.hostname == null ? true : can(regex("^[a-z0-9][0-9a-z-]{0,62}$", var.hostname))
    error_message = "hostname must be 1-63 lower-case letters, digits and '-', not beginning with '-'."
  }
}

variable "image_id" {
  description = "Id of the image. Null: image_family, or the latest Lambda Stack, which has the drivers."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null || var.image_family == null
    error_message = "Give image_id or image_family, not both."
  }

  validation {
    condition     = var.image_id == null ? true : can(regex("^[0-9a-f-]{32,36}$", var.image_id))
    error_message = "image_id must be the id of an image: 32 hexadecimal digits."
  }
}

variable "image_family" {
  description = "Family of the image, whose newest member is taken at the launch. Null: image_id, or the latest Lambda Stack."
  type        = string
  default     = null

  validation {
    condition     = var.image_family == null ? true : length(trimspace(var.image_family)) > 0
    error_message = "image_family is empty; leave it out for the latest Lambda Stack."
  }
}

variable "file_system_names" {
  description = "File systems to mount, of the same region."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for name in var.file_system_names : length(trimspace(name)) > 0])
    error_message = "file_system_names has an empty name."
  }
}

variable "firewall_ruleset_ids" {
  description = "Firewall rule sets. A worker needs nothing from outside; sending it secrets needs port 22 from here."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.firewall_ruleset_ids : can(regex("^[0-9a-f-]{32,36}$", id))])
    error_message = "firewall_ruleset_ids must be ids of rule sets: 32 hexadecimal digits each."
  }
}

variable "tags" {
  description = "More tags for the machine. beta9-machine is taken: by it a machine is found whose launch got lost."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : can(regex("^[a-z][a-z0-9:-]{1,54}$", key)) && length(value) <= 128])
    error_message = "tags: keys are 2-55 lower-case letters, digits, '-' and ':', beginning with a letter; values have up to 128 characters."
  }

  validation {
    condition     = !contains(keys(var.tags), "beta9-machine")
    error_message = "tags: beta9-machine is the module's own; leave it out."
  }
}

variable "api_url" {
  description = "Address of Lambda's API; the provider's `uri` must be the same."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^/?#@[:space:]]+|http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?)/api/v[0-9]+$", var.api_url))
    error_message = "api_url must be https and end with /api/v1: an address with another path answers 404 to everything, and plain http would show the key."
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
  default     = "ubuntu"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$", var.login_user))
    error_message = "login_user is not a login name."
  }
}

variable "login_key_file" {
  description = "Path, here, of your private key, the other half of ssh_key_name's. Null: the usual ones and the agent."
  type        = string
  default     = null

  validation {
    condition     = var.login_key_file == null ? true : fileexists(pathexpand(var.login_key_file))
    error_message = "login_key_file: there is no such file here."
  }
}

variable "host_key" {
  description = "The machine's public host key (ssh-ed25519 AAAA…; several on lines), where an image has a known one. Null: the machine proves its key by a nonce (docs/adr/0008)."
  type        = string
  default     = null

  validation {
    condition     = var.host_key == null ? true : can(regex("^(\\s*(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\n]*)?\\s*)+$", var.host_key))
    error_message = "host_key must be lines such as ssh-ed25519 AAAA…, as `cat /etc/ssh/ssh_host_ed25519_key.pub` prints them on the machine."
  }
}

variable "known_hosts_file" {
  description = "Where the machine's host key is kept, here, once it is known. Null: NAME.known_hosts beside your configuration."
  type        = string
  default     = null

  validation {
    condition     = var.known_hosts_file == null ? true : length(var.known_hosts_file) > 0
    error_message = "known_hosts_file must be a path, or null."
  }
}
