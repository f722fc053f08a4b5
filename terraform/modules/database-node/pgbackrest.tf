# pgBackRest: encrypted WAL and backups in a bucket of each region. The first repository is the node's own region's.
locals {
  repositories = [for region in [var.region, var.other_region.region] : { region = region, bucket = var.backup_buckets[region] }]

  pgbackrest = join("\n", concat(
    ["[global]"],
    flatten([for index, repository in local.repositories : [for option, value in {
      "type"                = "s3"
      "path"                = "/${var.cluster}"
      "s3-bucket"           = repository.bucket
      "s3-endpoint"         = "s3.${repository.region}.amazonaws.com"
      "s3-region"           = repository.region
      "s3-uri-style"        = "path"
      "s3-key-type"         = "auto"
      "cipher-type"         = "aes-256-cbc"
      "bundle"              = "y"
      "block"               = "y"
      "retention-full-type" = "time"
      "retention-full"      = var.backup_retention_days
    } : "repo${index + 1}-${option}=${value}"]]),
    [
      "compress-type=zst",
      "start-fast=y",
      "process-max=2",
      # How long a connection may move no byte, and how long a request is tried again; a whole transfer may take longer. Archiving must not wait: it waits
      # about six times as long for a repository that does not answer.
      "io-timeout=5",
      # A hole in the archive is better than a full disk that stops the service. An alert reports it.
      "archive-push-queue-max=${floor(var.data_volume_mb / 4)}MB",
      "log-level-console=warn",
      "log-level-file=off",
      "spool-path=/run/dob/postgres/spool",
      "lock-path=/run/dob/postgres/lock",
      "",
    ],
    # pgBackRest's default. A bucket that is slow or overloaded for a moment must not end hours of work.
    flatten([for command in local.self.role == "restore" ? ["restore"] : ["backup", "expire", "verify"] : ["[global:${command}]", "io-timeout=60", ""]]),
    [
      "[${var.cluster}]",
      "pg1-path=${local.data_directory}",
      "pg1-socket-path=/run/postgresql",
      "",
    ],
  ))
}
