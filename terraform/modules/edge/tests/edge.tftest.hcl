mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name         = "dob"
  network      = { vpc_id = "vpc-0123", subnet_ids = ["subnet-a", "subnet-b", "subnet-c"] }
  pods         = { security_group_id = "sg-pods", port = 80 }
  zone_id      = "Z0123"
  hostnames    = { service = "dob.example.com", region = "primary.dob.example.com" }
  alarm_topics = ["arn:aws:sns:eu-west-1:123456789012:operators"]
  drain        = { deregistration_seconds = 60, interval_seconds = 7, healthy_checks = 2, unhealthy_checks = 3 }
}

run "the_load_balancer" {
  assert {
    condition     = aws_lb.this.enable_cross_zone_load_balancing && length(aws_lb.this.subnets) == 3 && aws_lb.this.load_balancer_type == "network"
    error_message = "The load balancer does not spread over three zones."
  }
  assert {
    condition     = aws_lb_listener.https.protocol == "TLS" && aws_lb_listener.https.port == 443
    error_message = "The listener does not use TLS on port 443."
  }
  assert {
    condition     = aws_lb_target_group.pods.target_type == "ip" && tonumber(aws_lb_target_group.pods.deregistration_delay) == 60
    error_message = "Pods are not registered by address, or are deregistered without a delay."
  }
  assert {
    condition     = one(aws_lb_target_group.pods.health_check).path == "/healthz" && one(aws_lb_target_group.pods.health_check).protocol == "HTTP"
    error_message = "The health check does not ask /healthz, so a pod could be taken out because its database is away."
  }
  assert {
    condition     = [for check in aws_lb_target_group.pods.health_check : [check.interval, check.healthy_threshold, check.unhealthy_threshold]] == [[7, 2, 3]]
    error_message = "The health check's figures differ from drain.yaml."
  }
  assert {
    condition     = one(aws_lb_target_group.pods.health_check).timeout < 5
    error_message = "AWS refuses a timeout that is not less than the shortest interval."
  }
}

run "who_may_connect" {
  assert {
    condition     = aws_vpc_security_group_ingress_rule.internet.from_port == 443 && aws_vpc_security_group_ingress_rule.internet.to_port == 443
    error_message = "The Internet reaches another port than 443."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.pods.cidr_ipv4 == null && aws_vpc_security_group_ingress_rule.pods.referenced_security_group_id == aws_security_group.balancer.id
    error_message = "Something other than the load balancer can reach the pods."
  }
}

run "names" {
  assert {
    condition     = aws_acm_certificate.this.domain_name == "dob.example.com" && aws_acm_certificate.this.subject_alternative_names == toset(["primary.dob.example.com"])
    error_message = "The certificate does not contain both names."
  }
  assert {
    condition     = keys(aws_route53_record.validation) == ["dob.example.com", "primary.dob.example.com"]
    error_message = "A name of the certificate is not validated."
  }
  assert {
    condition     = one(aws_route53_record.region.alias).evaluate_target_health
    error_message = "The region's name answers with a load balancer that has no healthy target."
  }
}

run "alarms" {
  assert {
    condition = alltrue([for alarm in [aws_cloudwatch_metric_alarm.no_pod_ready, aws_cloudwatch_metric_alarm.pod_not_ready] :
      alarm.alarm_actions == toset(["arn:aws:sns:eu-west-1:123456789012:operators"]) && alarm.dimensions == tomap(local.targets)
    ]) && aws_cloudwatch_metric_alarm.no_pod_ready.treat_missing_data == "breaching"
    error_message = "No topic is notified when no pod is healthy."
  }
}

run "two_zones" {
  command = plan
  variables {
    network = { vpc_id = "vpc-0123", subnet_ids = ["subnet-a", "subnet-b"] }
  }
  expect_failures = [var.network]
}

run "too_long_a_name" {
  command = plan
  variables {
    name = "a-birthday-service-in-one-region"
  }
  expect_failures = [var.name]
}

run "a_zone_by_name" {
  command = plan
  variables {
    zone_id = "example.com"
  }
  expect_failures = [var.zone_id]
}

run "a_url_as_hostname" {
  command = plan
  variables {
    hostnames = { service = "https://dob.example.com", region = "primary.dob.example.com" }
  }
  expect_failures = [var.hostnames]
}

run "a_topic_by_name" {
  command = plan
  variables {
    alarm_topics = ["operators"]
  }
  expect_failures = [var.alarm_topics]
}
