variable "domain" {
  description = "Domain of an existing public Route 53 zone. The service answers at dob.<domain>. The same in every root."
  type        = string
}

variable "regions" {
  description = "AWS region, CIDR block and the letters of three zones of each side, the same in every root. null takes the plan in modules/topology."
  type        = map(object({ region = string, cidr = string, zones = optional(list(string), ["a", "b", "c"]) }))
  default     = null
}

variable "leading_side" {
  description = "The side whose database takes writes, which clients are sent to first. Change it after dob-promote and after a fail-back."
  type        = string
  default     = "primary"
  validation {
    condition     = contains(["primary", "recovery"], var.leading_side)
    error_message = "leading_side must be primary or recovery."
  }
}

variable "github_repository" {
  description = "Repository on GitHub whose workflows get the roles, as owner/name."
  type        = string
  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository must be owner/name, such as example/dob-api."
  }
}

variable "github_ids" {
  description = <<-EOT
    The IDs of the repository and its owner (gh api repos/OWNER/NAME --jq '{owner: .owner.id, repository: .id}'). GitHub's tokens contain
    them for repositories created or renamed since July 2026. null for an older repository.
  EOT
  type        = object({ owner = number, repository = number })
  default     = null
}

variable "state_buckets" {
  description = "Bucket of each root's state, by root (global, primary, recovery). The roles can access states only in these buckets."
  type        = object({ global = string, primary = string, recovery = string })
}

variable "singletons" {
  description = <<-EOT
    Whether this root creates what an account can have only once: GitHub's identity provider, and the replication of the registry. Set false
    for what the account already has. The existing provider is then used, and the existing replication must copy this repository to the
    primary region.
  EOT
  type        = object({ identity_provider = optional(bool, true), replication = optional(bool, true) })
  default     = {}
}

variable "alarm_topics" {
  description = "SNS topics in us-east-1 that are notified when Route 53 finds a region unhealthy."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for topic in var.alarm_topics : can(regex("^arn:aws:sns:us-east-1:[0-9]{12}:[A-Za-z0-9_-]+$", topic))])
    error_message = "alarm_topics must be ARNs of SNS topics in us-east-1, because Route 53's metrics are only there."
  }
}

variable "smoke_run" {
  description = <<-EOT
    Set true only in an account that serves nothing else. Then only the workflow "smoke run" can take the account's roles. It creates both regions,
    and deletes them with their backups.
  EOT
  type        = bool
  default     = false
}
