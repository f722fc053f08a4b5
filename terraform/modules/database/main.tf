data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

data "aws_ami" "debian" {
  most_recent = true
  owners      = ["136693071363"] # Debian
  filter {
    name   = "name"
    values = ["debian-13-amd64-*"]
  }
}

data "aws_ec2_instance_type" "this" {
  for_each      = var.instance_types
  instance_type = each.value
}

locals {
  region = data.aws_region.current.id
  nodes  = { for name, node in var.nodes : name => node if node.role != "restore" || var.restore_node }
  # A restore node's role exists even without the node, so that whoever creates the node does not need the right to create roles.
  roles = toset(values(var.nodes)[*].role)

  # A restore node has the data nodes' type, because it holds the same data.
  instance_types = { for name, node in local.nodes : name => node.role == "witness" ? "witness" : "data" }
  volumes        = merge(aws_ebs_volume.data, aws_ebs_volume.restore)
  devices = { for name in keys(local.nodes) : name =>
    # A witness has no data volume.
    "/dev/disk/by-id/${can(local.volumes[name]) ? "nvme-Amazon_Elastic_Block_Store_${replace(local.volumes[name].id, "-", "")}" : "none"}"
  }
}

module "node" {
  source   = "../database-node"
  for_each = local.nodes

  cluster            = var.name
  postgresql_version = var.postgresql_version
  upgrade_peers      = var.upgrade_peers
  region             = local.region
  node               = each.key
  nodes              = local.nodes
  other_region       = { region = var.peer.region, addresses = var.peer.addresses }
  cluster_role       = var.cluster_role
  replication_mode   = var.replication_mode
  client_networks    = [var.clients.cidr]
  backup_buckets     = var.backups.buckets
  data_device        = local.devices[each.key]
  data_volume_mb     = var.data_volume_gb * 1024
  memory_mb          = data.aws_ec2_instance_type.this[local.instance_types[each.key]].memory_size
  secrets            = { certificate_authority = var.secrets.certificate_authority, passwords = var.secrets.passwords }
  # What only EC2 needs: Session Manager's agent, which Debian's image lacks.
  commands = local.ec2
}

locals {
  # Without comments, because EC2 takes at most 16 KB of user data.
  ec2 = replace(templatefile("${path.module}/ec2.sh", merge(var.agent, { region = local.region })), "/(?m)^ *(#( .*)?\n)?/", "")
}

# The address outlives the instance.
resource "aws_network_interface" "node" {
  for_each = local.nodes

  description     = each.key
  subnet_id       = var.network.subnet_ids[each.value.zone]
  private_ips     = [each.value.address]
  security_groups = [aws_security_group.nodes.id]
  tags            = { Name = each.key }
}

resource "aws_instance" "node" {
  for_each = local.nodes

  ami                  = data.aws_ami.debian.id
  instance_type        = var.instance_types[local.instance_types[each.key]]
  iam_instance_profile = aws_iam_instance_profile.node[each.value.role].name
  key_name             = one(aws_key_pair.demonstration[*].key_name)
  user_data_base64     = module.node[each.key].user_data
  ebs_optimized        = true
  monitoring           = true

  network_interface {
    network_interface_id = aws_network_interface.node[each.key].id
    device_index         = 0
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 16
    encrypted   = true
    kms_key_id  = module.volumes_key.arn
    tags        = { Name = each.key }
  }

  tags = { Name = each.key, Role = "${var.name}-database-${each.value.role}" }

  lifecycle {
    # A newer image, another instance type or changed user data has no effect until a person replaces the nodes, one at a time, with
    # terraform apply -replace=… Otherwise, both data nodes of a region could be stopped at once.
    ignore_changes = [ami, instance_type, key_name, user_data_base64]
  }
}

check "nodes_are_current" {
  assert {
    condition     = alltrue([for name, node in aws_instance.node : node.user_data_base64 == module.node[name].user_data && node.ami == data.aws_ami.debian.id])
    error_message = "Some database nodes run an older image or configuration than this code's. Replace them one at a time, the replica first: see docs/runbooks.md, Replace database nodes."
  }
}

resource "aws_cloudwatch_metric_alarm" "recover" {
  for_each = local.nodes

  alarm_name          = "${each.key}-recover"
  alarm_description   = "The machine under ${each.key} failed: EC2 moves the node to another one."
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.node[each.key].id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 2
  alarm_actions       = ["arn:aws:automate:${local.region}:ec2:recover"]
}

resource "aws_cloudwatch_log_group" "database" {
  # dob-logs writes to this name.
  name              = "/dob/${var.name}/database"
  kms_key_id        = var.logs.key_arn
  retention_in_days = var.logs.retention_days
}

# Private names. The nodes' certificates have the short names and the addresses.
resource "aws_route53_zone" "this" {
  # checkov:skip=CKV2_AWS_38: DNSSEC signing exists for public zones only.
  # checkov:skip=CKV2_AWS_39: query logging exists for public zones only.
  name    = "${var.name}.internal"
  comment = "Database nodes of ${local.region}"
  vpc {
    vpc_id = var.network.vpc_id
  }
}

resource "aws_route53_record" "node" {
  # checkov:skip=CKV2_AWS_23: the nodes' private addresses, which are not resources that checkov knows.
  for_each = local.nodes

  zone_id = aws_route53_zone.this.zone_id
  name    = each.key
  type    = "A"
  ttl     = 60
  records = [each.value.address]
  # If AWS's answer is lost, Terraform asks again, and the record is there already. Nobody else writes to this zone.
  allow_overwrite = true
}
