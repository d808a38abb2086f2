terraform {
  # 1.9: validations may look at other variables. No provider is needed here, so every rule can be tried anywhere.
  required_version = ">= 1.9, < 2.0"
}
