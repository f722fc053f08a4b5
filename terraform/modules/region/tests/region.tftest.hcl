mock_provider "aws" {
  source          = "../../tests/mocks"
  override_during = plan
}

mock_provider "aws" {
  alias           = "recovery"
  source          = "../../tests/mocks"
  override_during = plan
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }
}

variables {
  domain       = "example.com"
  side         = "primary"
  cluster_role = "primary"
  default_size = "standard"
  agent        = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  shim         = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
}

run "primary" {
  command = plan
  assert {
    condition     = keys(output.database.addresses) == ["dob-eu-west-1-a", "dob-eu-west-1-b", "dob-eu-west-1-c"]
    error_message = "Other nodes run than two data nodes and a witness."
  }
  assert {
    condition     = output.database.backup_bucket == "dob-backups-123456789012-eu-west-1"
    error_message = "The bucket is not the one that the other region writes to."
  }
  assert {
    condition     = length(output.network.nat_addresses) == 3
    error_message = "Not every zone has its NAT gateway."
  }
  assert {
    condition     = length(output.database.public_addresses) == 0
    error_message = "A database node has a public address."
  }
  assert {
    condition     = length(module.registry) == 1
    error_message = "AWS creates the registry of the copies, with mutable tags."
  }
  assert {
    # Without the values that differ between accounts.
    condition = merge(output.kubernetes.overlay, { target_group_arn = "", alarm_topics = "" }) == merge(
      yamldecode(file("../../../k8s/overlays/primary/region.yaml")).data, { target_group_arn = "", alarm_topics = "" },
    ) && contains(keys(output.kubernetes.overlay), "target_group_arn")
    error_message = "k8s/overlays/primary/region.yaml has other settings than the plan."
  }
}

run "zones_of_an_account" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16", zones = ["c", "a", "b"] }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
    }
  }
  assert {
    condition = { for name in ["database_host_a", "database_node_a", "load_balancer_cidr_a"] : name => output.kubernetes.overlay[name] } == {
      database_host_a = "10.20.68.11", database_node_a = "dob-eu-west-1-a", load_balancer_cidr_a = "10.20.64.0/24"
    }
    error_message = "The settings for the first zone depend on the letter of the zone."
  }
}

run "a_zone_that_the_account_lacks" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16", zones = ["a", "b", "d"] }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
    }
  }
  expect_failures = [data.aws_availability_zones.here]
}

run "sizes" {
  command = plan
  assert {
    condition     = { for size, values in local.sizes : size => values.backups_lock_mode } == { standard = "COMPLIANCE", small = "COMPLIANCE", demonstration = "GOVERNANCE" }
    error_message = "An administrator can erase backups, or can't tear down a demonstration."
  }
  assert {
    condition     = [for size in ["standard", "small"] : local.sizes[size].node_instance_type] == ["m7i.large", "t3.medium"] && alltrue([for size in local.sizes : size.node_count.desired == 3])
    error_message = "The Kubernetes nodes differ from those in docs/cost.md."
  }
  assert {
    condition = alltrue([for setting in ["data_instance_type", "witness_instance_type", "data_volume_gb"] :
      local.sizes.small[setting] == local.sizes.standard[setting]
    ])
    error_message = "The recovery region's database is not as large as the one that it takes over from."
  }
}

run "the_demonstration_is_cheap" {
  command = plan
  variables {
    size = "demonstration"
  }
  assert {
    condition     = length(output.network.nat_addresses) == 1
    error_message = "The demonstration pays for more than one NAT gateway."
  }
}

run "one_nat_gateway" {
  command = plan
  variables {
    single_nat_gateway = true
  }
  assert {
    condition     = length(output.network.nat_addresses) == 1
    error_message = "A region of standard size can't have a single NAT gateway."
  }
}

run "a_restore_node_on_demand" {
  command = plan
  variables {
    restore_node = true
  }
  assert {
    condition     = output.database.addresses["dob-eu-west-1-r"] == "10.20.68.12"
    error_message = "There is no restore node."
  }
}

run "recovery_has_the_same_shape" {
  command   = plan
  providers = { aws = aws.recovery }
  variables {
    side         = "recovery"
    cluster_role = "standby"
  }
  assert {
    condition     = length(module.registry) == 0
    error_message = "The registry that is pushed to is created twice."
  }
  assert {
    condition     = [for address in values(output.database.addresses) : replace(address, "10.21.", "10.20.")] == values(run.primary.database.addresses)
    error_message = "The addresses of the recovery region's nodes have other positions in their block."
  }
  assert {
    condition     = keys(output.kubernetes) == keys(run.primary.kubernetes)
    error_message = "The recovery region's settings for Kubernetes differ in structure."
  }
  assert {
    # Without the values that differ between accounts.
    condition = merge(output.kubernetes.overlay, { target_group_arn = "", alarm_topics = "" }) == merge(
      yamldecode(file("../../../k8s/overlays/recovery/region.yaml")).data, { target_group_arn = "", alarm_topics = "" },
    ) && contains(keys(output.kubernetes.overlay), "target_group_arn")
    error_message = "k8s/overlays/recovery/region.yaml has other settings than the plan."
  }
}

run "alarm_topics" {
  command = plan
  variables {
    alarm_topics = ["arn:aws:sns:eu-west-1:123456789012:operators"]
  }
  assert {
    condition = jsondecode(output.kubernetes.overlay.alarm_topics) == [
      { topic_arn = "arn:aws:sns:eu-west-1:123456789012:operators", sigv4 = { region = "eu-west-1" } }
    ]
    error_message = "Alertmanager does not get the topics."
  }
}

run "both_sides_request_the_peering" {
  command   = plan
  providers = { aws = aws.recovery }
  variables {
    side    = "recovery"
    peering = { vpc_id = "vpc-0123" }
  }
  expect_failures = [var.side]
}

run "a_third_side" {
  command = plan
  variables {
    side = "other"
  }
  expect_failures = [var.side]
}

run "an_unknown_size" {
  command = plan
  variables {
    size = "huge"
  }
  expect_failures = [var.size]
}

run "a_provider_of_another_region" {
  command   = plan
  providers = { aws = aws.recovery }
  plan_options {
    target = [data.aws_region.current]
  }
  expect_failures = [data.aws_region.current]
}
