variable "name" {
  description = "Name of the cluster."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of the control plane's interfaces and the nodes."
  type        = list(string)
  validation {
    condition     = length(var.subnet_ids) == 3
    error_message = "The cluster needs a private subnet in each of three zones."
  }
}

# Only this names the version. k8s/checks/test_versions.py fails when all pinned parts support a newer one.
variable "kubernetes" {
  description = "Minor version of Kubernetes. 1.36 is in standard support until August 2027."
  type        = string
  default     = "1.36"
  validation {
    condition     = can(regex("^1\\.[0-9]+$", var.kubernetes))
    error_message = "kubernetes must be a minor version of Kubernetes, such as 1.36: EKS chooses the patch."
  }
}

variable "shim" {
  description = "SpinKube's shim, which runs the pods: its version, and the SHA-256 of containerd-shim-spin-v2-linux-x86_64.tar.gz in its release."
  type        = object({ version = string, sha256 = string })
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.shim.sha256))
    error_message = <<-EOT
      There is no checksum of the shim ${var.shim.version} yet: copy the checksum of containerd-shim-spin-v2-linux-x86_64.tar.gz from
      https://github.com/spinframework/containerd-shim-spin/releases/tag/v${var.shim.version} into terraform/shim.auto.tfvars.json.
    EOT
  }
}

variable "bucket" {
  description = "Name of the bucket that nodes read the shim from. scripts/mirror-shim uploads it."
  type        = string
}

variable "node_instance_type" {
  description = "EC2 instance type of the nodes (x86)."
  type        = string
}

variable "node_count" {
  description = "Number of nodes: minimum, desired at creation, maximum."
  type        = object({ min = number, desired = number, max = number })
  validation {
    condition     = var.node_count.min >= 3 && var.node_count.min <= var.node_count.desired && var.node_count.desired < var.node_count.max
    error_message = "node_count must have 3 <= min <= desired < max: a node in each zone, and room to add one."
  }
}

variable "api_allowed_cidrs" {
  description = "CIDR blocks that may reach the Kubernetes API from outside the VPC. An empty list leaves only the private endpoint."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for cidr in var.api_allowed_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]), 0) >= 16])
    error_message = "api_allowed_cidrs must be IPv4 CIDR blocks of /16 or smaller: never the whole Internet."
  }
}

variable "admin_arns" {
  description = "IAM roles of the people who administer the cluster."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for arn in var.admin_arns : can(regex("^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", arn))])
    error_message = "admin_arns must be ARNs of IAM roles, such as arn:aws:iam::123456789012:role/admins: the role itself, not a session of it."
  }
}

variable "deployer_arn" {
  description = "IAM role of the deploy workflow. It gets the Kubernetes group <name>-deployers, whose rights are in k8s/. null grants nothing."
  type        = string
  default     = null
  validation {
    condition     = var.deployer_arn == null ? true : can(regex("^arn:aws:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]+$", var.deployer_arn))
    error_message = "deployer_arn must be the ARN of an IAM role, such as arn:aws:iam::123456789012:role/dob-deploy."
  }
}

variable "target_group_arn" {
  description = "Target group that the AWS Load Balancer Controller registers pods in."
  type        = string
}

variable "api_secret" {
  description = "Name of the secret that External Secrets reads for the pods, and the key that it is encrypted with."
  type        = object({ name = string, key_arn = string })
}

variable "alarm_topics" {
  description = "SNS topics that Alertmanager notifies. With an empty list, nobody is notified."
  type        = list(string)
  default     = []
  validation {
    condition     = alltrue([for topic in var.alarm_topics : can(regex("^arn:aws:sns:${local.region}:[0-9]{12}:[A-Za-z0-9_-]+$", topic))])
    error_message = "alarm_topics must be ARNs of SNS topics in ${local.region}, such as arn:aws:sns:${local.region}:123456789012:operators."
  }
}

variable "logs" {
  description = "KMS key of the logs, and the days for which they are kept."
  type        = object({ key_arn = string, retention_days = number })
}
