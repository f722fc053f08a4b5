# ECR, not GitHub's registry: nodes pull with their own role, no pull secret; and a region starts pods without the other region and
# without GitHub. Pushed here, copied to the primary region by AWS. Nothing expires: signatures have no tag, and a release stays verifiable.
module "registry" {
  source = "../modules/registry"

  name = module.topology.registry
}

# An account has one such configuration a region: scripts/check-account finds what is there before the first apply would replace it.
resource "aws_ecr_replication_configuration" "api" {
  count = var.singletons.replication ? 1 : 0

  replication_configuration {
    rule {
      destination {
        region      = local.sides.primary.region
        registry_id = local.account
      }
      repository_filter {
        filter      = module.registry.name
        filter_type = "PREFIX_MATCH"
      }
    }
  }
}
