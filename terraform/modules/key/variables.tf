variable "name" {
  description = "Name of the key: its alias, without \"alias/\"."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9_-]+$", var.name))
    error_message = "name must be letters, digits, hyphens and underscores, without alias/ before them."
  }
}

variable "description" {
  description = "What the key encrypts."
  type        = string
  validation {
    condition     = trimspace(var.description) != ""
    error_message = "description must say what the key encrypts, because nothing else distinguishes the keys in AWS's list."
  }
}

variable "encrypts_logs" {
  description = "Whether CloudWatch Logs may use the key for this account's log groups."
  type        = bool
  default     = false
}
