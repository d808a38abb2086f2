terraform {
  # 1.9: validations may look at other variables. Nothing but Terraform's own terraform_data is needed.
  required_version = ">= 1.9, < 2.0"
}
