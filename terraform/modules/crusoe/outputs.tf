output "instance_id" {
  description = "Crusoe's id of the VM."
  value       = crusoe_compute_instance.machine.id
}

output "ip" {
  description = "The VM's public address, if it has one."
  value       = local.address
}

output "known_hosts_file" {
  description = "File with the VM's host key, once the secrets have been sent."
  value       = local.known_hosts_file
}

output "look" {
  description = "How to look at the machine."
  value       = "ssh -o UserKnownHostsFile='${local.known_hosts_file}' ${var.login_user}@${coalesce(local.address, "ADDRESS")} sudo beta9-worker status"
}

output "cost_guards" {
  description = "What ends the bill."
  value       = "On demand: what surely ends the bill is that `terraform destroy` deletes the VM, whether or not it ever joined. Before `terraform apply`, always read the plan: a VM that Crusoe's API failed to tell of is dropped from the state, and the plan then wants to make a second one."
}

output "leave" {
  description = "How to leave."
  value       = "First, to let work finish: sudo beta9-worker leave --when-idle, on the machine. Then here: terraform destroy"
}

output "push_secrets" {
  description = "How to send the secrets yourself, if token_file was not given."
  value       = var.token_file != null ? "They were sent." : "beta9-worker push-secrets ${var.login_user}@${coalesce(local.address, "ADDRESS")}   (compare the host key with the machine's console first)"
}
