output "id" {
  description = "Id of the delivery, known once the secrets have been sent."
  value       = terraform_data.push_secrets.id
}
