output "hostname" {
  description = "Where clients reach the service."
  value       = module.topology.hostname
}

output "registry" {
  description = "Where a release is pushed, and where each side pulls from."
  value = {
    push = aws_ecr_repository.api.repository_url
    pull = { for side, place in local.sides : side => replace(aws_ecr_repository.api.repository_url, local.home, place.region) }
  }
}

output "role_arns" {
  description = "Roles of the workflows, by name."
  value       = { for name, role in aws_iam_role.github : name => role.arn }
}
