# The lab's two regions: the user data of their nodes, rendered by the module that the AWS roots use.
terraform {
  required_version = "~> 1.11"
}

locals {
  # Addresses: 10.77.<region>.<node>/16, one bridge; 10.77.0.1 is the clients', and AWS's.
  regions = {
    west    = { name = "eu-west-1", network = "10.77.1", role = "primary", other = "central" }
    central = { name = "eu-central-1", network = "10.77.2", role = "standby", other = "west" }
  }
  shape = {
    a = { host = 11, zone = "a", role = "data" }
    b = { host = 12, zone = "b", role = "data" }
    c = { host = 13, zone = "c", role = "witness" }
    r = { host = 14, zone = "a", role = "restore" }
  }
  nodes = { for key, region in local.regions : key => {
    for suffix, node in local.shape : "${key}-${suffix}" => {
      address = "${region.network}.${node.host}"
      zone    = "${region.name}${node.zone}"
      role    = node.role
    }
  } }
  buckets        = { for region in values(local.regions) : region.name => "dob-backups-${region.name}" }
  secrets        = { certificate_authority = "dob/certificate-authority", passwords = "dob/passwords" }
  data_device    = "/dev/disk/by-id/dob-data"
  data_volume_mb = 1024
}

module "node" {
  source = "../../../terraform/modules/database-node"
  for_each = merge([for key, nodes in local.nodes : {
    for name in keys(nodes) : name => merge(local.regions[key], { key = key })
  }]...)

  region       = each.value.name
  node         = each.key
  nodes        = local.nodes[each.value.key]
  cluster_role = each.value.role
  other_region = {
    region    = local.regions[each.value.other].name
    addresses = [for node in values(local.nodes[each.value.other]) : node.address if node.role == "data"]
  }
  client_networks = ["10.77.0.0/29"]
  backup_buckets  = local.buckets
  data_device     = local.data_device
  data_volume_mb  = local.data_volume_mb
  memory_mb       = 1024
  secrets         = local.secrets
}

output "nodes" {
  description = "The nodes by name."
  value = merge([for key, nodes in local.nodes : { for name, node in nodes : name => merge(node, {
    region    = local.regions[key].name
    user_data = module.node[name].user_data
    ports     = module.node[name].ports
  }) }]...)
}

output "packages" {
  description = "What a base system for all of them holds."
  value       = sort(distinct(flatten(values(module.node)[*].packages)))
}

output "patroni" {
  description = "The release of Patroni in it."
  value       = module.node["west-a"].patroni
}

output "account" {
  description = "What AWS is asked for."
  value       = { buckets = local.buckets, secrets = local.secrets, data_device = local.data_device, data_volume_mb = local.data_volume_mb }
}
