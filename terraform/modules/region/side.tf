variable "side" {
  description = "Which region of the plan this is: primary or recovery."
  type        = string
  validation {
    condition     = contains(["primary", "recovery"], var.side)
    error_message = "side must be primary or recovery."
  }
  validation {
    condition     = var.peering == null || try(var.peering[var.side == "primary" ? "vpc_id" : "connection_id"], null) != null
    error_message = "The primary side requests the peering (vpc_id), the recovery side accepts it (connection_id)."
  }
}

variable "cluster_role" {
  description = "The role of the database cluster when it is created: primary or standby."
  type        = string
}

variable "default_size" {
  description = "The size if the variable size is null."
  type        = string
}

locals {
  standard = {
    data_instance_type    = "m7i.large"
    witness_instance_type = "t3.small"
    data_volume_gb        = 50
    node_instance_type    = "m7i.large"
    node_count            = { min = 3, desired = 3, max = 6 }
    single_nat_gateway    = false
    backups_lock_mode     = "COMPLIANCE"
    interface_endpoints   = ["ecr.api", "ecr.dkr", "eks-auth", "logs", "secretsmanager", "ssm", "ssmmessages"]
  }
  sizes = {
    standard = local.standard
    # The databases are as large as those of the other side, because they may take over. Kubernetes nodes are enlarged when that happens.
    small = merge(local.standard, { node_instance_type = "t3.medium" })
    demonstration = {
      data_instance_type    = "t3.small"
      witness_instance_type = "t3.micro"
      data_volume_gb        = 10
      node_instance_type    = "t3.medium"
      node_count            = { min = 3, desired = 3, max = 4 }
      single_nat_gateway    = true
      backups_lock_mode     = "GOVERNANCE"
      interface_endpoints   = []
    }
  }
  size = local.sizes[coalesce(var.size, var.default_size)]
}
