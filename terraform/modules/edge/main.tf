resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "Load balancer of the API"
  vpc_id      = var.network.vpc_id
  tags        = { Name = "${var.name}-balancer" }
}

# The only rule of the whole infrastructure that lets the Internet in.
resource "aws_vpc_security_group_ingress_rule" "internet" {
  security_group_id = aws_security_group.balancer.id
  description       = "HTTPS from anywhere"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "to_pods" {
  security_group_id            = aws_security_group.balancer.id
  description                  = "Requests and health checks"
  referenced_security_group_id = var.pods.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = var.pods.port
  to_port                      = var.pods.port
}

resource "aws_vpc_security_group_ingress_rule" "pods" {
  security_group_id            = var.pods.security_group_id
  description                  = "Load balancer of the API"
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = var.pods.port
  to_port                      = var.pods.port
}

resource "aws_lb" "this" {
  # checkov:skip=CKV_AWS_91: a network load balancer logs TLS handshakes only, no requests; flow logs show the connections.
  name                             = var.name
  load_balancer_type               = "network"
  internal                         = false
  subnets                          = var.network.subnet_ids
  security_groups                  = [aws_security_group.balancer.id]
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true
}

resource "aws_lb_target_group" "pods" {
  # checkov:skip=CKV_AWS_378: TLS ends at the load balancer; from there it is TCP inside the VPC, and the pods' host speaks no TLS.
  name                 = "${var.name}-pods"
  vpc_id               = var.network.vpc_id
  target_type          = "ip"
  protocol             = "TCP"
  port                 = var.pods.port
  deregistration_delay = var.drain.deregistration_seconds
  # Pods see the load balancer's addresses, which network policies can name.
  preserve_client_ip = false

  health_check {
    protocol            = "HTTP"
    path                = "/healthz"
    matcher             = "200"
    interval            = var.drain.interval_seconds
    timeout             = 3 # must be less than the interval
    healthy_threshold   = var.drain.healthy_checks
    unhealthy_threshold = var.drain.unhealthy_checks
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  protocol          = "TLS"
  port              = 443
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = aws_acm_certificate_validation.this.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.pods.arn
  }
}

resource "aws_route53_record" "region" {
  zone_id = var.zone_id
  name    = var.hostnames.region
  type    = "A"
  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = true
  }
}
