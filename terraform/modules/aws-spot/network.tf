# No inbound traffic, since the worker connects outwards; SSH only from the addresses given, if any.

data "aws_subnet" "first" {
  id = var.subnet_ids[0]
}

resource "aws_security_group" "worker" {
  # checkov:skip=CKV_AWS_382: user workloads run here and may call anything; restrict what a pool may reach in the VPC
  name_prefix = "${var.name}-"
  description = "Workers of the Beta9 pool ${var.pool_name}: they dial out"
  vpc_id      = data.aws_subnet.first.vpc_id
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
  }
}
