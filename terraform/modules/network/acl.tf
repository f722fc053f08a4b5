# A second, stateless filter besides the security groups. It lets answers in by the range of ports that outgoing connections use.
locals {
  # NAT gateways, and the CNI for its pods, use any port above the reserved ones.
  answers_to_nat = { protocol = "tcp", cidr = "0.0.0.0/0", from = 1024, to = 65535 }
  # Linux itself uses these ports, which are above every listening port of a database node.
  answers_to_linux = { protocol = "tcp", cidr = "0.0.0.0/0", from = 32768, to = 65535 }

  inbound = {
    public = [
      { protocol = "-1", cidr = var.cidr, from = 0, to = 0 },
      { protocol = "tcp", cidr = "0.0.0.0/0", from = 443, to = 443 },
      local.answers_to_nat,
    ]
    private = [
      { protocol = "-1", cidr = var.cidr, from = 0, to = 0 },
      local.answers_to_nat,
    ]
    data = concat(
      # From the API's pods and Prometheus.
      [for port in [var.ports.postgresql, var.ports.patroni, var.ports.etcd_metrics, var.ports.node_exporter, var.ports.postgres_exporter] :
        { protocol = "tcp", cidr = var.blocks.private, from = port, to = port }
      ],
      [
        { protocol = "-1", cidr = var.blocks.data, from = 0, to = 0 },
        { protocol = "tcp", cidr = var.peer.data_cidr, from = var.ports.postgresql, to = var.ports.postgresql },
        { protocol = "tcp", cidr = var.peer.data_cidr, from = var.ports.patroni, to = var.ports.patroni },
        local.answers_to_linux,
      ],
      var.ssh_from == null ? [] : [{ protocol = "tcp", cidr = var.ssh_from, from = 22, to = 22 }],
    )
  }
}

resource "aws_network_acl" "this" {
  for_each = local.inbound

  vpc_id     = aws_vpc.this.id
  subnet_ids = [for name, subnet in local.subnets : aws_subnet.this[name].id if subnet.tier == each.key]
  tags       = { Name = "${var.name}-${each.key}" }

  dynamic "ingress" {
    for_each = each.value
    content {
      rule_no    = 100 + 10 * ingress.key
      action     = "allow"
      protocol   = ingress.value.protocol
      cidr_block = ingress.value.cidr
      from_port  = ingress.value.from
      to_port    = ingress.value.to
    }
  }

  egress {
    rule_no    = 100
    action     = "allow"
    protocol   = "-1"
    cidr_block = "0.0.0.0/0"
    from_port  = 0
    to_port    = 0
  }
}
