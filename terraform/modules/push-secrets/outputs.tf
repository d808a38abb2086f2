output "id" {
  description = "Known once the secrets have been sent."
  value       = terraform_data.push_secrets.id
}
