output "name" {
  description = "Name of the cluster: for aws eks update-kubeconfig."
  value       = aws_eks_cluster.this.name
}

output "security_group_id" {
  description = "Security group of the nodes and their pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "deployers_group" {
  description = "Kubernetes group of the deploy workflow."
  value       = "${var.name}-deployers"
}
