# The lab's two regions: the user data of their nodes, rendered by the module that the AWS roots use.
terraform {
  required_version = "~> 1.11"
}

locals {
  # Addresses: 10.77.<region>.<node>/16, one bridge; 10.77.0.1 is the clients', and AWS's; S3 has the next two.
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
  # A second cluster beside west's, for the upgrade to its version. Its recovery region does not exist: nobody answers at those addresses.
  newer = { name = "eu-west-1", network = "10.77.3", role = "primary", other = "central", beyond = ["10.77.4.11", "10.77.4.12"], cluster = "dob-newer", version = "18" }
  sites = merge(local.regions, { newer = local.newer })
  nodes = { for key, site in local.sites : key => {
    for suffix, node in local.shape : "${key}-${suffix}" => {
      address = "${site.network}.${node.host}"
      zone    = "${site.name}${node.zone}"
      role    = node.role
    } if key != "newer" || node.role != "restore"
  } }
  data_nodes     = { for key, nodes in local.nodes : key => [for node in values(nodes) : node.address if node.role == "data"] }
  upgrades       = { west = "newer", newer = "west" }
  buckets        = { for region in values(local.regions) : region.name => "dob-backups-${region.name}" }
  secrets        = { certificate_authority = "dob/certificate-authority", passwords = "dob/passwords" }
  data_device    = "/dev/disk/by-id/dob-data"
  data_volume_mb = 1024
}

module "node" {
  source = "../../../terraform/modules/database-node"
  for_each = merge([for key, nodes in local.nodes : {
    for name in keys(nodes) : name => merge(local.sites[key], { key = key })
  }]...)

  cluster            = try(each.value.cluster, "dob")
  postgresql_version = try(each.value.version, null)
  upgrade_peers      = try(local.data_nodes[local.upgrades[each.value.key]], [])
  region             = each.value.name
  node               = each.key
  nodes              = local.nodes[each.value.key]
  cluster_role       = each.value.role
  other_region = {
    region    = local.regions[each.value.other].name
    addresses = try(each.value.beyond, local.data_nodes[each.value.other])
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
    region     = local.sites[key].name
    user_data  = module.node[name].user_data
    ports      = module.node[name].ports
    postgresql = module.node[name].postgresql
  }) }]...)
}

output "packages" {
  description = "What a base system for the nodes of both regions holds."
  value       = sort(distinct(flatten([for name, node in module.node : node.packages if !contains(keys(local.nodes.newer), name)])))
}

output "patroni" {
  description = "The release of Patroni in it."
  value       = module.node["west-a"].patroni
}

output "account" {
  description = "What AWS is asked for."
  value = {
    clusters       = distinct(values(module.node)[*].postgresql.cluster)
    buckets        = local.buckets
    secrets        = local.secrets
    data_device    = local.data_device
    data_volume_mb = local.data_volume_mb
  }
}
