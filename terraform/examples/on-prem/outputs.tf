output "look" {
  description = "How to look at the machine."
  value       = module.worker.look
}

output "cost_guards" {
  description = "What ends the bill."
  value       = module.worker.cost_guards
}

output "leave" {
  description = "How to leave."
  value       = module.worker.leave
}

output "push_secrets" {
  description = "How to send the secrets yourself, if no files were given."
  value       = module.worker.push_secrets
}
