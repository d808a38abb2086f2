variable "machine" {
  description = "Identity of the machine, such as its id. When it changes, the secrets are sent again."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.machine) > 0
    error_message = "machine must not be empty."
  }
}

variable "host" {
  description = "The machine's address or name. Null: looked up at Lambda's API by lambda_instance_id."
  type        = string
  default     = null

  validation {
    condition     = (var.host == null) != (var.lambda_instance_id == null)
    error_message = "Set either host or lambda_instance_id."
  }

  validation {
    condition     = var.host == null ? true : can(regex("^[0-9A-Za-z_][0-9A-Za-z_.:-]*$", var.host))
    error_message = "host is not a host name or IP address: leave out user and port (set login_user, login_port)."
  }
}

variable "lambda_instance_id" {
  description = "Id of a machine at Lambda. Its address is read from the API once it is active."
  type        = string
  default     = null

  validation {
    condition     = var.lambda_instance_id == null ? true : can(regex("^[0-9A-Za-z-]{8,64}$", var.lambda_instance_id))
    error_message = "lambda_instance_id is not a machine id."
  }
}

variable "lambda_api_url" {
  description = "URL of Lambda's API; see ../lambda-ending."
  type        = string
  default     = null

  validation {
    condition     = var.lambda_api_url == null ? true : can(regex("^https?://", var.lambda_api_url))
    error_message = "lambda_api_url must be an address such as https://cloud.lambda.ai/api/v1."
  }
}

variable "login_user" {
  description = "User that may log in to the machine and become root there without a password."
  type        = string
  default     = "ubuntu"
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
    condition     = var.login_port >= 1 && var.login_port <= 65535 && floor(var.login_port) == var.login_port
    error_message = "login_port must be a whole number from 1 to 65535."
  }
}

variable "login_key_file" {
  description = "Local path of the private key to log in with. Null: ssh's default keys and the SSH agent."
  type        = string
  default     = null

  validation {
    condition     = var.login_key_file == null ? true : fileexists(pathexpand(var.login_key_file))
    error_message = "login_key_file: no such local file."
  }
}

variable "host_key" {
  description = "The machine's public host key (ssh-ed25519 AAAA…, one per line). Null: the nonce is used."
  type        = string
  default     = null

  validation {
    condition     = var.host_key != null || var.nonce != null || var.trust_known_hosts
    error_message = "Set host_key or nonce: without either, the machine that receives the secrets cannot be verified."
  }

  validation {
    condition     = var.host_key == null ? true : can(regex("^(\\s*(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*( [^\\n]*)?\\s*)+$", var.host_key))
    error_message = "host_key must be lines such as ssh-ed25519 AAAA…, as printed on the machine by `cat /etc/ssh/ssh_host_ed25519_key.pub`."
  }
}

variable "trust_known_hosts" {
  description = "Without host_key and nonce: accept the machine's key in your own ~/.ssh/known_hosts."
  type        = bool
  default     = false
  nullable    = false
}

variable "nonce" {
  description = "Value of BETA9_HOST_KEY_NONCE in the machine's user data, unique to this launch. It grants no access; it only distinguishes the machine from a man in the middle, once."
  type        = string
  default     = null

  validation {
    condition     = var.nonce == null ? true : can(regex("^[0-9A-Za-z-]{32,128}$", var.nonce))
    error_message = "nonce must be 32-128 letters, digits or '-', impossible to guess: use uuid()."
  }
}

variable "known_hosts_file" {
  description = "Local file in which the machine's host key is kept once it is known."
  type        = string
  nullable    = false

  validation {
    condition     = length(var.known_hosts_file) > 0
    error_message = "known_hosts_file must be a path, not empty."
  }
}

variable "token_file" {
  description = "Local path of a file with the machine token. Null: the secrets are not sent."
  type        = string
  default     = null

  validation {
    condition     = (var.token_file == null) == (var.tunnel_key_file == null)
    error_message = "Set both token_file and tunnel_key_file, or neither: the machine needs both before it can join."
  }

  validation {
    condition     = var.token_file != null || var.source_tarball != null
    error_message = "Set token_file and tunnel_key_file, source_tarball, or all of them: otherwise there is nothing to send."
  }

  validation {
    condition     = var.token_file == null ? true : fileexists(pathexpand(var.token_file))
    error_message = "token_file: no such local file. Save the token printed by `beta9 machine create` to a file that only you can read (umask 077)."
  }
}

variable "tunnel_key_file" {
  description = "Local path of the private key for the tunnel to the gateway host. Null: as for token_file."
  type        = string
  default     = null

  validation {
    condition     = var.tunnel_key_file == null ? true : fileexists(pathexpand(var.tunnel_key_file))
    error_message = "tunnel_key_file: no such local file. It must be the private key authorized on the gateway host (docs/ssh-tunnel.md)."
  }
}

variable "source_tarball" {
  description = "Source tarball to send, as in the output of ../source. Null: the machine gets it elsewhere."
  type        = object({ sha256 = string, commit = string, file = string, location = string })
  default     = null
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

variable "revision" {
  description = "Increase it to send the secrets again after the files have changed."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = floor(var.revision) == var.revision
    error_message = "revision must be a whole number."
  }
}

variable "timeout_s" {
  description = "Seconds to wait for the machine: first until it is active, then again until it accepts the SSH login."
  type        = number
  default     = 1800
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 7200
    error_message = "timeout_s must be from 1 to 7200."
  }
}
