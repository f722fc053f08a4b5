module "topology" {
  source = "../modules/topology"

  domain  = var.domain
  regions = var.regions
}

provider "aws" {
  region = module.topology.sides.primary.region
  default_tags {
    tags = { Service = module.topology.service, Side = "primary", ManagedBy = "terraform" }
  }
}

module "region" {
  source = "../modules/region"

  side         = "primary"
  cluster_role = "primary"
  default_size = "standard"

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
