output "instance_id" {
  description = "The machine's id at Lambda."
  value       = restapi_object.machine.id
}

output "ip" {
  description = "The machine's address as of the last refresh. Null before that, because Lambda assigns it while the machine boots."
  value       = try(local.seen.ip, null)
}

output "status" {
  description = "The machine's status in the API as of the last refresh; null right after the launch."
  value       = try(local.seen.status, null)
}

output "known_hosts_file" {
  description = "Local file with the machine's host key, once the secrets have been sent."
  value       = local.known_hosts_file
}

output "look" {
  description = "Command that shows the worker's status."
  value       = "ssh -o UserKnownHostsFile='${local.known_hosts_file}' ${var.login_user}@${try(local.seen.ip, "ADDRESS")} sudo beta9-worker status   (for the address: terraform apply -refresh-only, then terraform output ip)"
}

output "cost_guards" {
  description = "What stops the charges."
  value       = "The machine is charged until Lambda's API terminates it, even when it is shut down or its boot failed; nothing on the machine can stop that. `terraform destroy` terminates it and finishes only when the API reports it as terminated. If that fails, run it again and check https://cloud.lambda.ai/instances. If you lose this state, terminate the machine there."
}

output "leave" {
  description = "How to remove the worker."
  value       = "To let running work finish first, run on the machine: sudo beta9-worker leave --when-idle. Then, here: terraform destroy"
}

output "push_secrets" {
  description = "Command that sends the secrets, if token_file was not given."
  value       = var.token_file != null ? "The secrets were sent." : "beta9-worker push-secrets ${var.login_user}@${try(local.seen.ip, "ADDRESS")}   (compare the host key with the machine's console first)"
}
