variable "cluster" {
  description = "Name of the database cluster: Patroni's scope, pgBackRest's stanza. The same in both regions."
  type        = string
  default     = "dob"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}$", var.cluster))
    error_message = "cluster must be a short lower-case name: letters, digits and hyphens."
  }
}

variable "postgresql_version" {
  description = "Major version of PostgreSQL. A running cluster keeps its version: a newer one is a cluster of its own, into which the data is copied (docs/runbooks.md)."
  type        = string
  default     = "17"
  nullable    = false
  validation {
    condition     = contains(["17", "18"], var.postgresql_version)
    error_message = "postgresql_version must be 17 or 18: no other version was tried."
  }
}

variable "upgrade_peers" {
  description = "Addresses of the data nodes of this cluster's older or newer version, while it is upgraded: they may read its changes, and it theirs."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for address in var.upgrade_peers : can(cidrhost("${address}/32", 0))])
    error_message = "Each of upgrade_peers must be an IPv4 address."
  }
}

variable "region" {
  description = "AWS region of this node."
  type        = string
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the name of an AWS region, such as eu-west-1."
  }
}

variable "node" {
  description = "Name of this node: a key of nodes."
  type        = string
  validation {
    condition     = contains(keys(var.nodes), var.node)
    error_message = "node must be one of the nodes."
  }
}

variable "nodes" {
  description = <<-EOT
    The region's nodes by name. Roles: data (PostgreSQL, Patroni and etcd), witness (only etcd), restore (not a member of the cluster, for a
    point-in-time restore).
  EOT
  type = map(object({
    address = string
    zone    = string
    role    = string
  }))
  validation {
    condition     = alltrue([for name in keys(var.nodes) : can(regex("^[a-z][a-z0-9-]{0,30}$", name))])
    error_message = "Each node's name must be a host name: lower-case letters, digits and hyphens."
  }
  validation {
    condition     = alltrue([for node in values(var.nodes) : can(cidrhost("${node.address}/32", 0))])
    error_message = "Each node's address must be an IPv4 address."
  }
  validation {
    condition     = length(distinct(values(var.nodes)[*].address)) == length(var.nodes)
    error_message = "Two nodes have the same address. Give each its own."
  }
  validation {
    condition     = alltrue([for node in values(var.nodes) : contains(["data", "witness", "restore"], node.role)])
    error_message = "A node's role must be data, witness or restore."
  }
  validation {
    condition     = length([for node in values(var.nodes) : node if node.role != "restore"]) % 2 == 1
    error_message = "The number of etcd members (data nodes and witnesses) must be odd, or the loss of one half would stop the other half."
  }
  validation {
    condition     = length([for node in values(var.nodes) : node if node.role == "data"]) >= 2
    error_message = "There must be two data nodes: a leader and a replica."
  }
  validation {
    condition = (length(distinct([for node in values(var.nodes) : node.zone if node.role != "restore"])) ==
    length([for node in values(var.nodes) : node if node.role != "restore"]))
    error_message = "Leader, replica and witness must each have a zone of their own, or the loss of one zone would take the majority."
  }
}

variable "other_region" {
  description = "The other region of the pair, and the addresses of its data nodes: a standby cluster streams from them, and they may stream from here."
  type = object({
    region    = string
    addresses = list(string)
  })
  validation {
    condition     = var.other_region.region != var.region
    error_message = "other_region must not be this region."
  }
  validation {
    condition     = length(setintersection(var.other_region.addresses, values(var.nodes)[*].address)) == 0
    error_message = "A node of the other region has the same address as a node of this one. Choose different networks."
  }
}

variable "cluster_role" {
  description = "What a new cluster is: primary takes writes, standby streams from the other region. Later changes are operations (dob-promote, dob-rejoin), not Terraform's."
  type        = string
  validation {
    condition     = contains(["primary", "standby"], var.cluster_role)
    error_message = "cluster_role must be primary or standby."
  }
}

variable "replication_mode" {
  description = "asynchronous: a saved date may be lost with the leader. synchronous: none is lost, but a save waits for the replica."
  type        = string
  default     = "asynchronous"
  validation {
    condition     = contains(["asynchronous", "synchronous"], var.replication_mode)
    error_message = "replication_mode must be asynchronous or synchronous."
  }
}

variable "client_networks" {
  description = "CIDR blocks from which the API's pods connect."
  type        = list(string)
  validation {
    condition     = alltrue([for network in var.client_networks : can(cidrhost(network, 0)) && !endswith(network, "/0")])
    error_message = "client_networks must be IPv4 CIDR blocks, and not the whole Internet."
  }
}

variable "backup_buckets" {
  description = "S3 bucket of the backups in each of the two regions, by region."
  type        = map(string)
  validation {
    condition     = setintersection(keys(var.backup_buckets), [var.region, var.other_region.region]) == toset([var.region, var.other_region.region])
    error_message = "backup_buckets must name a bucket for this region and for the other one."
  }
}

variable "backup_retention_days" {
  description = "Days for which a restore to any moment is possible."
  type        = number
  default     = 14
  validation {
    condition     = var.backup_retention_days >= 1
    error_message = "backup_retention_days must be at least 1."
  }
}

variable "data_device" {
  description = "Path of the data volume's block device, such as /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123. It is formatted only if it is blank."
  type        = string
  validation {
    condition     = startswith(var.data_device, "/dev/")
    error_message = "data_device must be a path under /dev."
  }
}

variable "data_volume_mb" {
  description = "Size of the data volume in MB. The limits of the WAL are computed from it."
  type        = number
  validation {
    condition     = var.data_volume_mb >= 512
    error_message = "data_volume_mb must be at least 512."
  }
}

variable "memory_mb" {
  description = "Memory of the node in MB. PostgreSQL's settings are computed from it."
  type        = number
  validation {
    condition     = var.memory_mb >= 512
    error_message = "memory_mb must be at least 512."
  }
}

variable "secrets" {
  description = <<-EOT
    Names in Secrets Manager. certificate_authority: JSON with certificate and key (PEM). passwords: JSON with replication,
    rewind, admin and backup_key (which encrypts the backups).
  EOT
  type = object({
    certificate_authority = string
    passwords             = string
  })
  validation {
    condition     = alltrue([for name in values(var.secrets) : can(regex("^[A-Za-z0-9/_+=.@-]+$", name))])
    error_message = "secrets must be names in Secrets Manager. passwords holds the key that encrypts the backups."
  }
}

variable "packages" {
  description = "Debian packages of a node, by its role, besides PostgreSQL. Packages that are installed already, for example in an image, are left as they are."
  type        = map(list(string))
  default = {
    common  = ["awscli", "curl", "jq", "openssl", "prometheus-node-exporter"]
    etcd    = ["etcd-client", "etcd-server"]
    restore = ["e2fsprogs", "pgbackrest"]
    # The Python packages are Patroni's dependencies.
    data = [
      "e2fsprogs", "pgbackrest", "prometheus-postgres-exporter",
      "python3-click", "python3-dateutil", "python3-etcd", "python3-prettytable", "python3-psutil", "python3-psycopg2", "python3-urllib3", "python3-venv",
      "python3-yaml", "python3-ydiff",
    ]
  }
}

variable "commands" {
  description = "A script for bash that the node runs at its first boot, after its own."
  type        = string
  default     = ""
}

variable "patroni" {
  description = "Release of Patroni on PyPI, and the SHA-256 of its wheel."
  type        = object({ version = string, sha256 = string })
  default     = { version = "4.1.5", sha256 = "7aad8c1539e6c51c269a8005169dd54ddc7668437b7900fa6099d7894e224c84" }
}
