output "user_data" {
  description = "User data for aws_instance.user_data_base64: a script for cloud-init, compressed."
  value       = base64gzip(local.script)
  precondition {
    condition     = length(base64gzip(local.script)) * 3 / 4 <= 16384
    error_message = "The user data is larger than the 16 KB that EC2 takes."
  }
}

output "script" {
  description = "The same as text, to read."
  value       = local.script
}

output "files" {
  description = "The files that it writes: their content by path."
  value       = local.files
}

output "ports" {
  description = "TCP ports of a node: postgresql, patroni, etcd_client, etcd_peer, etcd_metrics, node_exporter, postgres_exporter."
  value       = local.ports
}

output "patroni" {
  description = "Release of Patroni, and the SHA-256 of its wheel."
  value       = var.patroni
}

output "packages" {
  description = "Debian packages of this node."
  value       = local.packages
}

output "postgresql" {
  description = "Name of the cluster, its PostgreSQL: version, package, and where the data is."
  value = {
    cluster        = var.cluster
    version        = var.postgresql_version
    package        = "postgresql-${var.postgresql_version}"
    data_directory = local.data_directory
  }
}
