output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "subnet_ids" {
  description = "Subnets by tier and zone."
  value = { for tier, zones in var.subnets : tier => {
    for zone in keys(zones) : zone => aws_subnet.this["${tier}-${zone}"].id
  } }
  # What boots in a subnet finds its way out.
  depends_on = [aws_network_acl.this, aws_route.internet, aws_route_table_association.this]
}

output "peering_connection_id" {
  description = "The link that this side requested, for the other side to accept; null where it requested none."
  value       = one(aws_vpc_peering_connection.requested[*].id)
}

output "nat_addresses" {
  description = "Public addresses that everything in the VPC goes out from."
  value       = values(aws_eip.nat)[*].public_ip
}
