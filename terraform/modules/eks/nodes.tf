# Ubuntu, because there the runtime-class-manager can install the Spin shim.
data "aws_ssm_parameter" "image" {
  name = "/aws/service/canonical/ubuntu/eks/${var.release.ubuntu}/${var.release.kubernetes}/stable/current/amd64/hvm/ebs-gp3/ami-id"
}

locals {
  # Where k8s/aws/shim.yaml has Spin installed. Said to the kubelet, too: with an image of one's own EKS passes nothing on to it.
  labels      = { spin = "true" }
  node_labels = join(",", [for name, value in local.labels : "${name}=${value}"])
  # The runtime-class-manager leaves a node alone that has a shim: a newer one takes new nodes, which this tag's change makes.
  shim = one(yamldecode(file("${path.module}/../../../k8s/aws/shim.yaml")).spec.fetchStrategy.platforms).location
}

# A newer image waits until a person asks for it (terraform apply -replace=…eks.terraform_data.image) or Kubernetes' version changes; then it
# rolls through the nodes, one at a time.
resource "terraform_data" "image" {
  input            = data.aws_ssm_parameter.image.insecure_value
  triggers_replace = data.aws_ssm_parameter.image.name
  lifecycle {
    ignore_changes = [input]
  }
}

# The provider's default tags do not reach what others make of a launch template.
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

# What the agent of Session Manager asks, for sessions only: AWS's own policy reads every parameter, too. AWS takes no narrower resource.
resource "aws_iam_role_policy" "node" {
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

resource "aws_launch_template" "node" {
  name                   = "${var.name}-eks-node"
  image_id               = terraform_data.image.output
  instance_type          = var.node_instance_type
  update_default_version = true
  user_data = base64encode(join("\n", [
    "#!/bin/bash",
    "set -e",
    "/etc/eks/bootstrap.sh '${aws_eks_cluster.this.name}' --apiserver-endpoint '${aws_eks_cluster.this.endpoint}' --b64-cluster-ca '${aws_eks_cluster.this.certificate_authority[0].data}' --kubelet-extra-args '--node-labels=${local.node_labels}'",
    # The way to the Kubernetes API is a tunnel through a node, by this agent: not every image of Canonical's has it.
    "until snap list amazon-ssm-agent || snap install --classic amazon-ssm-agent; do sleep 10; done",
    "",
  ]))

  # Pods can't be the node: one hop ends before them.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  block_device_mappings {
    device_name = "/dev/sda1"
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
      tags          = merge(data.aws_default_tags.this.tags, { Name = "${var.name}-eks-node", Role = "${var.name}-kubernetes", Shim = local.shim })
    }
  }
}

resource "aws_eks_node_group" "this" {
  cluster_name           = aws_eks_cluster.this.name
  node_group_name_prefix = "${var.name}-"
  node_role_arn          = aws_iam_role.node.arn
  subnet_ids             = var.subnet_ids

  labels = local.labels

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
  # A node that EKS can't drain in 15 minutes fails the update: better than taking its pods away.
  force_update_version = false

  lifecycle {
    create_before_destroy = true
  }

  # Without the CNI no node gets ready.
  depends_on = [aws_iam_role_policy.node, aws_iam_role_policy_attachment.node, aws_eks_addon.before_nodes]
}
