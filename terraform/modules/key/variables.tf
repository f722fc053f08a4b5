variable "name" {
  description = "Name of the key: its alias, without \"alias/\"."
  type        = string
}

variable "description" {
  description = "What the key encrypts."
  type        = string
}

variable "encrypts_logs" {
  description = "Whether CloudWatch Logs may use the key for this account's log groups."
  type        = bool
  default     = false
}
