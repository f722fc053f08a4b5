# The same for both sides. What differs is in side.tf.
module "topology" {
  source = "../modules/topology"

  domain  = var.domain
  regions = var.regions
}

provider "aws" {
  region = module.topology.sides[local.side].region
  default_tags {
    tags = { Service = module.topology.service, Side = local.side, ManagedBy = "terraform" }
  }
}

module "region" {
  source = "../modules/region"

  side               = local.side
  cluster_role       = local.cluster_role
  default_size       = local.default_size
  domain             = var.domain
  regions            = var.regions
  size               = var.size
  single_nat_gateway = var.single_nat_gateway
  replication_mode   = var.replication_mode
  peering            = var.peering
  restore_node       = var.restore_node
  ssh                = var.ssh
  api_allowed_cidrs  = var.api_allowed_cidrs
  admin_arns         = var.admin_arns
  alarm_topics       = var.alarm_topics
  agent              = var.agent
  shim               = var.shim
}
