# Nothing comes in: the worker dials out. SSH from addresses that are named, if any are.

data "aws_subnet" "first" {
  id = var.subnet_ids[0]
}

resource "aws_security_group" "worker" {
  # checkov:skip=CKV_AWS_382: users' work runs here and may call anything; what a pool may reach is the VPC's decision
  name_prefix = "${var.name}-"
  description = "Workers of the Beta9 pool ${var.pool_name}: they dial out"
  vpc_id      = data.aws_subnet.first.vpc_id
  tags        = local.tags

  egress {
    description = "SSH to the gateway, packages, images, and what the work of the pool calls"
    from_port   = 0
    to_port     = 0
    protocol    = "-1"
    cidr_blocks = ["0.0.0.0/0"]
  }

  dynamic "ingress" {
    for_each = length(var.ssh_ingress_cidr_blocks) > 0 ? [1] : []

    content {
      description = "SSH, for a look at the machine"
      from_port   = 22
      to_port     = 22
      protocol    = "tcp"
      cidr_blocks = var.ssh_ingress_cidr_blocks
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}
