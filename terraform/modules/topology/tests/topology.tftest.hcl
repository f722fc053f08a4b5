variables {
  domain = "example.com"
}

run "the_plan" {
  command = plan

  assert {
    condition     = output.sides.primary.nodes["dob-eu-west-1-a"] == { address = "10.20.68.11", zone = "eu-west-1a", role = "data" }
    error_message = "The first node is not where the plan puts it."
  }
  assert {
    condition     = output.sides.recovery.nodes["dob-eu-central-1-c"] == { address = "10.21.70.11", zone = "eu-central-1c", role = "witness" }
    error_message = "The recovery region's witness is not where the plan puts it."
  }
  assert {
    condition     = alltrue([for side in values(output.sides) : length(distinct([for node in values(side.nodes) : node.zone if node.role != "restore"])) == 3])
    error_message = "The members of a cluster are not in three zones."
  }
  assert {
    condition     = alltrue([for side in values(output.sides) : alltrue([for tier in values(side.subnets) : length(tier) == 3])])
    error_message = "A tier has no subnet in some zone."
  }
  assert {
    condition     = output.sides.primary.hostname == "primary.dob.example.com" && output.hostname == "dob.example.com"
    error_message = "The host names are not below the domain."
  }
  assert {
    condition = output.drain == { for name, key in {
      deregistration_seconds = "deregistration_delay_seconds"
      interval_seconds       = "health_check_interval_seconds"
      healthy_checks         = "healthy_threshold_checks"
      unhealthy_checks       = "unhealthy_threshold_checks"
    } : name => tonumber(yamldecode(file("../../../k8s/base/drain.yaml")).data[key]) }
    error_message = "The load balancer's figures are not those of drain.yaml."
  }
  assert {
    condition     = alltrue([for figure in values(output.drain) : figure > 0])
    error_message = "A figure of the load balancer is not positive."
  }
}

run "no_subnet_overlaps_another" {
  command = plan
  assert {
    # Each /24 of the region belongs to at most one subnet.
    condition = alltrue([for side in values(output.sides) : length(distinct(flatten([
      for tier in values(side.subnets) : [for cidr in values(tier) : [
        for index in range(pow(2, 24 - tonumber(split("/", cidr)[1]))) : cidrsubnet(cidr, 24 - tonumber(split("/", cidr)[1]), index)
      ]]
    ]))) == 3 * 16 + 3 + 3])
    error_message = "Two subnets share addresses."
  }
}

run "zones_of_an_account" {
  command = plan
  variables {
    regions = {
      primary  = { region = "us-east-1", cidr = "10.20.0.0/16", zones = ["f", "b", "d"] }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
    }
  }
  assert {
    condition = { for name, node in output.sides.primary.nodes : name => [node.zone, node.address] } == {
      dob-us-east-1-a = ["us-east-1f", "10.20.68.11"], dob-us-east-1-b = ["us-east-1b", "10.20.69.11"]
      dob-us-east-1-c = ["us-east-1d", "10.20.70.11"], dob-us-east-1-r = ["us-east-1f", "10.20.68.12"]
    }
    error_message = "Nodes are not in the named zones, in that order."
  }
  assert {
    condition     = toset(keys(output.sides.primary.subnets.public)) == toset(["us-east-1f", "us-east-1b", "us-east-1d"])
    error_message = "Subnets are in other zones."
  }
}

run "one_zone_twice" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16", zones = ["a", "b", "b"] }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
    }
  }
  expect_failures = [var.regions]
}

run "both_sides_in_one_region" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16" }
      recovery = { region = "eu-west-1", cidr = "10.21.0.0/16" }
    }
  }
  expect_failures = [var.regions]
}

run "overlapping_blocks" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16" }
      recovery = { region = "eu-central-1", cidr = "10.20.128.0/16" }
    }
  }
  expect_failures = [var.regions]
}

run "a_public_block" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16" }
      recovery = { region = "eu-central-1", cidr = "8.8.0.0/16" }
    }
  }
  expect_failures = [var.regions]
}

run "a_block_of_another_size" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16" }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/20" }
    }
  }
  expect_failures = [var.regions]
}

run "a_third_side" {
  command = plan
  variables {
    regions = {
      primary  = { region = "eu-west-1", cidr = "10.20.0.0/16" }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
      other    = { region = "eu-north-1", cidr = "10.22.0.0/16" }
    }
  }
  expect_failures = [var.regions]
}

run "not_a_region" {
  command = plan
  variables {
    regions = {
      primary  = { region = "ireland", cidr = "10.20.0.0/16" }
      recovery = { region = "eu-central-1", cidr = "10.21.0.0/16" }
    }
  }
  expect_failures = [var.regions]
}

run "not_a_domain" {
  command = plan
  variables {
    domain = "https://example.com"
  }
  expect_failures = [var.domain]
}

run "too_long_a_name" {
  command = plan
  variables {
    service = "a-birthday-service"
  }
  expect_failures = [var.service]
}
