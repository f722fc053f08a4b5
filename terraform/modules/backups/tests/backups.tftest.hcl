mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  bucket               = "dob-backups-123456789012-eu-west-1"
  key_name             = "dob-backups"
  database_role_prefix = "dob-database-"
}

run "the_bucket" {
  assert {
    condition     = aws_s3_bucket_versioning.this.versioning_configuration[0].status == "Enabled"
    error_message = "Deleted objects are not kept."
  }
  assert {
    condition = alltrue([for rule in aws_s3_bucket_server_side_encryption_configuration.this.rule :
      rule.apply_server_side_encryption_by_default[0].sse_algorithm == "aws:kms" && rule.apply_server_side_encryption_by_default[0].kms_master_key_id == module.key.arn
    ])
    error_message = "The bucket is not encrypted with its own key."
  }
  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.this.block_public_acls, aws_s3_bucket_public_access_block.this.block_public_policy,
      aws_s3_bucket_public_access_block.this.ignore_public_acls, aws_s3_bucket_public_access_block.this.restrict_public_buckets,
    ])
    error_message = "The bucket could be made public."
  }
  assert {
    condition     = aws_s3_bucket.this.force_destroy != true
    error_message = "Terraform could destroy a bucket full of backups."
  }
  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this.rule[0].noncurrent_version_expiration[0].noncurrent_days == 30
    error_message = "Deleted backups are not kept for a month."
  }
}

run "nobody_erases_what_is_new" {
  assert {
    condition = aws_s3_bucket.this.object_lock_enabled && alltrue([for rule in aws_s3_bucket_object_lock_configuration.this.rule :
      one(rule.default_retention).mode == "COMPLIANCE" && one(rule.default_retention).days == var.deleted_days
    ])
    error_message = "An administrator can erase backups before anybody notices."
  }
}

run "a_demonstration_can_be_taken_away" {
  variables {
    lock_mode = "GOVERNANCE"
  }
  assert {
    condition     = one(one(aws_s3_bucket_object_lock_configuration.this.rule).default_retention).mode == "GOVERNANCE"
    error_message = "The backups of a demonstration can't be erased."
  }
}

run "no_such_lock" {
  command = plan
  variables {
    lock_mode = "NONE"
  }
  expect_failures = [var.lock_mode]
}

run "the_policy" {
  assert {
    condition = [for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Action
      if statement.Effect == "Deny" && try(statement.Condition.Bool["aws:SecureTransport"], "") == "false"
    ] == ["s3:*"]
    error_message = "The bucket accepts requests without TLS."
  }
  assert {
    condition = anytrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny"
      && length(setsubtract(["s3:DeleteObjectVersion*", "s3:PutLifecycleConfiguration"], flatten([statement.Action]))) == 0
      && try(statement.Condition.ArnLike["aws:PrincipalArn"], "") == "arn:aws:iam::123456789012:role/dob-database-*"
    ])
    error_message = "A node can destroy backups for good."
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_s3_bucket_policy.this.policy).Statement : statement.Effect == "Deny"])
    error_message = "The bucket's policy allows access."
  }
}

run "deleted_backups_are_gone_at_once" {
  command = plan
  variables {
    deleted_days = 1
  }
  expect_failures = [var.deleted_days]
}
