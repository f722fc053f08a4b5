data "aws_caller_identity" "current" {}

module "key" {
  source = "../key"

  name        = var.key_name
  description = "Backups of the database"
}

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_144: pgBackRest itself writes every backup and all WAL into a bucket of each region.
  # checkov:skip=CKV_AWS_18: each object has a data key of its own, so CloudTrail shows every read as a use of the KMS key.
  # checkov:skip=CKV2_AWS_62: nothing waits for new objects. dob-status reports the age of backups.
  bucket              = var.bucket
  object_lock_enabled = true
}

# Until the lock ends, nobody can delete a version, not even an administrator of the account.
resource "aws_s3_bucket_object_lock_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    default_retention {
      mode = var.lock_mode
      # Deleted objects are kept for as long anyway, so the lock costs no storage.
      days = var.deleted_days
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = module.key.arn
    }
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# pgBackRest's retention decides what is deleted. This rule decides how long a deletion can be undone.
resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    id     = "deleted"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.deleted_days
    }
    expiration {
      expired_object_delete_marker = true
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }
  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_policy" "this" {
  bucket = aws_s3_bucket.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        # Retention deletes objects, and versioning keeps the deleted versions. A compromised node can't change that.
        Sid       = "NodesDestroyNothing"
        Effect    = "Deny"
        Principal = "*"
        Action = [
          "s3:BypassGovernanceRetention", "s3:DeleteBucket*", "s3:DeleteObjectVersion*", "s3:PutBucket*",
          "s3:PutEncryptionConfiguration", "s3:PutLifecycleConfiguration",
        ]
        Resource = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
        Condition = {
          ArnLike = {
            "aws:PrincipalArn" = "arn:aws:iam::${data.aws_caller_identity.current.account_id}:role/${var.database_role_prefix}*"
          }
        }
      },
    ]
  })
  depends_on = [aws_s3_bucket_public_access_block.this]
}
