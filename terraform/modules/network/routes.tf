# One route table for the public subnets, and one per zone for each other tier, so that a lost zone affects only its own routes.
locals {
  route_tables = merge({ public = { tier = "public", zone = null } }, [for tier in ["private", "data"] : {
    for zone in local.zones : "${tier}-${zone}" => { tier = tier, zone = zone }
  }]...)

  # Database nodes download Debian packages and write to the other region's bucket, through NAT. In a demonstration with SSH, their subnets are
  # public.
  by_internet_gateway = concat(["public"], var.ssh_from == null ? [] : ["data"])
}

resource "aws_route_table" "this" {
  for_each = local.route_tables

  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-${each.key}" }
}

resource "aws_route_table_association" "this" {
  for_each = local.subnets

  subnet_id      = aws_subnet.this[each.key].id
  route_table_id = aws_route_table.this[each.value.tier == "public" ? "public" : each.key].id
}

resource "aws_route" "internet" {
  for_each = local.route_tables

  route_table_id         = aws_route_table.this[each.key].id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = contains(local.by_internet_gateway, each.value.tier) ? aws_internet_gateway.this.id : null
  nat_gateway_id         = contains(local.by_internet_gateway, each.value.tier) ? null : aws_nat_gateway.this[var.single_nat_gateway ? local.nat_zones[0] : each.value.zone].id
}

resource "aws_vpc_peering_connection" "requested" {
  count = try(var.peering.vpc_id, null) == null ? 0 : 1

  vpc_id      = aws_vpc.this.id
  peer_vpc_id = var.peering.vpc_id
  peer_region = var.peer.region
  tags        = { Name = "${var.name}-${var.peer.region}" }
}

resource "aws_vpc_peering_connection_accepter" "accepted" {
  count = try(var.peering.connection_id, null) == null ? 0 : 1

  vpc_peering_connection_id = var.peering.connection_id
  auto_accept               = true
  tags                      = { Name = "${var.name}-${var.peer.region}" }
}

resource "aws_route" "peer" {
  for_each = var.peering == null ? toset([]) : toset([for zone in local.zones : "data-${zone}"])

  route_table_id            = aws_route_table.this[each.key].id
  destination_cidr_block    = var.peer.data_cidr
  vpc_peering_connection_id = one(concat(aws_vpc_peering_connection.requested[*].id, aws_vpc_peering_connection_accepter.accepted[*].id))
}
