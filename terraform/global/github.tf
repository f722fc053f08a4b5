# Workflows get short-lived credentials by their own identity; there is no long-lived key. Each role is for one environment (or event) of
# one repository, so GitHub's approvals guard it.
resource "aws_iam_openid_connect_provider" "github" {
  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  # GitHub names a repository that was made or renamed since July 2026 with its IDs, which no later owner of the name gets.
  repository = var.github_ids == null ? var.github_repository : format("%s@%d/%s@%d",
    split("/", var.github_repository)[0], var.github_ids.owner, split("/", var.github_repository)[1], var.github_ids.repository,
  )

  # A credential lasts an hour, for workflows that take longer two.
  roles = {
    plan            = { subjects = ["pull_request", "ref:refs/heads/main"], hours = 1, managed = "ReadOnlyAccess", policy = [local.no_secrets, local.no_backups] }
    apply-global    = { subjects = ["environment:global"], hours = 1, managed = "PowerUserAccess", policy = local.apply.global }
    apply-primary   = { subjects = ["environment:primary"], hours = 1, managed = "PowerUserAccess", policy = local.apply.primary }
    apply-recovery  = { subjects = ["environment:recovery"], hours = 1, managed = "PowerUserAccess", policy = local.apply.recovery }
    release         = { subjects = ["environment:release"], hours = 1, managed = null, policy = local.release }
    deploy          = { subjects = ["environment:deploy-primary", "environment:deploy-recovery"], hours = 2, managed = null, policy = local.deploy }
    operations      = { subjects = ["environment:operations", "environment:backup"], hours = 1, managed = null, policy = local.operations }
    restore-drill   = { subjects = ["environment:restore-drill"], hours = 2, managed = "ReadOnlyAccess", policy = local.restore_drill }
    rotate-password = { subjects = ["environment:rotate-password"], hours = 1, managed = null, policy = local.rotate_password }
  }
}

resource "aws_iam_role" "github" {
  for_each = local.roles

  name                 = "${local.service}-${each.key}"
  max_session_duration = each.value.hours * 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = aws_iam_openid_connect_provider.github.arn }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = { StringEquals = {
        "token.actions.githubusercontent.com:aud" = "sts.amazonaws.com"
        "token.actions.githubusercontent.com:sub" = [for subject in each.value.subjects : "repo:${local.repository}:${subject}"]
      } }
    }]
  })
}

resource "aws_iam_role_policy" "github" {
  for_each = local.roles

  name   = each.key
  role   = aws_iam_role.github[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value.policy })
}

resource "aws_iam_role_policy_attachment" "github" {
  for_each = { for name, role in local.roles : name => role.managed if role.managed != null }

  role       = aws_iam_role.github[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}
