locals {
  # Everything in k8s/overlays/<side>/region.yaml. Settings per zone end in a, b or c, like the names of the nodes.
  overlay = merge(
    {
      aws_region       = local.here.region
      target_group_arn = module.edge.target_group_arn
      # In the format of Alertmanager's sns_configs.
      alarm_topics = jsonencode([for topic in var.alarm_topics : { topic_arn = topic, sigv4 = { region = local.here.region } }])
    },
    { for name, node in local.here.nodes : "database_host_${substr(name, -1, 1)}" => node.address if node.role != "restore" },
    { for name, node in local.here.nodes : "database_node_${substr(name, -1, 1)}" => name if node.role != "restore" },
    { for index, zone in local.here.zones : "load_balancer_cidr_${substr("abc", index, 1)}" => local.here.subnets.public[zone] },
  )
}

output "kubernetes" {
  description = "What k8s/ needs: cluster, VPC, deploy group, secret, and the settings that scripts/write-overlay writes."
  value = {
    cluster         = module.eks.name
    vpc_id          = module.network.vpc_id
    deployers_group = module.eks.deployers_group
    secret          = module.topology.secrets.api
    overlay         = local.overlay
  }
}

output "database" {
  description = "The database nodes: addresses, instances, public addresses (in a demonstration), and the SSM document that runs operations on them."
  value = {
    addresses          = module.database.addresses
    instance_ids       = module.database.instance_ids
    public_addresses   = module.database.public_addresses
    operation_document = module.database.operation_document
    backup_bucket      = module.backups.bucket
  }
}

output "network" {
  description = "The value of the other side's variable peering (vpc_id for primary, connection_id for recovery), and the public addresses of outgoing connections."
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
