# Alarms on what only the load balancer knows: whether it finds pods healthy. docs/runbooks.md says what to do.
locals {
  targets = { LoadBalancer = aws_lb.this.arn_suffix, TargetGroup = aws_lb_target_group.pods.arn_suffix }
}

resource "aws_cloudwatch_metric_alarm" "no_pod_ready" {
  alarm_name          = "${var.name}-no-pod-ready"
  alarm_description   = "The load balancer finds no healthy pod: every request to this region fails. See docs/runbooks.md, Requests fail or are slow."
  namespace           = "AWS/NetworkELB"
  metric_name         = "HealthyHostCount"
  dimensions          = local.targets
  statistic           = "Maximum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 2
  # Without any target there is no metric.
  treat_missing_data = "breaching"
  alarm_actions      = var.alarm_topics
}

resource "aws_cloudwatch_metric_alarm" "pod_not_ready" {
  alarm_name          = "${var.name}-pod-not-ready"
  alarm_description   = "A pod has been unhealthy for 15 minutes, longer than a rollout takes for one pod: docs/runbooks.md, Pods restart again and again."
  namespace           = "AWS/NetworkELB"
  metric_name         = "UnHealthyHostCount"
  dimensions          = local.targets
  statistic           = "Minimum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 15
  alarm_actions       = var.alarm_topics
}
