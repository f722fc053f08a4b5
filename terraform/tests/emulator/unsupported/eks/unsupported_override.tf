# The resources of this module that moto 5.2 can't create. They are planned, but not applied.
resource "aws_eks_addon" "before_nodes" {
  for_each = toset([])
}

resource "aws_eks_addon" "on_nodes" {
  for_each = toset([])
}

resource "aws_eks_access_entry" "this" {
  for_each = {}
}

resource "aws_eks_access_policy_association" "this" {
  for_each = {}
}

resource "aws_eks_pod_identity_association" "this" {
  for_each = {}
}

output "security_group_id" {
  value = aws_security_group.cluster.id
}
