output "look" {
  description = "Command that shows the worker's status."
  value       = module.worker.look
}

output "cost_guards" {
  description = "What stops the charges."
  value       = module.worker.cost_guards
}

output "leave" {
  description = "How to remove the worker."
  value       = module.worker.leave
}

output "push_secrets" {
  description = "Command that sends the secrets, if no files were given."
  value       = module.worker.push_secrets
}
