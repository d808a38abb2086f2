# Conditions and validation rules, tested against mocks: no account, no network; only the provider's schema is used.

mock_provider "aws" {
  mock_data "aws_region" {
    defaults = { id = "eu-west-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-0123456789abcdef0", cidr_block = "172.31.0.0/20" }
  }
  mock_data "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:beta9/gpu-AbCdEf" }
  }
}

variables {
  name                     = "beta9-gpu"
  pool_name                = "gpu"
  ssh_host                 = "gateway.example.com"
  ssh_host_key_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
  source_tarball           = "https://example.com/beta9-worker.tar.gz#sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  token_ref                = "secretsmanager://beta9/gpu#token"
  ssh_key_ref              = "secretsmanager://beta9/gpu#ssh_key"
  instance_types           = ["g6.xlarge", "gr6.4xlarge"]
  subnet_ids               = ["subnet-0123456789abcdef0"]
}

run "two_families_with_the_same_gpu_may_be_mixed" {
  command = plan

  assert {
    condition     = output.gpu_model == "L4"
    error_message = output.gpu_model
  }
  assert {
    condition     = aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 0
    error_message = "the default is spot"
  }
  assert {
    condition     = length(data.aws_secretsmanager_secret.named) == 1
    error_message = "two keys of the same secret are looked up once"
  }
}

run "part_of_a_spot_group_may_be_on_demand" {
  command = plan

  variables {
    max_size       = 4
    on_demand_base = 2
  }
  assert {
    condition     = aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_base_capacity == 2
    error_message = "expected two machines on demand and the rest on spot"
  }
}

run "market_on_demand_buys_no_spot" {
  command = plan

  variables {
    market         = "on-demand"
    on_demand_base = 1
  }
  assert {
    condition     = aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 100
    error_message = "expected all machines on demand"
  }
  assert {
    condition     = length(aws_launch_template.worker.capacity_reservation_specification) == 0
    error_message = "no reservation was requested"
  }
}

run "market_may_be_a_capacity_reservation" {
  command = plan

  variables {
    market         = "cr-0123456789abcdef0"
    instance_types = ["p5.48xlarge"]
  }
  assert {
    condition     = aws_launch_template.worker.capacity_reservation_specification[0].capacity_reservation_target[0].capacity_reservation_id == "cr-0123456789abcdef0"
    error_message = "the reservation's id is missing from the launch template"
  }
}

run "ssm_parameters_are_referenced_not_read" {
  command = plan

  variables {
    token_ref          = "ssm:///beta9/gpu/token"
    ssh_key_ref        = "ssm://ssh-key"
    secret_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
  }
  assert {
    condition = toset(local.parameter_arns) == toset([
      "arn:aws:ssm:eu-west-1:123456789012:parameter/beta9/gpu/token",
      "arn:aws:ssm:eu-west-1:123456789012:parameter/ssh-key",
    ])
    error_message = join(", ", local.parameter_arns)
  }
  assert {
    condition     = length(data.aws_secretsmanager_secret.named) == 0
    error_message = "no secret needs to be looked up"
  }
}

run "ssh_is_allowed_only_from_the_given_blocks" {
  command = plan

  variables {
    ssh_ingress_cidr_blocks = ["192.0.2.7/32"]
    key_name                = "ops"
  }
  assert {
    condition     = one(aws_security_group.worker.ingress).from_port == 22 && one(aws_security_group.worker.ingress).cidr_blocks == tolist(["192.0.2.7/32"])
    error_message = "expected port 22 only, from the given block only"
  }
}

run "instance_refresh_can_be_turned_off" {
  command = plan

  variables {
    replace_on_change = false
  }
  assert {
    condition     = length(aws_autoscaling_group.workers.instance_refresh) == 0
    error_message = "expected no instance refresh"
  }
}

run "an_unlisted_family_can_be_added" {
  command = plan

  variables {
    instance_types    = ["g9x.xlarge"]
    more_gpu_families = { g9x = "N9" }
  }
  assert {
    condition     = output.gpu_model == "N9"
    error_message = output.gpu_model
  }
}

run "mixed_gpu_models_are_refused" {
  command = plan

  variables {
    instance_types = ["g5.xlarge", "g6.xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "a_gpu_older_than_turing_is_refused" {
  command = plan

  variables {
    instance_types = ["p3.2xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "a_fractional_gpu_is_refused" {
  command = plan

  variables {
    instance_types = ["g6f.xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "a_duplicate_type_is_refused" {
  command = plan

  variables {
    instance_types = ["g6.xlarge", "g6.xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "an_empty_list_of_types_is_refused" {
  command = plan

  variables {
    instance_types = []
  }
  expect_failures = [var.instance_types]
}

run "an_unknown_market_is_refused" {
  command = plan

  variables {
    market = "cheap"
  }
  expect_failures = [var.market]
}

run "a_reservation_for_two_types_is_refused" {
  command = plan

  variables {
    market = "cr-0123456789abcdef0"
  }
  expect_failures = [var.market]
}

run "a_name_too_long_for_a_role_is_refused" {
  command = plan

  variables {
    name = "a-name-of-more-than-thirty-characters"
  }
  expect_failures = [var.name]
}

run "a_plain_token_is_refused" {
  command = plan

  variables {
    token_ref = "c2VjcmV0"
  }
  expect_failures = [var.token_ref]
}

run "a_local_key_file_is_refused" {
  command = plan

  variables {
    ssh_key_ref = "/home/me/.ssh/id_ed25519"
  }
  expect_failures = [var.ssh_key_ref]
}

run "a_kms_alias_is_refused" {
  command = plan

  variables {
    secret_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/mine"
  }
  expect_failures = [var.secret_kms_key_arn]
}

run "an_empty_list_of_subnets_is_refused" {
  command = plan

  variables {
    subnet_ids = []
  }
  expect_failures = [var.subnet_ids]
}

run "ssh_from_anywhere_is_refused" {
  command = plan

  variables {
    ssh_ingress_cidr_blocks = ["0.0.0.0/0"]
  }
  expect_failures = [var.ssh_ingress_cidr_blocks]
}

run "desired_size_above_max_size_is_refused" {
  command = plan

  variables {
    desired_size = 2
  }
  expect_failures = [var.desired_size]
}

run "max_size_below_min_size_is_refused" {
  command = plan

  variables {
    min_size = 2
  }
  expect_failures = [var.max_size]
}

run "a_launch_timeout_below_the_bootstrap_deadlines_is_refused" {
  command = plan

  variables {
    launch_timeout_s = 600
  }
  expect_failures = [var.launch_timeout_s]
}

run "an_invalid_image_id_is_refused" {
  command = plan

  variables {
    image_id = "ubuntu"
  }
  expect_failures = [var.image_id]
}
