# The agent's inputs are validated in ../user-data, where the rules can be tested without a provider.

variable "name" {
  description = "Name of the group, its launch template and its role; unique per pool and region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,29}$", var.name))
    error_message = "name '${var.name}' must be 1-30 letters, digits or '-', beginning with a letter: IAM's limit on role names leaves no room for more."
  }
}

variable "pool_name" {
  description = "Pool that the machines join, spelled exactly as in the gateway's configuration."
  type        = string
  nullable    = false
}

variable "provider_name" {
  description = "Provider name; must equal the pool's provider in the gateway's configuration. Null: the agent's default, generic."
  type        = string
  default     = null
}

variable "ssh_host" {
  description = "Gateway host that the workers connect to for their tunnel."
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
  description = "Source tarball with the bootstrap and the agent: its location followed by #sha256= and its checksum. Null: the last commit of this checkout, by way of a private S3 object."
  type        = string
  default     = null
}

variable "agent_image" {
  description = "The agent's image: a digest reference (registry/name@sha256:…), or the location of an archive with #sha256=. Null: built on the machine from the source tarball."
  type        = string
  default     = null
}

variable "token_ref" {
  description = "Reference to the machine token: secretsmanager://name#key or ssm:///name. The secret must exist; its value never enters the state."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssm|secretsmanager)://.+$", var.token_ref))
    error_message = "token_ref must be ssm:///name or secretsmanager://name#key: machines of a group start on their own and fetch the token, which is neither in user data nor in Terraform's state."
  }
}

variable "ssh_key_ref" {
  description = "Reference to the private key for the tunnel, in the same forms; best another key of the same secret."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(ssm|secretsmanager)://.+$", var.ssh_key_ref))
    error_message = "ssh_key_ref must be ssm:///name or secretsmanager://name#key: machines of a group start on their own and fetch the key, which is neither in user data nor in Terraform's state."
  }
}

variable "secret_kms_key_arn" {
  description = "ARN of the customer-managed KMS key that encrypts these secrets. Null: the AWS-managed key, which needs no permission."
  type        = string
  default     = null

  validation {
    condition     = var.secret_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", var.secret_kms_key_arn))
    error_message = "secret_kms_key_arn must be the ARN of a key (arn:aws:kms:…:key/…), not of an alias: IAM policies do not resolve aliases."
  }
}

variable "settings" {
  description = "Further BETA9_* variables for the machines, see docs/settings.md."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = contains(["", "1"], lookup(var.settings, "BETA9_DEADLINE_SCALE", ""))
    error_message = "settings: BETA9_DEADLINE_SCALE cannot be used here: the group terminates machines that are not ready after launch_timeout_s, of which EC2 Auto Scaling allows no more than the bootstrap's own deadlines take."
  }
}

variable "compress_user_data" {
  description = "Compress the user data, for settings that would otherwise exceed AWS's limit of 16 KB."
  type        = bool
  default     = false
  nullable    = false
}

variable "on_failure" {
  description = "What a machine does when its bootstrap fails: poweroff, which terminates it, or keep, for inspection until the launch hook terminates it."
  type        = string
  default     = "poweroff"
  nullable    = false
}

variable "market" {
  description = "How machines are bought: spot, on-demand, or the id of a capacity reservation (cr-…)."
  type        = string
  default     = "spot"
  nullable    = false

  validation {
    condition     = can(regex("^(spot|on-demand|cr-[0-9a-f]{8,17})$", var.market))
    error_message = "market must be spot, on-demand, or the id of a capacity reservation such as cr-0123456789abcdef0."
  }

  validation {
    condition     = !startswith(var.market, "cr-") || length(var.instance_types) == 1
    error_message = "market is a capacity reservation, which is for one instance type: list only that type in instance_types."
  }
}

variable "instance_types" {
  description = "Instance types to choose from, all with the same GPU model. More types make capacity cheaper and more reliable."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.instance_types) > 0 && length(distinct(var.instance_types)) == length(var.instance_types)
    error_message = "instance_types must list at least one type, and none twice."
  }

  validation {
    condition     = alltrue([for type in var.instance_types : can(local.gpu_of_family[split(".", type)[0]])])
    error_message = "instance_types: ${join("; ", [for type in var.instance_types : "${type}: ${try([for each in local.unfit_families : each.reason if can(regex(each.name, split(".", type)[0]))][0], "unknown GPU model")}" if !can(local.gpu_of_family[split(".", type)[0]])])}. Known families: ${join(", ", keys(local.gpu_of_family))}. Add newer families with more_gpu_families."
  }

  validation {
    condition     = alltrue([for type in var.instance_types : can(regex("^[a-z0-9-]+\\.(metal(-[0-9a-z]+)?|[0-9]*x?large)$", type))])
    error_message = "instance_types: ${join(", ", [for type in var.instance_types : type if !can(regex("^[a-z0-9-]+\\.(metal(-[0-9a-z]+)?|[0-9]*x?large)$", type))])} is not an instance type: give family and size, such as g5.xlarge."
  }

  validation {
    condition     = length(distinct([for type in var.instance_types : try(local.gpu_of_family[split(".", type)[0]], "unknown")])) <= 1
    error_message = "instance_types mixes GPU models (${join(", ", [for type in var.instance_types : "${type}: ${try(local.gpu_of_family[split(".", type)[0]], "unknown")}"])}). A pool has exactly one model, since jobs ask for it by name: create one group per model, each with its own pool."
  }
}

variable "more_gpu_families" {
  description = "GPU models of instance families that this module does not know yet, as family = model."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for family in keys(var.more_gpu_families) : alltrue([for each in local.unfit_families : !can(regex(each.name, family))])])
    error_message = "more_gpu_families: ${join("; ", flatten([for family in keys(var.more_gpu_families) : [for each in local.unfit_families : "${family}: ${each.reason}" if can(regex(each.name, family))]]))}. Machines of these families cannot become workers."
  }
}

variable "subnet_ids" {
  description = "Subnets of one VPC with internet access, ideally one in each availability zone that offers these types. Null: those of the region's default VPC."
  type        = list(string)
  default     = null

  validation {
    condition     = var.subnet_ids == null ? true : length(var.subnet_ids) > 0 && alltrue([for each in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", each))])
    error_message = "subnet_ids must list at least one subnet id (subnet-…). Use several zones, so that a shortage in one does not stop the group."
  }
}

variable "associate_public_ip_address" {
  description = "Assign public addresses to the machines. Null: the subnet's setting. Without a public address the subnet needs a NAT gateway."
  type        = bool
  default     = null
}

variable "security_group_ids" {
  description = "Additional security groups for the machines."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.security_group_ids : can(regex("^sg-[0-9a-f]+$", each))])
    error_message = "security_group_ids must be ids of security groups (sg-…), not names."
  }
}

variable "key_name" {
  description = "EC2 key pair for logging in to the machines. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.key_name == null ? true : can(regex("^\\S(.{0,253}\\S)?$", var.key_name))
    error_message = "key_name must be the name of a key pair in this region, or null."
  }
}

variable "ssh_ingress_cidr_blocks" {
  description = "CIDR blocks from which SSH to the machines is allowed; none by default."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for each in var.ssh_ingress_cidr_blocks : can(cidrhost(each, 0)) && !endswith(each, "/0")])
    error_message = "ssh_ingress_cidr_blocks must be CIDR blocks such as 192.0.2.7/32; /0 is not allowed."
  }
}

variable "min_size" {
  description = "Minimum number of machines."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.min_size >= 0 && floor(var.min_size) == var.min_size
    error_message = "min_size must be a whole number, 0 or more."
  }
}

variable "max_size" {
  description = "Maximum number of machines, which limits the cost."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.max_size >= var.min_size && floor(var.max_size) == var.max_size
    error_message = "max_size must be a whole number and at least min_size."
  }
}

variable "desired_size" {
  description = "Number of machines to run now. Null: left to your scaling policy, starting at min_size."
  type        = number
  default     = null

  validation {
    condition     = var.desired_size == null ? true : var.desired_size >= var.min_size && var.desired_size <= var.max_size && floor(var.desired_size) == var.desired_size
    error_message = "desired_size must be a whole number between min_size and max_size."
  }
}

variable "on_demand_base" {
  description = "Number of machines in a spot group that are bought on demand before any spot machine."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.on_demand_base >= 0 && floor(var.on_demand_base) == var.on_demand_base && var.on_demand_base <= var.max_size
    error_message = "on_demand_base must be a whole number from 0 to max_size; with market = \"on-demand\" no machine is spot."
  }
}

variable "capacity_rebalance" {
  description = "Let AWS replace spot machines at elevated risk of interruption. This terminates the old machine, and its jobs, once the new one is healthy, even if it would never have been reclaimed."
  type        = bool
  default     = false
  nullable    = false
}

variable "launch_timeout_s" {
  description = "Seconds that a machine has to become ready before it is terminated. Must exceed the sum of the bootstrap's deadlines."
  type        = number
  default     = 6300
  nullable    = false

  validation {
    condition     = var.launch_timeout_s >= 6100 && var.launch_timeout_s <= 7200 && floor(var.launch_timeout_s) == var.launch_timeout_s
    error_message = "launch_timeout_s must be 6100-7200: less could terminate machines that are still within the bootstrap's deadlines (a machine that misses one powers itself off anyway), and EC2 Auto Scaling allows no more."
  }
}

variable "termination_timeout_s" {
  description = "Seconds that a machine has to drain when the group scales in or is refreshed; it is terminated as soon as it has drained."
  type        = number
  default     = 180
  nullable    = false

  validation {
    condition     = var.termination_timeout_s >= 30 && var.termination_timeout_s <= 7200 && floor(var.termination_timeout_s) == var.termination_timeout_s
    error_message = "termination_timeout_s must be 30-7200, the range that EC2 Auto Scaling allows."
  }

  validation {
    # The time beyond the drain is for hearing of the termination and for the farewell.
    condition     = var.termination_timeout_s >= try(tonumber(trimsuffix(lookup(var.settings, "BETA9_DRAIN_TIMEOUT", "90"), "s")), 90) + 15
    error_message = "termination_timeout_s must exceed the time for draining (BETA9_DRAIN_TIMEOUT in settings, 90 s by default) by at least 15 s: otherwise the group ends machines whose work still drains."
  }
}

variable "replace_on_change" {
  description = "Replace machines in batches when the launch template changes. Jobs that do not finish while their machine drains are interrupted."
  type        = bool
  default     = true
  nullable    = false
}

variable "min_healthy_percentage" {
  description = "Percentage of the group that keeps working during a replacement."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.min_healthy_percentage >= 0 && var.min_healthy_percentage <= 100 && floor(var.min_healthy_percentage) == var.min_healthy_percentage
    error_message = "min_healthy_percentage must be a whole number, 0-100."
  }
}

variable "image_parameter" {
  description = "SSM parameter with the image id, which EC2 looks up whenever a machine starts."
  type        = string
  default     = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
  nullable    = false

  validation {
    condition     = can(regex("^/[A-Za-z0-9_./-]+(:[0-9]+)?$", var.image_parameter))
    error_message = "image_parameter must be the name of an SSM parameter beginning with /, optionally followed by :VERSION."
  }
}

variable "image_id" {
  description = "Fixed image id, used instead of image_parameter. Null: image_parameter."
  type        = string
  default     = null

  validation {
    condition     = var.image_id == null ? true : can(regex("^ami-[0-9a-f]+$", var.image_id))
    error_message = "image_id must look like ami-0123456789abcdef0."
  }
}

variable "root_device_name" {
  description = "Name of the image's root device."
  type        = string
  default     = "/dev/sda1"
  nullable    = false

  validation {
    condition     = can(regex("^/dev/(sd[a-z]|xvd[a-z])[0-9]*$", var.root_device_name))
    error_message = "root_device_name must be the image's root device: /dev/sda1 for Ubuntu, /dev/xvda for Debian. With another name the machine gets a second disk, and its root stays as small as the image."
  }
}

variable "root_volume_gib" {
  description = "Size of the root volume in GiB, at least that of the image."
  type        = number
  default     = 200
  nullable    = false

  validation {
    condition     = var.root_volume_gib >= 50 && var.root_volume_gib <= 16384 && floor(var.root_volume_gib) == var.root_volume_gib
    error_message = "root_volume_gib must be a whole number, 50-16384: drivers, images and k3s need space."
  }
}

variable "volume_kms_key_arn" {
  description = "ARN of the KMS key for the root volume, which is always encrypted. Null: the account's default EBS key."
  type        = string
  default     = null

  validation {
    condition     = var.volume_kms_key_arn == null ? true : can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]+$", var.volume_kms_key_arn))
    error_message = "volume_kms_key_arn must be the ARN of a key (arn:aws:kms:…:key/…)."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of a permissions boundary for the role, if your organisation requires one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:[a-z-]+:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of a policy (arn:aws:iam::…:policy/…)."
  }
}

variable "tags" {
  description = "Tags for all resources and for every machine."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : !startswith(lower(key), "aws:") && length(key) >= 1 && length(key) <= 128 && length(value) <= 256]) && length(var.tags) <= 48
    error_message = "tags: AWS allows 50 per resource (this module uses two), keys of 1-128 characters that do not begin with aws:, and values of up to 256."
  }
}
