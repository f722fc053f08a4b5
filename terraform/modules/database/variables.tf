variable "name" {
  description = "Name of the service and of the database cluster: prefix of the resources' names."
  type        = string
}

variable "nodes" {
  description = "The region's nodes by name: fixed private address, zone, role (data, witness, restore)."
  type        = map(object({ address = string, zone = string, role = string }))
}

variable "restore_node" {
  description = "Whether the nodes of role restore run. They are for a point-in-time restore, apart from the cluster."
  type        = bool
  default     = false
}

variable "postgresql_version" {
  description = "Major version of PostgreSQL (database-node has the default, and checks it). A running cluster keeps its version."
  type        = string
  default     = null
}

variable "upgrade_peers" {
  description = "Addresses of the data nodes of this cluster's older or newer version, while it is upgraded."
  type        = list(string)
  default     = []
}

variable "cluster_role" {
  description = "What a new cluster is: primary or standby (database-node checks it)."
  type        = string
}

variable "replication_mode" {
  description = "Replication of a new cluster: asynchronous or synchronous (database-node checks it)."
  type        = string
  default     = "asynchronous"
}

variable "peer" {
  description = "The other region: its name, its data nodes' addresses and the CIDR block of its data subnets."
  type        = object({ region = string, addresses = list(string), data_cidr = string })
  validation {
    condition     = can(cidrhost(var.peer.data_cidr, 0))
    error_message = "peer.data_cidr must be an IPv4 CIDR block, such as 10.21.68.0/22."
  }
}

variable "network" {
  description = "The VPC and the data subnets by zone."
  type        = object({ vpc_id = string, subnet_ids = map(string) })
}

variable "clients" {
  description = "The API's pods: their security group and the CIDR block of their subnets."
  type        = object({ security_group_id = string, cidr = string })
  validation {
    condition     = can(cidrhost(var.clients.cidr, 0))
    error_message = "clients.cidr must be an IPv4 CIDR block, such as 10.20.0.0/18."
  }
}

variable "ports" {
  description = "TCP ports of the nodes."
  type        = object({ postgresql = number, patroni = number, etcd_client = number, etcd_peer = number, etcd_metrics = number, node_exporter = number, postgres_exporter = number })
}

variable "backups" {
  description = "Buckets of the backups by region, and the alias that their keys have in both regions."
  type        = object({ buckets = map(string), key_alias = string })
}

variable "secrets" {
  description = "Names of the nodes' secrets, and the key that they are encrypted with in this region."
  type        = object({ certificate_authority = string, passwords = string, key_arn = string })
}

variable "instance_types" {
  description = "EC2 instance types of the data nodes and of the witness. They must be x86, like the machines that the drills run on."
  type        = object({ data = string, witness = string })
}

variable "data_volume_gb" {
  description = "Size of each data volume in GB."
  type        = number
  validation {
    condition     = var.data_volume_gb >= 10 && var.data_volume_gb <= 16384
    error_message = "data_volume_gb must be between 10 and 16384."
  }
}

variable "ssh" {
  description = "For a demonstration: the block that may connect by SSH, and the public key that it uses. Gives every node a public address."
  type        = object({ from = string, public_key = string })
  default     = null
  validation {
    condition     = var.ssh == null ? true : can(cidrhost(var.ssh.from, 0)) && try(tonumber(split("/", var.ssh.from)[1]), 0) >= 16
    error_message = "ssh.from must be an IPv4 CIDR block of /16 or smaller, such as 192.0.2.7/32: it must not be the whole Internet."
  }
}

variable "logs" {
  description = "KMS key of the logs, and the days for which they are kept."
  type        = object({ key_arn = string, retention_days = number })
}

variable "agent" {
  description = "Session Manager's agent: its version, and the SHA-256 of debian_amd64/amazon-ssm-agent.deb."
  type        = object({ version = string, sha256 = string })
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.agent.sha256))
    error_message = <<-EOT
      There is no checksum of Session Manager's agent ${var.agent.version} yet: download
      https://s3.eu-west-1.amazonaws.com/amazon-ssm-eu-west-1/${var.agent.version}/debian_amd64/amazon-ssm-agent.deb, check its signature as AWS
      describes it, and write its sha256sum into terraform/agent.auto.tfvars.json.
    EOT
  }
}
