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
  description = "Days for which what a node deleted or wrote over can still be brought back, and for which nobody erases what is new."
  type        = number
  default     = 30
  validation {
    condition     = var.deleted_days >= 7
    error_message = "deleted_days must be at least 7: who is to notice a mistake needs that long."
  }
}

variable "lock_mode" {
  description = "COMPLIANCE: nobody erases what is new, an administrator included. GOVERNANCE: an administrator can, who says so (a demonstration)."
  type        = string
  default     = "COMPLIANCE"
  validation {
    condition     = contains(["COMPLIANCE", "GOVERNANCE"], var.lock_mode)
    error_message = "lock_mode must be COMPLIANCE or GOVERNANCE."
  }
}
