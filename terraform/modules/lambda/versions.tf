terraform {
  # 1.9: validations may refer to other variables.
  required_version = ">= 1.9, < 2.0"

  required_providers {
    # main.tf relies on the behaviour of 3.0; earlier versions handle ids differently.
    restapi = {
      source  = "Mastercard/restapi"
      version = ">= 3.0.0, < 4.0.0"
    }
  }
}
