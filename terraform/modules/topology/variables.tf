variable "service" {
  description = "Name of the service: the prefix of every resource's name, and the database cluster's name."
  type        = string
  default     = "dob"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,11}$", var.service))
    error_message = "service must be 2 to 12 lower-case letters, digits and hyphens, because AWS limits the length of names that contain it."
  }
}

variable "domain" {
  description = "Domain of an existing public Route 53 zone; the service answers at <service>.<domain>."
  type        = string
  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "domain must be a domain name without a trailing dot, such as example.com."
  }
}

variable "regions" {
  description = "The two sides: AWS region, the VPC's CIDR block, a /16, and the letters of three zones that the account has there."
  type        = map(object({ region = string, cidr = string, zones = optional(list(string), ["a", "b", "c"]) }))
  nullable    = false
  default = {
    primary  = { region = "eu-west-1", cidr = "10.20.0.0/16" }
    recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
  }
  validation {
    condition     = toset(keys(var.regions)) == toset(["primary", "recovery"])
    error_message = "regions must have exactly two sides: primary and recovery."
  }
  validation {
    condition     = alltrue([for side in values(var.regions) : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", side.region))])
    error_message = "Each side's region must be the name of an AWS region, such as eu-west-1."
  }
  validation {
    condition = alltrue([for side in values(var.regions) :
      length(side.zones) == 3 && length(distinct(side.zones)) == 3 && alltrue([for letter in side.zones : can(regex("^[a-z]$", letter))])
    ])
    error_message = "Each side's zones must be three different letters, such as [\"a\", \"b\", \"d\"]."
  }
  validation {
    condition     = length(distinct(values(var.regions)[*].region)) == length(var.regions)
    error_message = "Both sides are in one region: the recovery region must be another one."
  }
  validation {
    condition = alltrue([for side in values(var.regions) :
      can(regex("^(10\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|192\\.168\\.)", side.cidr)) && can(cidrhost(side.cidr, 0)) && endswith(side.cidr, "/16")
    ])
    error_message = "Each side's cidr must be a private /16 block, such as 10.20.0.0/16."
  }
  validation {
    # Two blocks of the same size overlap only if they are equal.
    condition     = length(distinct([for side in values(var.regions) : try(cidrsubnet(side.cidr, 0, 0), side.cidr)])) == length(var.regions)
    error_message = "The CIDR blocks of the two sides overlap: the regions are peered, so each needs a block of its own."
  }
}
