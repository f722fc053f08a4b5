locals {
  # All of k8s/overlays/<side>/region.yaml; what there is one of in each zone ends in a, b or c, as the nodes' names do.
  overlay = merge(
    {
      aws_region       = local.here.region
      target_group_arn = module.edge.target_group_arn
      # As Alertmanager's sns_configs.
      alarm_topics = jsonencode([for topic in var.alarm_topics : { topic_arn = topic, sigv4 = { region = local.here.region } }])
    },
    { for name, node in local.here.nodes : "database_host_${substr(name, -1, 1)}" => node.address if node.role != "restore" },
    { for name, node in local.here.nodes : "database_node_${substr(name, -1, 1)}" => name if node.role != "restore" },
    { for index, zone in local.here.zones : "load_balancer_cidr_${substr("abc", index, 1)}" => local.here.subnets.public[zone] },
  )
}

output "kubernetes" {
  description = "What k8s/ is given: cluster, VPC, deploy group, secret, and the settings that scripts/write-overlay writes."
  value = {
    cluster         = module.eks.name
    vpc_id          = module.network.vpc_id
    deployers_group = module.eks.deployers_group
    secret          = module.topology.secrets.api
    overlay         = local.overlay
  }
}

output "database" {
  description = "The database nodes: addresses, instances, public addresses (of a demonstration), and the document that runs operations on them."
  value = {
    addresses          = module.database.addresses
    instance_ids       = module.database.instance_ids
    public_addresses   = module.database.public_addresses
    operation_document = module.database.operation_document
    backup_bucket      = module.backups.bucket
  }
}

output "network" {
  description = "What the other side's peering variable takes (vpc_id for primary, connection_id for recovery), and the addresses that this region goes out from."
  value = {
    vpc_id        = module.network.vpc_id
    connection_id = module.network.peering_connection_id
    nat_addresses = module.network.nat_addresses
  }
}

output "hostname" {
  description = "This region's own host name."
  value       = module.edge.hostname
}
