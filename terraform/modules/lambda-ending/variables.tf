variable "instance_id" {
  description = "Id of the machine to terminate. Null: every machine with `tag`."
  type        = string
  default     = null

  validation {
    condition     = (var.instance_id == null) != (var.tag == null)
    error_message = "Set either instance_id or tag, so that it is clear which machines are terminated."
  }

  validation {
    # restapi sets "" for a machine that is gone. `terraform destroy` must pass this check; the step in the state still
    # terminates the id that it was created with.
    condition     = var.instance_id == null ? true : can(regex("^([0-9A-Za-z-]{8,64})?$", var.instance_id))
    error_message = "instance_id is not a machine id: the API's ids are 32 hexadecimal digits."
  }
}

variable "tag" {
  description = "Value of the tag beta9-machine: every machine that carries it is terminated. Use a unique value, such as a UUID."
  type        = string
  default     = null

  validation {
    condition     = var.tag == null ? true : can(regex("^[0-9A-Za-z-]{8,128}$", var.tag))
    error_message = "tag must be 8-128 letters, digits or '-'."
  }
}

variable "api_url" {
  description = "URL of Lambda's API."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^/?#@[:space:]]+|http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?)/api/v[0-9]+$", var.api_url))
    error_message = "api_url must be https and end with /api/v1: the API answers 404 to every other path, and plain http would expose the key."
  }
}

variable "timeout_s" {
  description = "Seconds to wait until the API reports a machine as terminated."
  type        = number
  default     = 600
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 3600
    error_message = "timeout_s must be from 1 to 3600."
  }
}
