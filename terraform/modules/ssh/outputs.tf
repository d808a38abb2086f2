output "host" {
  description = "The machine's name or address."
  value       = var.host
}

output "look" {
  description = "Command that shows the worker's status."
  value       = "ssh -p ${var.login_port} ${var.login_user}@${var.host} sudo beta9-worker status"
}

output "cost_guards" {
  description = "What stops the charges."
  value       = "Nothing here: the machine is yours and keeps running after `terraform destroy`, which only makes the worker leave."
}

output "leave" {
  description = "How to remove the worker."
  value       = "terraform destroy drains the worker and makes it leave${var.leave_when_idle ? " once its work has finished" : ""}${var.uninstall ? ", then undoes what the bootstrap did" : ""}. To bring it back: terraform apply"
}

output "push_secrets" {
  description = "Command that sends the secrets, if token_file was not given."
  value       = var.token_file != null ? "The secrets were sent." : "beta9-worker push-secrets --port ${var.login_port} ${var.login_user}@${var.host}"
}
