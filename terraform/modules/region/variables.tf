# The roots primary and recovery have these very variables: their variables.tf is a link to this file.

variable "domain" {
  description = "Domain of an existing public Route 53 zone; the service answers at dob.<domain>. The same in every root."
  type        = string
}

variable "regions" {
  description = "The two sides' AWS regions, CIDR blocks and letters of three zones, the same in every root; null is the plan in modules/topology."
  type        = map(object({ region = string, cidr = string, zones = optional(list(string), ["a", "b", "c"]) }))
  default     = null
}

variable "size" {
  description = "standard, small (fewer reserves for pods) or demonstration (cheap: one NAT gateway, small machines); null is this side's own."
  type        = string
  default     = null
  validation {
    condition     = var.size == null ? true : contains(["standard", "small", "demonstration"], var.size)
    error_message = "size must be standard, small or demonstration."
  }
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones instead of one in each: cheap, and its zone's loss cuts the others off the Internet; null is what the size has."
  type        = bool
  default     = null
}

variable "replication_mode" {
  description = "asynchronous: a saved date may be lost with the leader. synchronous: none is, and saving waits. Used when the cluster is made."
  type        = string
  default     = "asynchronous"
}

variable "peering" {
  description = "The link to the other region; null is none. In primary { vpc_id = … }, recovery's VPC; in recovery { connection_id = … }, what primary got."
  type        = object({ vpc_id = optional(string), connection_id = optional(string) })
  default     = null
}

variable "restore_node" {
  description = "Whether the node for a point-in-time restore runs."
  type        = bool
  default     = false
}

variable "ssh" {
  description = "For a demonstration: the block that may reach the database nodes by SSH, and the public key. null is nobody."
  type        = object({ from = string, public_key = string })
  default     = null
}

variable "api_allowed_cidrs" {
  description = "Blocks that may reach the Kubernetes API from outside; empty leaves the private endpoint only."
  type        = list(string)
  default     = []
}

variable "admin_arns" {
  description = "IAM roles of the people who administer the Kubernetes cluster."
  type        = list(string)
  default     = []
}

variable "alarm_topics" {
  description = "SNS topics of this region that are told of alerts, and when pods are not ready; empty tells nobody."
  type        = list(string)
  default     = []
}

variable "shim" {
  description = "SpinKube's shim, which runs the pods: its version, and the SHA-256 of containerd-shim-spin-v2-linux-x86_64.tar.gz in its release. It is in terraform/shim.auto.tfvars.json."
  type        = object({ version = string, sha256 = string })
}
