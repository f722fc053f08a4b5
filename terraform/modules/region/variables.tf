# The roots primary and recovery have the same variables: their variables.tf is a link to this file.

variable "domain" {
  description = "Domain of an existing public Route 53 zone. The service answers at dob.<domain>. The same in every root."
  type        = string
}

variable "regions" {
  description = "AWS region, CIDR block and the letters of three zones of each side, the same in every root. null takes the plan in modules/topology."
  type        = map(object({ region = string, cidr = string, zones = optional(list(string), ["a", "b", "c"]) }))
  default     = null
}

variable "size" {
  description = "standard, small (smaller Kubernetes nodes) or demonstration (one NAT gateway, small machines). null takes the default size of this side."
  type        = string
  default     = null
  validation {
    condition     = var.size == null ? true : contains(["standard", "small", "demonstration"], var.size)
    error_message = "size must be standard, small or demonstration."
  }
}

variable "single_nat_gateway" {
  description = "One NAT gateway for all zones instead of one in each. It is cheaper, but if its zone is lost, the others lose the Internet, too. null takes the value of the size."
  type        = bool
  default     = null
}

variable "replication_mode" {
  description = "asynchronous: a saved date may be lost with the leader. synchronous: no saved date is lost, but each save waits for the replica. Set the same in both regions. Used only when the cluster is created."
  type        = string
  default     = "asynchronous"
}

variable "peering" {
  description = "The peering with the other region. In primary { vpc_id = … }, the VPC of recovery. In recovery { connection_id = … }, the connection that primary requested. null makes none."
  type        = object({ vpc_id = optional(string), connection_id = optional(string) })
  default     = null
}

variable "restore_node" {
  description = "Whether the node for a point-in-time restore runs."
  type        = bool
  default     = false
}

variable "ssh" {
  description = "For a demonstration: the CIDR block that may reach the database nodes by SSH, and the public key. null allows nobody."
  type        = object({ from = string, public_key = string })
  default     = null
}

variable "api_allowed_cidrs" {
  description = "CIDR blocks that may reach the Kubernetes API from outside. An empty list leaves only the private endpoint."
  type        = list(string)
  default     = []
}

variable "admin_arns" {
  description = "IAM roles of the people who administer the Kubernetes cluster."
  type        = list(string)
  default     = []
}

variable "alarm_topics" {
  description = "SNS topics of this region that get alerts and the load balancer's alarms. With an empty list, nobody is notified."
  type        = list(string)
  default     = []
}

variable "agent" {
  description = "Session Manager's agent on the database nodes: its version, and the SHA-256 of debian_amd64/amazon-ssm-agent.deb. It is in terraform/agent.auto.tfvars.json."
  type        = object({ version = string, sha256 = string })
}

variable "shim" {
  description = "SpinKube's shim, which runs the pods: its version, and the SHA-256 of containerd-shim-spin-v2-linux-x86_64.tar.gz in its release. It is in terraform/shim.auto.tfvars.json."
  type        = object({ version = string, sha256 = string })
}
