terraform {
  # 1.9: validations may refer to other variables. This module needs no provider, so its rules can be tested anywhere.
  required_version = ">= 1.9, < 2.0"
}
