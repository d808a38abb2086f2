terraform {
  # 1.9: validations may look at other variables.
  required_version = ">= 1.9, < 2.0"

  required_providers {
    crusoe = {
      source  = "crusoecloud/crusoe"
      version = ">= 1.1.0, < 2.0.0"
    }
  }
}
