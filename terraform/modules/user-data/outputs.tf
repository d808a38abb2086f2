output "cloud_config" {
  description = "The cloud-config, as cloud-init takes it."
  value       = local.cloud_config

  precondition {
    condition     = local.size <= local.limit.bytes
    error_message = "The user data has ${local.size} bytes (${local.limit.form}); ${var.cloud} takes ${local.limit.bytes}. ${local.limit.form == "plain" ? "Set compress = true, or shorten" : "Shorten"} what is in settings: large values belong into files on the machine."
  }
}

output "cloud_config_base64" {
  description = "The cloud-config in base64, for arguments that want it encoded."
  value       = local.base64.plain
}

output "cloud_config_gzip_base64" {
  description = "The cloud-config compressed, in base64; cloud-init unpacks it."
  value       = local.base64.gzip
}

output "user_data_base64" {
  description = "The form that `compress` chose, in base64."
  value       = var.compress ? local.base64.gzip : local.base64.plain
}

output "script" {
  description = "The same as a plain bash script, for clouds without cloud-init; harmless at every boot."
  value       = local.boot_script

  precondition {
    condition     = var.cloud != "crusoe" || local.ascii
    error_message = "crusoe takes scripts of plain ASCII only: take letters with accents and the like out of settings."
  }
}

output "worker_env" {
  description = "Content for /etc/beta9-worker/worker.env, for machines that are set up otherwise."
  value       = join("", [for line in local.lines : "${line}\n"])
}
