# Workflows get short-lived credentials through their own identity, and there is no long-lived key. Each role trusts one environment or event of
# one repository, so the approvals on GitHub guard it.
resource "aws_iam_openid_connect_provider" "github" {
  count = var.singletons.identity_provider ? 1 : 0

  url            = "https://${local.github}"
  client_id_list = [local.audience]
}

# An account can have only one identity provider for GitHub, whoever created it.
data "aws_iam_openid_connect_provider" "github" {
  count = var.singletons.identity_provider ? 0 : 1

  arn = "arn:aws:iam::${local.account}:oidc-provider/${local.github}"
  lifecycle {
    postcondition {
      condition     = contains(self.client_id_list, local.audience)
      error_message = "The account's identity provider for GitHub does not accept the audience ${local.audience}: add it, or no workflow gets credentials."
    }
  }
}

locals {
  github   = "token.actions.githubusercontent.com"
  audience = "sts.amazonaws.com"
  provider = concat(aws_iam_openid_connect_provider.github[*].arn, data.aws_iam_openid_connect_provider.github[*].arn)[0]

  # For a repository created or renamed since July 2026, GitHub's tokens also name its IDs, which a later owner of the name does not get.
  repository = var.github_ids == null ? var.github_repository : format("%s@%d/%s@%d",
    split("/", var.github_repository)[0], var.github_ids.owner, split("/", var.github_repository)[1], var.github_ids.repository,
  )

  # Hours that a credential is valid, longer than the jobs that use it. An apply may replace the nodes of a cluster one after the other.
  roles = {
    plan            = { subjects = ["pull_request", "ref:refs/heads/main"], hours = 1, managed = null, policy = local.plan }
    apply-global    = { subjects = ["environment:global"], hours = 4, managed = "PowerUserAccess", policy = local.apply.global }
    apply-primary   = { subjects = ["environment:primary"], hours = 4, managed = "PowerUserAccess", policy = local.apply.primary }
    apply-recovery  = { subjects = ["environment:recovery"], hours = 4, managed = "PowerUserAccess", policy = local.apply.recovery }
    release         = { subjects = ["environment:release"], hours = 1, managed = null, policy = local.release }
    deploy          = { subjects = ["environment:deploy-primary", "environment:deploy-recovery"], hours = 2, managed = null, policy = local.deploy }
    operations      = { subjects = ["environment:operations", "environment:backup"], hours = 1, managed = null, policy = local.operations }
    restore-drill   = { subjects = ["environment:restore-drill"], hours = 2, managed = null, policy = local.restore_drill }
    rotate-password = { subjects = ["environment:rotate-password"], hours = 1, managed = null, policy = local.rotate_password }
    # Exists only in the account of the smoke run, which no other workflow uses.
    smoke = { subjects = [], hours = 2, managed = null, policy = local.smoke }
  }
  used = { for name, role in local.roles : name => merge(role, { subjects = var.smoke_run ? ["environment:smoke"] : role.subjects }) if var.smoke_run || name != "smoke" }
}

resource "aws_iam_role" "github" {
  for_each = local.used

  name                 = "${local.service}-${each.key}"
  max_session_duration = each.value.hours * 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Federated = local.provider }
      Action    = "sts:AssumeRoleWithWebIdentity"
      Condition = { StringEquals = {
        "${local.github}:aud" = local.audience
        "${local.github}:sub" = [for subject in each.value.subjects : "repo:${local.repository}:${subject}"]
      } }
    }]
  })
}

resource "aws_iam_role_policy" "github" {
  for_each = local.used

  name   = each.key
  role   = aws_iam_role.github[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value.policy })
}

resource "aws_iam_role_policy_attachment" "github" {
  for_each = { for name, role in local.used : name => role.managed if role.managed != null }

  role       = aws_iam_role.github[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}
