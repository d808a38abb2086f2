variable "region" {
  description = "AWS region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must look like eu-west-1."
  }
}

variable "name" {
  description = "Name of the group and of what belongs to it."
  type        = string
  default     = "beta9-gpu"
  nullable    = false
}

variable "pool_name" {
  description = "Pool that the machines join, exactly as in the gateway's configuration."
  type        = string
  nullable    = false
}

variable "gateway_host" {
  description = "Host that the workers dial: the gateway's."
  type        = string
  nullable    = false
}

variable "gateway_host_key_fingerprint" {
  description = "SHA256 fingerprint of its SSH host key: `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there."
  type        = string
  nullable    = false
}

variable "source_tarball" {
  description = "Where the machines fetch bootstrap and agent: address, #sha256= and the checksum that `make source` prints."
  type        = string
  nullable    = false
}

variable "secret_name" {
  description = "Secrets Manager secret that exists, a JSON object with the keys token and ssh_key."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9/_+=.@-]{1,512}$", var.secret_name))
    error_message = "secret_name is the name of a secret that exists, such as beta9/gpu; never the secret itself."
  }
}

variable "instance_types" {
  description = "Types that may be started, all with the same GPU model."
  type        = list(string)
  default     = ["g5.xlarge", "g5.2xlarge", "g5.4xlarge"]
  nullable    = false
}

variable "subnet_ids" {
  description = "Subnets of one VPC with a way out, one in each zone."
  type        = list(string)
  nullable    = false
}

variable "market" {
  description = "spot, on-demand, or the id of a capacity reservation."
  type        = string
  default     = "spot"
  nullable    = false
}

variable "machines" {
  description = "Machines to run now."
  type        = number
  default     = 1
  nullable    = false
}

variable "max_size" {
  description = "Most machines ever: what this can cost at most."
  type        = number
  default     = 2
  nullable    = false
}

variable "settings" {
  description = "More BETA9_* variables for the machines."
  type        = map(string)
  default     = {}
  nullable    = false
}
