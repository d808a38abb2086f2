output "id" {
  description = "Id of the termination step. Resources that depend on it are created after it and destroyed before it."
  value       = terraform_data.ending.id
}

output "what" {
  description = "The machine's id or the tag's value, known once the termination step is in the state."
  value       = terraform_data.ending.output.what
}
