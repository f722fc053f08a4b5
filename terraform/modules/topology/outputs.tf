output "service" {
  description = "Name of the service."
  value       = var.service
}

output "hostname" {
  description = "Where clients reach the service, whichever region serves."
  value       = local.hostname
}

output "sides" {
  description = "By side (primary, recovery): region, CIDR blocks, subnets by zone, host name, database nodes by name."
  value       = local.sides
}

output "ports" {
  description = "TCP ports: of the pods, and of the database nodes."
  value       = { pods = 80, postgresql = 5432, patroni = 8008, etcd_client = 2379, etcd_peer = 2380 }
}

output "secrets" {
  description = "Names in Secrets Manager, the same in both regions: the database's certificate authority and passwords, and what the API's pods need."
  value = {
    certificate_authority = "${var.service}/certificate-authority"
    passwords             = "${var.service}/passwords"
    api                   = "${var.service}/api"
  }
}

output "deregistration_seconds" {
  description = "How long the load balancer goes on sending to a pod that was taken out: a pod must live longer than that."
  value       = 60
}
