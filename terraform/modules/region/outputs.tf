output "kubernetes" {
  description = "What k8s/ is given: cluster, VPC, target group, alarm topics, deploy group, network blocks."
  value = {
    cluster          = module.eks.name
    region           = local.here.region
    vpc_id           = module.network.vpc_id
    target_group_arn = module.edge.target_group_arn
    alarm_topics     = var.alarm_topics
    deployers_group  = module.eks.deployers_group
    blocks           = local.here.blocks
    secret           = module.topology.secrets.api
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
