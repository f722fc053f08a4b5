# EKS's own image: nothing on it updates itself, the version of containerd is held, and it has the agent of Session Manager.
data "aws_ssm_parameter" "image" {
  name = "/aws/service/eks/optimized-ami/${var.kubernetes}/amazon-linux-2023/x86_64/standard/recommended/release_version"
}

locals {
  shim = {
    object  = "containerd-shim-spin-v2-linux-x86_64-v${var.shim.version}.tar.gz"
    handler = yamldecode(file("${path.module}/../../../k8s/foundation/runtime-class.yaml")).handler
  }
  # EKS appends the part that makes a node join the cluster. nodeadm-run, which starts containerd and the kubelet, waits for the end of cloud-init.
  user_data = templatefile("${path.module}/files/user-data.tftpl", {
    install_shim = file("${path.module}/files/install-shim")
    command      = ["/usr/local/sbin/install-shim", local.region, "s3://${aws_s3_bucket.nodes.bucket}/${local.shim.object}", var.shim.sha256, "/usr/local/bin"]
    handler      = local.shim.handler
  })
}

# Nodes keep their image until a person asks for a newer one (terraform apply -replace=…eks.terraform_data.image) or the Kubernetes version changes.
# Then the nodes are replaced one at a time.
resource "terraform_data" "image" {
  input            = data.aws_ssm_parameter.image.insecure_value
  triggers_replace = data.aws_ssm_parameter.image.name
  lifecycle {
    ignore_changes = [input]
  }
}

# The provider's default tags do not apply to what EC2 creates from a launch template.
data "aws_default_tags" "this" {}

resource "aws_iam_role" "node" {
  name = "${var.name}-eks-node-${local.region}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:aws:iam::aws:policy/${each.key}"
}

# The rights that the agent needs for sessions only. AWS's managed policy also reads every parameter. AWS accepts no narrower resource here.
resource "aws_iam_role_policy" "session_manager" {
  name = "session-manager"
  role = aws_iam_role.node.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect = "Allow"
      Action = concat(
        ["ssm:UpdateInstanceInformation"],
        [for channel in ["Control", "Data"] : "ssmmessages:Create${channel}Channel"],
        [for channel in ["Control", "Data"] : "ssmmessages:Open${channel}Channel"],
      )
      Resource = "*"
    }]
  })
}

resource "aws_iam_role_policy" "shim" {
  name = "shim"
  role = aws_iam_role.node.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "s3:GetObject", Resource = "${aws_s3_bucket.nodes.arn}/${local.shim.object}" }]
  })
}

resource "aws_launch_template" "node" {
  name                   = "${var.name}-eks-node"
  instance_type          = var.node_instance_type
  update_default_version = true
  user_data              = base64encode(local.user_data)

  # With a hop limit of one, pods can't reach the metadata service and take the node's role.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_type           = "gp3"
      volume_size           = 30
      encrypted             = true
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume"]
    content {
      resource_type = tag_specifications.value
      tags          = merge(data.aws_default_tags.this.tags, { Name = "${var.name}-eks-node", Role = "${var.name}-kubernetes" })
    }
  }
}

resource "aws_eks_node_group" "this" {
  cluster_name           = aws_eks_cluster.this.name
  node_group_name_prefix = "${var.name}-"
  node_role_arn          = aws_iam_role.node.arn
  subnet_ids             = var.subnet_ids

  ami_type        = "AL2023_x86_64_STANDARD"
  version         = aws_eks_cluster.this.version
  release_version = terraform_data.image.output

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  scaling_config {
    min_size     = var.node_count.min
    desired_size = var.node_count.desired
    max_size     = var.node_count.max
  }

  update_config {
    max_unavailable = 1
  }
  # EKS drains and replaces a node that stays unready.
  node_repair_config {
    enabled = true
  }
  # If EKS can't drain a node within 15 minutes, the update fails rather than kill its pods.
  force_update_version = false

  # Draining takes up to 15 minutes for each node. The workflow waits a little longer than this.
  timeouts {
    update = "210m"
  }

  lifecycle {
    create_before_destroy = true
  }

  # No node becomes ready without the CNI.
  depends_on = [aws_iam_role_policy.session_manager, aws_iam_role_policy.shim, aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}
