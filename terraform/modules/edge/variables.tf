variable "name" {
  description = "Name of the load balancer."
  type        = string
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
}

variable "hostnames" {
  description = "Host names that the certificate holds: the service's, and this region's own, which this module points at the load balancer."
  type        = object({ service = string, region = string })
}

variable "drain" {
  description = "How long connections of a pod that was taken out are kept, in seconds, and when the health check takes a pod in or out."
  type        = object({ deregistration_seconds = number, interval_seconds = number, healthy_checks = number, unhealthy_checks = number })
}

variable "alarm_topics" {
  description = "SNS topics of this region that are told of alarms."
  type        = list(string)
}
