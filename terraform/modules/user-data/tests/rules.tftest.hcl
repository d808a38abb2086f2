# Every validation rule of the inputs. Run `terraform init && terraform test`: no cloud, provider or network is needed.

variables {
  pool_name                = "gpu"
  source_tarball           = "https://example.com/beta9-worker.tar.gz#sha256=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  ssh_host                 = "gateway.example.com"
  ssh_host_key_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
  token_ref                = "ssm:///beta9/gpu/token"
}

run "settings_are_sorted_and_quoted_where_necessary" {
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

run "settings_replace_the_text_between_the_markers" {
  command = plan

  assert {
    condition     = yamldecode(output.cloud_config).write_files[0].content == "# settings\n${output.worker_env}# end of settings\n"
    error_message = yamldecode(output.cloud_config).write_files[0].content
  }
  assert {
    condition     = startswith(output.cloud_config, "#cloud-config\n")
    error_message = "cloud-init recognizes a cloud-config by its first line"
  }
  assert {
    condition     = base64decode(output.cloud_config_base64) == output.cloud_config
    error_message = "the base64 form decodes to something else"
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

run "a_plain_secret_passes_only_when_allowed" {
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

run "references_to_secrets_are_accepted" {
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

run "user_data_too_long_for_aws_may_fit_compressed" {
  command = plan

  variables {
    cloud    = "aws"
    compress = true
    settings = { BETA9_SSH_KNOWN_HOSTS = join("\n", [for n in range(400) : "gateway-${n}.example.com ssh-ed25519 AAAA"]) }
  }
  assert {
    condition     = output.user_data_base64 == output.cloud_config_gzip_base64
    error_message = "compress = true selects the gzip form"
  }
}

run "user_data_too_long_for_aws_is_refused" {
  command = plan

  variables {
    cloud    = "aws"
    settings = { BETA9_SSH_KNOWN_HOSTS = join("\n", [for n in range(400) : "gateway-${n}.example.com ssh-ed25519 AAAA"]) }
  }
  expect_failures = [output.cloud_config]
}

run "a_script_too_long_for_crusoe_is_refused" {
  command = plan

  variables {
    cloud    = "crusoe"
    settings = { BETA9_SSH_KNOWN_HOSTS = join("\n", [for n in range(1000) : "gateway-${n}.a-name-that-is-rather-long.example.com ssh-ed25519 AAAA"]) }
  }
  expect_failures = [output.cloud_config]
}

run "non_ascii_characters_are_refused_for_crusoe" {
  command = plan

  variables {
    cloud    = "crusoe"
    settings = { BETA9_SSH_KNOWN_HOSTS = "gateway.example.com ssh-ed25519 AAAA Zoë" }
  }
  expect_failures = [output.script]
}

run "non_ascii_characters_are_accepted_elsewhere" {
  command = plan

  variables {
    cloud    = "lambda"
    settings = { BETA9_SSH_KNOWN_HOSTS = "gateway.example.com ssh-ed25519 AAAA Zoë" }
  }
  assert {
    condition     = strcontains(output.cloud_config, "Zoë")
    error_message = "the character is missing from the cloud-config"
  }
}

run "a_pool_name_with_a_space_is_refused" {
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

run "a_port_out_of_range_is_refused" {
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

run "an_md5_fingerprint_is_refused" {
  command = plan

  variables {
    ssh_host_key_fingerprint = "MD5:00:11"
  }
  expect_failures = [var.ssh_host_key_fingerprint]
}

run "a_host_without_a_known_key_is_refused" {
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

run "an_image_tag_is_refused" {
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

run "an_unknown_on_failure_is_refused" {
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

run "a_setting_that_has_its_own_input_is_refused" {
  command = plan

  variables {
    settings = { BETA9_POOL_NAME = "other" }
  }
  expect_failures = [var.settings]
}

run "a_single_quote_is_refused" {
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

run "a_password_in_a_url_is_refused" {
  command = plan

  variables {
    settings = { BETA9_METADATA_ENDPOINT = "http://me:pass@192.0.2.1" }
  }
  expect_failures = [var.settings]
}
