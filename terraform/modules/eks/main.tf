data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  region  = data.aws_region.current.id
  account = data.aws_caller_identity.current.account_id
}

module "key" {
  source = "../key"

  name        = "${var.name}-eks"
  description = "Secrets in the Kubernetes API"
}

resource "aws_iam_role" "cluster" {
  name = "${var.name}-eks-cluster-${local.region}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "eks.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_cloudwatch_log_group" "cluster" {
  # EKS writes its logs to a group of this name.
  name              = "/aws/eks/${var.name}/cluster"
  kms_key_id        = var.logs.key_arn
  retention_in_days = var.logs.retention_days
}

resource "aws_eks_cluster" "this" {
  # checkov:skip=CKV_AWS_39: the public endpoint exists only where api_allowed_cidrs names who may use it.
  # checkov:skip=CKV_AWS_38: api_allowed_cidrs refuses anything wider than /16.
  # checkov:skip=CKV_AWS_339: checkov 3.3 does not know 1.36 yet; k8s/checks/test_versions.py checks the version.
  name     = var.name
  role_arn = aws_iam_role.cluster.arn
  version  = var.kubernetes

  # The add-ons below replace EKS's default ones. Each region keeps the versions with which it was created.
  bootstrap_self_managed_addons = false
  enabled_cluster_log_types     = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  vpc_config {
    subnet_ids              = var.subnet_ids
    endpoint_private_access = true
    endpoint_public_access  = length(var.api_allowed_cidrs) > 0
    public_access_cidrs     = length(var.api_allowed_cidrs) > 0 ? var.api_allowed_cidrs : null
  }

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = false
  }

  encryption_config {
    resources = ["secrets"]
    provider {
      key_arn = module.key.arn
    }
  }

  upgrade_policy {
    # Extended support costs six times as much, so EKS upgrades the cluster instead.
    support_type = "STANDARD"
  }

  depends_on = [aws_iam_role_policy_attachment.cluster, aws_cloudwatch_log_group.cluster]
}

# EKS's default versions of the add-ons for this Kubernetes version.
data "aws_eks_addon_version" "default" {
  for_each = toset(["aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy", "metrics-server", "vpc-cni"])

  addon_name         = each.key
  kubernetes_version = var.kubernetes
}

# Keeps the versions until a person asks for newer ones (terraform apply -replace=…eks.terraform_data.addons) or the Kubernetes version changes.
resource "terraform_data" "addons" {
  input            = { for name, addon in data.aws_eks_addon_version.default : name => addon.version }
  triggers_replace = var.kubernetes
  lifecycle {
    ignore_changes = [input]
  }
}

# A node becomes ready only with the DaemonSets, so they come first. Deployments need a node to become active.
resource "aws_eks_addon" "before_nodes" {
  for_each = toset(["eks-pod-identity-agent", "kube-proxy", "vpc-cni"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = terraform_data.addons.output[each.key]
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"
  # The CNI enforces network policies only if this is set.
  configuration_values = each.key == "vpc-cni" ? jsonencode({ enableNetworkPolicy = "true" }) : null

  dynamic "pod_identity_association" {
    for_each = [for name, pod in local.pods : pod if name == each.key]
    content {
      service_account = pod_identity_association.value.service_account
      role_arn        = aws_iam_role.pod[each.key].arn
    }
  }

  depends_on = [aws_iam_role_policy_attachment.pod]
}

resource "aws_eks_addon" "on_nodes" {
  for_each = toset(["aws-ebs-csi-driver", "coredns", "metrics-server"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = terraform_data.addons.output[each.key]
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  dynamic "pod_identity_association" {
    for_each = [for name, pod in local.pods : pod if name == each.key]
    content {
      service_account = pod_identity_association.value.service_account
      role_arn        = aws_iam_role.pod[each.key].arn
    }
  }

  depends_on = [aws_eks_node_group.this, aws_iam_role_policy_attachment.pod]
}

locals {
  access = merge(
    { for arn in var.admin_arns : arn => { groups = [], policy = "AmazonEKSClusterAdminPolicy" } },
    var.deployer_arn == null ? {} : { (var.deployer_arn) = { groups = ["${var.name}-deployers"], policy = null } },
  )
}

resource "aws_eks_access_entry" "this" {
  for_each = local.access

  cluster_name      = aws_eks_cluster.this.name
  principal_arn     = each.key
  kubernetes_groups = each.value.groups
}

resource "aws_eks_access_policy_association" "this" {
  for_each = { for arn, entry in local.access : arn => entry.policy if entry.policy != null }

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = aws_eks_access_entry.this[each.key].principal_arn
  policy_arn    = "arn:aws:eks::aws:cluster-access-policy/${each.value}"
  access_scope {
    type = "cluster"
  }
}
