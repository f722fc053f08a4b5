output "hostname" {
  description = "The host name of the service."
  value       = module.topology.hostname
}

output "registry" {
  description = "The registry that releases are pushed to, and the registry that each side pulls from."
  value = {
    push = module.registry.url
    pull = { for side, place in local.sides : side => replace(module.registry.url, local.home, place.region) }
  }
}

output "role_arns" {
  description = "The roles of the workflows, by name."
  value       = { for name, role in aws_iam_role.github : name => role.arn }
}
