data "aws_caller_identity" "current" {}

data "aws_region" "current" {
  lifecycle {
    postcondition {
      condition     = self.id == local.here.region
      error_message = "The provider works in ${self.id}, but the plan puts the ${var.side} side in ${local.here.region}."
    }
  }
}

data "aws_availability_zones" "here" {
  # checkov:skip=CKV_AWS_394: no resource is created for each of these. The zones of the plan are only compared with them.
  state = "available"
  lifecycle {
    postcondition {
      condition     = length(setsubtract(local.here.zones, self.names)) == 0
      error_message = <<-EOT
        This account has no zone ${join(", ", setsubtract(local.here.zones, self.names))}, only ${join(", ", self.names)}: name three of them in
        regions.${var.side}.zones, the same in every root.
      EOT
    }
  }
}

data "aws_route53_zone" "this" {
  name         = var.domain
  private_zone = false
}

module "topology" {
  source = "../topology"

  domain  = var.domain
  regions = var.regions
}

locals {
  service = module.topology.service
  here    = module.topology.sides[var.side]
  there   = module.topology.sides[var.side == "primary" ? "recovery" : "primary"]

  # The names follow one pattern in both regions, so that a region knows the other's name without reading it.
  key_names = { backups = "${local.service}-backups", secrets = "${local.service}-secrets" }
  buckets   = { for side in values(module.topology.sides) : side.region => "${local.service}-backups-${data.aws_caller_identity.current.account_id}-${side.region}" }

  logs = { key_arn = module.logs_key.arn, retention_days = 365 }
}

module "logs_key" {
  source = "../key"

  name          = "${local.service}-logs"
  description   = "Logs of the network, the cluster and the database"
  encrypts_logs = true
}

module "network" {
  source = "../network"

  name                = local.service
  cidr                = local.here.cidr
  blocks              = local.here.blocks
  subnets             = local.here.subnets
  ports               = module.topology.ports
  single_nat_gateway  = coalesce(var.single_nat_gateway, local.size.single_nat_gateway)
  interface_endpoints = local.size.interface_endpoints
  peer                = { region = local.there.region, data_cidr = local.there.blocks.data }
  peering             = var.peering
  ssh_from            = try(var.ssh.from, null)
  logs_key_arn        = local.logs.key_arn
  log_retention_days  = local.logs.retention_days
}

module "backups" {
  source = "../backups"

  bucket               = local.buckets[local.here.region]
  key_name             = local.key_names.backups
  lock_mode            = local.size.backups_lock_mode
  database_role_prefix = "${local.service}-database-"
}

module "secrets" {
  source = "../secrets"

  key_name       = local.key_names.secrets
  names          = module.topology.secrets
  replica_region = var.side == "primary" ? local.there.region : null
}

module "database" {
  source = "../database"

  name             = local.service
  nodes            = local.here.nodes
  restore_node     = var.restore_node
  cluster_role     = var.cluster_role
  replication_mode = var.replication_mode
  peer = {
    region    = local.there.region
    addresses = [for node in values(local.there.nodes) : node.address if node.role == "data"]
    data_cidr = local.there.blocks.data
  }
  network        = { vpc_id = module.network.vpc_id, subnet_ids = module.network.subnet_ids.data }
  clients        = { security_group_id = module.eks.security_group_id, cidr = local.here.blocks.private }
  ports          = module.topology.ports
  backups        = { buckets = local.buckets, key_alias = "alias/${local.key_names.backups}" }
  secrets        = merge(module.topology.secrets, { key_arn = module.secrets.key_arn })
  instance_types = { data = local.size.data_instance_type, witness = local.size.witness_instance_type }
  data_volume_gb = local.size.data_volume_gb
  ssh            = var.ssh
  agent          = var.agent
  logs           = local.logs
}

module "eks" {
  source = "../eks"

  name               = local.service
  subnet_ids         = values(module.network.subnet_ids.private)
  shim               = var.shim
  bucket             = "${local.service}-nodes-${data.aws_caller_identity.current.account_id}-${local.here.region}"
  node_instance_type = local.size.node_instance_type
  node_count         = local.size.node_count
  api_allowed_cidrs  = var.api_allowed_cidrs
  admin_arns         = var.admin_arns
  deployer_arn       = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:role/${local.service}-deploy"
  target_group_arn   = module.edge.target_group_arn
  api_secret         = { name = module.topology.secrets.api, key_arn = module.secrets.key_arn }
  alarm_topics       = var.alarm_topics
  logs               = local.logs
}

module "edge" {
  source = "../edge"

  name      = local.service
  network   = { vpc_id = module.network.vpc_id, subnet_ids = values(module.network.subnet_ids.public) }
  pods      = { security_group_id = module.eks.security_group_id, port = module.topology.ports.pods }
  zone_id   = data.aws_route53_zone.this.zone_id
  hostnames = { service = module.topology.hostname, region = local.here.hostname }
  drain     = module.topology.drain

  alarm_topics = var.alarm_topics
}

# The registry that releases are copied to. The recovery region's registry, which they are pushed to, belongs to the global root.
module "registry" {
  source = "../registry"
  count  = var.side == "primary" ? 1 : 0

  name = module.topology.registry
}
