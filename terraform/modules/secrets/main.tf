module "key" {
  source = "../key"

  name        = var.key_name
  description = "Secrets of the database and the API"
}

# Secrets without values. scripts/fill-secrets writes the values, so that no state and no plan ever contains one.
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
    # The key is named by its alias, because this region does not know the key's ID. AWS returns the ID later, which is no change.
    ignore_changes = [replica]
  }
}
