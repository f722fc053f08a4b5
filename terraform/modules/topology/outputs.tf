output "service" {
  description = "Name of the service."
  value       = var.service
}

output "hostname" {
  description = "The host name of the service, whichever region serves."
  value       = local.hostname
}

output "sides" {
  description = "By side (primary, recovery): region, CIDR blocks, zones in the order of the nodes, subnets by zone, host name, database nodes by name."
  value       = local.sides
}

output "registry" {
  description = "Name of the repository of the API's images, the same in both regions."
  value       = "${var.service}-api"
}

output "ports" {
  description = "TCP ports: of the pods, and of the database nodes."
  value = {
    pods              = 80
    postgresql        = 5432
    patroni           = 8008
    etcd_client       = 2379
    etcd_peer         = 2380
    etcd_metrics      = 2381
    node_exporter     = 9100
    postgres_exporter = 9187
  }
}

output "secrets" {
  description = "Names in Secrets Manager, the same in both regions: the database's certificate authority and passwords, and the secret of the API's pods."
  value = {
    certificate_authority = "${var.service}/certificate-authority"
    passwords             = "${var.service}/passwords"
    api                   = "${var.service}/api"
  }
}

output "drain" {
  description = "How a pod leaves the load balancer, from k8s/base/drain.yaml: seconds that its connections are kept, and the interval and thresholds of the health check."
  value = {
    deregistration_seconds = tonumber(local.drain.deregistration_delay_seconds)
    interval_seconds       = tonumber(local.drain.health_check_interval_seconds)
    healthy_checks         = tonumber(local.drain.healthy_threshold_checks)
    unhealthy_checks       = tonumber(local.drain.unhealthy_threshold_checks)
  }
}
