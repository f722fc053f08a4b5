output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "Subnets by tier and zone."
  value = { for tier, zones in var.subnets : tier => {
    for zone in keys(zones) : zone => aws_subnet.this["${tier}-${zone}"].id
  } }
  # A machine that boots in a subnet needs its routes.
  depends_on = [aws_network_acl.this, aws_route.internet, aws_route_table_association.this]
}

output "peering_connection_id" {
  description = "The peering connection that this side requested, for the other side to accept. null if it requested none."
  value       = one(aws_vpc_peering_connection.requested[*].id)
}

output "nat_addresses" {
  description = "The public addresses of all outgoing connections of the VPC."
  value       = values(aws_eip.nat)[*].public_ip
}
