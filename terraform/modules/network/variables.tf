variable "name" {
  description = "Prefix of the resources' names."
  type        = string
}

variable "cidr" {
  description = "CIDR block of the VPC."
  type        = string
  validation {
    condition     = can(cidrhost(var.cidr, 0))
    error_message = "cidr must be an IPv4 CIDR block."
  }
}

variable "blocks" {
  description = "CIDR block of each tier (public, private, data), which its subnets divide."
  type        = object({ public = string, private = string, data = string })
  validation {
    condition     = alltrue([for cidr in values(var.blocks) : can(cidrhost(cidr, 0))])
    error_message = "Each of blocks must be an IPv4 CIDR block, such as 10.20.0.0/18."
  }
}

variable "subnets" {
  description = "CIDR block of each subnet, by tier and zone."
  type        = object({ public = map(string), private = map(string), data = map(string) })
  validation {
    condition     = length(var.subnets.data) == 3 && keys(var.subnets.public) == keys(var.subnets.data) && keys(var.subnets.private) == keys(var.subnets.data)
    error_message = "Each tier needs a subnet in the same three zones."
  }
  validation {
    condition     = alltrue(flatten([for zones in values(var.subnets) : [for cidr in values(zones) : can(cidrhost(cidr, 0))]]))
    error_message = "Each of subnets must be an IPv4 CIDR block, such as 10.20.64.0/24."
  }
}

variable "ports" {
  description = "TCP ports that the data subnets' network ACL lets in."
  type        = object({ postgresql = number, patroni = number, etcd_metrics = number, node_exporter = number, postgres_exporter = number })
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones instead of one in each. It is cheaper, but if its zone is lost, the others lose the Internet, too."
  type        = bool
  default     = false
}

variable "interface_endpoints" {
  description = "AWS services that are reached without the Internet, by the last part of the endpoint's name, such as secretsmanager. Each has an hourly price in every zone."
  type        = set(string)
  default     = ["ecr.api", "ecr.dkr", "eks-auth", "logs", "secretsmanager", "ssm", "ssmmessages"]
}

variable "peer" {
  description = "The other region: its name and the CIDR block of its data subnets."
  type        = object({ region = string, data_cidr = string })
  validation {
    condition     = can(cidrhost(var.peer.data_cidr, 0))
    error_message = "peer.data_cidr must be an IPv4 CIDR block, such as 10.21.68.0/22."
  }
}

variable "peering" {
  description = <<-EOT
    The peering with the other region's VPC. One side requests it with vpc_id, the ID of that VPC. The other side accepts it with
    connection_id, the ID of the request. null makes none.
  EOT
  type        = object({ vpc_id = optional(string), connection_id = optional(string) })
  default     = null
  validation {
    condition     = var.peering == null ? true : (var.peering.vpc_id == null) != (var.peering.connection_id == null)
    error_message = "peering takes either vpc_id (this side requests) or connection_id (this side accepts)."
  }
}

variable "ssh_from" {
  description = "CIDR block that may reach port 22 of the database nodes, for a demonstration. It makes the data subnets public. null allows nobody."
  type        = string
  default     = null
  validation {
    condition     = var.ssh_from == null ? true : can(cidrhost(var.ssh_from, 0)) && try(tonumber(split("/", var.ssh_from)[1]), 0) >= 16
    error_message = "ssh_from must be an IPv4 CIDR block of /16 or smaller, such as 192.0.2.7/32: never the whole Internet."
  }
}

variable "logs_key_arn" {
  description = "KMS key of the flow logs."
  type        = string
}

variable "log_retention_days" {
  description = "Days for which flow logs are kept."
  type        = number
  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a retention that CloudWatch offers, of a month or more, such as 90 or 365."
  }
}
