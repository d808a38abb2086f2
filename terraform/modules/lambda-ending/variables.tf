variable "instance_id" {
  description = "Id of the machine to end. Null: every machine with `tag` instead."
  type        = string
  default     = null

  validation {
    condition     = (var.instance_id == null) != (var.tag == null)
    error_message = "Give either instance_id or tag: it must be plain which machines are ended."
  }

  validation {
    # "" is what restapi makes of a machine that is gone: `terraform destroy` must come past here, and the step for
    # the id there was is carried out all the same.
    condition     = var.instance_id == null ? true : can(regex("^([0-9A-Za-z-]{8,64})?$", var.instance_id))
    error_message = "instance_id is not the id of a machine: the API's are 32 hexadecimal digits."
  }
}

variable "tag" {
  description = "Value of the tag beta9-machine whose machines are ended; it must be of one's own making, such as a UUID."
  type        = string
  default     = null

  validation {
    condition     = var.tag == null ? true : can(regex("^[0-9A-Za-z-]{8,128}$", var.tag))
    error_message = "tag must be 8-128 letters, digits and '-'."
  }
}

variable "api_url" {
  description = "Address of Lambda's API."
  type        = string
  default     = "https://cloud.lambda.ai/api/v1"
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^/?#@[:space:]]+|http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?)/api/v[0-9]+$", var.api_url))
    error_message = "api_url must be https and end with /api/v1: an address with another path answers 404 to everything, and plain http would show the key."
  }
}

variable "timeout_s" {
  description = "Seconds to wait until the API calls a machine ended."
  type        = number
  default     = 600
  nullable    = false

  validation {
    condition     = var.timeout_s >= 1 && var.timeout_s <= 3600
    error_message = "timeout_s must be from 1 to 3600."
  }
}
