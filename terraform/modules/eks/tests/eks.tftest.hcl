mock_provider "aws" {
  source = "../../tests/mocks"
}

variables {
  name               = "dob"
  shim               = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  bucket             = "dob-nodes-123456789012-eu-west-1"
  subnet_ids         = ["subnet-a", "subnet-b", "subnet-c"]
  node_instance_type = "m7i.large"
  node_count         = { min = 3, desired = 3, max = 6 }
  target_group_arn   = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/dob-pods/0123456789abcdef"
  api_secret         = { name = "dob/api", key_arn = "arn:aws:kms:eu-west-1:123456789012:key/secrets" }
  logs               = { key_arn = "arn:aws:kms:eu-west-1:123456789012:key/logs", retention_days = 365 }
}

run "the_cluster" {
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The Kubernetes API has a public endpoint although no CIDR block is allowed."
  }
  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == module.key.arn
    error_message = "Secrets in the Kubernetes API are not encrypted."
  }
  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5
    error_message = "A control-plane log is missing."
  }
  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API" && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    error_message = "The creator of the cluster stays its administrator."
  }
  assert {
    condition     = toset(concat(keys(aws_eks_addon.before_nodes), keys(aws_eks_addon.on_nodes))) == toset(keys(data.aws_eks_addon_version.default))
    error_message = "An add-on whose version was looked up is not installed."
  }
  assert {
    condition     = alltrue([for addon in data.aws_eks_addon_version.default : addon.kubernetes_version == aws_eks_cluster.this.version && addon.most_recent != true])
    error_message = "An add-on has another version than EKS's default for this Kubernetes version."
  }
  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "Network policies are not enforced."
  }
  assert {
    condition = {
      for name, addon in merge(aws_eks_addon.before_nodes, aws_eks_addon.on_nodes) : name => one(addon.pod_identity_association).service_account
      if length(addon.pod_identity_association) > 0
    } == { aws-ebs-csi-driver = "ebs-csi-controller-sa", vpc-cni = "aws-node" }
    error_message = "An add-on's pods have no role of their own."
  }
}

run "the_nodes" {
  assert {
    condition     = tonumber(trimsuffix(aws_eks_node_group.this.timeouts.update, "m")) >= (15 + 5) * (var.node_count.desired + 6)
    error_message = "Terraform gives up while EKS still replaces nodes: it may drain each for 15 minutes."
  }
  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required" && aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Pods can take the node's role."
  }
  assert {
    condition     = aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "A node's disk is not encrypted."
  }
  assert {
    condition     = length(aws_eks_node_group.this.subnet_ids) == 3 && aws_eks_node_group.this.update_config[0].max_unavailable == 1
    error_message = "Nodes are not in three zones, or are replaced at the same time."
  }
  assert {
    condition     = aws_eks_node_group.this.node_repair_config[0].enabled
    error_message = "A node that stays unready is not replaced."
  }
  assert {
    # For its own image, EKS fills in the CIDR block that the address of DNS follows from. A value set here would override it.
    condition     = !strcontains(base64decode(aws_launch_template.node.user_data), "clusterDNS") && length(aws_eks_cluster.this.kubernetes_network_config) == 0
    error_message = "The user data sets an address of DNS, which nothing compares with the cluster's."
  }
  assert {
    condition     = aws_eks_node_group.this.force_update_version == false
    error_message = "An update kills pods that could not drain in time."
  }
  assert {
    condition = (data.aws_ssm_parameter.image.name == "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/standard/recommended/release_version" &&
      aws_eks_node_group.this.ami_type == "AL2023_x86_64_STANDARD" && aws_launch_template.node.image_id == null
    )
    error_message = "The image is not EKS's own for this Kubernetes version."
  }
  assert {
    condition     = strcontains(base64decode(aws_launch_template.node.user_data), "s3://dob-nodes-123456789012-eu-west-1/containerd-shim-spin-v2-linux-x86_64-v1.2.3.tar.gz") && strcontains(base64decode(aws_launch_template.node.user_data), var.shim.sha256)
    error_message = "Nodes install another shim than the one whose checksum is known."
  }
  assert {
    condition     = strcontains(base64decode(aws_launch_template.node.user_data), "containerd.runtimes.spin-v2.options]\\nSystemdCgroup = true")
    error_message = "containerd has no runtime for the pods, or their CPU is not counted."
  }
  assert {
    condition = alltrue([for made in aws_launch_template.node.tag_specifications :
      made.tags == tomap({ Service = "dob", Name = "dob-eks-node", Role = "dob-kubernetes" })
    ]) && length(aws_launch_template.node.tag_specifications) == 2
    error_message = "Nodes or their disks lack the provider's tags."
  }
}

run "a_newer_image" {
  override_data {
    target = data.aws_ssm_parameter.image
    values = { insecure_value = "1.36.9-20261101" }
  }
  assert {
    condition     = aws_eks_node_group.this.release_version == "1.36.3-20260901"
    error_message = "A new image replaces the nodes without a person's request."
  }
}

run "a_newer_add_on" {
  override_data {
    target = data.aws_eks_addon_version.default
    values = { version = "v1.2.4-eksbuild.1" }
  }
  assert {
    condition     = alltrue([for addon in merge(aws_eks_addon.before_nodes, aws_eks_addon.on_nodes) : addon.addon_version == "v1.2.3-eksbuild.1"])
    error_message = "A new version of an add-on is installed without a person's request."
  }
}

run "logs_of_pods" {
  assert {
    condition     = aws_cloudwatch_log_group.pods.name == yamldecode(file("../../../k8s/logs/collector.yaml")).exporters.awscloudwatchlogs.log_group_name
    error_message = "The log shipper writes to another log group than the one that exists."
  }
  assert {
    condition = [aws_eks_pod_identity_association.this["shipper"].namespace, aws_eks_pod_identity_association.this["shipper"].service_account] == [
      yamldecode(file("../../../k8s/logs/namespace.yaml")).metadata.name, "shipper",
    ]
    error_message = "Other pods than the log shipper have its rights."
  }
  assert {
    condition = [for statement in jsondecode(aws_iam_role_policy.pod["shipper"].policy).Statement : [statement.Resource, toset(statement.Action)]] == [
      ["${aws_cloudwatch_log_group.pods.arn}:*", toset(["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"])],
    ]
    error_message = "The log shipper can read logs, or write to another group."
  }
}

run "least_privilege" {
  assert {
    condition = alltrue(flatten([for policy in aws_iam_role_policy.pod : [for statement in jsondecode(policy.policy).Statement :
      alltrue([for action in flatten([statement.Action]) : strcontains(action, ":Describe")]) if statement.Resource == "*"
    ]]))
    error_message = "A pod may change all resources of a type."
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.pod["external-secrets"].policy).Statement[0].Resource == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:dob/api-??????"
    error_message = "External Secrets reads other secrets than the API's."
  }
  assert {
    condition     = keys(aws_iam_role_policy_attachment.node) == ["AmazonEC2ContainerRegistryPullOnly", "AmazonEKSWorkerNodePolicy"]
    error_message = "A node has a managed policy that nodes do not need."
  }
  assert {
    condition = toset(flatten(jsondecode(aws_iam_role_policy.session_manager.policy).Statement[*].Action)) == toset([
      "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel", "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
    ])
    error_message = "No tunnel through a node is possible, or a node has more rights in Systems Manager than that takes."
  }
  assert {
    condition = jsondecode(aws_iam_role_policy.shim.policy).Statement == [{
      Effect = "Allow", Action = "s3:GetObject", Resource = "${aws_s3_bucket.nodes.arn}/containerd-shim-spin-v2-linux-x86_64-v1.2.3.tar.gz"
    }]
    error_message = "Nodes can read something else than the shim's archive."
  }
  assert {
    condition     = jsondecode(aws_iam_role.pod["external-secrets"].assume_role_policy).Statement[0].Condition.StringEquals["aws:RequestTag/kubernetes-service-account"] == "external-secrets"
    error_message = "Another service account can take the role."
  }
  assert {
    condition     = !contains(keys(aws_iam_role.pod), "alertmanager") && keys(aws_eks_pod_identity_association.this) == ["aws-load-balancer-controller", "external-secrets", "shipper"]
    error_message = "Alertmanager has a role although there is no topic."
  }
  assert {
    condition     = length(aws_eks_access_entry.this) == 0
    error_message = "An unnamed principal has access."
  }
}

run "alarm_topics" {
  variables {
    alarm_topics = ["arn:aws:sns:eu-west-1:123456789012:operators"]
  }
  assert {
    condition     = jsondecode(aws_iam_role_policy.pod["alertmanager"].policy).Statement == [{ Effect = "Allow", Action = "sns:Publish", Resource = ["arn:aws:sns:eu-west-1:123456789012:operators"] }]
    error_message = "Alertmanager may do something else than publish to the topics."
  }
  assert {
    condition = [for role in [aws_eks_pod_identity_association.this["alertmanager"]] : "${role.namespace}/${role.service_account}"] == [
      for account in [for text in split("\n---\n", file("../../../k8s/observability/alertmanager.yaml")) : yamldecode(text)] : "${account.metadata.namespace}/${account.metadata.name}" if account.kind == "ServiceAccount"
    ]
    error_message = "The role is not for the service account of Alertmanager's pods."
  }
}

run "access" {
  variables {
    admin_arns   = ["arn:aws:iam::123456789012:role/admins"]
    deployer_arn = "arn:aws:iam::123456789012:role/dob-deploy"
  }
  assert {
    condition     = keys(aws_eks_access_policy_association.this) == ["arn:aws:iam::123456789012:role/admins"]
    error_message = "Principals other than the administrators have all rights."
  }
  assert {
    condition     = aws_eks_access_entry.this["arn:aws:iam::123456789012:role/dob-deploy"].kubernetes_groups == toset(["dob-deployers"])
    error_message = "The deploy workflow is not in its group."
  }
}

run "an_allow_listed_endpoint" {
  variables {
    api_allowed_cidrs = ["192.0.2.0/24"]
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["192.0.2.0/24"])
    error_message = "The public endpoint is open to other blocks than the listed one."
  }
}

run "the_api_for_everybody" {
  command = plan
  variables {
    api_allowed_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.api_allowed_cidrs]
}

run "an_administrator_who_is_a_session" {
  command = plan
  variables {
    admin_arns = ["arn:aws:sts::123456789012:assumed-role/admins/somebody"]
  }
  expect_failures = [var.admin_arns]
}

run "a_deployer_by_name" {
  command = plan
  variables {
    deployer_arn = "dob-deploy"
  }
  expect_failures = [var.deployer_arn]
}

run "a_topic_elsewhere" {
  command = plan
  variables {
    alarm_topics = ["arn:aws:sns:us-east-1:123456789012:operators"]
  }
  expect_failures = [var.alarm_topics]
}

run "a_shim_without_a_checksum" {
  command = plan
  variables {
    shim = { version = "1.2.3", sha256 = "" }
  }
  expect_failures = [var.shim]
}

run "too_few_nodes" {
  command = plan
  variables {
    node_count = { min = 1, desired = 1, max = 2 }
  }
  expect_failures = [var.node_count]
}

run "two_zones" {
  command = plan
  variables {
    subnet_ids = ["subnet-a", "subnet-b"]
  }
  expect_failures = [var.subnet_ids]
}

run "a_patch_version_of_kubernetes" {
  command = plan
  variables {
    kubernetes = "1.36.3"
  }
  expect_failures = [var.kubernetes]
}
