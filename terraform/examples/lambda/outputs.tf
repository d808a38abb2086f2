output "instance_id" {
  description = "The machine's id at the cloud."
  value       = module.worker.instance_id
}

output "ip" {
  description = "The machine's address."
  value       = module.worker.ip
}

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
