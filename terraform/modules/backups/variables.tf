variable "bucket" {
  description = "Name of the bucket."
  type        = string
}

variable "key_name" {
  description = "Alias of the bucket's key, without \"alias/\"."
  type        = string
}

variable "database_role_prefix" {
  description = "Prefix of the names of the database nodes' roles, in both regions. These roles may not destroy what is stored."
  type        = string
}

variable "deleted_days" {
  description = "Days for which a deleted or overwritten object can be restored, and for which nobody can erase a new one."
  type        = number
  default     = 30
  validation {
    condition     = var.deleted_days >= 7
    error_message = "deleted_days must be at least 7, so that there is time to notice a mistake."
  }
}

variable "lock_mode" {
  description = "COMPLIANCE: nobody can erase a new object, not even an administrator. GOVERNANCE: an administrator can, with an explicit option (for a demonstration)."
  type        = string
  default     = "COMPLIANCE"
  validation {
    condition     = contains(["COMPLIANCE", "GOVERNANCE"], var.lock_mode)
    error_message = "lock_mode must be COMPLIANCE or GOVERNANCE."
  }
}
