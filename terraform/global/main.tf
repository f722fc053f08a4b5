# What both regions share. Its state is in the recovery region, because it is needed most when the primary region is lost.
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

# Route 53 requests /readyz from outside, so the check covers each region's load balancer, pods and database. It is the only check that takes a
# region out of DNS.
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

# DNS answers with the leading region while it is healthy, and otherwise with the other one. A person decides which region leads, because a region
# that follows is healthy, too, but can't save. The records point to host names rather than load balancers, so that this root reads no region.
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
