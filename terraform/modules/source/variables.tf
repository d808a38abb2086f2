variable "source_tarball" {
  description = "Location of a source tarball, if one is given. Null: none."
  type        = string
  default     = null
}

variable "agent_image" {
  description = "Image of the agent, if one is given: it contains the bootstrap. Null: none."
  type        = string
  default     = null
}
