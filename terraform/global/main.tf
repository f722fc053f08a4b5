# What is one for both regions. It lives in the recovery region: it is needed most when the primary one is gone.
module "topology" {
  source = "../modules/topology"

  domain  = var.domain
  regions = var.regions
}

provider "aws" {
  region = local.home
  default_tags {
    tags = local.tags
  }
}

locals {
  service = module.topology.service
  sides   = module.topology.sides
  home    = local.sides.recovery.region
  account = data.aws_caller_identity.current.account_id
  tags    = { Service = local.service, Side = "global", ManagedBy = "terraform" }
}

data "aws_caller_identity" "current" {}

data "aws_route53_zone" "this" {
  name         = var.domain
  private_zone = false
}

# Asked by Route 53 from outside, through each region's load balancer and pods down to its database: the one question that takes a region
# out, because only another region can help.
resource "aws_route53_health_check" "side" {
  for_each = local.sides

  type              = "HTTPS"
  fqdn              = each.value.hostname
  port              = 443
  resource_path     = "/readyz"
  request_interval  = 10
  failure_threshold = 3
  tags              = { Name = each.value.hostname }
}

# The leading region answers while it is healthy, else the other one. Which one leads is a person's decision, as in the database: a
# region that follows is healthy, too, and can only greet. Names, not load balancers: this root asks no region.
resource "aws_route53_record" "failover" {
  for_each = { PRIMARY = var.leading_side, SECONDARY = one(setsubtract(keys(local.sides), [var.leading_side])) }

  zone_id         = data.aws_route53_zone.this.zone_id
  name            = module.topology.hostname
  type            = "CNAME"
  ttl             = 30
  records         = [local.sides[each.value].hostname]
  set_identifier  = lower(each.key)
  health_check_id = aws_route53_health_check.side[each.value].id
  failover_routing_policy {
    type = each.key
  }
}
