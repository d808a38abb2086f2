terraform {
  # 1.9: validations may refer to other variables.
  required_version = ">= 1.9, < 2.0"

  required_providers {
    # 3.0 is the version whose behaviour main.tf relies on; the way it deals with ids differed before.
    restapi = {
      source  = "Mastercard/restapi"
      version = ">= 3.0.0, < 4.0.0"
    }
  }
}
