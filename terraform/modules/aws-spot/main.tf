# An Auto Scaling group of GPU machines that join a Beta9 pool automatically.

locals {
  tags = merge({ Name = var.name }, var.tags, { "beta9:pool" = var.pool_name })

  on_demand      = var.market != "spot"
  reservation_id = startswith(var.market, "cr-") ? [var.market] : []

  # Hooks that the agent completes once it is ready and once it has drained. The settings prefix the group's name.
  launch_hook      = "beta9-launch"
  termination_hook = "beta9-termination"

  hooks = {
    # A machine that does not become ready in time is terminated; until then the group does not count it as in service.
    (local.launch_hook) = {
      transition = "autoscaling:EC2_INSTANCE_LAUNCHING"
      default    = "ABANDON"
      seconds    = var.launch_timeout_s
    }
    # Time to drain when the group scales in or is refreshed. A reclaimed spot machine gets two minutes in any case.
    (local.termination_hook) = {
      transition = "autoscaling:EC2_INSTANCE_TERMINATING"
      default    = "CONTINUE"
      seconds    = var.termination_timeout_s
    }
  }
}

module "user_data" {
  source = "../user-data"

  cloud                    = "aws"
  compress                 = var.compress_user_data
  pool_name                = var.pool_name
  provider_name            = var.provider_name
  ssh_host                 = var.ssh_host
  ssh_port                 = var.ssh_port
  ssh_user                 = var.ssh_user
  ssh_host_key_fingerprint = var.ssh_host_key_fingerprint
  ssh_host_key_file        = var.ssh_host_key_file
  source_tarball           = local.source_tarball
  agent_image              = var.agent_image
  token_ref                = var.token_ref
  ssh_key_ref              = var.ssh_key_ref
  on_failure               = var.on_failure
  allow_plain_secrets      = false
  networks                 = compact(local.subnets[*].cidr_block)
  settings = merge(var.settings, {
    BETA9_AWS_LAUNCH_HOOK      = "${var.name}/${local.launch_hook}"
    BETA9_AWS_TERMINATION_HOOK = "${var.name}/${local.termination_hook}"
  })
}

resource "aws_launch_template" "worker" {
  name        = var.name
  description = "GPU worker of the Beta9 pool ${var.pool_name}"

  image_id      = coalesce(var.image_id, "resolve:ssm:${var.image_parameter}")
  instance_type = var.instance_types[0]
  key_name      = var.key_name
  user_data     = module.user_data.user_data_base64
  ebs_optimized = true

  # Lets a machine stop its own charges: powering off terminates it.
  instance_initiated_shutdown_behavior = "terminate"
  update_default_version               = true

  iam_instance_profile {
    arn = aws_iam_instance_profile.worker.arn
  }

  # IMDSv2 only. One hop keeps container networks out; the agent's container uses the host's network.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = var.root_device_name

    ebs {
      volume_type           = "gp3"
      volume_size           = var.root_volume_gib
      encrypted             = true
      kms_key_id            = var.volume_kms_key_arn
      delete_on_termination = true
    }
  }

  network_interfaces {
    associate_public_ip_address = var.associate_public_ip_address
    delete_on_termination       = true
    security_groups             = concat([aws_security_group.worker.id], var.security_group_ids)
  }

  dynamic "capacity_reservation_specification" {
    for_each = local.reservation_id

    content {
      capacity_reservation_target {
        capacity_reservation_id = capacity_reservation_specification.value
      }
    }
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = local.tags
    }
  }

  tags = local.tags
}

resource "aws_autoscaling_group" "workers" {
  name                = var.name
  vpc_zone_identifier = local.subnets[*].id
  min_size            = var.min_size
  max_size            = var.max_size
  desired_capacity    = var.desired_size
  health_check_type   = "EC2"

  # Off by default: rebalancing terminates the old machine as soon as the new one is healthy, even if it would never
  # have been reclaimed, and interrupts its jobs. The agent sees the recommendation itself and takes no new work.
  capacity_rebalance = var.capacity_rebalance

  # Rebalancing the zones would terminate machines that are running jobs.
  suspended_processes = ["AZRebalance"]

  # Do not wait: a machine takes many minutes to become ready, and spot capacity may be missing for hours.
  wait_for_capacity_timeout = "0"

  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = local.on_demand ? 0 : var.on_demand_base
      on_demand_percentage_above_base_capacity = local.on_demand ? 100 : 0
      spot_allocation_strategy                 = "price-capacity-optimized"
    }

    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.worker.id
        version            = tostring(aws_launch_template.worker.latest_version)
      }

      dynamic "override" {
        for_each = var.instance_types

        content {
          instance_type = override.value
        }
      }
    }
  }

  # Initial hooks exist before the first machine starts but cannot be changed later; the resources below manage the same
  # hooks from then on.
  dynamic "initial_lifecycle_hook" {
    for_each = local.hooks

    content {
      name                 = initial_lifecycle_hook.key
      lifecycle_transition = initial_lifecycle_hook.value.transition
      default_result       = initial_lifecycle_hook.value.default
      heartbeat_timeout    = initial_lifecycle_hook.value.seconds
    }
  }

  # A new launch template version replaces the machines in batches; each drains first.
  dynamic "instance_refresh" {
    for_each = var.replace_on_change ? [1] : []

    content {
      strategy = "Rolling"

      preferences {
        min_healthy_percentage = var.min_healthy_percentage
        instance_warmup        = "0"
      }
    }
  }

  dynamic "tag" {
    for_each = local.tags

    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = false # the launch template tags machines and their volumes
    }
  }

  # Without the role's policy the first machines could not fetch their secret.
  depends_on = [aws_iam_role_policy.worker]
}

resource "aws_autoscaling_lifecycle_hook" "worker" {
  for_each = local.hooks

  name                   = each.key
  autoscaling_group_name = aws_autoscaling_group.workers.name
  lifecycle_transition   = each.value.transition
  default_result         = each.value.default
  heartbeat_timeout      = each.value.seconds
}
