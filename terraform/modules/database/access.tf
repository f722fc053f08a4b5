# Who may connect to the nodes, and from where.
resource "aws_security_group" "nodes" {
  # checkov:skip=CKV2_AWS_5: attached to the nodes' network interfaces, which checkov does not see through for_each.
  name        = "${var.name}-database"
  description = "Database nodes"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-database" }
}

locals {
  among_nodes = { postgresql = var.ports.postgresql, patroni = var.ports.patroni, etcd-client = var.ports.etcd_client, etcd-peer = var.ports.etcd_peer }
  # The other region's nodes stream from here, and ask Patroni which node leads.
  between_regions = { postgresql = var.ports.postgresql, patroni = var.ports.patroni }

  # Prometheus runs in the Kubernetes cluster. Patroni's port serves metrics, and changes nothing without a certificate.
  metrics = {
    etcd              = var.ports.etcd_metrics
    node-exporter     = var.ports.node_exporter
    patroni           = var.ports.patroni
    postgres-exporter = var.ports.postgres_exporter
  }

  ingress = merge(
    { for name, port in local.among_nodes : "nodes-${name}" => { port = port, group = aws_security_group.nodes.id } },
    { for name, port in local.between_regions : "other-region-${name}" => { port = port, cidr = var.peer.data_cidr } },
    { for name, port in local.metrics : "metrics-${name}" => { port = port, group = var.clients.security_group_id } },
    # The other version reads this one's changes.
    { for address in var.upgrade_peers : "upgrade-${address}" => { port = var.ports.postgresql, cidr = "${address}/32" } },
    { pods = { port = var.ports.postgresql, group = var.clients.security_group_id } },
    var.ssh == null ? {} : { ssh = { port = 22, cidr = var.ssh.from } },
  )
  egress = merge(
    { for name, port in local.among_nodes : "nodes-${name}" => { port = port, group = aws_security_group.nodes.id } },
    { for name, port in local.between_regions : "other-region-${name}" => { port = port, cidr = var.peer.data_cidr } },
    { for address in var.upgrade_peers : "upgrade-${address}" => { port = var.ports.postgresql, cidr = "${address}/32" } },
    # Debian's packages (by plain HTTP too, because they are signed), AWS's services, and the other region's bucket.
    { https = { port = 443, cidr = "0.0.0.0/0" }, http = { port = 80, cidr = "0.0.0.0/0" } },
  )
}

resource "aws_vpc_security_group_ingress_rule" "nodes" {
  for_each = local.ingress

  security_group_id            = aws_security_group.nodes.id
  description                  = each.key
  referenced_security_group_id = try(each.value.group, null)
  cidr_ipv4                    = try(each.value.cidr, null)
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_egress_rule" "nodes" {
  for_each = local.egress

  security_group_id            = aws_security_group.nodes.id
  description                  = each.key
  referenced_security_group_id = try(each.value.group, null)
  cidr_ipv4                    = try(each.value.cidr, null)
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

# For demonstrations only: SSH from one block to public addresses.
resource "aws_key_pair" "demonstration" {
  count = var.ssh == null ? 0 : 1

  key_name   = "${var.name}-demonstration"
  public_key = var.ssh.public_key
}

resource "aws_eip" "demonstration" {
  # checkov:skip=CKV2_AWS_19: attached to a network interface, which outlives the instance.
  for_each = var.ssh == null ? {} : local.nodes

  domain            = "vpc"
  network_interface = aws_network_interface.node[each.key].id
  tags              = { Name = each.key }
}
