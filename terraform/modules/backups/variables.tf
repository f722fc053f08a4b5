variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "key_name" {
  description = "Alias of the bucket's key, without \"alias/\"."
  type        = string
}

variable "database_role_prefix" {
  description = "What the names of the database nodes' roles begin with, in both regions: these may not destroy what is stored."
  type        = string
}

variable "deleted_days" {
  description = "Days for which what a node deleted or wrote over can still be brought back."
  type        = number
  default     = 30
  validation {
    condition     = var.deleted_days >= 7
    error_message = "deleted_days must be at least 7: who is to notice a mistake needs that long."
  }
}
