module "volumes_key" {
  source = "../key"

  name        = "${var.name}-database-volumes"
  description = "Volumes of the database nodes"
}

locals {
  volume = { type = "gp3", iops = 3000, throughput = 125 }
}

# The data outlives the instance, and no plan can destroy it.
resource "aws_ebs_volume" "data" {
  for_each = { for name, node in local.nodes : name => node if node.role == "data" }

  availability_zone = each.value.zone
  size              = var.data_volume_gb
  type              = local.volume.type
  iops              = local.volume.iops
  throughput        = local.volume.throughput
  encrypted         = true
  kms_key_id        = module.volumes_key.arn
  tags              = { Name = "${each.key}-data" }

  lifecycle {
    prevent_destroy = true
  }
}

# The restored data is destroyed with its node.
resource "aws_ebs_volume" "restore" {
  for_each = { for name, node in local.nodes : name => node if node.role == "restore" }

  availability_zone = each.value.zone
  size              = var.data_volume_gb
  type              = local.volume.type
  iops              = local.volume.iops
  throughput        = local.volume.throughput
  encrypted         = true
  kms_key_id        = module.volumes_key.arn
  tags              = { Name = "${each.key}-data" }
}

resource "aws_volume_attachment" "data" {
  for_each = { for name, node in local.nodes : name => node if node.role != "witness" }

  device_name = "/dev/sdf"
  volume_id   = local.volumes[each.key].id
  instance_id = aws_instance.node[each.key].id
  # So that PostgreSQL is shut down cleanly before its volume is detached.
  stop_instance_before_detaching = true
}
