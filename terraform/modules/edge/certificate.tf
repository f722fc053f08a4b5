resource "aws_acm_certificate" "this" {
  domain_name               = var.hostnames.service
  subject_alternative_names = [var.hostnames.region]
  validation_method         = "DNS"
  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "validation" {
  for_each = toset(values(var.hostnames))

  zone_id = var.zone_id
  name    = local.validations[each.key].resource_record_name
  type    = local.validations[each.key].resource_record_type
  records = [local.validations[each.key].resource_record_value]
  ttl     = 300
  # AWS gives an account one validation record per name, so both regions write the same record for the service's name.
  allow_overwrite = true
}

locals {
  validations = { for validation in aws_acm_certificate.this.domain_validation_options : validation.domain_name => validation }
}

resource "aws_acm_certificate_validation" "this" {
  certificate_arn         = aws_acm_certificate.this.arn
  validation_record_fqdns = values(aws_route53_record.validation)[*].fqdn
}
