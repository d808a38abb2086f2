variable "region" {
  description = "AWS region. Null: that of your profile or of AWS_REGION."
  type        = string
  default     = null

  validation {
    condition     = var.region == null ? true : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be an AWS region such as eu-west-1."
  }
}

variable "name" {
  description = "Name of the Auto Scaling group and of its other resources."
  type        = string
  default     = "beta9-gpu"
  nullable    = false
}

variable "pool_name" {
  description = "Pool that the machines join, spelled exactly as in the gateway's configuration."
  type        = string
  nullable    = false
}

variable "gateway_host" {
  description = "Gateway host that the workers connect to."
  type        = string
  nullable    = false
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

variable "source_tarball" {
  description = "Source tarball with the bootstrap and the agent: https://… followed by #sha256= and its checksum (`make source` prints it). Null: the last commit of this checkout."
  type        = string
  default     = null
}

variable "secret_name" {
  description = "Name of an existing Secrets Manager secret: a JSON object with the keys token and ssh_key. Null: beta9/ and the pool's name."
  type        = string
  default     = null

  validation {
    condition     = var.secret_name == null ? true : can(regex("^[A-Za-z0-9/_+=.@-]{1,512}$", var.secret_name))
    error_message = "secret_name must be the name of an existing secret, such as beta9/gpu, never the secret itself."
  }
}

variable "instance_types" {
  description = "Instance types to choose from, all with the same GPU model."
  type        = list(string)
  default     = ["g5.xlarge", "g5.2xlarge", "g5.4xlarge"]
  nullable    = false
}

variable "subnet_ids" {
  description = "Subnets of one VPC with internet access, one per availability zone. Null: those of the default VPC."
  type        = list(string)
  default     = null
}

variable "market" {
  description = "How machines are bought: spot, on-demand, or the id of a capacity reservation."
  type        = string
  default     = "spot"
  nullable    = false
}

variable "machines" {
  description = "Number of machines to run now."
  type        = number
  default     = 1
  nullable    = false
}

variable "max_size" {
  description = "Maximum number of machines, which limits the cost."
  type        = number
  default     = 2
  nullable    = false
}

variable "settings" {
  description = "Further BETA9_* variables for the machines, see docs/settings.md."
  type        = map(string)
  default     = {}
  nullable    = false
}
