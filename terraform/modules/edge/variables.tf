variable "name" {
  description = "Name of the load balancer."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,26}$", var.name))
    error_message = "name must be at most 27 lower-case letters, digits and hyphens: AWS takes 32 for a target group, whose name is longer by five."
  }
}

variable "network" {
  description = "The VPC and its public subnets."
  type        = object({ vpc_id = string, subnet_ids = list(string) })
  validation {
    condition     = length(var.network.subnet_ids) == 3
    error_message = "The load balancer needs a public subnet in each of three zones."
  }
}

variable "pods" {
  description = "The API's pods: their security group and port."
  type        = object({ security_group_id = string, port = number })
}

variable "zone_id" {
  description = "Public Route 53 zone of the host names."
  type        = string
  validation {
    condition     = can(regex("^[A-Z0-9]{1,32}$", var.zone_id))
    error_message = "zone_id must be the ID of a Route 53 zone, such as Z0123456789ABCDEFGHIJ."
  }
}

variable "hostnames" {
  description = "Host names that the certificate holds: the service's, and this region's own, which this module points at the load balancer."
  type        = object({ service = string, region = string })
  validation {
    condition     = alltrue([for hostname in values(var.hostnames) : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", hostname))])
    error_message = "hostnames must be two host names without a trailing dot, such as dob.example.com and primary.dob.example.com."
  }
}

variable "drain" {
  description = "Seconds that the connections of a deregistered pod are kept, and the interval and thresholds of the health check."
  type        = object({ deregistration_seconds = number, interval_seconds = number, healthy_checks = number, unhealthy_checks = number })
}

variable "alarm_topics" {
  description = "SNS topics of this region that alarms notify."
  type        = list(string)
  validation {
    condition     = alltrue([for topic in var.alarm_topics : can(regex("^arn:aws:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]+$", topic))])
    error_message = "alarm_topics must be ARNs of SNS topics, such as arn:aws:sns:eu-west-1:123456789012:operators."
  }
}
