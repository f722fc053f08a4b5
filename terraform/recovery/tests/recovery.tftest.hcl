mock_provider "aws" {
  source          = "../tests/mocks"
  override_during = plan
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }
}

variables {
  domain = "example.com"
  agent  = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
  shim   = { version = "1.2.3", sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" }
}

run "the_region" {
  command = plan
  assert {
    condition     = output.region.kubernetes.overlay.aws_region == "eu-central-1" && output.region.hostname == "recovery.dob.example.com"
    error_message = "This is not the recovery region."
  }
  assert {
    condition     = local.default_size == "small" && local.cluster_role == "standby"
    error_message = "The recovery region is not small, or leads."
  }
  assert {
    condition     = output.region.database.addresses["dob-eu-central-1-a"] == "10.21.68.11"
    error_message = "The database is not where the primary region looks for it."
  }
}
