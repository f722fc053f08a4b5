locals {
  side         = "primary"
  cluster_role = "primary"
  default_size = "standard"
}
