output "instance_id" {
  description = "The VM's id at Crusoe."
  value       = crusoe_compute_instance.machine.id
}

output "ip" {
  description = "The VM's public address, if it has one."
  value       = local.address
}

output "known_hosts_file" {
  description = "Local file with the VM's host key, once the secrets have been sent."
  value       = local.known_hosts_file
}

output "look" {
  description = "Command that shows the worker's status."
  value       = "ssh -o UserKnownHostsFile='${local.known_hosts_file}' ${var.login_user}@${coalesce(local.address, "ADDRESS")} sudo beta9-worker status"
}

output "cost_guards" {
  description = "What stops the charges."
  value       = "The VM is charged on demand until `terraform destroy` deletes it, whether or not it ever joined. Always read the plan before `terraform apply`: if Crusoe's API fails while Terraform reads the VM, the VM is dropped from the state and the plan adds a second one."
}

output "leave" {
  description = "How to remove the worker."
  value       = "To let running work finish first, run on the machine: sudo beta9-worker leave --when-idle. Then, here: terraform destroy"
}

output "push_secrets" {
  description = "Command that sends the secrets, if token_file was not given."
  value       = var.token_file != null ? "The secrets were sent." : "beta9-worker push-secrets ${var.login_user}@${coalesce(local.address, "ADDRESS")}   (compare the host key with the machine's console first)"
}
