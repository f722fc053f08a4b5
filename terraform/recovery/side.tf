locals {
  side         = "recovery"
  cluster_role = "standby"
  default_size = "small"
}
