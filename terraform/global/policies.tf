# The rights of each workflow's role.
locals {
  no_secrets = {
    Sid      = "NoSecrets"
    Effect   = "Deny"
    Action   = ["secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "secretsmanager:PutSecretValue"]
    Resource = "*"
  }
  no_backups = {
    Sid      = "NoBackups"
    Effect   = "Deny"
    Action   = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*"]
    Resource = "arn:aws:s3:::${local.service}-backups-*/*"
  }

  # What a plan reads: the resources and their settings, never their contents. Limited to the service's own names where AWS allows it.
  describe = [
    {
      Sid    = "Describe"
      Effect = "Allow"
      Action = concat(
        ["acm:DescribeCertificate", "acm:ListTagsForCertificate", "cloudwatch:DescribeAlarms", "cloudwatch:ListTagsForResource", "ec2:Describe*", "ec2:GetInstanceUefiData"],
        ["ecr:DescribeRegistry", "ecr:DescribeRepositories", "ecr:ListTagsForResource", "eks:Describe*", "eks:List*", "elasticloadbalancing:Describe*"],
        [for kind in ["InstanceProfile", "OpenIDConnectProvider", "Role", "RolePolicy"] : "iam:Get${kind}"],
        ["iam:ListAttachedRolePolicies", "iam:ListInstanceProfilesForRole", "iam:ListRolePolicies"],
        ["kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListAliases", "kms:ListResourceTags"],
        ["logs:DescribeLogGroups", "logs:ListTagsForResource"],
        ["route53:GetChange", "route53:GetHealthCheck", "route53:GetHostedZone", "route53:List*"],
        ["ssm:DescribeDocument*", "ssm:ListTagsForResource"],
      )
      Resource = "*"
    },
    {
      # A plan compares user data. The user data of another service may contain a secret, so only our own can be read.
      Sid       = "OthersUserData"
      Effect    = "Deny"
      Action    = "ec2:DescribeInstanceAttribute"
      Resource  = "*"
      Condition = { StringNotEquals = { "aws:ResourceTag/Service" = local.service } }
    },
    {
      Sid      = "DescribeSecrets"
      Effect   = "Allow"
      Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy"]
      Resource = "arn:aws:secretsmanager:*:${local.account}:secret:${local.service}/*"
    },
    {
      Sid      = "DescribeBuckets"
      Effect   = "Allow"
      Action   = ["s3:GetAccelerateConfiguration", "s3:GetBucket*", "s3:GetEncryptionConfiguration", "s3:GetLifecycleConfiguration", "s3:GetReplicationConfiguration", "s3:ListBucket"]
      Resource = [for kind in ["backups", "nodes"] : "arn:aws:s3:::${local.service}-${kind}-*"]
    },
    # AWS's public parameters with the IDs of images.
    { Sid = "Images", Effect = "Allow", Action = "ssm:GetParameter", Resource = "arn:aws:ssm:*::parameter/aws/service/*" },
    { Sid = "OperationDocument", Effect = "Allow", Action = "ssm:GetDocument", Resource = "arn:aws:ssm:*:${local.account}:document/${local.service}-operation" },
    { Sid = "ReadStates", Effect = "Allow", Action = "s3:GetObject", Resource = values(local.state_objects) },
    { Sid = "FindStates", Effect = "Allow", Action = "s3:ListBucket", Resource = [for bucket in var.state_buckets : "arn:aws:s3:::${bucket}"] },
  ]
  plan = concat(local.describe, [local.no_secrets, local.no_backups])

  region_of_root = { global = local.home, primary = local.sides.primary.region, recovery = local.sides.recovery.region }
  state_objects  = { for root, bucket in var.state_buckets : root => "arn:aws:s3:::${bucket}/*" }

  # The root of a region creates the roles of its machines and pods. The global root creates those of the workflows.
  region_roles   = { for side, place in local.sides : side => [for name in ["database-*", "eks-*", "flow-logs", "pod-*"] : "${name}-${place.region}"] }
  workflow_roles = concat(["plan", "apply-global", "apply-primary", "apply-recovery", "release", "deploy", "operations", "restore-drill", "rotate-password"], var.smoke_run ? ["smoke"] : [])
  role_names     = merge({ global = local.workflow_roles }, local.region_roles)

  # These rights come on top of PowerUserAccess, which has everything but IAM. The rights of the created roles are not limited here. They are reviewed
  # with the plan.
  apply = { for root, region in local.region_of_root : root => [
    {
      Sid    = "OwnRoles"
      Effect = "Allow"
      Action = concat(
        [for action in ["Create", "Delete", "Get", "Tag", "Untag"] : "iam:${action}Role"],
        [for action in ["Create", "Delete", "Get", "Tag", "Untag"] : "iam:${action}InstanceProfile"],
        [for action in ["Put", "Delete", "Get", "Attach", "Detach"] : "iam:${action}RolePolicy"],
        ["iam:UpdateRole", "iam:UpdateAssumeRolePolicy", "iam:PassRole", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies"],
        ["iam:ListInstanceProfilesForRole", "iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile"],
      )
      Resource = flatten([for name in local.role_names[root] : [for kind in ["role", "instance-profile"] :
        "arn:aws:iam::${local.account}:${kind}/${local.service}-${name}"
      ]])
    },
    {
      # EKS asks for this role with the caller's rights when a node group is created.
      Sid      = "NodeGroups"
      Effect   = root == "global" ? "Deny" : "Allow"
      Action   = "iam:GetRole"
      Resource = "arn:aws:iam::${local.account}:role/aws-service-role/eks-nodegroup.amazonaws.com/AWSServiceRoleForAmazonEKSNodegroup"
    },
    {
      Sid      = "Providers"
      Effect   = root == "global" ? "Allow" : "Deny"
      Action   = [for action in ["Create", "Delete", "Get", "Tag", "Untag", "Update"] : "iam:${action}OpenIDConnectProvider${action == "Update" ? "Thumbprint" : ""}"]
      Resource = "arn:aws:iam::${local.account}:oidc-provider/*"
    },
    {
      # Limited to its own region and to global services, so that a mistake in one root can't change the other region. The exceptions are copies of
      # secrets, which are written to the other region, and alarms on Route 53, which are in us-east-1.
      Sid    = "OwnRegion"
      Effect = "Deny"
      NotAction = concat(["iam:*", "route53:*", "sts:*"], root == "primary" ? [
        "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "secretsmanager:CreateSecret", "secretsmanager:TagResource",
        ] : root == "global" ? [
        for action in ["DeleteAlarms", "DescribeAlarms", "ListTagsForResource", "PutMetricAlarm", "TagResource", "UntagResource"] : "cloudwatch:${action}"
      ] : [])
      Resource  = "*"
      Condition = { StringNotEquals = { "aws:RequestedRegion" = region } }
    },
    {
      Sid      = "OwnState"
      Effect   = "Deny"
      Action   = ["s3:PutObject", "s3:DeleteObject"]
      Resource = [for other, object in local.state_objects : object if other != root]
    },
    local.no_secrets,
    local.no_backups,
  ] }

  registry_login = { Sid = "Login", Effect = "Allow", Action = "ecr:GetAuthorizationToken", Resource = "*" }
  registry_pull  = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]

  release = [
    local.registry_login,
    {
      Sid      = "Push"
      Effect   = "Allow"
      Action   = concat(local.registry_pull, ["ecr:CompleteLayerUpload", "ecr:InitiateLayerUpload", "ecr:PutImage", "ecr:UploadLayerPart"])
      Resource = module.registry.arn
    },
  ]

  deploy = concat(local.tunnel, [
    local.registry_login,
    { Sid = "Pull", Effect = "Allow", Action = local.registry_pull, Resource = [for side in values(local.sides) : "arn:aws:ecr:${side.region}:${local.account}:repository/${module.registry.name}"] },
  ])

  # The Kubernetes API has no public address. It is reached by a tunnel through a node.
  tunnel = [
    { Sid = "Clusters", Effect = "Allow", Action = "eks:DescribeCluster", Resource = [for side in values(local.sides) : "arn:aws:eks:${side.region}:${local.account}:cluster/${local.service}"] },
    { Sid = "FindKubernetesNodes", Effect = "Allow", Action = "ec2:DescribeInstances", Resource = "*" },
    {
      Sid       = "Tunnel"
      Effect    = "Allow"
      Action    = "ssm:StartSession"
      Resource  = [for side in values(local.sides) : "arn:aws:ec2:${side.region}:${local.account}:instance/*"]
      Condition = { StringEquals = { "ssm:resourceTag/Role" = "${local.service}-kubernetes" }, BoolIfExists = { "ssm:SessionDocumentAccessCheck" = "true" } }
    },
    {
      Sid      = "TunnelOnly"
      Effect   = "Allow"
      Action   = "ssm:StartSession"
      Resource = [for side in values(local.sides) : "arn:aws:ssm:${side.region}::document/AWS-StartPortForwardingSessionToRemoteHost"]
    },
    {
      # AWS documents that sessions are named after the user ID. Those of a role are named after the role session, which is GitHubActions in workflows.
      Sid      = "OwnSessions"
      Effect   = "Allow"
      Action   = ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"]
      Resource = [for name in ["$${aws:userid}", "GitHubActions"] : "arn:aws:ssm:*:*:session/${name}-*"]
    },
  ]

  # The API's secret, with the password that is rotated. The secret of the other region is a copy.
  rotate_password = [
    {
      Sid      = "ApiSecret"
      Effect   = "Allow"
      Action   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
      Resource = "arn:aws:secretsmanager:${local.region_of_root.primary}:${local.account}:secret:${local.service}/api-??????"
    },
    local.keys_of_secrets,
  ]
  keys_of_secrets = {
    # Secrets Manager writes the copy with the rights of the writer.
    Sid      = "KeysOfBothCopies"
    Effect   = "Allow"
    Action   = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
    Resource = [for side in values(local.sides) : "arn:aws:kms:${side.region}:${local.account}:key/*"]
    Condition = {
      StringEquals               = { "kms:ViaService" = [for side in values(local.sides) : "secretsmanager.${side.region}.amazonaws.com"] }
      "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = "alias/${local.service}-secrets" }
    }
  }

  # What an administrator does in an installation: fills the secrets, prepares the clusters, and deletes what Terraform leaves behind. And it stops
  # database nodes, and promotes the other region.
  smoke = concat(local.tunnel, local.operations, [
    {
      Sid      = "Secrets"
      Effect   = "Allow"
      Action   = [for verb in ["DeleteSecret", "DescribeSecret", "GetSecretValue", "PutSecretValue"] : "secretsmanager:${verb}"]
      Resource = [for side in values(local.sides) : "arn:aws:secretsmanager:${side.region}:${local.account}:secret:${local.service}/*"]
    },
    local.keys_of_secrets,
    {
      Sid      = "DeleteBackups"
      Effect   = "Allow"
      Action   = ["s3:BypassGovernanceRetention", "s3:DeleteBucket", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention", "s3:ListBucket", "s3:ListBucketVersions"]
      Resource = flatten([for side in values(local.sides) : [for end in ["", "/*"] : "arn:aws:s3:::${local.service}-backups-${local.account}-${side.region}${end}"]])
    },
    {
      Sid      = "SeeWhatIsLeft"
      Effect   = "Allow"
      Action   = concat([for kind in ["Addresses", "Instances", "NatGateways", "Volumes", "VpcEndpoints"] : "ec2:Describe${kind}"], ["eks:ListClusters", "elasticloadbalancing:DescribeLoadBalancers"])
      Resource = "*"
    },
    {
      # As if the region were lost.
      Sid       = "StopDatabaseNodes"
      Effect    = "Allow"
      Action    = "ec2:StopInstances"
      Resource  = [for side in values(local.sides) : "arn:aws:ec2:${side.region}:${local.account}:instance/*"]
      Condition = { StringEquals = { "aws:ResourceTag/Role" = [for role in ["data", "witness"] : "${local.service}-database-${role}"] } }
    },
    {
      # The databases' volumes and those of pods have the tag of the service.
      Sid       = "DeleteVolumes"
      Effect    = "Allow"
      Action    = "ec2:DeleteVolume"
      Resource  = [for side in values(local.sides) : "arn:aws:ec2:${side.region}:${local.account}:volume/*"]
      Condition = { StringEquals = { "aws:ResourceTag/Service" = local.service } }
    },
  ])

  # Runs the operations commands on the database nodes, through one SSM document that runs nothing else.
  operations = [
    { Sid = "FindNodes", Effect = "Allow", Action = "ec2:DescribeInstances", Resource = "*" },
    { Sid = "ReadResults", Effect = "Allow", Action = ["ssm:GetCommandInvocation", "ssm:ListCommandInvocations"], Resource = "*" },
    {
      Sid      = "RunOperations"
      Effect   = "Allow"
      Action   = "ssm:SendCommand"
      Resource = [for side in values(local.sides) : "arn:aws:ssm:${side.region}:${local.account}:document/${local.service}-operation"]
    },
    {
      Sid       = "OnDatabaseNodes"
      Effect    = "Allow"
      Action    = "ssm:SendCommand"
      Resource  = [for side in values(local.sides) : "arn:aws:ec2:${side.region}:${local.account}:instance/*"]
      Condition = { StringEquals = { "ssm:resourceTag/Role" = [for role in ["data", "restore", "witness"] : "${local.service}-database-${role}"] } }
    },
  ]

  # Creates and deletes the restore node, and reads what a plan reads. The role of that node exists already.
  restore_node = one([for name, node in local.sides.recovery.nodes : name if node.role == "restore"])
  restore_drill = concat(local.operations, local.describe, [
    {
      Sid    = "Make"
      Effect = "Allow"
      Action = ["ec2:CreateNetworkInterface", "ec2:CreateVolume", "ec2:RunInstances"]
      # Images belong to Debian's account, so any account is allowed.
      Resource = "arn:aws:ec2:${local.home}:*:*"
    },
    {
      # Only at creation, so that no existing resource can be given the name of the restore node.
      Sid       = "Name"
      Effect    = "Allow"
      Action    = "ec2:CreateTags"
      Resource  = "arn:aws:ec2:${local.home}:${local.account}:*"
      Condition = { StringEquals = { "ec2:CreateAction" = ["CreateNetworkInterface", "CreateVolume", "RunInstances"] } }
    },
    {
      # Terraform tags the root volume after its creation, and once more if the answer is lost. Only volumes without another name, and not
      # those of pods, can be tagged.
      Sid      = "NameItsRootVolume"
      Effect   = "Allow"
      Action   = "ec2:CreateTags"
      Resource = "arn:aws:ec2:${local.home}:${local.account}:volume/*"
      Condition = {
        StringEquals         = { "aws:RequestTag/Name" = local.restore_node }
        StringEqualsIfExists = { "aws:ResourceTag/Name" = local.restore_node }
        Null                 = { "aws:ResourceTag/ebs.csi.aws.com/cluster" = "true" }
      }
    },
    {
      Sid    = "AttachAndTakeAway"
      Effect = "Allow"
      Action = [
        "ec2:AttachVolume", "ec2:DeleteNetworkInterface", "ec2:DeleteVolume", "ec2:DetachNetworkInterface", "ec2:DetachVolume",
        "ec2:MonitorInstances", "ec2:StopInstances", "ec2:TerminateInstances",
      ]
      Resource  = "arn:aws:ec2:${local.home}:${local.account}:*"
      Condition = { StringEquals = { "aws:ResourceTag/Name" = [local.restore_node, "${local.restore_node}-data"] } }
    },
    {
      Sid       = "BeItsRole"
      Effect    = "Allow"
      Action    = "iam:PassRole"
      Resource  = "arn:aws:iam::${local.account}:role/${local.service}-database-restore-${local.home}"
      Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
    },
    {
      Sid      = "EncryptItsVolumes"
      Effect   = "Allow"
      Action   = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncrypt*"]
      Resource = "arn:aws:kms:${local.home}:${local.account}:key/*"
      Condition = {
        StringEquals               = { "kms:ViaService" = "ec2.${local.home}.amazonaws.com" }
        "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = "alias/${local.service}-database-volumes" }
      }
    },
    {
      Sid      = "ItsAlarm"
      Effect   = "Allow"
      Action   = ["cloudwatch:DeleteAlarms", "cloudwatch:PutMetricAlarm", "cloudwatch:TagResource"]
      Resource = "arn:aws:cloudwatch:${local.home}:${local.account}:alarm:${local.restore_node}-recover"
    },
    {
      Sid       = "ItsAddress"
      Effect    = "Allow"
      Action    = "route53:ChangeResourceRecordSets"
      Resource  = "arn:aws:route53:::hostedzone/*"
      Condition = { "ForAllValues:StringEquals" = { "route53:ChangeResourceRecordSetsNormalizedRecordNames" = ["${local.restore_node}.${local.service}.internal"] } }
    },
    { Sid = "State", Effect = "Allow", Action = ["s3:PutObject", "s3:DeleteObject"], Resource = local.state_objects.recovery },
    local.no_secrets,
    local.no_backups,
  ])
}
