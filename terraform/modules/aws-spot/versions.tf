terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # Nothing here needs what came after 3.39, and nothing was removed up to 6.
      version = ">= 3.39.0, < 7.0.0"
    }
  }
}
