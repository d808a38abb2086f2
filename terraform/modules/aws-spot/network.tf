# No inbound traffic, since the worker connects outwards; SSH only from the addresses given, if any.

# Not for_each, so that the ids may come from a VPC of the same apply.
data "aws_subnet" "given" {
  count = var.subnet_ids == null ? 0 : length(var.subnet_ids)

  id = var.subnet_ids[count.index]
}

# Without given ones: the default VPC's, one in each availability zone of the region.
data "aws_availability_zones" "regular" {
  count = var.subnet_ids == null ? 1 : 0

  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_subnet" "default" {
  for_each = toset(flatten(data.aws_availability_zones.regular[*].names))

  availability_zone = each.value
  default_for_az    = true
}

locals {
  subnets = concat(data.aws_subnet.given, values(data.aws_subnet.default))
}

resource "aws_security_group" "worker" {
  # checkov:skip=CKV_AWS_382: user workloads run here and may call anything; restrict what a pool may reach in the VPC
  name_prefix = "${var.name}-"
  description = "Workers of the Beta9 pool ${var.pool_name}: they dial out"
  vpc_id      = local.subnets[0].vpc_id
  tags        = local.tags

  egress {
    description = "SSH to the gateway, packages, images, and what the pool workloads call"
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }

  dynamic "ingress" {
    for_each = length(var.ssh_ingress_cidr_blocks) > 0 ? [1] : []

    content {
      description = "SSH for inspecting the machine"
      from_port   = 22
      to_port     = 22
      protocol    = "tcp"
      cidr_blocks = var.ssh_ingress_cidr_blocks
    }
  }

  lifecycle {
    create_before_destroy = true

    precondition {
      condition     = length(distinct(local.subnets[*].vpc_id)) == 1
      error_message = "subnet_ids belong to more than one VPC (${join(", ", distinct(local.subnets[*].vpc_id))}): a group and its security group are in one."
    }
  }
}
