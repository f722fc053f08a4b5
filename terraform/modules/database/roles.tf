# What each kind of node may do on AWS: read its secrets, use its part of the buckets, write its log, and nothing else.
locals {
  account = data.aws_caller_identity.current.account_id
  prefix  = var.name # pgBackRest's path in each bucket

  secrets = {
    data    = [var.secrets.certificate_authority, var.secrets.passwords]
    witness = [var.secrets.certificate_authority]
    restore = [var.secrets.certificate_authority, var.secrets.passwords]
  }
  # pgBackRest deletes expired backups. The buckets keep deleted objects for a while (see the backups module).
  object_actions = {
    data    = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    witness = []
    restore = ["s3:GetObject"]
  }
  backup_key_actions = {
    data    = ["kms:Decrypt", "kms:GenerateDataKey"]
    witness = []
    restore = ["kms:Decrypt"]
  }
  buckets = [for bucket in values(var.backups.buckets) : "arn:aws:s3:::${bucket}"]

  policies = { for role in local.roles : role => jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid    = "Secrets"
          Effect = "Allow"
          Action = "secretsmanager:GetSecretValue"
          # AWS adds six characters to a secret's name.
          Resource = [for name in local.secrets[role] : "arn:aws:secretsmanager:${local.region}:${local.account}:secret:${name}-??????"]
        },
        {
          Sid       = "SecretsKey"
          Effect    = "Allow"
          Action    = "kms:Decrypt"
          Resource  = var.secrets.key_arn
          Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${local.region}.amazonaws.com" } }
        },
        {
          # Session Manager's agent needs these, for sessions and for operations. AWS accepts no narrower resource.
          Sid    = "SessionManager"
          Effect = "Allow"
          Action = concat(
            ["ssm:UpdateInstanceInformation"],
            [for channel in ["Control", "Data"] : "ssmmessages:Create${channel}Channel"],
            [for channel in ["Control", "Data"] : "ssmmessages:Open${channel}Channel"],
            [for action in ["AcknowledgeMessage", "DeleteMessage", "FailMessage", "GetEndpoint", "GetMessages", "SendReply"] : "ec2messages:${action}"],
          )
          Resource = "*"
        },
        {
          Sid      = "Log"
          Effect   = "Allow"
          Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
          Resource = "${aws_cloudwatch_log_group.database.arn}:*"
        },
      ],
      [for statement in [
        {
          Sid       = "BackupList"
          Effect    = "Allow"
          Action    = "s3:ListBucket"
          Resource  = local.buckets
          Condition = { StringLike = { "s3:prefix" = ["${local.prefix}", "${local.prefix}/*"] } }
        },
        {
          Sid      = "BackupObjects"
          Effect   = "Allow"
          Action   = local.object_actions[role]
          Resource = [for bucket in local.buckets : "${bucket}/${local.prefix}/*"]
        },
        {
          # By alias, because the ID of the other region's key is not known in this region.
          Sid      = "BackupKeys"
          Effect   = "Allow"
          Action   = local.backup_key_actions[role]
          Resource = [for region in keys(var.backups.buckets) : "arn:aws:kms:${region}:${local.account}:key/*"]
          Condition = {
            "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = var.backups.key_alias }
            StringLike                 = { "kms:ViaService" = "s3.*.amazonaws.com" }
          }
        },
      ] : statement if length(local.object_actions[role]) > 0],
    )
  }) }
}

resource "aws_iam_role" "node" {
  for_each = local.roles

  name = "${var.name}-database-${each.key}-${local.region}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "node" {
  for_each = local.roles

  name   = "node"
  role   = aws_iam_role.node[each.key].id
  policy = local.policies[each.key]
}

resource "aws_iam_instance_profile" "node" {
  for_each = local.roles

  name = aws_iam_role.node[each.key].name
  role = aws_iam_role.node[each.key].name
}
