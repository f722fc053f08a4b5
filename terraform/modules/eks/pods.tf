# The AWS rights of pods. EKS Pod Identity gives each service account a role of its own.
locals {
  pods = merge(
    {
      # Creates the volumes of Prometheus.
      aws-ebs-csi-driver = { namespace = "kube-system", service_account = "ebs-csi-controller-sa" }
      vpc-cni            = { namespace = "kube-system", service_account = "aws-node" }
      # Registers pods in one target group. It creates no load balancers and opens no security groups.
      aws-load-balancer-controller = { namespace = "kube-system", service_account = "aws-load-balancer-controller" }
      external-secrets             = { namespace = "external-secrets", service_account = "external-secrets" }
      # Ships the pods' logs (k8s/logs).
      shipper = { namespace = "logs", service_account = "shipper" }
    },
    length(var.alarm_topics) == 0 ? {} : { alertmanager = { namespace = "observability", service_account = "alertmanager" } },
  )

  # AWS's managed policies for the add-ons. That of the EBS driver is limited to volumes with the driver's tag.
  managed_policies = { aws-ebs-csi-driver = "AmazonEBSCSIDriverPolicyV2", vpc-cni = "AmazonEKS_CNI_Policy" }

  pod_policies = merge(
    {
      aws-load-balancer-controller = [
        {
          Effect   = "Allow"
          Action   = ["elasticloadbalancing:RegisterTargets", "elasticloadbalancing:DeregisterTargets"]
          Resource = var.target_group_arn
        },
        {
          # These actions only list. AWS accepts no narrower resource for them.
          Effect = "Allow"
          Action = [
            "ec2:DescribeAvailabilityZones", "ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets", "ec2:DescribeVpcs", "elasticloadbalancing:DescribeListeners", "elasticloadbalancing:DescribeLoadBalancers",
            "elasticloadbalancing:DescribeTags", "elasticloadbalancing:DescribeTargetGroups", "elasticloadbalancing:DescribeTargetHealth",
          ]
          Resource = "*"
        },
      ]
      shipper = [{
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.pods.arn}:*"
      }]
      external-secrets = [
        {
          Effect   = "Allow"
          Action   = ["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"]
          Resource = "arn:aws:secretsmanager:${local.region}:${local.account}:secret:${var.api_secret.name}-??????"
        },
        {
          Effect    = "Allow"
          Action    = "kms:Decrypt"
          Resource  = var.api_secret.key_arn
          Condition = { StringEquals = { "kms:ViaService" = "secretsmanager.${local.region}.amazonaws.com" } }
        },
      ]
    },
    length(var.alarm_topics) == 0 ? {} : {
      alertmanager = [{ Effect = "Allow", Action = "sns:Publish", Resource = var.alarm_topics }]
    },
  )
}

resource "aws_cloudwatch_log_group" "pods" {
  # k8s/logs/collector.yaml writes to a group of this name.
  name              = "/dob/${var.name}/pods"
  kms_key_id        = var.logs.key_arn
  retention_in_days = var.logs.retention_days
}

resource "aws_iam_role" "pod" {
  for_each = local.pods

  name = "${var.name}-pod-${each.key}-${local.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
      Condition = {
        StringEquals = {
          "aws:SourceAccount"                         = local.account
          "aws:RequestTag/kubernetes-namespace"       = each.value.namespace
          "aws:RequestTag/kubernetes-service-account" = each.value.service_account
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "pod" {
  for_each = local.pod_policies

  name   = each.key
  role   = aws_iam_role.pod[each.key].id
  policy = jsonencode({ Version = "2012-10-17", Statement = each.value })
}

resource "aws_iam_role_policy_attachment" "pod" {
  for_each = local.managed_policies

  role       = aws_iam_role.pod[each.key].name
  policy_arn = "arn:aws:iam::aws:policy/${each.value}"
}

resource "aws_eks_pod_identity_association" "this" {
  # The association of an add-on belongs to the add-on.
  for_each = local.pod_policies

  cluster_name    = aws_eks_cluster.this.name
  namespace       = local.pods[each.key].namespace
  service_account = local.pods[each.key].service_account
  role_arn        = aws_iam_role.pod[each.key].arn
}
