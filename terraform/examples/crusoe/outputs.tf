output "instance_id" {
  description = "The cloud's id of the machine."
  value       = module.worker.instance_id
}

output "ip" {
  description = "The machine's address."
  value       = module.worker.ip
}

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
