output "id" {
  description = "Known once the step is in the state: what depends on it is made after it, and destroyed before it."
  value       = terraform_data.ending.id
}

output "what" {
  description = "The machine's id or the tag's value, once the step is in the state."
  value       = terraform_data.ending.output.what
}
