# Renders cloud-init/user-data.yaml, the same file that users paste by hand: the text between its markers is replaced.

locals {
  root = "${path.module}/../../.."

  # For each variable, a regular expression for the values that the machine accepts; "" accepts any text.
  known_variables = jsondecode(file("${path.module}/known_variables.json"))

  # Networks that a worker uses inside, and for what.
  used_inside = merge(
    { for name, value in var.settings : value => "${name} gives it to k3s" if contains(["BETA9_K3S_CLUSTER_CIDR", "BETA9_K3S_SERVICE_CIDR"], name) },
    {
      "192.168.1.0/24" = "the gateway's workers use it for containers"
      "198.18.0.0/15"  = "the tunnel uses it to reach containers"
    },
  )
  # k3s's usual networks, for which the bootstrap takes others if the machine has an address in them.
  usual_k3s = ["10.42.0.0/16", "10.43.0.0/16"]

  # Agent variables that have an input of their own in this module, and the input's name.
  own_variable = {
    BETA9_POOL_NAME                = "pool_name"
    BETA9_PROVIDER_NAME            = "provider_name"
    BETA9_SSH_HOST                 = "ssh_host"
    BETA9_SSH_PORT                 = "ssh_port"
    BETA9_SSH_USER                 = "ssh_user"
    BETA9_SSH_HOST_KEY_FINGERPRINT = "ssh_host_key_fingerprint"
    BETA9_SOURCE                   = "source_tarball"
    BETA9_AGENT_IMAGE              = "agent_image"
    BETA9_TOKEN                    = "token_ref"
    BETA9_TOKEN_FILE               = "token_ref"
    BETA9_SSH_KEY                  = "ssh_key_ref"
    BETA9_SSH_KEY_FILE             = "ssh_key_ref"
    BETA9_ON_FAILURE               = "on_failure"
  }

  # A NAME=value is taken for a secret by its name, by the first line of a private key, or by a password in a URL.
  secret    = "^BETA9_K3S_TOKEN=.|PRIVATE KEY-----|://[^/@[:space:]]*:[^/@[:space:]]+@"
  reference = "^BETA9_K3S_TOKEN=(ssm|secretsmanager)://"

  # Same as agent/core/provisioning/env_file.py: quotes, backslashes and unprintable characters except line breaks.
  unfit = "['\\\\\\x00-\\x09\\x0b-\\x1f\\x7f-\\x{a0}\\p{Cf}\\p{Co}\\p{Zl}\\p{Zp}\\x{1680}\\x{2000}-\\x{200a}\\x{202f}\\x{205f}\\x{3000}]"

  # A release's own tarball and image, used only when neither is given, so that the two never come from different
  # releases.
  release = {
    for line in split("\n", file("${local.root}/cloud-init/release.env")) :
    split("=", line)[0] => join("=", slice(split("=", line), 1, length(split("=", line)))) if startswith(line, "BETA9_")
  }
  origin = var.source_tarball != null || var.agent_image != null ? {} : local.release

  # The gateway host's keys in ssh_host_key_file: known_hosts lines that name the host, lines of .pub files, and
  # fingerprints as printed by ssh-keygen -lf. What does not match is passed over.
  ssh_name       = coalesce(var.ssh_port, 22) == 22 ? var.ssh_host : "[${coalesce(var.ssh_host, "-")}]:${coalesce(var.ssh_port, 22)}"
  host_key       = "(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-(?:ssh-ed25519|ecdsa-sha2-nistp256)@openssh.com) [A-Za-z0-9+/]{64,}=*"
  host_key_lines = var.ssh_host_key_file == null ? [] : try([for line in split("\n", trimprefix(file(pathexpand(var.ssh_host_key_file)), "\ufeff")) : trimspace(line)], [])
  host_keys = distinct(concat(
    [for line in local.host_key_lines : "${coalesce(local.ssh_name, "-")} ${regex("^${local.host_key}", line)}" if can(regex("^${local.host_key}", line))],
    [
      for line in local.host_key_lines : regex("^(?:@cert-authority |@revoked )?\\S+ ${local.host_key}", line)
      if can(regex("^(?:@cert-authority |@revoked |\\|1\\|)\\S* ?\\S* ?${local.host_key}", line)) || (
        can(regex("^\\S+ ${local.host_key}", line)) && contains(split(",", split(" ", line)[0]), coalesce(local.ssh_name, "-"))
      )
    ],
  ))
  host_key_fingerprints = distinct([for line in local.host_key_lines : regex("^[0-9]+ (SHA256:[A-Za-z0-9+/]{43})", line)[0] if can(regex("^[0-9]+ (SHA256:[A-Za-z0-9+/]{43})", line))])

  token_is_path   = startswith(coalesce(var.token_ref, "-"), "/")
  ssh_key_is_path = startswith(coalesce(var.ssh_key_ref, "-"), "/")

  given = merge(var.settings, {
    BETA9_POOL_NAME                = var.pool_name
    BETA9_PROVIDER_NAME            = var.provider_name
    BETA9_SSH_HOST                 = var.ssh_host
    BETA9_SSH_PORT                 = var.ssh_port == null ? null : tostring(var.ssh_port)
    BETA9_SSH_USER                 = var.ssh_user
    BETA9_SSH_HOST_KEY_FINGERPRINT = length(local.host_keys) > 0 ? null : try(coalesce(var.ssh_host_key_fingerprint, join(",", local.host_key_fingerprints)), null)
    BETA9_SSH_KNOWN_HOSTS          = length(local.host_keys) > 0 ? join("\n", local.host_keys) : lookup(var.settings, "BETA9_SSH_KNOWN_HOSTS", null)
    BETA9_SOURCE                   = try(coalesce(var.source_tarball, lookup(local.origin, "BETA9_SOURCE", null)), null)
    BETA9_AGENT_IMAGE              = try(coalesce(var.agent_image, lookup(local.origin, "BETA9_AGENT_IMAGE", null)), null)
    BETA9_TOKEN                    = local.token_is_path ? null : var.token_ref
    BETA9_TOKEN_FILE               = local.token_is_path ? var.token_ref : null
    BETA9_SSH_KEY                  = local.ssh_key_is_path ? null : var.ssh_key_ref
    BETA9_SSH_KEY_FILE             = local.ssh_key_is_path ? var.ssh_key_ref : null
    BETA9_ON_FAILURE               = var.on_failure == null && contains(["aws", "crusoe"], var.cloud) ? "poweroff" : var.on_failure
  })

  # Terraform iterates over a map in the order of its keys, which is the order of worker.env.
  lines = flatten([
    for name, value in local.given : split("\n",
      can(regex("^[A-Za-z0-9_./:@,+=#%-]+$", value)) ? "${name}=${value}" : "${name}='${value}'"
    ) if value != null && value != ""
  ])

  markers = "(?s)^(.*?\n)( *)# settings\n(?:.*?\n)?? *# end of settings\n(.*)$"
  page    = regex(local.markers, file("${local.root}/cloud-init/user-data.yaml"))
  script  = regex(local.markers, file("${local.root}/cloud-init/script-head.sh"))

  cloud_config = join("", [
    local.page[0],
    join("", [
      for line in concat(["# settings"], local.lines, ["# end of settings"]) :
      line == "" ? "\n" : "${local.page[1]}${line}\n"
    ]),
    local.page[2],
  ])
  boot_script = join("", [
    local.script[0],
    join("", [for line in concat(["# settings"], local.lines, ["# end of settings"]) : "${line}\n"]),
    local.script[2],
    file("${local.root}/cloud-init/boot.sh"),
  ])

  # Size in bytes, not characters: base64 writes four characters for every three bytes, padded with "=".
  base64 = {
    plain  = base64encode(local.cloud_config)
    gzip   = base64gzip(local.cloud_config)
    script = base64encode(local.boot_script)
  }
  bytes = {
    for form, text in local.base64 : form => length(text) / 4 * 3 - length(regex("=*$", text))
  }

  # What each cloud accepts, and in which form. AWS: 16 KB before base64. Crusoe: a start-up script of less than 64 kB.
  # Lambda: 1 MB. generic: practically no limit.
  limits = {
    aws     = { bytes = 16384, form = var.compress ? "gzip" : "plain" }
    crusoe  = { bytes = 65535, form = "script" }
    lambda  = { bytes = 1048576, form = var.compress ? "gzip" : "plain" }
    generic = { bytes = 10485760, form = var.compress ? "gzip" : "plain" }
  }
  limit = local.limits[var.cloud]
  size  = local.bytes[local.limit.form]
  ascii = can(regex("^[\\x00-\\x7f]*$", local.boot_script))
}

check "k3s_gets_its_usual_networks" {
  assert {
    condition = alltrue(flatten([
      for each in var.networks : [
        for usual in local.usual_k3s :
        !try(cidrhost("${split("/", each)[0]}/${min(split("/", each)[1], 16)}", 0) == cidrhost("${split("/", usual)[0]}/${min(split("/", each)[1], 16)}", 0), false)
      ]
    ]))
    error_message = "The machine's own network (${join(", ", var.networks)}) overlaps 10.42.0.0/16 or 10.43.0.0/16, which k3s usually uses for pods and services. The bootstrap takes others for k3s then."
  }
}
