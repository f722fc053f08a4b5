module "key" {
  source = "../key"

  name        = var.key_name
  description = "Secrets of the database and the API"
}

# Entries without values: scripts/fill-secrets writes those, so that no state and no plan ever holds one.
resource "aws_secretsmanager_secret" "this" {
  # checkov:skip=CKV2_AWS_57: each is rotated by a runbook, because nodes or pods have to take part; none by a clock.
  for_each = var.replica_region == null ? {} : var.names

  name                    = each.value
  description             = "Filled by scripts/fill-secrets"
  kms_key_id              = module.key.arn
  recovery_window_in_days = 30
  replica {
    region     = var.replica_region
    kms_key_id = module.key.alias
  }
  lifecycle {
    # By alias, because nobody in this region knows the ID of the other one's key. What AWS calls the key afterwards is no change.
    ignore_changes = [replica]
  }
}
