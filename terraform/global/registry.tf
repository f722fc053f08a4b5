# ECR rather than GitHub's registry: nodes pull with their own role and need no pull secret, and a region can start pods without the other region
# and without GitHub. Releases are pushed here, and AWS copies them to the primary region. Nothing expires, because signatures have no tag and a
# release must stay verifiable.
module "registry" {
  source = "../modules/registry"

  name = module.topology.registry
}

# An account has one such configuration per region. scripts/check-account finds an existing one before the first apply would replace it.
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
