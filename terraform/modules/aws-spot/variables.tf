# The agent's own inputs are checked in ../user-data, where their rules can be tried without a provider.

variable "name" {
  description = "Name of the group, its launch template and its role; one per pool and region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,29}$", var.name))
    error_message = "name '${var.name}' must be 1-30 letters, digits or '-', beginning with a letter: IAM's names leave no more."
  }
}

variable "pool_name" {
  description = "Pool that the machines join, exactly as in the gateway's configuration."
  type        = string
  nullable    = false
}

variable "provider_name" {
  description = "Must equal the pool's provider in the gateway's configuration. Null: generic."
  type        = string
  default     = null
}

variable "ssh_host" {
  description = "Host that the workers dial for their tunnel."
  type        = string
  nullable    = false
}

variable "ssh_port" {
  description = "SSH port of that host. Null: 22."
  type        = number
  default     = null
}

variable "ssh_user" {
  description = "Tunnel-only user on that host. Null: beta9-tunnel."
  type        = string
  default     = null
}

variable "ssh_host_key_fingerprint" {
  description = "SHA256 fingerprint of that host's key; several with commas."
  type        = string
  default     = null
}

variable "source_tarball" {
  description = "Source tarball with bootstrap and agent: its location, #sha256= and its checksum."
  type        = string
  default     = null
}

variable "agent_image" {
  description = "The agent's image, by digest, or an archive's location with #sha256=. Null: built on the machine."
  type        = string
  default     = null
}

variable "token_ref" {
  description = "Where the machine's token is: secretsmanager://name#key or ssm:///name. It must exist; its value never enters the state."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssm|secretsmanager)://.+$", var.token_ref))
    error_message = "token_ref must be ssm:///name or secretsmanager://name#key: here machines come and go by themselves, so they fetch their token, and it stands neither in user data nor in Terraform's state."
  }
}

variable "ssh_key_ref" {
  description = "Where the private key for the tunnel is, in the same ways; another key of the same secret, best."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssm|secretsmanager)://.+$", var.ssh_key_ref))
    error_message = "ssh_key_ref must be ssm:///name or secretsmanager://name#key: here machines come and go by themselves, so they fetch their key, and it stands neither in user data nor in Terraform's state."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the customer-managed key that these entries are encrypted with. Null: AWS's own key, which needs no permission."
  type        = string
  default     = null

  validation {
    condition     = var.secret_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.secret_kms_key_arn))
    error_message = "secret_kms_key_arn must be a key's ARN (arn:aws:kms:…:key/…), no alias: policies do not follow aliases."
  }
}

variable "settings" {
  description = "More BETA9_* variables for the machines, as docs/settings.md has them."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "compress_user_data" {
  description = "Compress the user data: for settings that do not fit AWS's 16 KB otherwise."
  type        = bool
  default     = false
  nullable    = false
}

variable "on_failure" {
  description = "What a machine does whose bootstrap failed: poweroff, which ends it, or keep, for a look at it until the launch hook ends it."
  type        = string
  default     = "poweroff"
  nullable    = false
}

variable "market" {
  description = "What machines are bought as: spot, on-demand, or the id of a capacity reservation (cr-…)."
  type        = string
  default     = "spot"
  nullable    = false

  validation {
    condition     = can(regex("^(spot|on-demand|cr-[0-9a-f]{8,17})$", var.market))
    error_message = "market must be spot, on-demand, or a capacity reservation's id such as cr-0123456789abcdef0."
  }

  validation {
    condition     = !startswith(var.market, "cr-") || length(var.instance_types) == 1
    error_message = "market names a capacity reservation, and a reservation is for one instance type: give just that one in instance_types."
  }
}

variable "instance_types" {
  description = "Types that may be started, all with the same GPU model: the more, the cheaper and the more certain."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.instance_types) > 0 && length(distinct(var.instance_types)) == length(var.instance_types)
    error_message = "instance_types must name at least one type, and none twice."
  }

  validation {
    condition     = alltrue([for type in var.instance_types : can(local.gpu_of_family[split(".", type)[0]])])
    error_message = "instance_types: no GPU model is known for ${join(", ", [for type in var.instance_types : type if !can(local.gpu_of_family[split(".", type)[0]])])}. Known families: ${join(", ", keys(local.gpu_of_family))}. A newer one can be added by more_gpu_families; parts of a GPU, arm64 and GPUs older than Turing cannot serve."
  }

  validation {
    condition     = length(distinct([for type in var.instance_types : try(local.gpu_of_family[split(".", type)[0]], "unknown")])) <= 1
    error_message = "instance_types mixes GPU models (${join(", ", [for type in var.instance_types : "${type}: ${try(local.gpu_of_family[split(".", type)[0]], "unknown")}"])}). A pool has one: whoever asks it for that GPU must get it. Make a group for each model, each with a pool of its own."
  }
}

variable "more_gpu_families" {
  description = "GPU models of instance families that this module does not know yet: family = model."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "subnet_ids" {
  description = "Subnets of one VPC with a way out, best one in each zone that has these types."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for each in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", each))])
    error_message = "subnet_ids must name at least one subnet, as subnet-…; without several zones a shortage in one is a shortage of all."
  }
}

variable "associate_public_ip_address" {
  description = "Give machines a public address. Null: as their subnet says. Without one the subnet needs a NAT gateway."
  type        = bool
  default     = null
}

variable "security_group_ids" {
  description = "More security groups for the machines."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "key_name" {
  description = "EC2 key pair for a look at the machines; by default there is none."
  type        = string
  default     = null
}

variable "ssh_ingress_cidr_blocks" {
  description = "From where SSH to the machines is let in; by default from nowhere."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.ssh_ingress_cidr_blocks : can(cidrhost(each, 0)) && !endswith(each, "/0")])
    error_message = "ssh_ingress_cidr_blocks must be blocks such as 192.0.2.7/32; the whole world is not let in."
  }
}

variable "min_size" {
  description = "Fewest machines."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_size >= 0 && floor(var.min_size) == var.min_size
    error_message = "min_size must be a whole number from 0."
  }
}

variable "max_size" {
  description = "Most machines: what this can cost at most."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.max_size >= var.min_size && floor(var.max_size) == var.max_size
    error_message = "max_size must be a whole number, and not below min_size."
  }
}

variable "desired_size" {
  description = "Machines to run now. Null: left to whoever scales the group; min_size at first."
  type        = number
  default     = null

  validation {
    condition     = var.desired_size == null ? true : var.desired_size >= var.min_size && var.desired_size <= var.max_size
    error_message = "desired_size must lie between min_size and max_size."
  }
}

variable "on_demand_base" {
  description = "How many machines of a spot group are bought on demand, before any spot machine."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.on_demand_base >= 0 && floor(var.on_demand_base) == var.on_demand_base
    error_message = "on_demand_base must be a whole number from 0."
  }
}

variable "capacity_rebalance" {
  description = "Let AWS replace machines that it thinks at risk. Ends the old machine when the new one is healthy, and cuts its jobs, also where the market would have spared it."
  type        = bool
  default     = false
  nullable    = false
}

variable "launch_timeout_s" {
  description = "Seconds that a machine has to become ready, before it is ended. Longer than all deadlines of the bootstrap together."
  type        = number
  default     = 6300
  nullable    = false

  validation {
    condition     = var.launch_timeout_s >= 5700 && var.launch_timeout_s <= 7200
    error_message = "launch_timeout_s must be 5700-7200: less could end machines whose bootstrap is still within its deadlines (one that misses a deadline powers itself off sooner), more EC2 Auto Scaling does not take."
  }
}

variable "termination_timeout_s" {
  description = "Seconds that a machine has to drain when the group shrinks or is renewed; it is let go as soon as it has."
  type        = number
  default     = 180
  nullable    = false

  validation {
    condition     = var.termination_timeout_s >= 30 && var.termination_timeout_s <= 7200
    error_message = "termination_timeout_s must be 30-7200: what EC2 Auto Scaling takes."
  }
}

variable "replace_on_change" {
  description = "Replace machines, a share at a time, when the launch template changes. Work that does not end while its machine drains is cut."
  type        = bool
  default     = true
  nullable    = false
}

variable "min_healthy_percentage" {
  description = "Share of the group, in percent, that keeps working meanwhile."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.min_healthy_percentage >= 0 && var.min_healthy_percentage <= 100
    error_message = "min_healthy_percentage must be 0-100."
  }
}

variable "image_parameter" {
  description = "SSM parameter that holds the image's id, looked up by EC2 whenever a machine starts."
  type        = string
  default     = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
  nullable    = false

  validation {
    condition     = can(regex("^/[A-Za-z0-9_./-]+(:[0-9]+)?$", var.image_parameter))
    error_message = "image_parameter must be a parameter's name beginning with /, and may end with :VERSION."
  }
}

variable "image_id" {
  description = "An image's id instead, for one that must not change by itself."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null ? true : can(regex("^ami-[0-9a-f]+$", var.image_id))
    error_message = "image_id must look like ami-0123456789abcdef0."
  }
}

variable "root_device_name" {
  description = "The image's root device."
  type        = string
  default     = "/dev/sda1"
  nullable    = false
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB; not smaller than the image's own."
  type        = number
  default     = 200
  nullable    = false

  validation {
    condition     = var.root_volume_gib >= 50 && var.root_volume_gib <= 16384
    error_message = "root_volume_gib must be 50-16384: drivers, images and k3s need room."
  }
}

variable "volume_kms_key_arn" {
  description = "Key for the root volume. Null: the account's default key for EBS; it is encrypted in any case."
  type        = string
  default     = null
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the role, where an organisation asks for one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for all that is made, and for every machine."
  type        = map(string)
  default     = {}
  nullable    = false
}
