terraform {
  # 1.9: validations may refer to other variables. Only Terraform's built-in terraform_data is used.
  required_version = ">= 1.9, < 2.0"
}
