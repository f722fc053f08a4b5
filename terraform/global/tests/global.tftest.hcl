mock_provider "aws" {
  source          = "../tests/mocks"
  override_during = plan
}

mock_provider "aws" {
  alias           = "route53_metrics"
  source          = "../tests/mocks"
  override_during = plan
}

variables {
  domain            = "example.com"
  github_repository = "example/dob-api"
  state_buckets     = { global = "state-global", primary = "state-primary", recovery = "state-recovery" }
}

run "failover" {
  command = plan
  assert {
    condition     = { for rank, record in aws_route53_record.failover : rank => one(record.records) } == { PRIMARY = "primary.dob.example.com", SECONDARY = "recovery.dob.example.com" }
    error_message = "The primary region does not come first."
  }
  assert {
    condition     = alltrue([for rank, record in aws_route53_record.failover : one(record.failover_routing_policy).type == rank && record.ttl <= 60])
    error_message = "A record has the wrong rank, or its TTL is too long."
  }
  assert {
    condition     = alltrue([for check in aws_route53_health_check.side : check.type == "HTTPS" && check.resource_path == "/readyz"])
    error_message = "The health check of a region does not reach its pods."
  }
}

run "the_recovery_region_leads" {
  command = plan
  variables {
    leading_side = "recovery"
  }
  assert {
    condition     = { for rank, record in aws_route53_record.failover : rank => one(record.records) } == { PRIMARY = "recovery.dob.example.com", SECONDARY = "primary.dob.example.com" }
    error_message = "Clients are not sent to the promoted region first."
  }
}

run "alarms" {
  command = plan
  variables {
    alarm_topics = ["arn:aws:sns:us-east-1:123456789012:operators"]
  }
  assert {
    condition     = keys(aws_cloudwatch_metric_alarm.side) == ["primary", "recovery"] && alltrue([for alarm in aws_cloudwatch_metric_alarm.side : alarm.alarm_actions == toset(var.alarm_topics)])
    error_message = "No topic is notified when Route 53 finds a region unhealthy."
  }
}

run "a_topic_elsewhere" {
  command = plan
  variables {
    alarm_topics = ["arn:aws:sns:eu-west-1:123456789012:operators"]
  }
  expect_failures = [var.alarm_topics]
}

run "a_topic_without_account" {
  command = plan
  variables {
    alarm_topics = ["arn:aws:sns:us-east-1:operators"]
  }
  expect_failures = [var.alarm_topics]
}

run "no_such_side" {
  command = plan
  variables {
    leading_side = "third"
  }
  expect_failures = [var.leading_side]
}

run "the_registry" {
  command = plan
  assert {
    condition     = aws_ecr_replication_configuration.api[0].replication_configuration[0].rule[0].destination[0].region == "eu-west-1"
    error_message = "Releases are not copied to the primary region."
  }
}

run "an_account_that_has_both_already" {
  command = plan
  variables {
    singletons = { identity_provider = false, replication = false }
  }
  assert {
    condition     = length(aws_iam_openid_connect_provider.github) + length(aws_ecr_replication_configuration.api) == 0
    error_message = "A resource that the account already has is created again."
  }
  assert {
    condition     = jsondecode(aws_iam_role.github["plan"].assume_role_policy).Statement[0].Principal.Federated == "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"
    error_message = "Roles do not trust the account's identity provider."
  }
}

run "an_identity_provider_for_somebody_else" {
  command = plan
  variables {
    singletons = { identity_provider = false }
  }
  override_data {
    target = data.aws_iam_openid_connect_provider.github
    values = { client_id_list = ["example"] }
  }
  expect_failures = [data.aws_iam_openid_connect_provider.github]
}

run "who_takes_a_role" {
  command = plan
  assert {
    condition = alltrue([for role in aws_iam_role.github : alltrue([
      for subject in jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] :
      startswith(subject, "repo:example/dob-api:") && !strcontains(subject, "*")
    ])])
    error_message = "Another repository, or any workflow of this one, can take a role."
  }
  assert {
    condition = alltrue([for name, role in aws_iam_role.github : alltrue([
      for subject in jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] : strcontains(subject, ":environment:")
    ]) if name != "plan"])
    error_message = "A role that changes something can be taken without an environment's approval."
  }
  assert {
    condition = length(setintersection(
      local.roles.rotate-password.subjects, flatten([for name, role in local.roles : role.subjects if name != "rotate-password"]),
    )) == 0
    error_message = "An approval for another operation lets a workflow read the API's secret."
  }
  assert {
    condition     = toset(keys(aws_iam_role.github)) == toset(local.workflow_roles) && !contains(local.workflow_roles, "smoke")
    error_message = "The global role may not create the roles that exist, or there is one that deletes backups."
  }
}

run "the_account_of_the_smoke_run" {
  command = plan
  variables {
    smoke_run = true
  }
  assert {
    condition = alltrue([for role in aws_iam_role_policy.github : length(distinct([for statement in jsondecode(role.policy).Statement : statement.Sid])) ==
      length(jsondecode(role.policy).Statement)
    ])
    error_message = "Two statements of a policy have one name, which AWS refuses."
  }
  assert {
    condition = toset(flatten([for role in aws_iam_role.github :
      jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"]
    ])) == toset(["repo:example/dob-api:environment:smoke"]) && toset(keys(aws_iam_role.github)) == toset(local.workflow_roles)
    error_message = "Another workflow than the smoke run gets into its account, or the global role may not create the roles that exist."
  }
  assert {
    condition = alltrue([for statement in local.smoke : startswith(statement.Resource[0], "arn:aws:s3:::dob-backups-123456789012-")
      if anytrue([for action in flatten([statement.Action]) : startswith(action, "s3:")])
      ]) && alltrue([for statement in local.smoke : can(statement.Condition.StringEquals)
      if length(setintersection(flatten([statement.Action]), ["ec2:DeleteVolume", "ec2:StopInstances"])) > 0
    ])
    error_message = "The smoke run can stop or delete what is not the service's."
  }
  assert {
    condition = alltrue([for statement in local.smoke :
      alltrue([for action in flatten([statement.Action]) : can(regex("^[a-z0-9]+:(Get|List|Describe)", action))]) if statement.Resource == "*"
    ])
    error_message = "The smoke run may change all resources of a type."
  }
}

run "how_long_a_role_lasts" {
  command = plan
  assert {
    condition = { for name, role in aws_iam_role.github : name => role.max_session_duration if role.max_session_duration != 3600 } == {
      apply-global = 14400, apply-primary = 14400, apply-recovery = 14400, deploy = 7200, restore-drill = 7200
    }
    error_message = "The credentials of a role expire before its workflow ends, or are valid for too long."
  }
}

run "a_repository_with_ids" {
  command = plan
  variables {
    github_ids = { owner = 123456, repository = 4567890123 }
  }
  assert {
    condition = alltrue([for role in aws_iam_role.github : alltrue([
      for subject in jsondecode(role.assume_role_policy).Statement[0].Condition.StringEquals["token.actions.githubusercontent.com:sub"] :
      startswith(subject, "repo:example@123456/dob-api@4567890123:")
    ])])
    error_message = "A later repository of the same name can take a role, or this repository can't."
  }
}

run "least_privilege" {
  command = plan
  assert {
    condition = alltrue([for name in ["plan", "apply-global", "apply-primary", "apply-recovery"] : alltrue([
      for sid in ["NoSecrets", "NoBackups"] : contains(jsondecode(aws_iam_role_policy.github[name].policy).Statement[*].Sid, sid)
    ])])
    error_message = "A workflow that plans or applies can read secrets or backups."
  }
  assert {
    condition = alltrue([for side, region in { primary = "eu-west-1", recovery = "eu-central-1" } : [
      for statement in jsondecode(aws_iam_role_policy.github["apply-${side}"].policy).Statement : statement.Condition.StringNotEquals["aws:RequestedRegion"] if statement.Sid == "OwnRegion"
    ] == [region]])
    error_message = "One region's workflow can change the other region."
  }
  assert {
    condition = alltrue(flatten([for side, region in { primary = "eu-west-1", recovery = "eu-central-1" } : [
      for statement in jsondecode(aws_iam_role_policy.github["apply-${side}"].policy).Statement :
      [for role in statement.Resource : endswith(role, "-${region}")] if statement.Sid == "OwnRoles"
    ]]))
    error_message = "One region's workflow can change the other region's roles."
  }
  assert {
    condition = alltrue([for side in ["primary", "recovery"] : [
      for statement in jsondecode(aws_iam_role_policy.github["apply-${side}"].policy).Statement : "${statement.Effect} ${statement.Action} ${statement.Resource}" if statement.Sid == "NodeGroups"
    ] == ["Allow iam:GetRole arn:aws:iam::123456789012:role/aws-service-role/eks-nodegroup.amazonaws.com/AWSServiceRoleForAmazonEKSNodegroup"]])
    error_message = "A region's workflow can't create a node group: EKS reads its service-linked role with the caller's rights."
  }
  assert {
    condition = length(setintersection(
      flatten([for statement in local.operations : statement.Action]),
      flatten([for statement in local.restore_drill : try(statement.Action, ["a Deny of all but some"]) if statement.Effect == "Deny"]),
    )) == 0 && alltrue([for statement in local.restore_drill : !can(statement.NotAction)])
    error_message = "The restore drill lacks the rights for operations on the nodes."
  }
  assert {
    condition = alltrue([for statement in local.restore_drill :
      try(statement.Condition.StringEquals["aws:ResourceTag/Name"], []) == ["dob-eu-central-1-r", "dob-eu-central-1-r-data"]
      if anytrue([for action in flatten([statement.Action]) : can(regex("^ec2:(Attach|Delete|Detach|Monitor|Stop|Terminate)", action))])
    ]) && !anytrue([for action in flatten(local.restore_drill[*].Action) : startswith(action, "iam:") && !can(regex("^iam:(Get|List|PassRole)", action))])
    error_message = "The restore drill, which nobody approves, can delete other nodes or change roles."
  }
  assert {
    condition     = toset([for statement in local.rotate_password : statement.Resource if startswith(flatten([statement.Action])[0], "kms:")][0]) == toset([for region in ["eu-west-1", "eu-central-1"] : "arn:aws:kms:${region}:123456789012:key/*"])
    error_message = "A new password does not reach the secret's copy."
  }
  assert {
    condition = alltrue(flatten([for name in ["release", "deploy", "operations", "restore-drill"] : [
      for statement in jsondecode(aws_iam_role_policy.github[name].policy).Statement :
      alltrue([for action in flatten([statement.Action]) : can(regex("^[a-z0-9]+:(Get|List|Describe)", action))]) if statement.Effect == "Allow" && statement.Resource == "*"
    ]]))
    error_message = "A workflow may change all resources of a type."
  }
  assert {
    condition = alltrue([for name, role in local.used : contains(flatten([
      for statement in jsondecode(aws_iam_role_policy.github[name].policy).Statement : statement.Action
      if toset(flatten([statement.Resource])) == toset([for name in ["$${aws:userid}", "GitHubActions"] : "arn:aws:ssm:*:*:session/${name}-*"])
    ]), "ssmmessages:OpenDataChannel") if strcontains(aws_iam_role_policy.github[name].policy, "ssm:StartSession")])
    error_message = "A workflow can start a session, but not use it."
  }
  assert {
    condition = [
      for statement in local.operations : statement.Condition.StringEquals["ssm:resourceTag/Role"] if statement.Sid == "OnDatabaseNodes"
    ] == [["dob-database-data", "dob-database-restore", "dob-database-witness"]]
    error_message = "Operations can reach other machines than the database nodes, or not all database nodes."
  }
  assert {
    condition     = keys(aws_iam_role_policy_attachment.github) == ["apply-global", "apply-primary", "apply-recovery"]
    error_message = "A workflow that needs few rights has a managed policy."
  }
}

run "not_a_repository" {
  command = plan
  variables {
    github_repository = "https://github.com/example/dob-api"
  }
  expect_failures = [var.github_repository]
}
