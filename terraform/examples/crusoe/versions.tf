terraform {
  # 1.9: validations may refer to other variables.
  required_version = ">= 1.9, < 2.0"

  required_providers {
    crusoe = {
      source  = "crusoecloud/crusoe"
      version = ">= 1.1.0, < 2.0.0"
    }
  }
}
