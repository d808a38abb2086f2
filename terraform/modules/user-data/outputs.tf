output "cloud_config" {
  description = "The cloud-config, as plain text."
  value       = local.cloud_config

  precondition {
    condition     = local.size <= local.limit.bytes
    error_message = "The user data has ${local.size} bytes (${local.limit.form}); ${var.cloud} accepts at most ${local.limit.bytes}. ${local.limit.form == "plain" ? "Set compress = true, or shorten" : "Shorten"} the values in settings: move large ones to files on the machine."
  }
}

output "cloud_config_base64" {
  description = "The cloud-config in base64, for arguments that expect it encoded."
  value       = local.base64.plain
}

output "cloud_config_gzip_base64" {
  description = "The cloud-config compressed with gzip, in base64; cloud-init unpacks it."
  value       = local.base64.gzip
}

output "user_data_base64" {
  description = "The cloud-config in base64, compressed if `compress` is set."
  value       = var.compress ? local.base64.gzip : local.base64.plain
}

output "script" {
  description = "The same as a bash script, for clouds without cloud-init; it may run at every boot."
  value       = local.boot_script

  precondition {
    condition     = var.cloud != "crusoe" || local.ascii
    error_message = "crusoe accepts only scripts in plain ASCII: remove other characters, such as accented letters, from settings."
  }
}

output "worker_env" {
  description = "Content of /etc/beta9-worker/worker.env, for machines that are set up in other ways."
  value       = join("", [for line in local.lines : "${line}\n"])
}
