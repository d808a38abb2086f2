output "host" {
  description = "The machine."
  value       = var.host
}

output "look" {
  description = "How to look at the machine."
  value       = "ssh -p ${var.login_port} ${var.login_user}@${var.host} sudo beta9-worker status"
}

output "cost_guards" {
  description = "What ends the bill."
  value       = "Nothing here: the machine is yours and goes on after `terraform destroy`, which only makes the worker leave."
}

output "leave" {
  description = "How to leave."
  value       = "terraform destroy: drains and leaves${var.leave_when_idle ? ", once its work has ended" : ""}${var.uninstall ? ", and takes back what the bootstrap did" : ""}. Back: terraform apply"
}

output "push_secrets" {
  description = "How to send the secrets yourself, if token_file was not given."
  value       = var.token_file != null ? "They were sent." : "beta9-worker push-secrets --port ${var.login_port} ${var.login_user}@${var.host}"
}
