output "addresses" {
  description = "Address of every running node, by name."
  value       = { for name, node in local.nodes : name => node.address }
  precondition {
    condition     = alltrue([for node in values(module.node) : node.ports == var.ports])
    error_message = "ports differ from those that the nodes listen on: take both from the database-node module."
  }
}

output "instance_ids" {
  description = "EC2 instance of every running node, by name, for Session Manager."
  value       = { for name, instance in aws_instance.node : name => instance.id }
}

output "public_addresses" {
  description = "Public addresses of the nodes in a demonstration with SSH. Empty otherwise."
  value       = { for name, address in aws_eip.demonstration : name => address.public_ip }
}

output "operation_document" {
  description = "Document of Systems Manager that runs an operations command on a node."
  value       = aws_ssm_document.operation.name
}
