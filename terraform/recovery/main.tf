module "topology" {
  source = "../modules/topology"

  domain  = var.domain
  regions = var.regions
}

provider "aws" {
  region = module.topology.sides.recovery.region
  default_tags {
    tags = { Service = module.topology.service, Side = "recovery", ManagedBy = "terraform" }
  }
}

module "region" {
  source = "../modules/region"

  side         = "recovery"
  cluster_role = "standby"
  default_size = "small"

  domain            = var.domain
  regions           = var.regions
  size              = var.size
  replication_mode  = var.replication_mode
  peering           = var.peering
  restore_node      = var.restore_node
  ssh               = var.ssh
  api_allowed_cidrs = var.api_allowed_cidrs
  admin_arns        = var.admin_arns
}
