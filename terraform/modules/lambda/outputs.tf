output "instance_id" {
  description = "Lambda's id of the machine."
  value       = restapi_object.machine.id
}

output "ip" {
  description = "The machine's address, as the last refresh saw it. Null until then: Lambda gives it while the machine boots."
  value       = try(local.seen.ip, null)
}

output "status" {
  description = "What the API called the machine at the last refresh; null right after the launch."
  value       = try(local.seen.status, null)
}

output "known_hosts_file" {
  description = "File with the machine's host key, once the secrets have been sent."
  value       = local.known_hosts_file
}

output "look" {
  description = "How to look at the machine."
  value       = "ssh -o UserKnownHostsFile='${local.known_hosts_file}' ${var.login_user}@${try(local.seen.ip, "ADDRESS")} sudo beta9-worker status   (the address: terraform apply -refresh-only, then terraform output ip)"
}

output "cost_guards" {
  description = "What ends the bill."
  value       = "Nothing on the machine can: it costs until Lambda's API is asked to terminate it, also when it is shut down or its boot failed. `terraform destroy` asks, and ends only when the API calls the machine ended; if it fails, run it again, and look at https://cloud.lambda.ai/instances. Without this state, end the machine there."
}

output "leave" {
  description = "How to leave."
  value       = "First, to let work finish: sudo beta9-worker leave --when-idle, on the machine. Then here: terraform destroy"
}

output "push_secrets" {
  description = "How to send the secrets yourself, if token_file was not given."
  value       = var.token_file != null ? "They were sent." : "beta9-worker push-secrets ${var.login_user}@${try(local.seen.ip, "ADDRESS")}   (compare the host key with the machine's console first)"
}
