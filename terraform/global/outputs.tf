output "hostname" {
  description = "Where clients reach the service."
  value       = module.topology.hostname
}

output "registry" {
  description = "Where a release is pushed, and where each side pulls from."
  value = {
    push = module.registry.url
    pull = { for side, place in local.sides : side => replace(module.registry.url, local.home, place.region) }
  }
}

output "role_arns" {
  description = "Roles of the workflows, by name."
  value       = { for name, role in aws_iam_role.github : name => role.arn }
}
