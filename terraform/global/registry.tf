# ECR, not GitHub's registry: nodes pull with their own role, no pull secret; and a region starts pods without the other region and
# without GitHub. Pushed here, copied to the primary region by AWS. Nothing expires: signatures have no tag, and a release stays verifiable.
resource "aws_ecr_repository" "api" {
  name                 = "${local.service}-api"
  image_tag_mutability = "IMMUTABLE"
  encryption_configuration {
    encryption_type = "KMS"
  }
  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_replication_configuration" "api" {
  replication_configuration {
    rule {
      destination {
        region      = local.sides.primary.region
        registry_id = local.account
      }
      repository_filter {
        filter      = aws_ecr_repository.api.name
        filter_type = "PREFIX_MATCH"
      }
    }
  }
}
