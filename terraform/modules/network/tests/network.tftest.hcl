mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name   = "dob"
  cidr   = "10.20.0.0/16"
  blocks = { public = "10.20.64.0/22", private = "10.20.0.0/18", data = "10.20.68.0/22" }
  subnets = {
    public  = { eu-west-1a = "10.20.64.0/24", eu-west-1b = "10.20.65.0/24", eu-west-1c = "10.20.66.0/24" }
    private = { eu-west-1a = "10.20.0.0/20", eu-west-1b = "10.20.16.0/20", eu-west-1c = "10.20.32.0/20" }
    data    = { eu-west-1a = "10.20.68.0/24", eu-west-1b = "10.20.69.0/24", eu-west-1c = "10.20.70.0/24" }
  }
  ports              = { postgresql = 5432, patroni = 8008, etcd_metrics = 2381, node_exporter = 9100, postgres_exporter = 9187 }
  peer               = { region = "eu-central-1", data_cidr = "10.21.68.0/22" }
  logs_key_arn       = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  log_retention_days = 365
}

run "three_zones" {
  assert {
    condition     = length(distinct(values(aws_subnet.this)[*].availability_zone)) == 3 && length(aws_subnet.this) == 9
    error_message = "Not every tier has a subnet in each of three zones."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "Not every zone has its NAT gateway."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.this : subnet.map_public_ip_on_launch != true])
    error_message = "A subnet hands out public addresses."
  }
}

run "ways_out" {
  assert {
    condition     = alltrue([for name, route in aws_route.internet : (route.gateway_id != null) == (name == "public")])
    error_message = "Other subnets than the public ones can reach the Internet gateway."
  }
  assert {
    condition     = aws_route.internet["data-eu-west-1b"].nat_gateway_id == aws_nat_gateway.this["eu-west-1b"].id
    error_message = "A zone depends on another zone's NAT gateway."
  }
  assert {
    condition     = length(aws_vpc_endpoint.s3.route_table_ids) == 6
    error_message = "S3 is not reached by the gateway endpoint from every private and data subnet."
  }
  assert {
    condition     = keys(aws_vpc_endpoint.interface) == ["ecr.api", "ecr.dkr", "eks-auth", "logs", "secretsmanager", "ssm", "ssmmessages"]
    error_message = "Without a NAT gateway, images, secrets, logs or Session Manager would not work."
  }
  assert {
    condition = alltrue([for endpoint in aws_vpc_endpoint.interface :
      endpoint.private_dns_enabled && endpoint.security_group_ids == toset([aws_security_group.endpoints.id])
      && endpoint.subnet_ids == toset([for zone in local.zones : aws_subnet.this["private-${zone}"].id])
    ])
    error_message = "An endpoint is not used by name, not in every zone, or not behind its security group."
  }
}

run "ways_in" {
  assert {
    condition     = length(aws_default_security_group.this.ingress) == 0 && length(aws_default_security_group.this.egress) == 0
    error_message = "The default security group is not empty."
  }
  assert {
    # From the Internet only answers may reach the databases: nothing listens on those ports.
    condition     = alltrue([for rule in aws_network_acl.this["data"].ingress : rule.from_port >= 32768 if rule.cidr_block == "0.0.0.0/0"])
    error_message = "The Internet can reach a listening port of the data subnets."
  }
  assert {
    # NAT gateways, and the CNI for its pods, go out from any port above the reserved ones.
    condition = alltrue([for tier in ["public", "private"] : anytrue([
      for rule in aws_network_acl.this[tier].ingress : rule.cidr_block == "0.0.0.0/0" && rule.from_port == 1024 && rule.to_port == 65535
    ])])
    error_message = "Answers to connections that went out through NAT are dropped."
  }
  assert {
    condition     = toset([for rule in aws_network_acl.this["data"].ingress : rule.from_port if rule.cidr_block == "10.21.68.0/22"]) == toset([5432, 8008])
    error_message = "The other region reaches more than PostgreSQL and Patroni."
  }
  assert {
    condition     = toset([for rule in aws_network_acl.this["data"].ingress : rule.from_port if rule.cidr_block == var.blocks.private]) == toset(values(var.ports))
    error_message = "Pods can't reach PostgreSQL and the exporters, or can reach more."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == var.cidr
    error_message = "The endpoints are open to clients outside the VPC."
  }
}

run "the_clock" {
  assert {
    condition     = aws_vpc_dhcp_options.this.ntp_servers == tolist(["169.254.169.123"]) && aws_vpc_dhcp_options_association.this.dhcp_options_id == aws_vpc_dhcp_options.this.id
    error_message = "Machines use a time server on the Internet, which the security groups block."
  }
}

run "flow_logs" {
  assert {
    condition     = aws_flow_log.this.traffic_type == "ALL" && aws_cloudwatch_log_group.flow.kms_key_id == var.logs_key_arn
    error_message = "Flow logs are incomplete or not encrypted."
  }
  assert {
    # The rights that AWS documents for a flow log, except to create the group.
    condition = toset(flatten(jsondecode(aws_iam_role_policy.flow.policy).Statement[*].Action)) == toset([
      for action in ["CreateLogStream", "DescribeLogGroups", "DescribeLogStreams", "PutLogEvents"] : "logs:${action}"
    ])
    error_message = "The flow log can't write, or may do more than that."
  }
}

run "one_nat_gateway" {
  variables {
    single_nat_gateway = true
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(distinct(compact(values(aws_route.internet)[*].nat_gateway_id))) == 1
    error_message = "The zones do not share the one NAT gateway."
  }
}

run "no_peering" {
  assert {
    condition     = length(aws_vpc_peering_connection.requested) + length(aws_vpc_peering_connection_accepter.accepted) + length(aws_route.peer) == 0
    error_message = "There is a peering that was not requested."
  }
}

run "peering_requested" {
  variables {
    peering = { vpc_id = "vpc-0123" }
  }
  assert {
    condition     = aws_vpc_peering_connection.requested[0].peer_region == "eu-central-1"
    error_message = "The peering connects to another region than the peer's."
  }
  assert {
    condition     = keys(aws_route.peer) == ["data-eu-west-1a", "data-eu-west-1b", "data-eu-west-1c"] && alltrue([for route in aws_route.peer : route.destination_cidr_block == "10.21.68.0/22"])
    error_message = "Other subnets than the data subnets have a route to the other region."
  }
}

run "peering_accepted" {
  variables {
    peering = { connection_id = "pcx-0123" }
  }
  assert {
    condition     = aws_vpc_peering_connection_accepter.accepted[0].auto_accept && length(aws_vpc_peering_connection.requested) == 0 && length(aws_route.peer) == 3
    error_message = "The peering is not accepted."
  }
}

run "ssh_for_a_demonstration" {
  variables {
    ssh_from = "192.0.2.7/32"
  }
  assert {
    condition     = [for rule in aws_network_acl.this["data"].ingress : rule.cidr_block if rule.from_port == 22] == ["192.0.2.7/32"]
    error_message = "SSH is not allowed from exactly that block."
  }
  assert {
    condition     = aws_route.internet["data-eu-west-1a"].gateway_id == aws_internet_gateway.this.id
    error_message = "The data subnets are not public."
  }
}

run "ssh_from_everywhere" {
  command = plan
  variables {
    ssh_from = "0.0.0.0/0"
  }
  expect_failures = [var.ssh_from]
}

run "a_peer_that_is_no_block" {
  command = plan
  variables {
    peer = { region = "eu-central-1", data_cidr = "10.21.68.0" }
  }
  expect_failures = [var.peer]
}

run "a_tier_that_is_no_block" {
  command = plan
  variables {
    blocks = { public = "10.20.64.0/22", private = "private", data = "10.20.68.0/22" }
  }
  expect_failures = [var.blocks]
}

run "a_subnet_that_is_no_block" {
  command = plan
  variables {
    subnets = {
      public  = { eu-west-1a = "10.20.64.0/24", eu-west-1b = "10.20.65.0/24", eu-west-1c = "10.20.66.0/24" }
      private = { eu-west-1a = "10.20.0.0/20", eu-west-1b = "10.20.16.0/20", eu-west-1c = "10.20.32.0/20" }
      data    = { eu-west-1a = "10.20.68.0/24", eu-west-1b = "10.20.69.0/24", eu-west-1c = "10.20.70" }
    }
  }
  expect_failures = [var.subnets]
}

run "a_vpc_that_is_no_block" {
  command = plan
  variables {
    cidr = "10.20.0.0"
  }
  expect_failures = [var.cidr]
}

run "logs_kept_for_a_time_that_cloudwatch_does_not_have" {
  command = plan
  variables {
    log_retention_days = 100
  }
  expect_failures = [var.log_retention_days]
}

run "peering_both_ways" {
  command = plan
  variables {
    peering = { vpc_id = "vpc-0123", connection_id = "pcx-0123" }
  }
  expect_failures = [var.peering]
}

run "two_zones" {
  command = plan
  variables {
    subnets = {
      public  = { eu-west-1a = "10.20.64.0/24", eu-west-1b = "10.20.65.0/24" }
      private = { eu-west-1a = "10.20.0.0/20", eu-west-1b = "10.20.16.0/20" }
      data    = { eu-west-1a = "10.20.68.0/24", eu-west-1b = "10.20.69.0/24" }
    }
  }
  expect_failures = [var.subnets]
}
