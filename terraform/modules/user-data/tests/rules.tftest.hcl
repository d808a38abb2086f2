# Every rule of the inputs: `terraform init && terraform test`, without a cloud, a provider or a network.

variables {
  pool_name                = "gpu"
  source_tarball           = "https://example.com/beta9-worker.tar.gz#sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  ssh_host                 = "gateway.example.com"
  ssh_host_key_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
  token_ref                = "ssm:///beta9/gpu/token"
}

run "settings_are_sorted_and_quoted_where_they_must_be" {
  command = plan

  variables {
    ssh_key_ref = "/etc/beta9-worker/secrets/ssh_key"
    settings    = { BETA9_KEEPALIVE_INTERVAL = "30", BETA9_SSH_KNOWN_HOSTS = "a b\nc $d", BETA9_HOSTNAME = "" }
  }
  assert {
    condition = output.worker_env == join("\n", [
      "BETA9_KEEPALIVE_INTERVAL=30",
      "BETA9_POOL_NAME=gpu",
      "BETA9_SOURCE=https://example.com/beta9-worker.tar.gz#sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
      "BETA9_SSH_HOST=gateway.example.com",
      "BETA9_SSH_HOST_KEY_FINGERPRINT=SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
      "BETA9_SSH_KEY_FILE=/etc/beta9-worker/secrets/ssh_key",
      "BETA9_SSH_KNOWN_HOSTS='a b",
      "c $d'",
      "BETA9_TOKEN=ssm:///beta9/gpu/token",
      "",
    ])
    error_message = output.worker_env
  }
}

run "they_replace_what_the_page_has_between_its_markers" {
  command = plan

  assert {
    condition     = yamldecode(output.cloud_config).write_files[0].content == "# settings\n${output.worker_env}# end of settings\n"
    error_message = yamldecode(output.cloud_config).write_files[0].content
  }
  assert {
    condition     = startswith(output.cloud_config, "#cloud-config\n")
    error_message = "cloud-init knows a cloud-config by its first line"
  }
  assert {
    condition     = base64decode(output.cloud_config_base64) == output.cloud_config
    error_message = "base64 holds something else"
  }
  assert {
    condition     = output.user_data_base64 == output.cloud_config_base64
    error_message = "the plain form is the default"
  }
  assert {
    condition     = strcontains(output.script, "\n# settings\n${output.worker_env}# end of settings\n")
    error_message = output.script
  }
}

run "a_secret_in_plain_text_comes_through_only_when_told" {
  command = plan

  variables {
    token_ref           = "c2VjcmV0"
    allow_plain_secrets = true
    settings            = { BETA9_K3S_TOKEN = "c2VjcmV0" }
  }
  assert {
    condition     = strcontains(output.worker_env, "BETA9_TOKEN=c2VjcmV0\n")
    error_message = output.worker_env
  }
}

run "references_are_no_secrets" {
  command = plan

  variables {
    token_ref   = "secretsmanager://beta9/gpu#token"
    ssh_key_ref = "secretsmanager://arn:aws:secretsmanager:eu-west-1:123456789012:secret:beta9-AbCdEf#ssh_key"
    settings    = { BETA9_K3S_TOKEN = "ssm:///beta9/k3s" }
  }
  assert {
    condition     = strcontains(output.worker_env, "BETA9_TOKEN=secretsmanager://beta9/gpu#token\n")
    error_message = output.worker_env
  }
}

run "what_is_too_long_for_aws_plain_may_fit_compressed" {
  command = plan

  variables {
    cloud    = "aws"
    compress = true
    settings = { BETA9_SSH_KNOWN_HOSTS = join("\n", [for n in range(400) : "gateway-${n}.example.com ssh-ed25519 AAAA"]) }
  }
  assert {
    condition     = output.user_data_base64 == output.cloud_config_gzip_base64
    error_message = "compress chooses the gzip form"
  }
}

run "what_is_too_long_for_aws_is_refused" {
  command = plan

  variables {
    cloud    = "aws"
    settings = { BETA9_SSH_KNOWN_HOSTS = join("\n", [for n in range(400) : "gateway-${n}.example.com ssh-ed25519 AAAA"]) }
  }
  expect_failures = [output.cloud_config]
}

run "what_is_too_long_for_crusoe_is_refused" {
  command = plan

  variables {
    cloud    = "crusoe"
    settings = { BETA9_SSH_KNOWN_HOSTS = join("\n", [for n in range(1000) : "gateway-${n}.a-name-that-is-rather-long.example.com ssh-ed25519 AAAA"]) }
  }
  expect_failures = [output.cloud_config]
}

run "letters_beyond_ascii_are_refused_for_crusoe" {
  command = plan

  variables {
    cloud    = "crusoe"
    settings = { BETA9_SSH_KNOWN_HOSTS = "gateway.example.com ssh-ed25519 AAAA Zoë" }
  }
  expect_failures = [output.script]
}

run "and_taken_elsewhere" {
  command = plan

  variables {
    cloud    = "lambda"
    settings = { BETA9_SSH_KNOWN_HOSTS = "gateway.example.com ssh-ed25519 AAAA Zoë" }
  }
  assert {
    condition     = strcontains(output.cloud_config, "Zoë")
    error_message = "it got lost"
  }
}

run "a_pool_name_with_a_blank_is_refused" {
  command = plan

  variables {
    pool_name = "my pool"
  }
  expect_failures = [var.pool_name]
}

run "a_pool_name_that_ends_with_a_dash_is_refused" {
  command = plan

  variables {
    pool_name = "gpu-"
  }
  expect_failures = [var.pool_name]
}

run "an_unknown_cloud_is_refused" {
  command = plan

  variables {
    cloud = "azure"
  }
  expect_failures = [var.cloud]
}

run "a_provider_name_with_a_slash_is_refused" {
  command = plan

  variables {
    provider_name = "a/b"
  }
  expect_failures = [var.provider_name]
}

run "a_host_with_a_user_is_refused" {
  command = plan

  variables {
    ssh_host = "beta9@gateway.example.com"
  }
  expect_failures = [var.ssh_host]
}

run "a_port_that_is_none_is_refused" {
  command = plan

  variables {
    ssh_port = 70000
  }
  expect_failures = [var.ssh_port]
}

run "a_user_that_begins_with_a_dash_is_refused" {
  command = plan

  variables {
    ssh_user = "-oProxyCommand"
  }
  expect_failures = [var.ssh_user]
}

run "a_fingerprint_of_another_kind_is_refused" {
  command = plan

  variables {
    ssh_host_key_fingerprint = "MD5:00:11"
  }
  expect_failures = [var.ssh_host_key_fingerprint]
}

run "a_host_that_nothing_identifies_is_refused" {
  command = plan

  variables {
    ssh_host_key_fingerprint = null
  }
  expect_failures = [var.ssh_host_key_fingerprint]
}

run "a_source_without_a_checksum_is_refused" {
  command = plan

  variables {
    source_tarball = "https://example.com/beta9-worker.tar.gz"
  }
  expect_failures = [var.source_tarball]
}

run "a_machine_without_a_bootstrap_is_refused" {
  command = plan

  variables {
    source_tarball = null
  }
  expect_failures = [var.source_tarball]
}

run "an_image_by_a_tag_is_refused" {
  command = plan

  variables {
    agent_image = "example.com/beta9-worker:latest"
  }
  expect_failures = [var.agent_image]
}

run "a_token_in_plain_text_is_refused" {
  command = plan

  variables {
    token_ref = "c2VjcmV0"
  }
  expect_failures = [var.token_ref]
}

run "a_key_in_plain_text_is_refused" {
  command = plan

  variables {
    ssh_key_ref = "-----BEGIN OPENSSH PRIVATE KEY-----"
  }
  expect_failures = [var.ssh_key_ref]
}

run "an_unknown_way_to_fail_is_refused" {
  command = plan

  variables {
    on_failure = "retry"
  }
  expect_failures = [var.on_failure]
}

run "an_unknown_variable_is_refused" {
  command = plan

  variables {
    settings = { BETA9_KEEPALIVE_INTERVALL = "30" }
  }
  expect_failures = [var.settings]
}

run "a_variable_that_has_one_of_its_own_is_refused" {
  command = plan

  variables {
    settings = { BETA9_POOL_NAME = "other" }
  }
  expect_failures = [var.settings]
}

run "a_quotation_mark_that_worker_env_cannot_carry_is_refused" {
  command = plan

  variables {
    settings = { BETA9_HOSTNAME = "it's" }
  }
  expect_failures = [var.settings]
}

run "a_carriage_return_is_refused" {
  command = plan

  variables {
    settings = { BETA9_SSH_KNOWN_HOSTS = "a\r\nb" }
  }
  expect_failures = [var.settings]
}

run "a_k3s_token_in_plain_text_is_refused" {
  command = plan

  variables {
    settings = { BETA9_K3S_TOKEN = "c2VjcmV0" }
  }
  expect_failures = [var.settings]
}

run "a_private_key_anywhere_is_refused" {
  command = plan

  variables {
    settings = { BETA9_SSH_KNOWN_HOSTS = "-----BEGIN RSA PRIVATE KEY-----" }
  }
  expect_failures = [var.settings]
}

run "a_password_in_an_address_is_refused" {
  command = plan

  variables {
    settings = { BETA9_METADATA_ENDPOINT = "http://me:pass@192.0.2.1" }
  }
  expect_failures = [var.settings]
}
