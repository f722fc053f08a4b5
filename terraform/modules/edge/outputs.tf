output "target_group_arn" {
  description = "The target group that the TargetGroupBinding registers pods in."
  value       = aws_lb_target_group.pods.arn
}

output "security_group_id" {
  description = "Security group of the load balancer."
  value       = aws_security_group.balancer.id
}

output "hostname" {
  description = "This region's own host name."
  value       = aws_route53_record.region.name
}
