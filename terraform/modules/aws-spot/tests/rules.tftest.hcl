# Conditions and rules, against mocks: no account, no network; the provider is only asked for its schema.

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

run "types_of_two_families_with_one_gpu_go_together" {
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
    error_message = "two keys of one secret are one secret"
  }
}

run "some_of_a_spot_group_may_be_on_demand" {
  command = plan

  variables {
    max_size       = 4
    on_demand_base = 2
  }
  assert {
    condition     = aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_base_capacity == 2
    error_message = "two on demand, the rest spot"
  }
}

run "one_variable_makes_it_on_demand" {
  command = plan

  variables {
    market         = "on-demand"
    on_demand_base = 1
  }
  assert {
    condition     = aws_autoscaling_group.workers.mixed_instances_policy[0].instances_distribution[0].on_demand_percentage_above_base_capacity == 100
    error_message = "all on demand"
  }
  assert {
    condition     = length(aws_launch_template.worker.capacity_reservation_specification) == 0
    error_message = "no reservation was named"
  }
}

run "or_takes_a_reservation" {
  command = plan

  variables {
    market         = "cr-0123456789abcdef0"
    instance_types = ["p5.48xlarge"]
  }
  assert {
    condition     = aws_launch_template.worker.capacity_reservation_specification[0].capacity_reservation_target[0].capacity_reservation_id == "cr-0123456789abcdef0"
    error_message = "the reservation's id"
  }
}

run "parameters_are_named_not_read" {
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
    error_message = "there is no secret to look up"
  }
}

run "ssh_is_let_in_only_from_where_it_is_told" {
  command = plan

  variables {
    ssh_ingress_cidr_blocks = ["192.0.2.7/32"]
    key_name                = "ops"
  }
  assert {
    condition     = one(aws_security_group.worker.ingress).from_port == 22 && one(aws_security_group.worker.ingress).cidr_blocks == tolist(["192.0.2.7/32"])
    error_message = "only port 22, only from there"
  }
}

run "renewing_by_itself_can_be_switched_off" {
  command = plan

  variables {
    replace_on_change = false
  }
  assert {
    condition     = length(aws_autoscaling_group.workers.instance_refresh) == 0
    error_message = "no refresh"
  }
}

run "an_unknown_family_can_be_added" {
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

run "a_part_of_a_gpu_is_refused" {
  command = plan

  variables {
    instance_types = ["g6f.xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "a_type_named_twice_is_refused" {
  command = plan

  variables {
    instance_types = ["g6.xlarge", "g6.xlarge"]
  }
  expect_failures = [var.instance_types]
}

run "no_type_at_all_is_refused" {
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

run "a_token_itself_is_refused" {
  command = plan

  variables {
    token_ref = "c2VjcmV0"
  }
  expect_failures = [var.token_ref]
}

run "a_key_in_a_file_that_no_machine_has_is_refused" {
  command = plan

  variables {
    ssh_key_ref = "/home/me/.ssh/id_ed25519"
  }
  expect_failures = [var.ssh_key_ref]
}

run "a_key_s_alias_is_refused" {
  command = plan

  variables {
    secret_kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/mine"
  }
  expect_failures = [var.secret_kms_key_arn]
}

run "no_subnet_is_refused" {
  command = plan

  variables {
    subnet_ids = []
  }
  expect_failures = [var.subnet_ids]
}

run "the_whole_world_is_refused" {
  command = plan

  variables {
    ssh_ingress_cidr_blocks = ["0.0.0.0/0"]
  }
  expect_failures = [var.ssh_ingress_cidr_blocks]
}

run "more_machines_than_the_most_are_refused" {
  command = plan

  variables {
    desired_size = 2
  }
  expect_failures = [var.desired_size]
}

run "a_most_below_the_fewest_is_refused" {
  command = plan

  variables {
    min_size = 2
  }
  expect_failures = [var.max_size]
}

run "a_launch_shorter_than_the_bootstrap_is_refused" {
  command = plan

  variables {
    launch_timeout_s = 600
  }
  expect_failures = [var.launch_timeout_s]
}

run "an_image_that_is_no_id_is_refused" {
  command = plan

  variables {
    image_id = "ubuntu"
  }
  expect_failures = [var.image_id]
}
