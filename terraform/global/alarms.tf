# Alarms on the health checks of Route 53. Their metrics are only in us-east-1, wherever the service runs.
provider "aws" {
  alias  = "route53_metrics"
  region = "us-east-1"
  default_tags {
    tags = local.tags
  }
}

resource "aws_cloudwatch_metric_alarm" "side" {
  for_each = local.sides
  provider = aws.route53_metrics

  alarm_name          = "${local.service}-${each.key}-unhealthy"
  alarm_description   = "The ${each.key} region does not answer: docs/runbooks.md, The primary region is gone."
  namespace           = "AWS/Route53"
  metric_name         = "HealthCheckStatus"
  dimensions          = { HealthCheckId = aws_route53_health_check.side[each.key].id }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 60
  evaluation_periods  = 1
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topics
}
