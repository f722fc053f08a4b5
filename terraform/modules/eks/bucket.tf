# What nodes install besides their image. An administrator uploads it (scripts/mirror-shim), so no node downloads a program from the Internet.
resource "aws_s3_bucket" "nodes" {
  # checkov:skip=CKV_AWS_144: each region has a bucket of its own, filled by the same script.
  # checkov:skip=CKV_AWS_145: what it holds is public; nodes compare checksums.
  # checkov:skip=CKV_AWS_18: what it holds is public.
  # checkov:skip=CKV2_AWS_62: nothing waits for new objects.
  # checkov:skip=CKV2_AWS_61: nothing expires: a node that is made in a year needs it.
  bucket = var.bucket
  # Everything in the bucket can be uploaded again.
  force_destroy = true
}

resource "aws_s3_bucket_versioning" "nodes" {
  bucket = aws_s3_bucket.nodes.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "nodes" {
  bucket = aws_s3_bucket.nodes.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "nodes" {
  bucket                  = aws_s3_bucket.nodes.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "nodes" {
  bucket = aws_s3_bucket.nodes.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_policy" "nodes" {
  bucket = aws_s3_bucket.nodes.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.nodes.arn, "${aws_s3_bucket.nodes.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
  depends_on = [aws_s3_bucket_public_access_block.nodes]
}
